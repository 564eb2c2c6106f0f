//! The audit log: a chain that shows every change, a schema that every line keeps, a disk that may go away, and DICOM audit
//! messages at a real repository (rsyslog with GnuTLS, mutual TLS).

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use model::Digest;
use serde_json::Value;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, plain, sample_contexts};

use crate::support::instance::Instance;
use crate::support::witness::python;
use crate::support::{
    A, CALLED, SUCCESS, amend, associated, associated_b, audited, binary, connect, house, house_in, portcullis, said,
    stdout, with_columns, without_row,
};

fn log_of(house: &House) -> PathBuf {
    house.dir().join("audit.jsonl")
}

fn audit(verb: &str, files: &[&Path], more: &[&str]) -> Output {
    let mut args = vec!["audit", verb];
    args.extend(files.iter().map(|path| path.to_str().expect("our paths are text")));
    args.extend(more);
    portcullis(&args)
}

fn assert_whole(files: &[&Path]) {
    let output = audit("verify", files, &[]);
    assert!(output.status.success(), "{}", said(&output));
}

/// A bit of everything that is written down: stored, held already, revised, refused by table and by content, turned away at
/// every door, ended by a change of the table.
fn busy(house: &House) {
    let mut peer = associated(house);
    let store =
        |peer: &mut testkit::peer::Peer, instance: &Instance| peer.store(&instance.claim(), &instance.data_set());
    for number in 1..=3 {
        assert_eq!(store(&mut peer, &Instance::of_study(1, number)), SUCCESS);
    }
    assert_eq!(store(&mut peer, &Instance::of_study(1, 1)), SUCCESS);
    assert_eq!(store(&mut peer, &Instance::of_study(1, 2).with(0x0010_0020, b"LO", b"other")), SUCCESS);
    assert_ne!(peer.store(&Instance::numbered(8).claim(), &Instance::numbered(9).data_set()), SUCCESS);
    peer.release();
    // The same UIDs from another tenant.
    let mut other = associated_b(house);
    assert_eq!(store(&mut other, &Instance::of_study(1, 1)), SUCCESS);
    amend(house, |text| with_columns(&text, "hospital-a", "modalities = [\"MR\"]"));
    let mut peer = associated(house);
    assert_ne!(store(&mut peer, &Instance::numbered(7)), SUCCESS);
    for (called, calling) in [("NOBODY", A), (CALLED, "NOBODY")] {
        let answer = connect(house, "hospital-a").associate(called, calling, sample_contexts());
        assert!(matches!(answer, Associated::Rejected(..)), "{answer:?}");
    }
    let mut socket = plain(house.addr()).expect("the receiver listens");
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it listens");
    audited(house, &[("event", "connection"), ("decision", "deny")]);
    amend(house, |text| without_row(&text, "hospital-b"));
    audited(house, &[("event", "association"), ("decision", "terminate"), ("reason", "policy_revoked")]);
    fs::write(house.dir().join("access.toml"), "revision = \"none\"").expect("ours");
    audited(house, &[("event", "policy"), ("reason", "reload_failed")]);
    audited(house, &[("event", "study"), ("reason", "study_stable")]);
    drop(peer);
}

#[test]
fn every_line_of_a_busy_day_keeps_the_schema_and_the_chain() {
    let mut house = house();
    busy(&house);
    assert_eq!(house.terminate().code(), Some(0));
    let log = log_of(&house);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/audit.schema.json");
    let output = python("validate.py").arg(schema).arg(&log).output().expect("Python starts");
    assert!(output.status.success(), "{}", said(&output));
    assert_whole(&[&log]);
    let lines = house.audit();
    for event in ["startup", "connection", "association", "instance", "policy", "study", "shutdown"] {
        assert!(lines.iter().any(|line| line["event"] == event), "{event}");
    }
}

