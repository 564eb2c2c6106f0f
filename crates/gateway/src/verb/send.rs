//! `portcullis send`: files and folders over mutual TLS, with progress and a summary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use model::{AeTitle, SpiffeId};
use tokio::sync::mpsc;

use crate::send::{Outgoing, Sender, SenderFile, Sent, gather, send_all, trust_from_files};
use crate::verb::{bar, say};

/// Sends DICOM files and folders with C-STORE over mutual TLS
#[derive(Debug, Args)]
#[command(after_help = "Example, with the certificates of `portcullis dev`:\n  \
    portcullis send --cert portcullis-dev/certs/hospital-a.pem --key portcullis-dev/certs/hospital-a.key \\\n    \
    --ca portcullis-dev/certs/gateway.invalid/ca.pem --to 127.0.0.1:2762 \\\n    \
    --called PORTCULLIS --calling HOSPITAL_A FOLDER\n\n\
    The exit code is 0 only if the receiver accepted every instance. Sending again is safe: what is \
    held already is answered with success and not stored twice.")]
pub struct SendArgs {
    /// A TOML file with any of: cert, key, ca, receiver, to, called, calling
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Our certificate (PEM, leaf first)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Our private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The authority of the receiver's trust domain (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The receiver's SPIFFE ID [default: /receiver in the trust domain of --ca]
    #[arg(long, value_name = "spiffe://DOMAIN/PATH")]
    receiver: Option<SpiffeId>,
    /// Where to send
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    /// Called AE title
    #[arg(long, value_name = "AE")]
    called: Option<AeTitle>,
    /// Calling AE title
    #[arg(long, value_name = "AE")]
    calling: Option<AeTitle>,
    /// Associations side by side
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Further tries after a failure that may pass (connection lost, receiver busy or out of resources)
    #[arg(long, default_value_t = 3, value_name = "N")]
    retries: u32,
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When arguments, certificates or paths are not in order. Refused instances are no error but exit code 1.
pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let paths = args.paths.clone();
    let sender = sender(args)?;
    let (files, odd) = gather(&paths)?;
    for (path, why) in &odd {
        say(format!("not sent  {}: {why}", path.display()));
    }
    if files.is_empty() {
        say("no DICOM file was found");
        return Ok(ExitCode::FAILURE);
    }
    let total = files.len();
    let begun = Instant::now();
    let tally = send(sender, files).await;
    tally.print(total, begun.elapsed());
    let all = tally.accepted() == total && odd.is_empty();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends with a progress bar on a terminal, plain lines elsewhere.
async fn send(sender: Sender, files: Vec<Outgoing>) -> Tally {
    let bar = bar(files.len() as u64, "{bar:40.cyan/blue} {pos}/{len} instances  {per_sec}  {eta} left");
    let (reports, mut sent) = mpsc::unbounded_channel();
    let work = tokio::spawn(send_all(Arc::new(sender), files, reports));
    let mut tally = Tally::default();
    while let Some(one) = sent.recv().await {
        bar.inc(1);
        if let Some(line) = trouble(&one) {
            if bar.is_hidden() { say(line) } else { bar.println(line) }
        }
        tally.add(&one);
    }
    bar.finish_and_clear();
    let _ = work.await;
    tally
}

fn trouble(sent: &Sent) -> Option<String> {
    let path = sent.path.display();
    match &sent.outcome {
        Ok(status) if status.is_accepted() => None,
        Ok(status) => {
            let comment = status.comment.as_deref().unwrap_or("no comment");
            Some(format!("refused   {path}: status {:04X} ({comment})", status.code))
        }
        Err(why) => Some(format!("failed    {path}: {why}")),
    }
}

/// How it went, by status.
#[derive(Default)]
struct Tally {
    by_status: BTreeMap<String, usize>,
    accepted: usize,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, sent: &Sent) {
        let key = match &sent.outcome {
            Ok(status) => format!("{:04X}", status.code),
            Err(_) => "not sent".to_owned(),
        };
        *self.by_status.entry(key).or_default() += 1;
        if sent.outcome.as_ref().is_ok_and(crate::send::Status::is_accepted) {
            self.accepted += 1;
            self.bytes += sent.bytes;
        }
    }

    fn accepted(&self) -> usize {
        self.accepted
    }

    #[expect(clippy::cast_precision_loss, reason = "round figures")]
    fn print(&self, total: usize, took: Duration) {
        let megabytes = self.bytes as f64 / 1e6;
        let seconds = took.as_secs_f64();
        let statuses: Vec<_> = self.by_status.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        say(format!("{} of {total} instances accepted, {megabytes:.1} MB in {seconds:.1} s", self.accepted));
        say(format!("by status: {}", statuses.join(", ")));
    }
}

fn sender(args: SendArgs) -> anyhow::Result<Sender> {
    let file = args.config.as_deref().map(SenderFile::load).transpose()?.unwrap_or_default();
    let missing = |what: &str| anyhow!("{what} is missing: give --{what} or write it into --config");
    let cert = args.cert.or(file.cert).ok_or_else(|| missing("cert"))?;
    let key = args.key.or(file.key).ok_or_else(|| missing("key"))?;
    let ca = args.ca.or(file.ca).ok_or_else(|| missing("ca"))?;
    let (trust, receiver) = trust_from_files(&cert, &key, &ca, args.receiver.or(file.receiver))
        .context("the certificates for sending are not in order")?;
    Ok(Sender {
        to: args.to.or(file.to).ok_or_else(|| missing("to"))?,
        called: args.called.or(file.called).ok_or_else(|| missing("called"))?,
        calling: args.calling.or(file.calling).ok_or_else(|| missing("calling"))?,
        trust,
        receiver,
        jobs: args.jobs.into(),
        retries: args.retries,
    })
}
