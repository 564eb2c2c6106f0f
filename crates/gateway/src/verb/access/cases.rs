//! `access test`: what a table must answer, written down as cases.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use access::{Answer, Operation, Table};
use anyhow::{Context as _, bail};
use clap::Args;
use model::{AeTitle, SopClass, SpiffeId, Tenant, Timestamp, TransferSyntax, Uid};
use serde::Deserialize;
use serde_json::json;

use super::asked::{Asked, Tls, assumed, class, endpoint, moment, syntax};
use super::certificate::Judge;
use super::{Read, TableArgs, count, text_of};
use crate::config::Config;
use crate::verb::say;

/// Asks the table every case of a file, and says whether it answers as it must
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1: a case has another answer than it expects.\n\n\
    A case:\n  \
    [[case]]\n  \
    name = \"CT1 may store CT\"\n  \
    id = \"spiffe://hosp-a.example/ingest/ct1\"   # or cert = \"ct1.pem\", relative to this file\n  \
    called = \"ARCHIVE\"\n  \
    calling = \"HOSPA_FWD\"\n  \
    sop = \"CTImageStorage\"                      # and ts, op, modality, issuer, institution, size, vpce, source, tls, at\n  \
    expect = \"allow\"                            # and row, tenant; with \"deny\": row, code\n\n\
    More: docs/access-cli.md and docs/examples/access-cases.toml")]
pub(super) struct TestArgs {
    /// The file of cases
    #[arg(value_name = "CASES.toml")]
    cases: PathBuf,
    #[command(flatten)]
    table: TableArgs,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &TestArgs, now: Timestamp) -> anyhow::Result<bool> {
    let config = args.table.config()?;
    let read = Read::from(args.table.path(config.as_ref()))?;
    let base = args.cases.parent().unwrap_or(Path::new("."));
    let cases = parse(&text_of(&args.cases)?).with_context(|| args.cases.display().to_string())?;
    let mut results = Vec::new();
    for case in &cases {
        let given = case.answer(&read.table, config.as_ref(), base, now).with_context(|| case.name.clone())?;
        results.push((case, case.problems(&given), given));
    }
    let failed = results.iter().filter(|(_, problems, _)| !problems.is_empty()).count();
    if args.json {
        let cases = results.iter().map(|(case, problems, given)| {
            json!({ "name": case.name, "ok": problems.is_empty(), "problems": problems, "answer": given.told() })
        });
        let passed = cases.len() - failed;
        say(format!("{:#}", json!({ "passed": passed, "failed": failed, "cases": cases.collect::<Vec<_>>() })));
    } else {
        for (case, problems, given) in &results {
            say(format!("{}  {}", if problems.is_empty() { "ok    " } else { "FAILED" }, case.name));
            problems.iter().for_each(|problem| say(format!("        {problem}")));
            if !problems.is_empty() {
                say(format!("        the answer: {}", given.told()));
            }
        }
        let path = read.path.display();
        say(format!("{} of {} passed, by {path}", cases.len() - failed, count(cases.len(), "case")));
    }
    Ok(failed == 0)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
}

/// One question and its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    id: Option<SpiffeId>,
    cert: Option<PathBuf>,
    ca: Option<PathBuf>,
    called: AeTitle,
    calling: AeTitle,
    sop: Option<String>,
    ts: Option<String>,
    op: Option<Operation>,
    modality: Option<String>,
    issuer: Option<String>,
    institution: Option<String>,
    size: Option<u64>,
    vpce: Option<String>,
    source: Option<IpAddr>,
    #[serde(default)]
    tls: Tls,
    at: Option<At>,
    expect: Expect,
    row: Option<String>,
    code: Option<String>,
    tenant: Option<Tenant>,
}

/// A time, with or without quotes around it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum At {
    Datetime(toml::value::Datetime),
    Text(String),
}

/// What came out.
struct Given {
    row: Option<String>,
    tenant: Option<Tenant>,
    /// None: allowed.
    denied: Option<Denied>,
}

struct Denied {
    code: String,
    detail: String,
}

fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    let File { case: cases } = toml::from_str(text)?;
    if cases.is_empty() {
        bail!("it has no [[case]], and so would prove nothing");
    }
    for case in &cases {
        case.check().with_context(|| format!("case {:?}", case.name))?;
    }
    Ok(cases)
}

impl Case {
    fn check(&self) -> anyhow::Result<()> {
        if self.id.is_some() == self.cert.is_some() {
            bail!("write either id or cert");
        }
        if self.ca.is_some() && self.cert.is_none() {
            bail!("ca says nothing without cert");
        }
        match self.expect {
            Expect::Allow if self.code.is_some() => bail!("code says nothing when the answer is allow"),
            Expect::Deny if self.tenant.is_some() => bail!("tenant says nothing when the answer is deny"),
            _ => self.asked().map(drop),
        }
    }

    fn asked(&self) -> anyhow::Result<Asked> {
        let class: Option<Uid<SopClass>> =
            self.sop.as_deref().map(class).transpose().map_err(anyhow::Error::msg).context("sop")?;
        let syntax: Option<Uid<TransferSyntax>> =
            self.ts.as_deref().map(syntax).transpose().map_err(anyhow::Error::msg).context("ts")?;
        let vpce = self.vpce.as_deref().map(endpoint).transpose().map_err(anyhow::Error::msg).context("vpce")?;
        Ok(Asked {
            called: self.called.clone(),
            calling: self.calling.clone(),
            operation: self.op.unwrap_or(Operation::Store),
            class,
            syntax,
            modality: self.modality.clone(),
            issuer: self.issuer.clone(),
            institution: self.institution.clone(),
            size: self.size,
            vpce,
            source: self.source,
        })
    }