#[test]
fn a_report_counts_what_happened() {
    let mut house = house();
    busy(&house);
    assert_eq!(house.terminate().code(), Some(0));
    let log = log_of(&house);
    let output = audit("report", &[&log], &["--json", "--since", "1h"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let a = &report["identities"]["spiffe://hospital-a.invalid/forwarder"];
    assert_eq!(
        (&a["associations"], &a["stored"], &a["already_held"], &a["refused"]),
        (&2.into(), &4.into(), &1.into(), &2.into())
    );
    assert_eq!(report["terminated"]["policy_revoked"], 1);
    assert_eq!((&report["denied"]["modality"], &report["denied"]["called_aet"]), (&1.into(), &1.into()));
    assert_eq!(report["alerts"]["cross_tenant_uid"], 1);
    assert_eq!((&report["policy"]["policy_changed"], &report["policy"]["reload_failed"]), (&2.into(), &1.into()));
    assert_eq!(report["connections_refused"].as_object().map(serde_json::Map::len), Some(1));
    let table = stdout(&audit("report", &[&log], &[]));
    assert!(table.contains("spiffe://hospital-a.invalid/forwarder") && table.contains("late terminations"), "{table}");
    let later = stdout(&audit("report", &[&log], &["--json", "--since", "2999-01-01T00:00:00Z"]));
    assert_eq!(serde_json::from_str::<Value>(&later).expect("JSON")["records"], 0);
}

#[test]
fn a_log_that_somebody_touched_is_told_with_its_line() {
    let mut house = house();
    assert_eq!(associated(&house).store(&Instance::numbered(1).claim(), &Instance::numbered(1).data_set()), SUCCESS);
    audited(&house, &[("reason", "stored")]);
    house.terminate();
    let log = log_of(&house);
    let good = fs::read_to_string(&log).expect("it is there");
    let output = audit("verify", &[&log], &[]);
    let last = stdout(&output).lines().find_map(|line| line.strip_prefix("last ")).expect("a line").trim().to_owned();
    let (seq, digest) = last.split_once(':').expect("number and digest");
    let edited = good.replacen("\"stored\"", "\"already_held\"", 1);
    let at = good.lines().position(|line| line.contains("\"stored\"")).expect("it was stored") + 2;
    fs::write(&log, edited).expect("ours");
    let output = audit("verify", &[&log], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(&format!("line {at}:")), "{}", said(&output));
    // The end cut off: a good chain, unless one knows better.
    let cut: String = good.split_inclusive('\n').take(good.lines().count() - 1).collect();
    fs::write(&log, cut).expect("ours");
    for (more, code) in [
        (vec![], 0),
        (vec!["--expect-seq", seq], 1),
        (vec!["--expect-digest", digest], 1),
        (vec!["--expect-seq", "1"], 0),
    ] {
        assert_eq!(audit("verify", &[&log], &more).status.code(), Some(code), "{more:?}");
    }
    let missing = audit("verify", &[Path::new("/nowhere.jsonl")], &[]);
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
}

#[test]
fn killed_at_any_moment_the_chain_goes_on() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut house = house_in(home.path(), &[], &[]);
    for round in 0..4_u64 {
        let mut peer = associated(&house);
        for number in 0..=round * 7 {
            let instance = Instance::of_study(round + 1, number + 1);
            assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
        }
        house.kill();
        // What a kill may leave behind, whether or not this one did.
        let mut file = fs::OpenOptions::new().append(true).open(log_of(&house)).expect("ours");
        file.write_all(&b"{\"seq\":99,\"prev\":\""[..usize::try_from(round * 5).expect("small")]).expect("ours");
        house = house_in(home.path(), &[], &[]);
        assert_whole(&[&log_of(&house)]);
    }
    let text = fs::read_to_string(log_of(&house)).expect("text");
    assert!(text.lines().filter(|line| line.contains("\"log_recovered\"")).count() >= 3, "{text}");
}

#[test]
fn a_log_that_was_moved_away_goes_on_in_a_new_file_at_sighup() {
    let house = house();
    let log = log_of(&house);
    let old = house.dir().join("audit.jsonl.1");
    let mut peer = associated(&house);
    let mut store = |number| {
        let instance = Instance::numbered(number);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    };
    store(1);
    fs::rename(&log, &old).expect("ours");
    store(2);
    let status = Command::new("kill").arg("-HUP").arg(house.pid().to_string()).status();
    assert!(status.expect("kill(1) is there").success());
    eventually("a new file", || log.exists().then_some(()));
    store(3);
    let third = Instance::numbered(3).uid;
    audited(&house, &[("reason", "stored"), ("instance", &third)]);
    assert_whole(&[&old, &log]);
    assert_eq!(audit("verify", &[&log], &[]).status.code(), Some(1), "it does not begin at the beginning");
    let first = stdout(&audit("verify", &[&old], &[]));
    let last = first.lines().find_map(|line| line.strip_prefix("last ")).expect("a line").trim();
    assert!(audit("verify", &[&log], &["--after", last]).status.success());
    assert_eq!(fs::metadata(&log).expect("it is there").permissions().mode() & 0o777, 0o600);
}

/// Further sections for gateway.toml, and a house that starts with them.
fn house_with_audit(home: &Path, section: &str) -> House {
    let mut first = house_in(home, &[], &[]);
    assert_eq!(first.terminate().code(), Some(0));
    drop(first);
    fs::remove_file(home.join("audit.jsonl")).expect("ours");
    let path = home.join("gateway.toml");
    let text = fs::read_to_string(&path).expect("dev has written it");
    fs::write(&path, text.replace("file = \"audit.jsonl\"\n", &format!("file = \"audit.jsonl\"\n{section}")))
        .expect("ours");
    house_in(home, &[], &[])
}

#[test]
fn hidden_uids_are_nowhere_in_the_log_and_can_be_found_with_the_key() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let key = home.path().join("uid.key");
    fs::write(&key, [7; 32]).expect("ours");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let mut house = house_with_audit(home.path(), "uids = \"hmac\"\nuid_key = \"uid.key\"\n");
    let config = home.path().join("gateway.toml").display().to_string();
    let check = || portcullis(&["receive", "--check", "--config", &config]);
    assert!(check().status.success(), "{}", said(&check()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    assert!(!check().status.success() && said(&check()).contains("chmod 600"), "{}", said(&check()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    busy(&house);
    assert_eq!(house.terminate().code(), Some(0));
    let text = fs::read_to_string(log_of(&house)).expect("it is there");
    assert!(!text.contains("2.25.1"), "{text}");
    let output = audit("uid", &[], &["2.25.1.1", "--key", key.to_str().expect("text")]);
    let shown = stdout(&output).trim().to_owned();
    assert!(text.contains(&format!("\"study\":\"{shown}\"")), "{}", said(&output));
    assert_whole(&[&log_of(&house)]);
}

/// Files may grow to so many bytes: the system's own way to have a write fail in the middle of a line, for any user.
pub(crate) const FULL: usize = 16 << 20;

/// A log of that chain which lacks `room` bytes to [`FULL`].
pub(crate) fn write_big_log(path: &Path, room: usize) {
    let (mut text, mut prev) = (String::new(), Digest::parse(&"0".repeat(64)).expect("64 digits"));
    for seq in 1.. {
        let line = |padding: usize| {
            let padding = "x".repeat(padding);
            format!(
                r#"{{"seq":{seq},"prev":"{prev}","ts":"2026-11-01T00:00:00.000Z","event":"log","decision":"note","reason":"x","detail":"{padding}"}}"#
            )
        };
        let left = FULL - room - text.len() - line(0).len() - 1;
        let next = line(left.min(900_000));
        prev = Digest::of(next.as_bytes());
        text = text + &next + "\n";
        // What is left takes one more line, or none.
        if left <= 900_000 {
            break;
        }
    }
    assert_eq!(text.len(), FULL - room);
    fs::write(path, text).expect("ours");
}

#[test]
fn a_disk_that_goes_away_and_comes_back_loses_no_line() {
    let home = tempfile::tempdir().expect("a temporary directory");
    write_big_log(&home.path().join("audit.jsonl"), 3000);
    let program = home.path().join("limited");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", binary().display());
    fs::write(&program, script).expect("ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("ours");
    let options = Options { dir: Some(home.path().to_owned()), program: Some(program), ..Options::default() };
    let mut house = House::start(options);
    let limit = |bytes: &str| {
        let status =
            Command::new("prlimit").arg(format!("--pid={}", house.pid())).arg(format!("--fsize={bytes}:")).status();
        assert!(status.expect("util-linux is there").success());
    };
    limit(&FULL.to_string());
    let mut peer = associated(&house);
    let instances: Vec<_> = (1..=20).map(Instance::numbered).collect();
    for instance in &instances {
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    }
    let told = |lines: &[String]| lines.iter().any(|line| line.contains("cannot be written")).then_some(());
    house.wait_for("a log line", told);
    assert_eq!(fs::metadata(log_of(&house)).expect("it is there").len(), FULL as u64, "to the last byte");
    limit("unlimited");
    let restored = audited(&house, &[("event", "log"), ("reason", "log_restored")]);
    assert_eq!(restored["lost"], 0);
    assert_eq!(house.terminate().code(), Some(0));
    assert_whole(&[&log_of(&house)]);
    let lines = house.audit();
    for instance in &instances {
        assert!(lines.iter().any(|line| line["instance"] == instance.uid.as_str()), "{}", instance.uid);
    }
}

/// An audit repository of somebody else's making.
struct Rsyslog {
    child: Child,
    config: PathBuf,
    received: PathBuf,
}

impl Rsyslog {
    fn start(config: PathBuf, received: PathBuf) -> Self {
        let mut command = Command::new("rsyslogd");
        command.args(["-n", "-i"]).arg(config.with_extension("pid")).arg("-f").arg(&config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("rsyslogd is missing: run ./tests/run, which installs it"), config, received }
    }

    fn restart(mut self) -> Self {
        self.stop();
        Self::start(self.config.clone(), self.received.clone())
    }

    fn stop(&mut self) {
        // One that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The messages received so far, each of them checked.
    fn messages(&self) -> Vec<Value> {
        if !self.received.exists() {
            return Vec::new();
        }
        // A line that is still being written is not there yet.
        let text = fs::read_to_string(&self.received).expect("text");
        let whole: String = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        let copy = self.received.with_extension("copy");
        fs::write(&copy, whole).expect("ours");
        let output = python("audit_messages.py").arg(&copy).output().expect("Python starts");
        assert!(output.status.success(), "{}", said(&output));
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn message(&self, wanted: &[(&str, &str)]) -> Value {
        eventually(&format!("a message with {wanted:?}"), || {
            let fits = |message: &Value| wanted.iter().all(|(key, value)| message[*key] == *value);
            self.messages().into_iter().find(fits)
        })
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.stop();
    }
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(args).output().expect("openssl is there");
    assert!(output.status.success(), "{}", said(&output));
}

/// An authority of the repository's own and a certificate for `audit.example`; rsyslog believes the gateway's authority.
fn prepare_repository(home: &Path) -> (PathBuf, PathBuf, u16) {
    let dir = home.join("repository");
    fs::create_dir(&dir).expect("ours");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    openssl(
        &dir,
        &[&["req", "-x509", "-subj", "/CN=audit CA", "-keyout", "ca.key", "-out", "ca.pem"], &key[..]].concat(),
    );
    let leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:audit.example"];
    let leaf = [&leaf[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat();
    openssl(
        &dir,
        &[&["req", "-x509", "-subj", "/CN=audit", "-keyout", "a.key", "-out", "a.pem"], &key[..], &leaf].concat(),
    );
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let (received, gateway) = (dir.join("received.log"), home.join("certs/gateway.invalid/ca.pem"));
    let at = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        r#"global(workDirectory="{dir}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\n")
action(type="omfile" file="{received}" template="raw")
"#,
        dir = dir.display(),
        ca = gateway.display(),
        cert = at("a.pem"),
        key = at("a.key"),
        received = received.display(),
    );
    fs::write(dir.join("rsyslog.conf"), text).expect("ours");
    (dir.join("rsyslog.conf"), received, port)
}

fn section(port: u16, name: &str) -> String {
    format!("\n[audit.syslog]\naddress = \"127.0.0.1:{port}\"\nca = \"repository/ca.pem\"\nserver_name = \"{name}\"\n")
}

#[test]
fn an_audit_repository_hears_what_dicom_says_it_should() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (config, received, port) = prepare_repository(home.path());
    // Away at first: what is said meanwhile is said later.
    let mut house = house_with_audit(home.path(), &section(port, "audit.example"));
    let away = |lines: &[String]| lines.iter().any(|line| line.contains("audit repository is away")).then_some(());
    house.wait_for("a log line", away);
    let mut peer = associated(&house);
    for slice in 1..=3 {
        let instance = Instance::of_study(5, slice);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    }
    peer.release();
    let rsyslog = Rsyslog::start(config, received);
    let start = rsyslog.message(&[("event", "110100"), ("type", "110120")]);
    assert_eq!(start["users"][0], "spiffe://gateway.invalid/receiver");
    let transferred = rsyslog.message(&[("event", "110104"), ("outcome", "0")]);
    assert_eq!((&transferred["action"], &transferred["instances"]), (&"C".into(), &3.into()));
    assert_eq!(transferred["objects"], serde_json::json!(["2.25.1.5"]));
    assert_eq!(transferred["roles"], serde_json::json!(["110153", "110152"]));
    assert_eq!(transferred["titles"], serde_json::json!([format!("AETITLES={A}"), format!("AETITLES={CALLED}")]));
    // The connection is lost in the middle of everything.
    let rsyslog = rsyslog.restart();
    busy(&house);
    rsyslog.message(&[("event", "110113"), ("type", "110126"), ("outcome", "4")]);
    rsyslog.message(&[("event", "110113"), ("type", "110132"), ("outcome", "8")]);
    rsyslog.message(&[("event", "110113"), ("type", "110129"), ("outcome", "0")]);
    rsyslog.message(&[("event", "110113"), ("type", "110129"), ("outcome", "4")]);
    rsyslog.message(&[("event", "110104"), ("action", "R")]);
    rsyslog.message(&[("event", "110104"), ("action", "U")]);
    rsyslog.message(&[("event", "110104"), ("outcome", "4")]);
    assert_eq!(house.terminate().code(), Some(0));
    rsyslog.message(&[("event", "110100"), ("type", "110121")]);
}

#[test]
fn a_repository_that_does_not_prove_its_name_hears_nothing_and_holds_nothing_up() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (config, received, port) = prepare_repository(home.path());
    let rsyslog = Rsyslog::start(config, received);
    eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let mut house = house_with_audit(home.path(), &section(port, "other.example"));
    let away = |lines: &[String]| lines.iter().any(|line| line.contains("audit repository is away")).then_some(());
    house.wait_for("a log line", away);
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    assert_eq!(house.terminate().code(), Some(0));
    assert_eq!(rsyslog.messages(), Vec::<Value>::new());
}
