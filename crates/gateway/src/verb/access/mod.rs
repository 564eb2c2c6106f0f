//! `portcullis access`: the access table at a person's fingertips.
//!
//! Everything here reads files, and answers with the code that judges live peers; no gateway need be running. The three verbs
//! that write (`suspend`, `resume`, `kill-switch`) change the table's file, which a running gateway then reads again.

mod asked;
mod cases;
mod certificate;
mod columns;
mod diff;
mod edit;
mod explain;
mod lint;
mod log;
mod replace;
mod replay;
mod suggest;
mod suspend;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::access::Table;
use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::clock::now;
use crate::config::{Config, environment};

/// Checks, explains and changes the access table
///
/// Exit codes: 0 yes, or nothing found. 1 no, or something found. 2 a mistake in the command, or a file that cannot be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis access lint access.toml\n  \
    portcullis access explain --config gateway.toml --cert ct1.pem --called ARCHIVE --calling CT1 --sop CTImageStorage\n  \
    portcullis access diff access.toml next.toml --replay audit.jsonl\n  \
    portcullis access test cases.toml --table next.toml\n  \
    portcullis access suggest --from audit.jsonl --table access.toml\n  \
    portcullis access suspend hosp-a-ct1 --reason 'CHG-7: key lost' --ttl 2h\n  \
    portcullis access kill-switch on\n\n\
    What the table means: docs/access-table.md")]
pub struct AccessArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Lint(lint::LintArgs),
    Explain(Box<explain::ExplainArgs>),
    Diff(diff::DiffArgs),
    Test(cases::TestArgs),
    Suggest(suggest::SuggestArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    KillSwitch(suspend::KillSwitchArgs),
}

/// Runs the verb.
///
/// # Errors
/// With what cannot be read or used, and what to do.
pub fn run(args: AccessArgs) -> anyhow::Result<ExitCode> {
    let yes = match args.verb {
        Verb::Lint(args) => lint::run(&args, now()),
        Verb::Explain(args) => explain::run(&args, now()),
        Verb::Diff(args) => diff::run(&args),
        Verb::Test(args) => cases::run(&args, now()),
        Verb::Suggest(args) => suggest::run(&args),
        Verb::Suspend(args) => suspend::suspend(&args, now()),
        Verb::Resume(args) => suspend::resume(&args, now()),
        Verb::KillSwitch(args) => suspend::kill_switch(&args),
    }?;
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which table.
#[derive(Debug, Clone, Args)]
struct TableArgs {
    /// The table [default: the one that --config names, or access.toml]
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// A gateway.toml that names the table
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl TableArgs {
    fn config(&self) -> anyhow::Result<Option<Config>> {
        Ok(self.config.as_deref().map(|path| Config::load(path, environment())).transpose()?)
    }

    fn path(&self, config: Option<&Config>) -> PathBuf {
        match (&self.table, config) {
            (Some(path), _) => path.clone(),
            (None, Some(config)) => config.access.table.clone(),
            (None, None) => PathBuf::from("access.toml"),
        }
    }
}

/// A table as its file has it.
struct Read {
    path: PathBuf,
    text: String,
    table: Table,
}

impl Read {
    fn from(path: PathBuf) -> anyhow::Result<Self> {
        let text = text_of(&path)?;
        let table = Table::parse(&text).with_context(|| path.display().to_string())?;
        Ok(Self { path, text, table })
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `1 row`, `2 rows`.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod testing {
    use model::Timestamp;

    /// A table with one row of each kind, and the comments of somebody who cares.
    pub(super) const TABLE: &str = r#"# Who may do what.
revision = 17 # raised with every change

# The CT of hospital A.
[[row]]
id = "ct1"
effect = "allow"
identity = "spiffe://hospital-a.invalid/ct1"
tenant = "hospital-a"
called_aets = ["ARCHIVE"] # ours
calling_aets = ["CT1"]
operations = ["echo", "store"]
sop_classes = ["CTImageStorage"]
transfer_syntaxes = ["*"]
owner = "pacs@hospital-a.invalid"

# Everybody else there.
[[row]]
id = "mr1"
effect = "allow"
identity = "spiffe://hospital-a.invalid/mr1"
tenant = "hospital-a"
called_aets = ["ARCHIVE"]
calling_aets = ["MR1"]
operations = ["store"]
sop_classes = ["MRImageStorage"]
transfer_syntaxes = ["*"]
owner = "pacs@hospital-a.invalid"

[[row]]
id = "not-from-there"
effect = "deny"
source_cidrs = ["203.0.113.0/24"]
ticket = "CHG-3"
owner = "pacs@hospital-a.invalid"
"#;

    pub(super) fn now() -> Timestamp {
        Timestamp::parse("2026-11-22T12:00:00Z").expect("valid")
    }
}
