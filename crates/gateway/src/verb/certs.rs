//! `portcullis certs`: the development PKI at a person's fingertips, and any certificate explained by the V rules.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use access::{Finding, Outcome, Purpose, Rules, TrustBundles};
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use model::{SpiffeId, Timestamp};

use self::facts::Facts;
use crate::pki::{self, Authority};

pub(super) mod facts;
mod limbo;

/// Arguments of `portcullis certs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis certs init\n  \
    portcullis certs issue --id spiffe://hospital-a.invalid/ct1 --out ct1\n  \
    portcullis certs show certs-dev/receiver.pem --ca certs-dev/gateway.invalid/ca.pem --purpose server")]
pub struct CertsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the development certificates, or renew the ones near their end
    ///
    /// Three trust domains (gateway.invalid, hospital-a.invalid, hospital-b.invalid), each with an authority of its own,
    /// and an SVID each that lives a day. Run it again any time: what is still good is kept. Never for production: the
    /// private keys of the authorities lie beside their certificates.
    Init {
        /// Where to keep them
        #[arg(long, value_name = "DIR", default_value = "certs-dev")]
        dir: PathBuf,
    },
    /// Issue one more development SVID
    ///
    /// For a sender of your own, or to see what the receiver says to a name that has no row. Only trust domains that end
    /// in .invalid; the authority is made if it is missing.
    #[command(after_help = "Example:\n  portcullis certs issue --id spiffe://hospital-a.invalid/ct1 --out ct1\n  \
        writes ct1.pem and ct1.key")]
    Issue(IssueArgs),
    /// Explain a certificate: which of the SVID rules it keeps and which it breaks
    ///
    /// Works on any PEM certificate or chain (leaf first), also on one from your real issuer. Ends with 0 when every rule
    /// that could be judged holds, with 1 otherwise. Give --ca to have the chain judged as well.
    #[command(after_help = "Example:\n  \
        portcullis certs show svid.pem --ca bundle.pem --purpose client")]
    Show(ShowArgs),
    /// Write test vectors for verifiers of X509-SVIDs: what each rule refuses, and what must pass
    ///
    /// Certificate chains with keys and bundles, and for each the answer that is right, as JSON and PEM: to test this
    /// verifier or any other. Made for this moment; they expire within hours.
    #[command(after_help = "Example:\n  portcullis certs limbo --out limbo")]
    Limbo(limbo::LimboArgs),
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The SPIFFE ID that the certificate shall carry
    #[arg(long, value_name = "spiffe://DOMAIN/PATH")]
    id: SpiffeId,
    /// Where `certs init` keeps its files; the authority is DIR/DOMAIN
    #[arg(long, value_name = "DIR", default_value = "certs-dev")]
    dir: PathBuf,
    /// The authority's own directory with ca.pem and ca.key, if it is another
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// Write PREFIX.pem and PREFIX.key [default: the last part of the ID]
    #[arg(long, value_name = "PREFIX")]
    out: Option<PathBuf>,
    /// Lifetime in hours; the receiver refuses more than 24 (V-29)
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// PEM file with a certificate, or a chain with the leaf first
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// PEM file with the roots of the certificate's trust domain; may be repeated
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// What the certificate is used for
    #[arg(long, value_enum, default_value_t = Use::Client)]
    purpose: Use,
    /// Write one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Which side of the handshake shows the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Use {
    /// A sender
    Client,
    /// A receiver
    Server,
}

impl From<Use> for Purpose {
    fn from(purpose: Use) -> Self {
        match purpose {
            Use::Client => Self::Client,
            Use::Server => Self::Server,
        }
    }
}

/// Runs the verb; the exit code of `show` says whether the certificate is good.
///
/// # Errors
/// When a file cannot be read or written, or holds something else than is wanted: the sentence says what to do.
pub fn run(args: CertsArgs) -> anyhow::Result<ExitCode> {
    run_at(args, SystemTime::now(), &mut io::stdout().lock())
}

fn run_at(args: CertsArgs, now: SystemTime, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Init { dir } => init(&dir, now, out),
        Verb::Issue(args) => issue(&args, now, out),
        Verb::Show(args) => show(&args, now.into(), out),
        Verb::Limbo(args) => limbo::run(&args, now.into(), out),
    }
}

