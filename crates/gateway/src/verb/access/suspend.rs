//! `access suspend`, `resume` and `kill-switch`: who may come in changes at once, and can be changed back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use model::{Timestamp, span};

use super::asked::moment;
use super::columns::Differences;
use super::edit::{Edit, Edited};
use super::replace::Original;
use super::{TableArgs, count};
use crate::config::Config;
use crate::verb::say;

/// Suspends a row, or every row of an identity: live associations end where they are
///
/// Sets state, reason, until and updated_at, and raises the revision; the rest of the file stays as it is. Running gateways
/// read the table again within access.poll.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis access suspend hosp-a-ct1 --reason 'CHG-7: key lost'\n  \
    portcullis access suspend spiffe://hosp-a.example/ingest/ct1 --reason maintenance --ttl 2h --dry-run")]
pub(super) struct SuspendArgs {
    /// The id of a row, or a SPIFFE ID
    #[arg(value_name = "ROW|SPIFFE-ID")]
    who: String,
    /// Why: other people read it in the table
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long, such as 30m or 2h [default: until it is resumed]
    #[arg(long, value_name = "SPAN", value_parser = span::parse, conflicts_with = "until")]
    ttl: Option<Duration>,
    /// Until when (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    table: TableArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Puts a suspended row, or every row of an identity, into force again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis access resume hosp-a-ct1")]
pub(super) struct ResumeArgs {
    /// The id of a row, or a SPIFFE ID
    #[arg(value_name = "ROW|SPIFFE-ID")]
    who: String,
    #[command(flatten)]
    table: TableArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Denies everything to everybody (`on`), or lets the rows decide again (`off`)
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis access kill-switch on --table /etc/portcullis/access.toml")]
pub(super) struct KillSwitchArgs {
    #[arg(value_enum)]
    turn: Turn,
    #[command(flatten)]
    table: TableArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Turn {
    On,
    Off,
}

pub(super) fn suspend(args: &SuspendArgs, now: Timestamp) -> anyhow::Result<bool> {
    if args.reason.trim().is_empty() {
        bail!("--reason is empty: other people will want to know why");
    }
    let until = args.ttl.map(|ttl| now.plus(ttl)).or(args.until);
    if until.is_some_and(|until| until <= now) {
        bail!("that time is over: the row would be in force at once");
    }
    let mut file = Target::open(&args.table)?;
    let ids = file.edit.rows_meant(&args.who)?;
    file.what = format!("{} suspended", count(ids.len(), "row"));
    file.finish(args.dry_run, |edit| edit.suspend(&ids, &args.reason, until, now))
}

pub(super) fn resume(args: &ResumeArgs, now: Timestamp) -> anyhow::Result<bool> {
    let mut file = Target::open(&args.table)?;
    let ids = file.edit.rows_meant(&args.who)?;
    if file.edit.suspended(&ids) == 0 {
        say(format!("{} is not suspended; nothing changed", args.who));
        return Ok(true);
    }
    file.what = format!("{} in force again", count(ids.len(), "row"));
    file.finish(args.dry_run, |edit| edit.resume(&ids, now))
}

pub(super) fn kill_switch(args: &KillSwitchArgs) -> anyhow::Result<bool> {
    let on = args.turn == Turn::On;
    let mut file = Target::open(&args.table)?;
    if file.edit.is_killed() == on {
        say(format!("the kill switch is {} already; nothing changed", if on { "on" } else { "off" }));
        return Ok(true);
    }
    file.what = if on { "everybody is denied" } else { "the rows decide again" }.to_owned();
    file.finish(args.dry_run, |edit| edit.kill_switch(on))
}

/// The table that is changed.
struct Target {
    /// As it was named: its signature lies beside this name.
    path: PathBuf,
    config: Option<Config>,
    original: Original,
    edit: Edit,
    what: String,
}

impl Target {
    fn open(args: &TableArgs) -> anyhow::Result<Self> {
        let config = args.config()?;
        let path = args.path(config.as_ref());
        let original = Original::read(&path)?;
        let edit = Edit::begin(&original.text)?;
        Ok(Self { path, config, original, edit, what: String::new() })
    }

    fn finish(self, dry_run: bool, change: impl FnOnce(Edit) -> anyhow::Result<Edited>) -> anyhow::Result<bool> {
        let Self { path, config, original, edit, what } = self;
        let Edited { text, revisions: (from, to) } = change(edit)?;
        let differences = Differences::between(&original.text, &text)?;
        differences.lines().into_iter().for_each(say);
        if dry_run {
            say(format!("dry run: {} is unchanged", path.display()));
            return Ok(true);
        }
        original.replace(&text)?;
        let within = match &config {
            Some(config) => format!("{} and 1 s", span::format(config.access.poll)),
            None => "its access.poll and 1 s".to_owned(),
        };
        say(format!("{what}: {}, revision {from} → {to}; a running gateway follows within {within}", path.display()));
        if let Some(warning) = unsigned(&path, config.as_ref()) {
            say(warning);
        }
        Ok(true)
    }
}

/// A signature that no longer fits leaves the table of before in force.
fn unsigned(path: &Path, config: Option<&Config>) -> Option<String> {
    let mut signature = path.as_os_str().to_owned();
    signature.push(".sig");
    let signature = PathBuf::from(signature);
    if !signature.exists() && config.is_none_or(|config| config.access.verify_key.is_none()) {
        return None;
    }
    let (path, signature) = (path.display(), signature.display());
    Some(format!(
        "NOT IN FORCE YET where signatures are checked: {signature} does not belong to this text. Sign it again:\n  \
         openssl pkeyutl -sign -rawin -inkey KEY.pem -in {path} -out {signature}.new && mv {signature}.new {signature}"
    ))
}