    fn at(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let text = match &self.at {
            None => return Ok(now),
            Some(At::Datetime(at)) => at.to_string(),
            Some(At::Text(text)) => text.clone(),
        };
        moment(&text).map_err(anyhow::Error::msg).context("at")
    }

    fn answer(&self, table: &Table, config: Option<&Config>, base: &Path, now: Timestamp) -> anyhow::Result<Given> {
        let (asked, at) = (self.asked()?, self.at(now)?);
        let caller = match (&self.id, &self.cert) {
            (Some(id), _) => assumed(id.clone(), self.tls, at),
            (None, Some(cert)) => {
                let ca: Vec<_> = self.ca.iter().map(|ca| base.join(ca)).collect();
                let presented = Judge::new(config, &ca)?.judge(&base.join(cert), at)?;
                let broken = presented.broken().map(|(rule, code, why)| (code, format!("{rule}: {why}")));
                match (broken, presented.caller(self.tls, at)) {
                    (None, Some(caller)) => caller,
                    (Some((code, detail)), _) => return Ok(Given::refused(code, &detail)),
                    (None, None) => return Ok(Given::refused("id_syntax", "it names nobody")),
                }
            }
            (None, None) => bail!("write either id or cert"),
        };
        Ok(table.answer(&asked.question(caller), at).into())
    }

    /// What is not as expected.
    fn problems(&self, given: &Given) -> Vec<String> {
        let mut problems = Vec::new();
        let mut compare = |what: &str, expected: Option<&str>, found: Option<&str>| {
            if let Some(expected) = expected
                && found != Some(expected)
            {
                problems.push(format!("expected {what} {expected}, found {}", found.unwrap_or("none")));
            }
        };
        let word = |denied: bool| Some(if denied { "deny" } else { "allow" });
        compare("the answer", word(self.expect == Expect::Deny), word(given.denied.is_some()));
        compare("row", self.row.as_deref(), given.row.as_deref());
        compare("code", self.code.as_deref(), given.denied.as_ref().map(|denied| denied.code.as_str()));
        compare("tenant", self.tenant.as_ref().map(Tenant::as_str), given.tenant.as_ref().map(Tenant::as_str));
        problems
    }
}

impl Given {
    fn refused(code: &str, detail: &str) -> Self {
        Self {
            row: None,
            tenant: None,
            denied: Some(Denied { code: code.to_owned(), detail: format!("{code}, {detail}") }),
        }
    }

    fn told(&self) -> String {
        let row = self.row.as_ref().map(|row| format!(" (row {row:?})")).unwrap_or_default();
        match (&self.denied, &self.tenant) {
            (Some(denied), _) => format!("denied {}{row}", denied.detail),
            (None, Some(tenant)) => format!("allowed as tenant {tenant}{row}"),
            (None, None) => format!("allowed{row}"),
        }
    }
}

impl From<Answer> for Given {
    fn from(answer: Answer) -> Self {
        match answer.verdict {
            Ok(row) => Self { row: Some(row.id().to_owned()), tenant: Some(row.tenant().clone()), denied: None },
            Err(denial) => {
                let denied = Denied { code: denial.code.as_str().to_owned(), detail: denial.to_string() };
                Self { row: denial.row, tenant: None, denied: Some(denied) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TABLE, now};
    use super::*;

    const CASE: &str = "[[case]]\nname = \"one\"\nid = \"spiffe://hospital-a.invalid/ct1\"\ncalled = \"ARCHIVE\"\ncalling = \"CT1\"\nsop = \"CTImageStorage\"\n";

    fn problems(more: &str) -> Vec<String> {
        let cases = parse(&format!("{CASE}{more}")).expect("a case");
        let table = Table::parse(TABLE).expect("valid");
        let given = cases[0].answer(&table, None, Path::new("."), now()).expect("an answer");
        cases[0].problems(&given)
    }

    #[test]
    fn a_case_fails_when_anything_that_it_names_is_otherwise() {
        let cases: [(&str, &str, &[&str]); 8] = [
            ("as expected", "expect = \"allow\"\nrow = \"ct1\"\ntenant = \"hospital-a\"", &[]),
            ("denied", "expect = \"deny\"", &["expected the answer deny, found allow"]),
            ("row", "expect = \"allow\"\nrow = \"x\"", &["expected row x, found ct1"]),
            ("tenant", "expect = \"allow\"\ntenant = \"x\"", &["expected tenant x, found hospital-a"]),
            ("code", "source = \"203.0.113.7\"\nexpect = \"deny\"\ncode = \"deny_row\"\nrow = \"not-from-there\"", &[]),
            (
                "another code",
                "source = \"203.0.113.7\"\nexpect = \"deny\"\ncode = \"x\"",
                &["expected code x, found deny_row"],
            ),
            ("an operation", "op = \"commit\"\nexpect = \"deny\"\ncode = \"operation\"", &[]),
            ("the life of an SVID begins with the question", "at = 1999-01-01T00:00:00Z\nexpect = \"allow\"", &[]),
        ];
        for (name, more, expected) in cases {
            assert_eq!(problems(more), expected, "{name}");
        }
    }

    #[test]
    fn a_file_that_proves_nothing_or_is_not_understood_is_refused() {
        let with = |more: &str| format!("{CASE}expect = \"allow\"\n{more}");
        let cases = [
            ("no case", String::new()),
            ("nothing expected", CASE.to_owned()),
            ("unknown key", with("vpc = \"x\"")),
            ("unknown keyword", with("ts = \"JPEG\"")),
            ("two callers", with("cert = \"a.pem\"")),
            ("a code for what is allowed", with("code = \"no_row\"")),
        ];
        for (name, text) in cases {
            assert!(parse(&text).is_err(), "{name}");
        }
        parse(&with("")).expect("the control");
    }
}
