//! `access explain`: what every row says to one question, in the words of the audit record.

use std::net::IpAddr;
use std::path::PathBuf;

use access::{Answer, Caller, Effect, Question, RowFinding, RowOutcome};
use clap::Args;
use model::{AeTitle, SopClass, SpiffeId, Timestamp, TransferSyntax, Uid};
use serde_json::{Value, json};

use super::asked::{Asked, Op, Tls, assumed, class, endpoint, moment, syntax};
use super::certificate::{Judge, Presented};
use super::{Read, TableArgs, wire};
use crate::verb::say;

/// Says what every row of the table answers to one question, and why
///
/// The last line is the verdict and what the sender would see. Quotas, auto-suspension and what is already in the archive are
/// known only to a running gateway and are not asked.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: allowed. 1: denied.\n\n\
    Examples:\n  \
    portcullis access explain --id spiffe://hosp-a.example/ingest/ct1 --called ARCHIVE --calling HOSPA_FWD\n  \
    portcullis access explain --config gateway.toml --cert ct1.pem --called ARCHIVE --calling HOSPA_FWD \\\n    \
    --sop CTImageStorage --ts JPEG2000Lossless --vpce vpce-08d2bf15fac5001c9 --at 2027-01-31T22:00:00Z")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    table: TableArgs,
    /// The caller's certificate, or its chain with the leaf first (PEM)
    #[arg(long, value_name = "FILE", required_unless_present = "id", conflicts_with = "id")]
    cert: Option<PathBuf>,
    /// With --cert: the roots of its trust domain, if not those that --config names; may be repeated
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Vec<PathBuf>,
    /// The caller's SPIFFE ID; its certificate is taken to be good
    #[arg(long, value_name = "SPIFFE-ID")]
    id: Option<SpiffeId>,
    /// The AE title that it calls
    #[arg(long, value_name = "AET")]
    called: AeTitle,
    /// The AE title that it gives itself
    #[arg(long, value_name = "AET")]
    calling: AeTitle,
    /// What it wants to do
    #[arg(long, value_enum, default_value_t)]
    op: Op,
    /// SOP class of the instance, keyword or UID; left out, it is asked whether it may store at all
    #[arg(long, value_name = "CLASS", value_parser = class)]
    sop: Option<Uid<SopClass>>,
    /// Transfer syntax of the instance, keyword or UID
    #[arg(long, value_name = "SYNTAX", value_parser = syntax)]
    ts: Option<Uid<TransferSyntax>>,
    /// Modality (0008,0060). When one of these three is given, the others are taken to be missing from the data set
    #[arg(long, value_name = "CODE")]
    modality: Option<String>,
    /// Issuer of Patient ID (0010,0021)
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// Institution Name (0008,0080)
    #[arg(long, value_name = "TEXT")]
    institution: Option<String>,
    /// Bytes of the data set
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// The VPC endpoint that it comes through
    #[arg(long, value_name = "vpce-…", value_parser = endpoint)]
    vpce: Option<String>,
    /// The address that it comes from
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// The TLS version of its connection
    #[arg(long, value_enum, default_value_t)]
    tls: Tls,
    /// When, instead of now (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs, now: Timestamp) -> anyhow::Result<bool> {
    let at = args.at.unwrap_or(now);
    let config = args.table.config()?;
    let read = Read::from(args.table.path(config.as_ref()))?;
    let judge = Judge::new(config.as_ref(), &args.ca)?;
    let presented = args.cert.as_deref().map(|file| judge.judge(file, at)).transpose()?;
    let caller = match (&presented, &args.id) {
        (Some(presented), _) => presented.caller(args.tls, at),
        (None, id) => id.clone().map(|id| assumed(id, args.tls, at)),
    };
    let profile = config.as_ref().map(|config| config.profile).unwrap_or_default();
    let said = caller.map(|caller| Said::by(&read, args.asked().question(caller), profile, at));
    let told = Told { read: &read, presented, said, at };
    if args.json {
        say(format!("{:#}", told.json()));
    } else {
        told.lines().into_iter().for_each(say);
    }
    Ok(told.is_allowed())
}

impl ExplainArgs {
    fn asked(&self) -> Asked {
        Asked {
            called: self.called.clone(),
            calling: self.calling.clone(),
            operation: self.op.into(),
            class: self.sop.clone(),
            syntax: self.ts.clone(),
            modality: self.modality.clone(),
            issuer: self.issuer.clone(),
            institution: self.institution.clone(),
            size: self.size,
            vpce: self.vpce.clone(),
            source: self.source,
        }
    }
}

/// What the table says.
struct Said {
    caller: Caller,
    rows: Vec<RowFinding>,
    answer: Answer,
    wire: String,
}

impl Said {
    fn by(read: &Read, question: Question, profile: crate::config::Profile, at: Timestamp) -> Self {
        let answer = read.table.answer(&question, at);
        let wire = wire::seen(&read.table, &question, &answer, profile, at);
        Self { rows: read.table.explain(&question, at), answer, wire, caller: question.caller }
    }
}

/// Everything that is told.
struct Told<'a> {
    read: &'a Read,
    presented: Option<Presented>,
    said: Option<Said>,
    at: Timestamp,
}

/// What a peer sees whose certificate is refused.
const TURNED_AWAY: &str = "a failed TLS handshake";

