//! `portcullis dev`: everything in one process on a laptop, with a fresh development PKI. The newcomer's first command.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::ProgressBar;
use model::AeTitle;
use serde_json::Value;
use study::Event;
use tokio::sync::{broadcast, mpsc};

use crate::clock::now;
use crate::config::{Config, environment};
use crate::receive::{Checked, Receiver};
use crate::send::{Sender, gather, send_all, trust_from_files};
use crate::telemetry::{self, LogFormat};
use crate::verb::{bar, say};
use crate::{pki, sample};

/// Where `dev` keeps everything, and `studies` looks by default.
pub(crate) const DEFAULT_DIR: &str = "portcullis-dev";

/// Starts a whole gateway on this machine with development certificates: never for production
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis dev --sample          start, send a small synthetic CT study to yourself, and see what happens to it\n  \
    portcullis dev --sample --once   the same, and end when the study is stable\n  \
    portcullis dev --listen 127.0.0.1:0 --admin 127.0.0.1:0   ports that are free\n\n\
    Edit DIR/access.toml while it runs: it is read again within a second. Delete DIR to start afresh.")]
pub struct DevArgs {
    /// Where certificates, table, objects, index and logs go; made if absent, reused if there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// DICOM TLS address; port 0 takes a free one [default: 127.0.0.1:2762]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address of /healthz, /readyz and /metrics [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// A study is stable when nothing came for this long [default: 3s]
    #[arg(long, value_name = "SPAN", value_parser = model::span::parse)]
    quiet: Option<Duration>,
    /// Send a small synthetic CT study through the mutual TLS socket and show what happens to it
    #[arg(long)]
    sample: bool,
    /// End, with exit code 0, when a study is stable (with --sample: the sample)
    #[arg(long)]
    once: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log: LogFormat,
}

/// Runs the verb.
///
/// # Errors
/// With what is in the way: a port, a directory, a broken file.
pub async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    telemetry::begin_logs(args.log, if args.sample { "warn" } else { "info" });
    prepare(&args)?;
    let mut config = Config::load(&args.dir.join("gateway.toml"), environment())?;
    config.receiver.listen = args.listen.unwrap_or(config.receiver.listen);
    config.receiver.admin = args.admin.unwrap_or(config.receiver.admin);
    config.stabiliser.quiet = args.quiet.unwrap_or(config.stabiliser.quiet);
    let metrics = telemetry::begin_metrics()?;
    let receiver = Receiver::bind(Checked::build(config).await?, metrics).await?;
    let address = receiver.address()?;
    greet(&args.dir, address, receiver.admin_address()?)?;
    let house = receiver.house();
    let stable = house.stable.subscribe();
    let renewal = tokio::spawn(renew(args.dir.join("certs")));
    let serving = tokio::spawn(receiver.run());
    let shown = tokio::select! {
        biased;
        shown = show(&args, address, stable) => shown,
        // Ended by a signal, or by something that must never stop.
        () = house.drain.cancelled(), if args.once || args.sample => Err(anyhow!("ended before the study was stable")),
        () = house.drain.cancelled() => Ok(()),
    };
    if shown.is_err() || args.once {
        house.drain.cancel();
    }
    drop(house);
    let served = serving.await.context("the receiver panicked")?;
    renewal.abort();
    shown.and(served).map(|()| ExitCode::SUCCESS)
}

/// What is to be seen before `dev` ends or waits for more.
async fn show(args: &DevArgs, address: SocketAddr, mut stable: broadcast::Receiver<Event>) -> anyhow::Result<()> {
    if args.sample {
        show_sample(&args.dir, address, &mut stable).await?;
    } else if args.once {
        let event = next_stable(&mut stable, |_| true).await?;
        say(format!("study {} is stable: {} instances", event.study, event.instances));
    }
    if !args.once {
        say("The gateway goes on. Ctrl-C ends it.");
    }
    Ok(())
}

async fn next_stable(
    stable: &mut broadcast::Receiver<Event>,
    wanted: impl Fn(&Event) -> bool,
) -> anyhow::Result<Event> {
    loop {
        match stable.recv().await {
            Ok(event) if wanted(&event) => return Ok(event),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => bail!("the receiver ended before a study was stable"),
        }
    }
}

/// Certificates of a day's life are made again long before their end; the receiver sees the new files by itself.
async fn renew(certs: PathBuf) {
    loop {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        if let Err(error) = pki::ensure(&certs, SystemTime::now()) {
            tracing::error!(%error, "development certificates could not be renewed");
        }
    }
}

fn prepare(args: &DevArgs) -> anyhow::Result<()> {
    let dir = &args.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}; choose another with --dir", dir.display()))?;
    pki::ensure(&dir.join("certs"), SystemTime::now())?;
    write_if_absent(&dir.join("access.toml"), ACCESS)?;
    // With the defaults: what is asked for on the command line holds for this run.
    write_if_absent(&dir.join("gateway.toml"), GATEWAY)
}

