//! `portcullis certs limbo`: the test vectors as files.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use model::Timestamp;

use crate::limbo::{self, Mint};
use crate::verb::bar;

#[derive(Debug, Args)]
pub(super) struct LimboArgs {
    /// A new or empty directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also every two flaws together, some thousands
    #[arg(long)]
    pairs: bool,
}

pub(super) fn run(args: &LimboArgs, now: Timestamp, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (refused, accepted) = (limbo::refused(), limbo::accepted());
    let pairs = if args.pairs { limbo::pairs() } else { Vec::new() };
    let counts = [(refused.len(), "break one rule"), (accepted.len(), "break none"), (pairs.len(), "break two")];
    let cases = [refused, accepted, pairs].concat();
    let bar = bar(cases.len() as u64, "{bar:40} {pos}/{len} vectors");
    limbo::export(&Mint::new(now)?, &cases, now, &args.out, || bar.inc(1))?;
    bar.finish_and_clear();
    let dir = args.out.display();
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "{count:>6} vectors that {what}")?;
    }
    writeln!(out, "\nHow to use them: {dir}/README.md\nEverything in one: {dir}/limbo.json")?;
    Ok(ExitCode::SUCCESS)
}