fn init(dir: &Path, now: SystemTime, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let made = pki::ensure(dir, now)?;
    for made in &made {
        writeln!(out, "{:<40} {:<42} {}", made.path.display(), made.id, made.why)?;
    }
    if made.is_empty() {
        writeln!(out, "Nothing to do: every certificate in {} has time left.", dir.display())?;
    }
    let dir = dir.display();
    writeln!(
        out,
        "\nThe receiver shows {dir}/receiver.pem and trusts {dir}/hospital-a.invalid/ca.pem and its sisters."
    )?;
    writeln!(out, "Look at one:   portcullis certs show {dir}/hospital-a.pem --ca {dir}/hospital-a.invalid/ca.pem")?;
    writeln!(out, "Start a house: portcullis dev")?;
    Ok(ExitCode::SUCCESS)
}

fn issue(args: &IssueArgs, now: SystemTime, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let domain = args.id.trust_domain();
    if !domain.is_development() {
        return Err(pki::PkiError::NotDevelopment(domain.clone()).into());
    }
    let dir = args.ca.clone().unwrap_or_else(|| args.dir.join(domain.as_str()));
    let authority = if dir.join("ca.pem").exists() || dir.join("ca.key").exists() {
        Authority::load(&dir)?
    } else {
        let authority = Authority::create(domain.clone(), now)?;
        authority.save(&dir)?;
        writeln!(out, "{}  new authority of {domain}", dir.join("ca.pem").display())?;
        authority
    };
    if authority.domain() != domain {
        bail!(
            "{} is the authority of {}, not of {domain}: no receiver would take the certificate (V-15)",
            dir.display(),
            authority.domain()
        );
    }
    let issued = authority.issue(&args.id, Duration::from_secs(u64::from(args.hours) * 60 * 60), now)?;
    let prefix =
        args.out.clone().unwrap_or_else(|| PathBuf::from(args.id.as_str().rsplit('/').next().unwrap_or("svid")));
    let (pem, key) = (with_suffix(&prefix, ".pem"), with_suffix(&prefix, ".key"));
    pki::write_pair(&issued, &args.id, &pem, &key)?;
    writeln!(out, "{}  {}, until {}", pem.display(), args.id, issued.not_after)?;
    writeln!(out, "{}  its private key", key.display())?;
    if args.hours > 24 {
        writeln!(
            out,
            "Receivers refuse a lifetime of more than 24 hours unless they are configured otherwise (V-29)."
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `ct.1` becomes `ct.1.pem`: what stands after a dot is part of the name.
fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn show(args: &ShowArgs, now: Timestamp, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let chain = read_certificates(&args.file)?;
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let purpose = Purpose::from(args.purpose);
    let rules = Rules::default();
    let id = claimed(&chain, &rules, now, purpose);
    let bundles = read_bundles(&args.ca, id.as_ref())?;
    let facts = Facts::read(chain[0], id);
    let findings = access::explain(&chain, bundles.as_ref(), &rules, now, purpose);
    if args.json {
        write_json(out, &args.file, &facts, &findings)?;
    } else {
        write_text(out, &args.file, &facts, &findings, now)?;
    }
    Ok(if all_hold(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The ID that the leaf claims, once it is well-formed; nobody has vouched for it.
pub(super) fn claimed(chain: &[&[u8]], rules: &Rules, now: Timestamp, purpose: Purpose) -> Option<SpiffeId> {
    let nobody = TrustBundles::new([]).expect("no bundle is a valid set of bundles");
    access::verify(chain, &nobody, rules, now, purpose).err().and_then(|rejection| rejection.claimed)
}

fn all_hold(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| matches!(finding.outcome, Outcome::Broken(_)))
}

fn write_text(
    out: &mut impl Write,
    file: &Path,
    facts: &Facts,
    findings: &[Finding],
    now: Timestamp,
) -> anyhow::Result<()> {
    let text = |value: Option<&dyn std::fmt::Display>| value.map_or_else(|| "unknown".to_owned(), ToString::to_string);
    writeln!(out, "{}", file.display())?;
    writeln!(out, "  SPIFFE ID  {}", text(facts.spiffe_id.as_ref().map(|id| id as _)))?;
    writeln!(out, "  valid      {}", validity(facts, now))?;
    writeln!(out, "  key        {}", text(facts.key.as_ref().map(|key| key as _)))?;
    writeln!(out, "  serial     {}", text(facts.serial.as_ref().map(|serial| serial as _)))?;
    writeln!(out, "  issuer     {}", text(facts.issuer.as_ref().map(|issuer| issuer as _)))?;
    writeln!(out, "             SHA-256 {}", text(facts.issuer_sha256.as_ref().map(|digest| digest as _)))?;
    writeln!(out, "  SHA-256    {}\n", facts.sha256)?;
    for Finding { rule, what, outcome } in findings {
        match outcome {
            Outcome::Holds => writeln!(out, "  ✓ {rule:<5} {what}")?,
            Outcome::Broken(why) => writeln!(out, "  ✗ {rule:<5} {what}: {why}")?,
            Outcome::NotJudged(why) => writeln!(out, "  – {rule:<5} {what}: {why}")?,
        }
    }
    let broken = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Broken(_))).count();
    match broken {
        0 => writeln!(out, "\nEvery rule that was judged holds.")?,
        1 => writeln!(out, "\nOne rule is broken: a receiver refuses this certificate.")?,
        _ => writeln!(out, "\n{broken} rules are broken: a receiver refuses this certificate.")?,
    }
    Ok(())
}

fn write_json(out: &mut impl Write, file: &Path, facts: &Facts, findings: &[Finding]) -> anyhow::Result<()> {
    let rules = findings.iter().map(|Finding { rule, what, outcome }| {
        let (outcome, reason) = match outcome {
            Outcome::Holds => ("holds", None),
            Outcome::Broken(why) => ("broken", Some(why)),
            Outcome::NotJudged(why) => ("not_judged", Some(why)),
        };
        serde_json::json!({ "rule": rule, "what": what, "outcome": outcome, "reason": reason })
    });
    let rules: Vec<_> = rules.collect();
    let report = serde_json::json!({
        "file": file.display().to_string(), "certificate": facts, "holds": all_hold(findings), "rules": rules,
    });
    Ok(writeln!(out, "{report:#}")?)
}

fn validity(facts: &Facts, now: Timestamp) -> String {
    let from = facts.not_before.map(|from| format!("from {from} ")).unwrap_or_default();
    match facts.not_after {
        None => "unknown".to_owned(),
        Some(until) if until < now => format!("{from}until {until}: over since {}", span(now.since(until))),
        Some(until) => format!("{from}until {until}, {} left", span(until.since(now))),
    }
}

fn span(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// All `--ca` files together are the bundle of the trust domain that the certificate claims.
pub(super) fn read_bundles(files: &[PathBuf], id: Option<&SpiffeId>) -> anyhow::Result<Option<TrustBundles>> {
    let mut pem = Vec::new();
    for file in files {
        read_certificates(file)?;
        pem.extend(fs::read(file)?);
        pem.push(b'\n');
    }
    match id {
        Some(id) if !files.is_empty() => {
            let bundles = TrustBundles::new([(id.trust_domain().clone(), pem.as_slice())]);
            Ok(Some(bundles.context("the --ca files are not a usable bundle for this certificate's trust domain")?))
        }
        _ => Ok(None),
    }
}

/// The certificates of a PEM file; everything else that people try gets a sentence that says what to do.
pub(super) fn read_certificates(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let certificates = pki::certificates(&String::from_utf8_lossy(&bytes));
    if certificates.is_empty() { Err(no_certificate(&file.display().to_string(), &bytes)) } else { Ok(certificates) }
}

fn no_certificate(name: &str, bytes: &[u8]) -> anyhow::Error {
    let text = String::from_utf8_lossy(bytes);
    if bytes.is_empty() {
        anyhow!("{name} is empty: write the certificate again")
    } else if bytes.starts_with(&[0x30, 0x82]) {
        // A DER SEQUENCE with a length of two bytes: every certificate begins so.
        anyhow!("{name} is DER, not PEM: convert it with `openssl x509 -inform DER -in {name} -out {name}.pem`")
    } else if text.contains("-----BEGIN CERTIFICATE-----") {
        anyhow!("{name} has a CERTIFICATE block that is damaged: copy it again, with both dashed lines")
    } else if text.contains("PRIVATE KEY-----") {
        anyhow!("{name} is a private key: give the certificate that belongs to it, and keep this file to yourself")
    } else if text.contains("CERTIFICATE REQUEST-----") {
        anyhow!("{name} is a certificate request: give the certificate that the issuer made from it")
    } else {
        anyhow!("{name} holds no PEM certificate: it should have a line -----BEGIN CERTIFICATE-----")
    }
}

#[cfg(test)]
mod tests;
