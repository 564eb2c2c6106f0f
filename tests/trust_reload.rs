//! Trust while the gateway runs: revocation lists, the deny-list, bundles, our own SVID, the table and the clock change, break and
//! are repaired under live associations. Nobody is let in or goes on by what is not in force, and nobody else is disturbed.

mod bound;
mod broken;
mod bundles;
mod clock;
mod own;
mod revoked;
mod stale;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use dimse::Abort;
use gateway::pki::{Issued, SVID_LIFETIME, certificates, ensure};
use gateway::telemetry::RELOAD_FAILURES;
use model::Digest;
use serde_json::Value;
use tempfile::TempDir;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Outcome, Peer, sample_contexts};

use crate::support::instance::Instance;
use crate::support::{CALLED, SUCCESS, admin_page, audited, binary, credentials, issue};

const A_ID: &str = "spiffe://hospital-a.invalid/forwarder";
const B_ID: &str = "spiffe://hospital-b.invalid/forwarder";
const A_DOMAIN: &str = "hospital-a.invalid";
const A_BUNDLE: &str = "certs/hospital-a.invalid/ca.pem";

/// PS3.8 §9.3.8: the receiver itself wants to end it.
const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });
const NOT_AUTHORISED: Outcome = Outcome::Status(0x0124);
/// Refused for now: out of resources.
const LATER: Outcome = Outcome::Status(0xA700);

/// Fast enough that a test need not wait, slow enough for a busy machine.
const POLL: (&str, &str) = ("PORTCULLIS__ACCESS__POLL", "100ms");

/// The directory of a gateway: development certificates, and a configuration that a test has a say in.
struct Site {
    home: TempDir,
}

impl Site {
    /// With these lines in hospital-a's `[[trust]]`, after its domain.
    fn trusting(hospital_a: &str) -> Self {
        Self::written(&format!(
            "[receiver]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [identity]\nchain = \"certs/receiver.pem\"\nkey = \"certs/receiver.key\"\n\
             [[trust]]\ndomain = \"hospital-a.invalid\"\n{hospital_a}\n\
             [[trust]]\ndomain = \"hospital-b.invalid\"\nbundle = \"certs/hospital-b.invalid/ca.pem\"\n\
             [access]\ntable = \"access.toml\"\n[archive]\ndir = \".\"\n[audit]\nfile = \"audit.jsonl\"\n"
        ))
    }

    /// With this gateway.toml.
    fn written(gateway: &str) -> Self {
        let site = Self { home: tempfile::tempdir().expect("a temporary directory") };
        ensure(&site.path("certs"), SystemTime::now()).expect("development certificates can be made");
        site.put("gateway.toml", gateway);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file as an operator should: renamed into place.
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).expect("the directory is ours");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it is there")
    }

    /// `portcullis dev` on it, which writes the table if there is none.
    fn house(&self, environment: &[(&str, &str)]) -> House {
        self.house_with(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn house_with(&self, environment: Vec<(String, String)>) -> House {
        binary();
        let poll = (POLL.0.to_owned(), POLL.1.to_owned());
        let env = [poll].into_iter().chain(environment).collect();
        House::start(Options { dir: Some(self.home.path().to_owned()), env, ..Options::default() })
    }

    /// Puts a revocation list there that hospital-a's authority signs with openssl: so many seconds until the next, with these
    /// serial numbers.
    fn revoke(&self, name: &str, seconds: u32, serials: &[&str]) {
        self.put(name, self.revocation_list(seconds, serials));
    }

    fn revocation_list(&self, seconds: u32, serials: &[&str]) -> Vec<u8> {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str, text: &str| fs::write(scratch.path().join(name), text).expect("ours");
        let revoked = |serial: &&str| format!("R\t491231235959Z\t260101000000Z\t{}\tunknown\t/CN=x\n", even(serial));
        file("index.txt", &serials.iter().map(revoked).collect::<String>());
        file("number", "01\n");
        file(
            "ca.cnf",
            "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ncrl_extensions=more\n\
             [more]\nauthorityKeyIdentifier=keyid:always\n",
        );
        let ca = self.path("certs").join(A_DOMAIN);
        let mut openssl = Command::new("openssl");
        openssl.current_dir(scratch.path()).args(["ca", "-gencrl", "-config", "ca.cnf", "-out", "list.pem", "-crlsec"]);
        openssl.arg(seconds.to_string()).arg("-cert").arg(ca.join("ca.pem")).arg("-keyfile").arg(ca.join("ca.key"));
        let output = openssl.output().expect("openssl is there: run ./tests/run");
        assert!(output.status.success(), "{}", crate::support::said(&output));
        fs::read(scratch.path().join("list.pem")).expect("openssl has written it")
    }
}

/// openssl reads whole bytes, in capitals.
fn even(serial: &str) -> String {
    format!("{}{}", if serial.len() % 2 == 1 { "0" } else { "" }, serial.to_uppercase())
}

/// A day's SVID from one of the house's own authorities.
fn svid(house: &House, id: &str) -> Issued {
    issue(house, id, SVID_LIFETIME)
}

fn leaf(issued: &Issued) -> String {
    Digest::of(&certificates(&issued.chain_pem)[0]).to_string()
}

/// The title that goes with the identity in the table of `portcullis dev`.
fn title(id: &str) -> &'static str {
    if id == A_ID { crate::support::A } else { crate::support::B }
}

