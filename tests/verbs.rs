//! The verbs as a person or a script meets them: output, files, exit codes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Credentials, Outcome, Peer, contexts, plain, sample_contexts};
use testkit::samples::ct_study;

use crate::support::archive::{files, rows};
use crate::support::instance::{EXPLICIT, Instance};
use crate::support::witness::storescu_tls;
use crate::support::{
    A, B, CALLED, SUCCESS, associated, audited, binary, connect, house, house_in, portcullis, said, stdout,
};

/// A directory in which `dev` has run and does so no longer.
fn left_behind() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut house = house_in(home.path(), &[], &[]);
    assert!(house.terminate().success());
    home
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our paths are text")
}

#[test]
fn dev_lays_its_directory_out_as_promised() {
    let house = house();
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    eventually("an event", || house.events().pop());
    let dir = house.dir();
    let mut expected: Vec<_> =
        ["gateway.toml", "access.toml", "audit.jsonl", "events.jsonl", "index.sqlite"].map(str::to_owned).into();
    for name in
        ["receiver", "hospital-a", "hospital-b", "gateway.invalid/ca", "hospital-a.invalid/ca", "hospital-b.invalid/ca"]
    {
        expected.extend([format!("certs/{name}.pem"), format!("certs/{name}.key")]);
    }
    for name in &expected {
        let mode = fs::metadata(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).permissions().mode();
        // Keys, and everything that knows of patients.
        if name.ends_with(".key") || name.ends_with(".jsonl") || name.ends_with(".sqlite") {
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    let digest = model::Digest::of(&instance.data_set()).short();
    let object = format!("{}/{}/{}/{digest}.dcm", instance.study, instance.series, instance.uid);
    assert_eq!(files(dir, "instances"), [dir.join("objects/instances/hospital-a").join(object)]);
    assert_eq!(files(dir, "manifests").len(), 1);
}

#[test]
fn dev_prints_lines_that_work_when_they_are_copied() {
    let house = house();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for slice in ct_study(2, 16, 7) {
        fs::write(scratch.path().join(&slice.file_name), &slice.part10).expect("a temporary directory");
    }
    let printed = |word: &str| {
        house.wait_for(word, |lines| lines.iter().find(|line| line.contains(word)).map(|line| line.trim().to_owned()))
    };
    let file = scratch.path().join("CT000001.dcm");
    for (line, word, argument) in [
        (printed(" send --cert"), "FOLDER", text(scratch.path())),
        (printed("storescu +tls"), "FILE.dcm", text(&file)),
        (printed(" studies list"), "", ""),
    ] {
        assert!(line.contains(word), "{line}");
        let line = if word.is_empty() { line } else { line.replace(word, argument) };
        let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
        assert!(output.status.success(), "{line}\n{}", said(&output));
    }
    let held = rows(house.dir()).len();
    assert!((2..=3).contains(&held), "two files, one of them once more if DCMTK encodes it in another way");
}

#[test]
fn dev_keeps_its_pki_table_and_archive_when_it_starts_again() {
    let home = left_behind();
    let read = || {
        let names = [
            "certs/receiver.pem",
            "certs/hospital-a.key",
            "certs/hospital-a.invalid/ca.pem",
            "access.toml",
            "gateway.toml",
        ];
        names.map(|name| fs::read(home.path().join(name)).expect("it is there"))
    };
    let before = read();
    let house = house_in(home.path(), &[], &[]);
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    let house = house.restart();
    assert_eq!(read(), before);
    assert_eq!(rows(house.dir()).len(), 1);
}

#[test]
fn dev_gives_hospital_b_ct_and_mr_and_nothing_else() {
    let house = house();
    let mut peer = connect(&house, "hospital-b");
    let wanted = contexts(&[
        ("CTImageStorage", &[EXPLICIT]),
        ("MRImageStorage", &[EXPLICIT]),
        ("UltrasoundImageStorage", &[EXPLICIT]),
    ]);
    assert_eq!(peer.associate(CALLED, B, wanted), Associated::Accepted(2));
    let mut peer = connect(&house, "hospital-a");
    let wanted = contexts(&[("UltrasoundImageStorage", &[EXPLICIT]), ("1.2.826.0.1.3680043.9.9999.2", &[EXPLICIT])]);
    assert_eq!(peer.associate(CALLED, A, wanted), Associated::Accepted(2), "hospital-a may send every class");
}

#[test]
fn dev_sample_once_shows_each_step_and_ends() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let dir = text(home.path());
    let run = || {
        portcullis(&[
            "dev",
            "--dir",
            dir,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--quiet",
            "500ms",
            "--sample",
            "--once",
        ])
    };
    let output = run();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let steps = [
        "identity proven",
        "spiffe://hospital-a.invalid/forwarder",
        "row \"hospital-a\"",
        "instances stored",
        "study stable",
        "manifest written",
    ];
    let places: Vec<_> =
        steps.iter().map(|step| said.find(step).unwrap_or_else(|| panic!("{step} in {said}"))).collect();
    assert!(places.is_sorted(), "in the order in which it happened: {said}");
    let held = rows(home.path());
    assert!(!held.is_empty());
    for row in &held {
        assert!(said.contains(&row.held.digest.to_string()), "each digest is shown");
        assert!(said.contains(&row.held.object), "each object is shown");
    }
    assert!(run().status.success(), "and once more in the same directory");
    assert_eq!(rows(home.path()).len(), 2 * held.len(), "with a study of its own");
}

#[test]
fn receive_check_says_what_is_in_force_and_binds_nothing() {
    let home = left_behind();
    let config = home.path().join("gateway.toml");
    let output = portcullis(&["receive", "--config", text(&config), "--check"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "spiffe://gateway.invalid/receiver",
        "hospital-a.invalid",
        "hospital-b.invalid",
        "2 rows that allow",
        "revision 1",
        "ok:",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let house = House::start(Options { config: Some(config), dir: Some(home.path().to_owned()), ..Options::default() });
    assert_eq!(associated(&house).echo(), SUCCESS, "and receives with it");
}

#[test]
fn what_is_broken_refuses_to_start_and_is_named() {
    let home = left_behind();
    let config = home.path().join("gateway.toml");
    let access = home.path().join("access.toml");
    let (good_config, good_access) =
        (fs::read_to_string(&config).expect("text"), fs::read_to_string(&access).expect("text"));
    let check = || {
        // Both ways of starting must refuse; with --check nothing could hang.
        let output = portcullis(&["receive", "--config", text(&config), "--check"]);
        (output.status.code(), said(&output))
    };
    let refused = |named: &[&str]| {
        let (code, said) = check();
        assert_eq!(code, Some(2), "{said}");
        named.iter().for_each(|name| assert!(said.contains(name), "{name} in {said}"));
    };
    let tables: [(&str, &str, &[&str]); 7] = [
        ("operations = [", "operatoins = [", &["access.toml", "hospital-a", "operatoins"]),
        ("tenant = \"hospital-a\"", "tenant = \"Hospital A\"", &["access.toml", "hospital-a", "tenant"]),
        ("sop_classes = [\"*\"]", "sop_classes = [\"CTImageStorge\"]", &["access.toml", "hospital-a", "sop_classes"]),
        ("id = \"hospital-b\"", "id = \"hospital-a\"", &["access.toml", "hospital-a"]),
        (
            "spiffe://hospital-a.invalid/forwarder",
            "spiffe://Hospital-A.invalid/forwarder",
            &["access.toml", "identity"],
        ),
        ("revision = 1", "", &["access.toml", "revision"]),
        ("effect = \"allow\"", "effect = \"maybe\"", &["access.toml", "effect"]),
    ];
    for (old, new, named) in tables {
        assert!(good_access.contains(old));
        fs::write(&access, good_access.replacen(old, new, 1)).expect("ours");
        refused(named);
    }
    fs::write(&access, &good_access).expect("ours");
    let configs: [(&str, &str, &[&str]); 4] = [
        ("[access]", "[access]\npol = \"1s\"", &["gateway.toml", "pol"]),
        ("poll = \"1s\"", "poll = 1", &["gateway.toml", "poll"]),
        ("certs/receiver.pem", "certs/nobody.pem", &["nobody.pem"]),
        ("hospital-b.invalid/ca.pem", "hospital-b.pem", &["hospital-b"]),
    ];
    for (old, new, named) in configs {
        assert!(good_config.contains(old), "{old}");
        fs::write(&config, good_config.replacen(old, new, 1)).expect("ours");
        refused(named);
    }
    fs::write(&config, &good_config).expect("ours");
    let key = home.path().join("certs/receiver.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    refused(&["receiver.key", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    assert_eq!(check().0, Some(0), "and everything is in order again");
}

/// `portcullis send` as hospital-a.
fn send(house: &House, more: &[&str], paths: &[&Path]) -> Output {
    let files = house.cert("hospital-a");
    let mut command = Command::new(binary());
    command.args(["send", "--called", CALLED, "--calling", A, "--to", &house.addr().to_string()]);
    command.arg("--cert").arg(files.cert).arg("--key").arg(files.key).arg("--ca").arg(house.ca("gateway.invalid"));
    command.args(more).args(paths).output().expect("portcullis starts")
}

#[test]
fn send_ends_with_0_only_if_all_were_accepted() {
    let house = house();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let below = folder.path().join("below");
    fs::create_dir(&below).expect("a temporary directory");
    for (number, slice) in ct_study(12, 32, 1).into_iter().enumerate() {
        let folder = if number % 2 == 0 { folder.path() } else { &below };
        fs::write(folder.join(slice.file_name), &slice.part10).expect("a temporary directory");
    }
    fs::write(folder.path().join("README.txt"), "not an image").expect("a temporary directory");
    let output = send(&house, &["--jobs", "4"], &[folder.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stdout(&output).contains("12 of 12 instances accepted"), "{}", said(&output));
    assert!(stdout(&output).contains("0000: 12"), "{}", said(&output));
    assert_eq!(rows(house.dir()).len(), 12);
    let associations = || house.audit().into_iter().filter(|line| line["reason"] == "granted").count();
    eventually("an association for each job", || (associations() == 4).then_some(()));

    // One whose file meta names another instance than its data set.
    let mut wrong = ct_study(1, 32, 2).remove(0).part10;
    let uid = ct_study(1, 32, 2)[0].instance.to_string();
    let place = wrong.windows(uid.len()).position(|window| window == uid.as_bytes()).expect("file meta has it");
    wrong[place + uid.len() - 1] ^= 1;
    let file = folder.path().join("wrong.dcm");
    fs::write(&file, wrong).expect("a temporary directory");
    let output = send(&house, &[], &[folder.path()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(stdout(&output).contains("12 of 13 instances accepted"), "{}", said(&output));
    assert!(stdout(&output).contains("A900: 1"), "{}", said(&output));
    assert!(stdout(&output).contains("wrong.dcm"), "{}", said(&output));

    let nothing = send(&house, &[], &[&folder.path().join("README.txt")]);
    assert_eq!(nothing.status.code(), Some(1), "nothing to send is no success: {}", said(&nothing));
    let nowhere = send(&house, &["--retries", "0", "--to", "127.0.0.1:1"], &[folder.path()]);
    assert_ne!(nowhere.status.code(), Some(0), "{}", said(&nowhere));
}

#[test]
fn send_talks_to_nobody_but_the_receiver() {
    let house = house();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let slice = ct_study(1, 32, 1).remove(0);
    fs::write(folder.path().join(&slice.file_name), &slice.part10).expect("a temporary directory");
    let output = send(&house, &["--receiver", "spiffe://gateway.invalid/another"], &[folder.path()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("unexpected_id"), "{}", said(&output));
    let files = house.cert("hospital-a");
    let mut command = Command::new(binary());
    command.args(["send", "--called", CALLED, "--calling", A, "--to", &house.addr().to_string()]);
    command.arg("--cert").arg(files.cert).arg("--key").arg(files.key).arg("--ca").arg(house.ca("hospital-b.invalid"));
    let output = command.arg(folder.path()).output().expect("it starts");
    assert_ne!(output.status.code(), Some(0), "another authority's word: {}", said(&output));
    assert_eq!(rows(house.dir()).len(), 0);
}

#[test]
fn certs_are_made_issued_and_explained() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("certs");
    let run = |args: &[&str]| portcullis(&[&["certs"], args].concat());
    assert!(run(&["init", "--dir", text(&dir)]).status.success());
    let receiver = fs::read(dir.join("receiver.pem")).expect("it was made");
    assert!(run(&["init", "--dir", text(&dir)]).status.success());
    assert_eq!(fs::read(dir.join("receiver.pem")).expect("it is there"), receiver, "what is good is kept");

    let prefix = scratch.path().join("ct1");
    let issued =
        run(&["issue", "--dir", text(&dir), "--id", "spiffe://hospital-a.invalid/ct1", "--out", text(&prefix)]);
    assert!(issued.status.success(), "{}", said(&issued));
    let (pem, key) = (prefix.with_extension("pem"), prefix.with_extension("key"));
    assert_eq!(fs::metadata(&key).expect("it was made").permissions().mode() & 0o777, 0o600);
    let refused = run(&["issue", "--dir", text(&dir), "--id", "spiffe://hospital.example/ct1"]);
    assert!(!refused.status.success() && said(&refused).contains(".invalid"), "{}", said(&refused));

    let ca = dir.join("hospital-a.invalid/ca.pem");
    let good = run(&["show", text(&pem), "--ca", text(&ca)]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(stdout(&good).contains("spiffe://hospital-a.invalid/ct1"), "{}", said(&good));
    // An authority of the same name that is another one.
    let elsewhere = scratch.path().join("elsewhere");
    assert!(run(&["init", "--dir", text(&elsewhere)]).status.success());
    let other = elsewhere.join("hospital-a.invalid/ca.pem");
    let bad = run(&["show", text(&pem), "--ca", text(&other)]);
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
    assert!(stdout(&bad).contains("V-15"), "{}", said(&bad));
    let json = run(&["show", text(&pem), "--ca", text(&ca), "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(value["holds"], true);
    let wrong = run(&["show", text(&key)]);
    assert!(!wrong.status.success() && said(&wrong).contains("private key"), "{}", said(&wrong));

    // And openssl agrees on whose it is.
    let openssl = Command::new("openssl").args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&pem).output();
    let openssl = openssl.expect("openssl is there: run ./tests/run");
    assert!(stdout(&openssl).contains("URI:spiffe://hospital-a.invalid/ct1"), "{}", said(&openssl));
}

#[test]
fn studies_are_listed_and_shown_to_people_and_programs() {
    let house = house();
    let mut peer = associated(&house);
    let slices = ct_study(3, 16, 5);
    for slice in &slices {
        assert_eq!(peer.store(&slice.claim(), slice.data_set()), SUCCESS);
    }
    eventually("an event", || house.events().pop());
    let (dir, uid) = (text(house.dir()), slices[0].study.as_str());
    let json = |args: &[&str]| -> Value {
        let output = portcullis(&[&["studies"], args, &["--dir", dir, "--json"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let list = json(&["list"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    let expected = BTreeMap::from([("tenant", "hospital-a"), ("study", uid), ("state", "stable")]);
    expected.iter().for_each(|(key, value)| assert_eq!(list[0][*key], *value));
    assert_eq!((&list[0]["instances"], &list[0]["generation"]), (&3.into(), &1.into()));
    assert_eq!(list[0]["attributes"]["patient_id"], "SAMPLE-1");
    assert_eq!(json(&["list", "--tenant", "hospital-b"]), Value::Array(Vec::new()));
    let shown = json(&["show", uid, "--metadata"]);
    assert_eq!(shown.as_array().map(Vec::len), Some(3));
    assert_eq!(shown[0]["metadata"]["00100010"]["Value"][0]["Alphabetic"], "SAMPLE^PHANTOM", "PS3.18 Annex F");
    for slice in &slices {
        let shown = shown.as_array().into_iter().flatten().find(|one| one["instance"] == slice.instance.as_str());
        assert_eq!(shown.expect("each is shown")["sha256"], model::Digest::of(slice.data_set()).to_string());
    }

    let table = portcullis(&["studies", "list", "--dir", dir]);
    assert!(stdout(&table).contains(uid) && stdout(&table).contains("STUDY"), "{}", said(&table));
    let table = portcullis(&["studies", "show", uid, "--dir", dir]);
    assert_eq!(stdout(&table).lines().count(), 4, "a head and three rows: {}", said(&table));
    let unknown = portcullis(&["studies", "show", "1.2.3", "--dir", dir]);
    assert!(!unknown.status.success(), "{}", said(&unknown));
}

#[test]
fn sigterm_lets_the_instance_in_flight_finish_and_nobody_new_in() {
    let mut house = house();
    let (credentials, instance) =
        (Credentials::of_house(&house, "hospital-a"), Instance::numbered(1).with_pixels(1 << 20, 1));
    let mut idle = associated(&house);
    let mut busy = associated(&house);
    // Connected before the signal, asks after it.
    let mut late = connect(&house, "hospital-a");
    let data_set = instance.data_set();
    let context = busy.begin_store(&instance.claim()).expect("the receiver listens");
    busy.send_fragment(context, &data_set[..60_000], false).expect("the receiver listens");
    house.signal_terminate();
    house.wait_for("a log line", |lines| lines.iter().any(|line| line.contains("draining")).then_some(()));
    assert!(matches!(idle.outcome(), Outcome::Aborted(_)), "an association between two messages is ended");
    let answer = late.associate(CALLED, A, sample_contexts());
    assert!(
        matches!(answer, Associated::Rejected(2, 3, 1) | Associated::Aborted(_) | Associated::Closed),
        "{answer:?}"
    );
    let new = Peer::connect(house.addr(), &credentials);
    assert!(!new.is_ok_and(|mut peer| matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_))));
    assert!(get(&house, "/readyz").starts_with("HTTP/1.1 503"), "no load balancer sends anybody any more");

    let rest = &data_set[60_000..];
    for (piece, last) in rest.chunks(60_000).zip((1..=rest.len().div_ceil(60_000)).rev()) {
        busy.send_fragment(context, piece, last == 1).expect("the receiver still listens");
    }
    assert_eq!(busy.outcome(), SUCCESS, "what was in flight is stored and acknowledged");
    drop((busy, late, idle));
    assert!(house.wait_for_exit().success());
    assert_eq!(rows(house.dir()).len(), 1);
    audited(&house, &[("event", "shutdown")]);
}

/// An HTTP answer from the admin listener.
fn get(house: &House, path: &str) -> String {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let house = house();
    let instance = Instance::numbered(1);
    let mut peer = associated(&house);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    assert!(get(&house, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&house, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(&house, "/nothing").starts_with("HTTP/1.1 404"));
    let metrics = get(&house, "/metrics");
    let bytes = format!("portcullis_stored_bytes_total {}", instance.data_set().len());
    for line in
        [bytes.as_str(), "portcullis_associations_open 1", "portcullis_policy_revision 1", "status=\"0000\"", "# TYPE"]
    {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn echo_is_answered_to_those_who_may() {
    let house = house();
    assert_eq!(associated(&house).echo(), SUCCESS);
    // And DCMTK's own idea of a well-formed conversation, with its default proposal of a hundred contexts.
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file: PathBuf = scratch.path().join("one.dcm");
    fs::write(&file, &ct_study(1, 16, 1)[0].part10).expect("a temporary directory");
    let port = house.addr().port().to_string();
    let output = storescu_tls(&house, "hospital-a")
        .args(["-v", "-aet", A, "-aec", CALLED, "127.0.0.1", &port])
        .arg(&file)
        .output();
    let output = output.expect("storescu starts");
    assert!(output.status.success(), "{}", said(&output));
    audited(&house, &[("event", "association"), ("reason", "released")]);
}

#[test]
fn every_verb_explains_itself() {
    for verb in [
        &["--help"][..],
        &["dev", "--help"],
        &["receive", "--help"],
        &["send", "--help"],
        &["certs", "--help"],
        &["studies", "--help"],
    ] {
        let output = portcullis(verb);
        assert!(output.status.success() && stdout(&output).contains("Usage:"), "{}", said(&output));
    }
    assert_eq!(portcullis(&["sned"]).status.code(), Some(2));
}