fn write_if_absent(path: &Path, text: &str) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // Whatever the umask: who may write the table decides who may do what.
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

const GATEWAY: &str = r#"# Written by `portcullis dev`; edit as you like, it is kept. Paths are relative to this file.
# Every key and its default: docs/configuration.md

[receiver]
listen = "127.0.0.1:2762"
admin = "127.0.0.1:8080"

[identity]
chain = "certs/receiver.pem"
key = "certs/receiver.key"

# One bundle for each trust domain: a certificate of hospital-b can never speak for hospital-a.
[[trust]]
domain = "hospital-a.invalid"
bundle = "certs/hospital-a.invalid/ca.pem"

[[trust]]
domain = "hospital-b.invalid"
bundle = "certs/hospital-b.invalid/ca.pem"

[access]
table = "access.toml"
poll = "1s"

[archive]
dir = "."

[stabiliser]
quiet = "3s"
events = "events.jsonl"

[audit]
file = "audit.jsonl"
"#;

const ACCESS: &str = r#"# Who may do what. Written by `portcullis dev`; edit as you like, it is kept and read again while the gateway runs.
# What is not allowed here is refused. Raise `revision` with every change. Every column: docs/access-table.md

revision = 1

[[row]]
id = "hospital-a"
effect = "allow"
identity = "spiffe://hospital-a.invalid/forwarder"
tenant = "hospital-a"
called_aets = ["PORTCULLIS"]
calling_aets = ["HOSPITAL_A"]
operations = ["echo", "store"]
sop_classes = ["*"]
# "*" leaves out the deflated syntaxes, whose data sets have to be inflated to be read: they are named.
transfer_syntaxes = ["*", "DeflatedExplicitVRLittleEndian", "JPIPReferencedDeflate", "JPIPHTJ2KReferencedDeflate"]
on_conflict = "revise"
owner = "you@hospital-a.invalid"

[[row]]
id = "hospital-b"
effect = "allow"
identity = "spiffe://hospital-b.invalid/forwarder"
tenant = "hospital-b"
called_aets = ["PORTCULLIS"]
calling_aets = ["HOSPITAL_B"]
operations = ["echo", "store"]
sop_classes = ["CTImageStorage", "EnhancedCTImageStorage", "MRImageStorage", "EnhancedMRImageStorage"]
transfer_syntaxes = ["*"]
on_conflict = "revise"
owner = "you@hospital-b.invalid"
"#;