/// An association of who shows this, if it is granted; what came instead otherwise.
fn associate(house: &House, issued: &Issued, id: &str) -> Result<Peer, Option<Associated>> {
    let mut peer = Peer::connect(house.addr(), &credentials(house, issued)).map_err(|_| None)?;
    match peer.associate(CALLED, title(id), sample_contexts()) {
        Associated::Accepted(2..) => Ok(peer),
        other => Err(Some(other)),
    }
}

/// As [`associate`], of who must be let in.
fn sender(house: &House, issued: &Issued, id: &str) -> Peer {
    associate(house, issued, id).unwrap_or_else(|other| panic!("{id} is let in: {other:?}"))
}

fn stores(peer: &mut Peer, number: u64) {
    let instance = Instance::numbered(number);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
}

/// Who shows this does not get as far as DICOM, for this reason.
fn assert_shut_out(house: &House, issued: &Issued, id: &str, reason: &str) {
    let about = [("event", "connection"), ("decision", "deny"), ("reason", reason)];
    let leaf = leaf(issued);
    let refusals = || {
        let line = |line: &&Value| about.iter().all(|(key, value)| line[*key] == *value) && line["leaf_sha256"] == leaf;
        house.audit().iter().filter(line).count()
    };
    let before = refusals();
    match associate(house, issued, id).err() {
        // With TLS 1.3 a client is done before it is judged.
        Some(None | Some(Associated::Closed)) => {}
        other => panic!("{id} is shut out: {other:?}"),
    }
    eventually(&format!("a refusal of this leaf for {reason}"), || (refusals() > before).then_some(()));
}

/// The association of who shows this was ended, for this reason.
fn assert_ended(house: &House, peer: &mut Peer, issued: &Issued, reason: &str) {
    assert_eq!(peer.outcome(), ENDED, "without a word from the peer");
    let leaf = leaf(issued);
    let about = [("event", "association"), ("decision", "terminate"), ("reason", reason), ("leaf_sha256", &leaf)];
    audited(house, &about);
}

/// Records of the log with this reason.
fn records(house: &House, reason: &str) -> Vec<Value> {
    house.audit().into_iter().filter(|line| line["reason"] == reason).collect()
}

/// Reloads of `what` that failed, as the metric counts them: one for each look.
fn failed_looks(house: &House, what: &str) -> u64 {
    let name = format!("{RELOAD_FAILURES}{{what=\"{what}\"}} ");
    admin_page(house, "/metrics").lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

/// Waits until the next reload was taken: there are more records of it than before.
fn taken<T>(house: &House, reason: &str, change: impl FnOnce() -> T) -> T {
    let before = records(house, reason).len();
    let changed = change();
    eventually(&format!("one more {reason}"), || (records(house, reason).len() > before).then_some(()));
    changed
}

/// SIGHUP.
fn hang_up(house: &House) {
    let status = Command::new("kill").arg("-HUP").arg(house.pid().to_string()).status();
    assert!(status.expect("kill(1) is there").success());
}

/// Puts a symbolic link there in the place of one that was there before, as Kubernetes does with `..data`.
fn swap_link(link: &Path, to: &Path) {
    let new = link.with_file_name("..data_tmp");
    std::os::unix::fs::symlink(to, &new).and_then(|()| fs::rename(&new, link)).expect("the directory is ours");
}

/// An instance of which the sender has sent half.
struct Half {
    instance: Instance,
    context: u8,
}

impl Half {
    fn of(peer: &mut Peer, number: u64) -> Self {
        let instance = Instance::numbered(number).with_pixels(100_000, number);
        let context = peer.begin_store(&instance.claim()).expect("the receiver listens");
        peer.send_fragment(context, &instance.data_set()[..50_000], false).expect("the receiver listens");
        Self { instance, context }
    }

    /// Sends the other half. The receiver may be gone: what it says is asked later.
    fn finish(&self, peer: &mut Peer) {
        let _ = peer.send_fragment(self.context, &self.instance.data_set()[50_000..], true);
    }
}

/// Spans for tests that change them.
const AN_HOUR: Duration = Duration::from_secs(3600);