impl Told<'_> {
    fn broken(&self) -> Option<(&'static str, &'static str, &str)> {
        self.presented.as_ref().and_then(Presented::broken)
    }

    fn is_allowed(&self) -> bool {
        self.broken().is_none() && self.said.as_ref().is_some_and(|said| said.answer.verdict.is_ok())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let broken = self.broken();
        if let Some(presented) = &self.presented {
            lines.push(format!("certificate {}", presented.file.display()));
            lines.push(match broken {
                Some((rule, code, why)) => format!("  ✗ {rule} {code}: {why}"),
                None => "  ✓ every rule that was judged holds".to_owned(),
            });
            if broken.is_none() {
                lines.extend(presented.not_judged().into_iter().map(|why| format!("  – not judged, {why}")));
            }
        }
        if let Some(said) = &self.said {
            let ahead = if broken.is_some() { " (never asked: the certificate is refused before)" } else { "" };
            let (path, revision) = (self.read.path.display(), self.read.table.revision());
            lines.push(format!("{path}, revision {revision}, asked for {} at {}{ahead}", said.caller.id, self.at));
            lines.extend(rows(&said.rows));
        }
        lines.push(self.verdict());
        lines
    }

    fn verdict(&self) -> String {
        if let Some((rule, code, why)) = self.broken() {
            return format!("DENIED at the handshake, {rule} {code}: {why}; the sender sees {TURNED_AWAY}");
        }
        let Some(Said { answer, wire, .. }) = &self.said else {
            return format!("DENIED: the certificate names nobody; the sender sees {TURNED_AWAY}");
        };
        match &answer.verdict {
            Ok(row) => {
                let observed: Vec<_> = answer.observed.iter().map(ToString::to_string).collect();
                let would = match observed.is_empty() {
                    true => String::new(),
                    false => format!(" (only observed: {})", observed.join("; ")),
                };
                let (id, tenant) = (row.id(), row.tenant());
                format!("ALLOWED by row {id:?} as tenant {tenant}{would}; the sender sees {wire}")
            }
            Err(denial) => {
                let row = denial.row.as_ref().map(|row| format!(" (row {row:?})")).unwrap_or_default();
                format!("DENIED {denial}{row}; the sender sees {wire}")
            }
        }
    }

    fn json(&self) -> Value {
        let broken = self.broken();
        let certificate = self.presented.as_ref().map(|presented| {
            json!({
                "file": presented.file.display().to_string(),
                "holds": broken.is_none(),
                "broken": broken.map(|(rule, code, why)| json!({ "rule": rule, "code": code, "detail": why })),
                "not_judged": presented.not_judged(),
            })
        });
        let answer = self.said.as_ref().map(|said| &said.answer);
        let row = answer.and_then(|answer| answer.verdict.as_ref().ok());
        let denial = answer.and_then(|answer| answer.verdict.as_ref().err());
        json!({
            "table": self.read.path.display().to_string(),
            "revision": self.read.table.revision(),
            "at": self.at,
            "spiffe_id": self.said.as_ref().map(|said| &said.caller.id),
            "certificate": certificate,
            "asked": broken.is_none() && self.said.is_some(),
            "rows": self.said.as_ref().map(|said| said.rows.iter().map(row_json).collect::<Vec<_>>()),
            "allowed": self.is_allowed(),
            "row": row.map(|row| row.id()).or(denial.and_then(|denial| denial.row.as_deref())),
            "tenant": row.map(|row| row.tenant()),
            "reason": denial.map(|denial| denial.code.as_str()),
            "detail": denial.map(ToString::to_string),
            "observed": answer.map(|answer| answer.observed.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "wire": match (&self.said, broken) {
                (Some(said), None) => said.wire.as_str(),
                _ => TURNED_AWAY,
            },
        })
    }
}

/// A line each, in columns as wide as their widest cell.
fn rows(findings: &[RowFinding]) -> Vec<String> {
    let width = |of: fn(&RowFinding) -> &str| findings.iter().map(|it| of(it).chars().count()).max().unwrap_or(0);
    let (id, subject) = (width(|it| &it.row), width(|it| &it.subject));
    let line = |it: &RowFinding| {
        let (mark, _, text) = outcome(it);
        format!("  {mark} {:<5} {:id$}  {:subject$}  {text}", it.effect.as_str(), it.row, it.subject)
    };
    match findings {
        [] => vec!["  it has no rows".to_owned()],
        _ => findings.iter().map(line).collect(),
    }
}

/// A mark, a word and a sentence.
fn outcome(finding: &RowFinding) -> (&'static str, &'static str, String) {
    match &finding.outcome {
        RowOutcome::Decides(observed) if observed.is_empty() => ("✓", "decides", "decides".to_owned()),
        RowOutcome::Decides(observed) => {
            let observed: Vec<_> = observed.iter().map(ToString::to_string).collect();
            ("✓", "decides", format!("decides; only observed: {}", observed.join("; ")))
        }
        RowOutcome::Allows => ("✓", "allows", "would allow it".to_owned()),
        RowOutcome::Denies(detail) => {
            ("✗", "denies", access::Denial::of(access::DenialCode::DenyRow, None, detail.as_str()).to_string())
        }
        RowOutcome::Fails(silent) if finding.effect == Effect::Deny => ("–", "silent", silent.detail.clone()),
        RowOutcome::Fails(denial) => ("✗", "fails", denial.to_string()),
        RowOutcome::NotAsked(why) => ("–", "not_asked", format!("not asked: {why}")),
    }
}

fn row_json(finding: &RowFinding) -> Value {
    let (_, word, text) = outcome(finding);
    json!({
        "row": finding.row, "effect": finding.effect.as_str(), "subject": finding.subject, "outcome": word,
        "detail": text,
    })
}