/// Bold on a terminal.
fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Green on a terminal.
fn good(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[32m{text}\x1b[0m") } else { text.to_owned() }
}

/// What a person does next, ready to copy.
fn greet(dir: &Path, address: SocketAddr, admin: SocketAddr) -> anyhow::Result<()> {
    let program = program()?;
    let at = |part: &str| dir.join(part).display().to_string();
    let (cert, key, ca) = (at("certs/hospital-a.pem"), at("certs/hospital-a.key"), at("certs/gateway.invalid/ca.pem"));
    let (ip, port) = (address.ip(), address.port());
    say(bold("Portcullis development gateway (never for production)"));
    say(format!("listening on {address}"));
    say(format!("admin on http://{admin}"));
    say("");
    say(format!("  objects   {}", at("objects/instances/")));
    say(format!("  index     {}", at("index.sqlite")));
    say(format!("  audit     {}", at("audit.jsonl")));
    say(format!("  events    {}", at("events.jsonl")));
    say(format!("  access    {}   edit it while the gateway runs", at("access.toml")));
    say("");
    say(bold("Send images, from another terminal:"));
    say(format!(
        "  {program} send --cert {cert} --key {key} --ca {ca} --to {address} --called PORTCULLIS --calling HOSPITAL_A FOLDER"
    ));
    say(bold("or with DCMTK:"));
    say(format!("  storescu +tls {key} {cert} +cf {ca} -aet HOSPITAL_A -aec PORTCULLIS {ip} {port} FILE.dcm"));
    say(bold("See what is held:"));
    say(format!("  {program} studies list --dir {}", dir.display()));
    say("");
    Ok(())
}

/// This program as a person would type it here.
fn program() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("the system does not say where this program is")?;
    let here = std::env::current_dir()?;
    Ok(program
        .strip_prefix(&here)
        .map_or(program.clone(), |relative| Path::new(".").join(relative))
        .display()
        .to_string())
}

const SAMPLE_SLICES: u16 = 8;
const SAMPLE_ROWS: u16 = 128;

/// Sends the sample through the real socket and tells, from what the gateway wrote, what happened to it.
async fn show_sample(dir: &Path, address: SocketAddr, stable: &mut broadcast::Receiver<Event>) -> anyhow::Result<()> {
    // A study of its own for each run: the same one again would be "already held", and no news.
    let seed = u64::try_from(now().as_millis()).unwrap_or_default();
    let study = write_sample(dir, seed)?;
    say(bold("Sample: a synthetic CT study, sent by hospital-a through the socket"));
    send_sample(dir, &study.folder, address).await?;
    let uid = study.uid.clone();
    let quiet = say_waiting();
    let event = next_stable(stable, |event| event.study.as_str() == uid).await?;
    quiet.finish_and_clear();
    tell(dir, &study, &event)
}

struct Sample {
    uid: String,
    folder: PathBuf,
}

fn write_sample(dir: &Path, seed: u64) -> anyhow::Result<Sample> {
    let instances = sample::ct_study(SAMPLE_SLICES, SAMPLE_ROWS, seed);
    let uid = instances.first().ok_or_else(|| anyhow!("the sample study is empty"))?.study.to_string();
    let folder = dir.join("sample").join(&uid);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for instance in &instances {
        fs::write(folder.join(&instance.file_name), &instance.part10)?;
    }
    Ok(Sample { uid, folder })
}

async fn send_sample(dir: &Path, folder: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let certs = dir.join("certs");
    let (trust, receiver) = trust_from_files(
        &certs.join("hospital-a.pem"),
        &certs.join("hospital-a.key"),
        &certs.join("gateway.invalid/ca.pem"),
        None,
    )?;
    let sender = Sender {
        to: address.to_string(),
        called: AeTitle::parse("PORTCULLIS")?,
        calling: AeTitle::parse("HOSPITAL_A")?,
        trust,
        receiver,
        jobs: 1,
        retries: 0,
    };
    let (files, _) = gather(&[folder.to_owned()])?;
    let bar = bar(files.len() as u64, "  {bar:30.cyan/blue} {pos}/{len} instances");
    let (reports, mut sent) = mpsc::unbounded_channel();
    let work = tokio::spawn(send_all(Arc::new(sender), files, reports));
    while let Some(one) = sent.recv().await {
        bar.inc(1);
        match &one.outcome {
            Ok(status) if status.is_accepted() => {}
            Ok(status) => bail!("the sample was refused with status {:04X}; see audit.jsonl", status.code),
            Err(why) => bail!("the sample could not be sent: {why}"),
        }
    }
    bar.finish_and_clear();
    work.await.context("sending the sample panicked")
}

fn say_waiting() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message("waiting until the study is quiet");
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The story of the study as audit log and manifest tell it.
fn tell(dir: &Path, study: &Sample, event: &Event) -> anyhow::Result<()> {
    let audit = fs::read_to_string(dir.join("audit.jsonl")).context("cannot read the audit log")?;
    let verdicts: Vec<Value> = audit.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let stored: Vec<&Value> = verdicts.iter().filter(|v| v["event"] == "instance" && v["study"] == study.uid).collect();
    let first = stored.first().ok_or_else(|| anyhow!("the audit log does not have the sample"))?;
    let granted = verdicts
        .iter()
        .rfind(|v| v["event"] == "association" && v["reason"] == "granted" && v["association"] == first["association"])
        .ok_or_else(|| anyhow!("the audit log does not have the sample's association"))?;
    let step = |number: u8, title: &str| say(format!("{} {}", good(&format!("  {number}.")), bold(title)));

    step(1, "identity proven by a mutual TLS handshake");
    say(format!("     {}", text(granted, "spiffe_id")));
    say(format!("     {} {}", text(granted, "tls_version"), text(granted, "tls_suite")));
    say(format!("     certificate sha256 {}, until {}", text(granted, "leaf_sha256"), text(granted, "not_after")));
    step(2, "association authorised by a row of the access table");
    say(format!("     row {:?}, revision {}", text(granted, "row"), granted["policy_revision"]));
    say(format!(
        "     {} called {}, tenant {}",
        text(granted, "calling_ae"),
        text(granted, "called_ae"),
        text(granted, "tenant")
    ));
    step(3, &format!("{} instances stored: object and index row durable before Success", stored.len()));
    for verdict in &stored {
        say(format!("     {}  {} bytes", text(verdict, "sha256"), verdict["bytes"]));
        say(format!("       {}", dir.join("objects").join(text(verdict, "object")).display()));
    }
    step(4, "study stable: nothing came for the quiet time, one event published");
    say(format!("     {} generation {}, {} instances", event.id, event.generation, event.instances));
    step(5, "manifest written");
    let manifest = dir.join("objects").join(&event.manifest);
    say(format!("     {}", manifest.display()));
    say(format!("     sha256 {}", event.manifest_sha256));
    tell_manifest(&manifest)?;
    say("");
    say(format!(
        "The files that were sent are in {}; send them again and see that they are already held.",
        study.folder.display()
    ));
    Ok(())
}

fn tell_manifest(path: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text).context("the manifest is not JSON")?;
    let counts: BTreeMap<String, Value> = serde_json::from_value(manifest["counts"].clone()).unwrap_or_default();
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    say(format!("     {}", counts.join(", ")));
    Ok(())
}
