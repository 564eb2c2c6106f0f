//! `access diff`: two tables side by side, and what the past would have been under each.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Read;
use super::columns::Differences;
use super::replay::Replay;
use crate::verb::say;

/// Says what differs between two tables, and with --replay which decisions of the past would change
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1: with --replay, something that OLD allows would be denied by NEW. Without it always 0.\n\n\
    Every association and instance of the log is asked of both tables, at its own time. Quotas and what a data set says (its\n\
    modality, issuer, institution) are not in the log and not asked; of an SVID's lifetime only what was left is.\n\n\
    Examples:\n  \
    portcullis access diff access.toml next.toml\n  \
    portcullis access diff access.toml next.toml --replay audit.jsonl.1 audit.jsonl"
)]
pub(super) struct DiffArgs {
    /// The table that is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The table that shall be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Audit logs, the oldest first
    #[arg(long, value_name = "AUDIT.JSONL", num_args = 1..)]
    replay: Vec<PathBuf>,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DiffArgs) -> anyhow::Result<bool> {
    let (old, new) = (Read::from(args.old.clone())?, Read::from(args.new.clone())?);
    let differences = Differences::between(&old.text, &new.text)?;
    let asked = !args.replay.is_empty();
    let replay = asked.then(|| Replay::of(&args.replay, &old.table, &new.table)).transpose()?;
    let advice = advice(&old, &new);
    if args.json {
        let table = |read: &Read| json!({ "revision": read.table.revision(), "sha256": read.table.digest() });
        say(format!(
            "{:#}",
            json!({
                "old": table(&old), "new": table(&new), "differences": differences.json(), "advice": advice,
                "replay": replay.as_ref().map(Replay::json),
            })
        ));
    } else {
        let lines = differences.lines();
        let lines = if lines.is_empty() { vec!["the tables say the same".to_owned()] } else { lines };
        lines.into_iter().chain(advice).for_each(say);
        replay.iter().flat_map(Replay::lines).for_each(say);
    }
    Ok(replay.is_none_or(|replay| replay.denies_nothing_more()))
}

/// What keeps a gateway from taking the new table in the place of the old one.
fn advice(old: &Read, new: &Read) -> Option<String> {
    let (from, to) = (old.table.revision(), new.table.revision());
    if from < to || old.table.digest() == new.table.digest() {
        return None;
    }
    let whose = if from == to { "the strict profile" } else { "a gateway" };
    Some(format!("revision {from} → {to}: {whose} refuses it in the place of the old one; raise `revision`"))
}
