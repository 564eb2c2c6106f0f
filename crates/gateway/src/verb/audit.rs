//! `portcullis audit`: is the log as it was written, what does it say, and what does a UID look like in it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use model::{Digest, Uid};

use crate::audit::{Broken, Counts, Head, Moment, Report, Uids, verify};
use crate::clock::now;
use crate::verb::say;

/// Verifies and reads audit logs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis audit verify audit.jsonl\n  \
    portcullis audit verify audit.jsonl.1 audit.jsonl --expect-seq 4711   rotated files, the oldest first\n  \
    portcullis audit report audit.jsonl --since 24h\n  \
    portcullis audit uid 1.2.840.113619.2.55 --key uid.key   what to look for where UIDs are hidden")]
pub struct AuditArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Checks that no record was changed, removed, added or moved
    Verify(VerifyArgs),
    /// Counts by identity, reasons, terminations, alerts
    Report(ReportArgs),
    /// Prints how a UID stands in a log with `uids = "hmac"`
    Uid(UidArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: every record follows from the one before it. 1: one does not; file and line are said.\n\n\
    What was cut off at the end cannot be seen in the files alone: a shorter log is a good log. Write the last number and \
    digest down somewhere else (they are printed), and give them as --expect-seq, --expect-digest or, to go on from there, \
    --after."
)]
struct VerifyArgs {
    /// The log; several rotated files of one log with the oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The log reaches at least to this record
    #[arg(long, value_name = "N")]
    expect_seq: Option<u64>,
    /// The record of this SHA-256 is the last one
    #[arg(long, value_name = "HEX", value_parser = Digest::parse)]
    expect_digest: Option<Digest>,
    /// The files go on behind this record, as an earlier run printed it: older files need not be there
    #[arg(long, value_name = "N:HEX", value_parser = head)]
    after: Option<Head>,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// The log; several files are counted together
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only records since then: 24h, 7d or 2026-11-01T00:00:00Z
    #[arg(long, value_name = "SINCE")]
    since: Option<Moment>,
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct UidArgs {
    /// A Study, Series or SOP Instance UID
    #[arg(value_name = "UID")]
    uid: String,
    /// The key that the configuration names as audit.uid_key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or an argument makes no sense.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Verify(args) => verified(&args),
        Verb::Report(args) => reported(&args),
        Verb::Uid(args) => hidden(&args),
    }
}

fn verified(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let all = match verify(&args.files, args.after.unwrap_or_else(Head::start)) {
        Ok(all) => all,
        Err(broken @ Broken::At { .. }) => {
            eprintln!("{broken}");
            say("broken: this log is not as it was written");
            return Ok(ExitCode::FAILURE);
        }
        Err(unreadable) => return Err(unreadable.into()),
    };
    say(format!("records    {}", all.records));
    say(format!("recovered  {} (torn lines of killed processes, each with its note)", all.recovered));
    say(format!("last       {}:{}", all.head.seq, all.head.digest));
    if let Some(expected) = args.expect_seq.filter(|expected| *expected > all.head.seq) {
        eprintln!("the log ends at record {}, before record {expected}: its end was cut off", all.head.seq);
        return Ok(ExitCode::FAILURE);
    }
    if args.expect_digest.is_some_and(|expected| expected != all.head.digest) {
        eprintln!("the last record has another digest: it was changed, or the log does not end there");
        return Ok(ExitCode::FAILURE);
    }
    say("ok: every record follows from the one before it");
    Ok(ExitCode::SUCCESS)
}

/// `N:HEX`, as [`verified`] prints it.
fn head(text: &str) -> anyhow::Result<Head> {
    let (seq, digest) = text.split_once(':').ok_or_else(|| anyhow!("give the record's number, a colon, its digest"))?;
    Ok(Head { seq: seq.parse().context("the number is none")?, digest: Digest::parse(digest)? })
}

fn hidden(args: &UidArgs) -> anyhow::Result<ExitCode> {
    let uid: Uid<model::SopInstance> = Uid::parse(&args.uid)?;
    let uids = Uids::hidden(&args.key).map_err(|problem| anyhow!(problem))?;
    say(uids.shown(uid.as_str()));
    Ok(ExitCode::SUCCESS)
}

fn reported(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let since = args.since.map(|since| since.as_of(now()));
    let mut report = Report::default();
    for path in &args.files {
        report.read(path, since).with_context(|| format!("cannot read {}", path.display()))?;
    }
    if report.records == 0 && report.unreadable > 0 {
        bail!("no line of these files is a record of an audit log");
    }
    if args.json {
        say(serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report) {
    let moment = |moment: Option<model::Timestamp>| moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string());
    say(format!("{} records from {} to {}", report.records, moment(report.from), moment(report.to)));
    if report.unreadable > 0 {
        say(format!("{} lines are no records; see `portcullis audit verify`", report.unreadable));
    }
    if report.lost > 0 {
        say(format!("{} verdicts were lost while the log could not be written", report.lost));
    }
    print_identities(report);
    let late = report.late_terminations;
    print_counts("refused", &report.denied);
    print_counts("would be refused (observed)", &report.observed);
    print_counts("connections refused", &report.connections_refused);
    print_counts("associations ended by a decision", &report.terminated);
    title("late terminations");
    say(format!("  {}, the worst after {} ms", late.count, late.worst_ms));
    print_counts("alerts", &report.alerts);
    print_counts("policy", &report.policy);
}

fn print_identities(report: &Report) {
    title("identities");
    let wide = report.identities.keys().map(|id| id.chars().count()).max().unwrap_or(0).max(8);
    let row = |cells: [String; 6]| {
        let [id, associations, stored, held, refused, bytes] = cells;
        say(format!("  {id:wide$}  {associations:>12}  {stored:>9}  {held:>12}  {refused:>9}  {bytes:>15}"));
    };
    row(["identity", "associations", "stored", "already held", "refused", "bytes stored"].map(str::to_owned));
    for (id, counted) in &report.identities {
        let numbers = [counted.associations, counted.stored, counted.already_held, counted.refused, counted.bytes];
        let [associations, stored, held, refused, bytes] = numbers.map(|number| number.to_string());
        row([plain(id), associations, stored, held, refused, bytes]);
    }
}

fn print_counts(name: &str, counts: &Counts) {
    title(name);
    if counts.is_empty() {
        say("  none");
    }
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    for (name, count) in sorted {
        say(format!("  {count:>9}  {}", plain(name)));
    }
}

/// A file that somebody else wrote cannot move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{FFFD}' } else { character }).collect()
}

/// Bold on a terminal.
fn title(text: &str) {
    say(if std::io::stdout().is_terminal() { format!("\n\x1b[1m{text}\x1b[0m") } else { format!("\n{text}") });
}
