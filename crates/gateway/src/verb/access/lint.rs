//! `access lint`: whether a table would be taken, and what in it is perhaps not meant.

use std::path::{Path, PathBuf};

use access::{Table, TableError};
use clap::Args;
use model::Timestamp;
use serde_json::{Value, json};

use super::{count, text_of};
use crate::verb::say;

/// Says whether a gateway would take the table, and what in it is perhaps not meant
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 when the table is refused; with --strict also when the strict profile refuses it, with\n\
    --deny-warnings also when there is a warning. What only the strict profile minds is shown in any case.\n\n\
    Example, before a table is put in place:\n  \
    portcullis access lint next.toml --strict --deny-warnings && mv next.toml access.toml"
)]
pub(super) struct LintArgs {
    /// The table
    #[arg(value_name = "FILE", default_value = "access.toml")]
    file: PathBuf,
    /// It is for a gateway with the strict profile
    #[arg(long)]
    strict: bool,
    /// A warning is a finding too
    #[arg(long)]
    deny_warnings: bool,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LintArgs, now: Timestamp) -> anyhow::Result<bool> {
    let report = Report::of(&text_of(&args.file)?, now);
    let clean = report.is_clean(args);
    if args.json {
        say(format!("{:#}", report.json(&args.file, clean)));
    } else {
        report.lines(&args.file, clean).into_iter().for_each(say);
    }
    Ok(clean)
}

/// What is said about a table.
struct Report {
    table: Result<Table, TableError>,
    warnings: Vec<String>,
    strict: Vec<String>,
}

impl Report {
    fn of(text: &str, now: Timestamp) -> Self {
        let table = Table::parse(text);
        let warnings = table.as_ref().map(|table| table.warnings(now)).unwrap_or_default();
        let strict = table.as_ref().map(Table::strict_problems).unwrap_or_default();
        Self { table, warnings, strict }
    }

    fn is_clean(&self, args: &LintArgs) -> bool {
        self.table.is_ok()
            && (self.strict.is_empty() || !args.strict)
            && (self.warnings.is_empty() || !args.deny_warnings)
    }

    fn lines(&self, file: &Path, clean: bool) -> Vec<String> {
        let file = file.display();
        let table = match &self.table {
            Ok(table) => table,
            Err(error) => return vec![format!("{file}: {error}")],
        };
        let mut lines: Vec<_> = self.warnings.iter().map(|warning| format!("{file}: warning: {warning}")).collect();
        lines.extend(self.strict.iter().map(|problem| format!("{file}: strict: {problem}")));
        lines.push(format!(
            "{}: {file}, revision {}: {} that allow, {} that deny; {}, {} for the strict profile",
            if clean { "ok" } else { "not ok" },
            table.revision(),
            count(table.rows().len(), "row"),
            count(table.deny_rows().len(), "row"),
            count(self.warnings.len(), "warning"),
            count(self.strict.len(), "problem"),
        ));
        lines
    }

    fn json(&self, file: &Path, clean: bool) -> Value {
        let (table, refused) = (self.table.as_ref().ok(), self.table.as_ref().err());
        json!({
            "file": file.display().to_string(),
            "ok": clean,
            "refused": refused.map(|error| json!({
                "line": error.line, "row": error.row, "field": error.field, "problem": error.problem,
            })),
            "revision": table.map(Table::revision),
            "sha256": table.map(Table::digest),
            "allow_rows": table.map(|table| table.rows().len()),
            "deny_rows": table.map(|table| table.deny_rows().len()),
            "warnings": self.warnings,
            "strict_problems": self.strict,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TABLE, now};
    use super::*;

    fn args(strict: bool, deny_warnings: bool) -> LintArgs {
        LintArgs { file: "access.toml".into(), strict, deny_warnings, json: false }
    }

    #[test]
    fn what_counts_as_a_finding_is_what_was_asked_for() {
        let warned = Report::of(&TABLE.replace("calling_aets = [\"CT1\"]\n", ""), now());
        let plain = Report::of(TABLE, now());
        let refused = Report::of(&TABLE.replace("\"allow\"", "\"maybe\""), now());
        let cases = [
            ("as it is", &plain, args(false, false), true),
            ("for the strict profile", &plain, args(true, false), false),
            ("a warning", &warned, args(false, false), true),
            ("a warning that is denied", &warned, args(false, true), false),
            ("refused", &refused, args(false, false), false),
        ];
        for (name, report, args, clean) in cases {
            assert_eq!(report.is_clean(&args), clean, "{name}");
            let value = report.json(&args.file, clean);
            assert_eq!((&value["ok"], value["refused"].is_null()), (&clean.into(), report.table.is_ok()), "{name}");
        }
        let lines = refused.lines(Path::new("access.toml"), false);
        assert!(lines[0].contains("line 5") && lines[0].contains("effect"), "{lines:?}");
    }
}
