//! The verbs where something is in the way: a busy receiver, a strange environment, a reader that leaves, a folder that does not
//! end. What can be done is done, and the exit code tells the truth.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use testkit::house::{House, eventually};
use testkit::peer::{Associated, contexts, plain};
use testkit::samples::ct_study;

use crate::support::archive::rows;
use crate::support::instance::{EXPLICIT, Instance};
use crate::support::{
    A, B, CALLED, SUCCESS, amend, associated, audited, binary, connect, house, house_with, said, stdout, with_columns,
};

/// A child that does not outlive its test, however that ends.
struct Running(Option<Child>);

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("portcullis starts")))
    }

    /// Waits for its end. What it says must fit into a pipe.
    fn finish(mut self) -> Output {
        eventually("it has ended", || {
            self.0.as_mut().and_then(|child| child.try_wait().expect("our own child can be waited for"))
        });
        let child = self.0.take().expect("it is taken only here");
        child.wait_with_output().expect("our own child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // One that has ended already is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `portcullis send` as hospital-a.
fn send(house: &House, more: &[&str], folder: &Path) -> Output {
    let files = house.cert("hospital-a");
    let mut command = Command::new(binary());
    command.args(["send", "--called", CALLED, "--calling", A, "--to", &house.addr().to_string()]);
    command.arg("--cert").arg(files.cert).arg("--key").arg(files.key).arg("--ca").arg(house.ca("gateway.invalid"));
    Running::start(command.args(more).arg(folder)).finish()
}

/// `portcullis receive --check` with the house's own configuration.
fn check(house: &House) -> Command {
    let mut command = Command::new(binary());
    command.args(["receive", "--check", "--config"]).arg(house.dir().join("gateway.toml"));
    command
}

/// Fails if the first association that is rejected takes the queue with it: without retries that is at once, while the other
/// associations have hardly begun.
#[test]
fn send_with_more_jobs_than_the_receiver_allows_sends_everything() {
    let house = house();
    amend(&house, |text| with_columns(&text, "hospital-a", "max_associations = 2"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    for slice in ct_study(200, 64, 1) {
        fs::write(folder.path().join(slice.file_name), &slice.part10).expect("a temporary directory");
    }
    let output = send(&house, &["--jobs", "4", "--retries", "0"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stdout(&output).contains("200 of 200 instances accepted"), "{}", said(&output));
    assert_eq!(rows(house.dir()).len(), 200);
    // Otherwise this has shown nothing.
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "associations")]);
}

/// Fails if the environment is read as text, which panics at a variable that is none, whoever it is meant for.
#[test]
fn an_environment_that_is_not_text_does_not_matter() {
    let house = house();
    let odd = OsStr::from_bytes(b"odd \xFF\xFE");
    for (name, value) in [(OsStr::new("SOMETHING"), odd), (odd, OsStr::new("something"))] {
        let output = check(&house).env(name, value).output().expect("portcullis starts");
        assert!(output.status.success(), "{}", said(&output));
        assert!(stdout(&output).contains("ok:"), "{}", said(&output));
    }
    // The control: what is text and meant for us counts.
    let output = check(&house).env("PORTCULLIS__ACCESS__POLL", "0s").env("SOMETHING", odd).output().expect("it starts");
    assert!(!output.status.success() && said(&output).contains("access.poll"), "{}", said(&output));
}

/// Fails if checking opens the archive as a receiver does: there can be only one of those.
#[test]
fn receive_check_works_beside_a_running_receiver_and_does_not_disturb_it() {
    let house = house();
    let mut peer = associated(&house);
    let store = |peer: &mut testkit::peer::Peer, number| {
        let instance = Instance::numbered(number);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    };
    store(&mut peer, 1);
    let output = check(&house).output().expect("portcullis starts");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stdout(&output).contains("in use by a receiver that is running"), "{}", said(&output));
    store(&mut peer, 2);
    assert_eq!(rows(house.dir()).len(), 2);
    // A broken table is found, too, before the running receiver would have to report it.
    let table = house.dir().join("other.toml");
    fs::write(&table, "revision = \"one\"").expect("ours");
    let output = check(&house).env("PORTCULLIS__ACCESS__TABLE", &table).output().expect("portcullis starts");
    assert!(!output.status.success() && said(&output).contains("other.toml"), "{}", said(&output));
}

/// Fails if the end waits until every admin client has had its answer: this one never asks its question to the end, and
/// nothing but the deadline of this test ends the wait. And if what serves that client holds the audit log open: the end then
/// waits for the log to be closed.
#[test]
fn half_an_admin_request_does_not_hold_up_the_end() {
    let mut house = house();
    let mut half = plain(house.admin()).expect("the admin listener is up");
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").expect("it listens");
    // Connections are accepted in the order in which they came: when this one is answered, the other has been accepted.
    let mut whole = plain(house.admin()).expect("the admin listener is up");
    whole.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    whole.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(house.terminate().code(), Some(0));
    audited(&house, &[("event", "shutdown")]);
    drop(half);
}

/// Fails if a signal counts as success: then a script takes a sample that was never stable for a gateway that works.
#[test]
fn dev_sample_once_that_is_ended_before_the_study_is_stable_does_not_say_success() {
    let mut house = house_with(&["--quiet", "60s", "--sample", "--once"], &[]);
    // All of it was sent and stored, so that nothing but the stable study is missing.
    audited(&house, &[("event", "instance"), ("reason", "stored")]);
    audited(&house, &[("event", "association"), ("reason", "released")]);
    let status = house.terminate();
    assert!(!status.success(), "{status}: {:?}", house.output());
    assert_eq!(house.events().len(), 0);
    audited(&house, &[("event", "shutdown")]);
}

/// Fails if what the command line says of this run is kept for all others: a receiver started with that file would listen
/// somewhere else each time.
#[test]
fn ports_and_spans_asked_for_on_the_command_line_hold_for_that_run_only() {
    let house = house_with(&["--quiet", "7s"], &[]);
    assert_ne!(house.addr().port(), 2762, "the house was asked for a free port");
    let text = fs::read_to_string(house.dir().join("gateway.toml")).expect("dev has written it");
    for line in ["listen = \"127.0.0.1:2762\"", "admin = \"127.0.0.1:8080\"", "quiet = \"3s\""] {
        assert!(text.lines().any(|written| written == line), "{line} in {text}");
    }
    assert!(!text.contains(&house.addr().port().to_string()) && !text.contains(":0\""), "{text}");
}

/// Fails if everything that is no folder is opened: nobody ever writes into the pipe, and opening it waits for ever. And if links
/// to folders are followed: the one file is then sent once for each turn of the loop that the system allows.
#[test]
fn send_comes_to_an_end_in_a_folder_with_a_pipe_and_a_loop() {
    let house = house();
    let (folder, elsewhere) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let slices = ct_study(2, 32, 1);
    let linked = elsewhere.path().join("linked.dcm");
    fs::write(folder.path().join("plain.dcm"), &slices[0].part10).expect("a temporary directory");
    fs::write(&linked, &slices[1].part10).expect("a temporary directory");
    symlink(&linked, folder.path().join("link.dcm")).expect("a temporary directory");
    symlink(folder.path(), folder.path().join("loop")).expect("a temporary directory");
    symlink(folder.path().join("nothing"), folder.path().join("dangling")).expect("a temporary directory");
    let pipe = folder.path().join("pipe.dcm");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("coreutils are there").success());

    let output = send(&house, &[], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stdout(&output).contains("2 of 2 instances accepted"), "a link to a file is a file: {}", said(&output));
    assert_eq!(rows(house.dir()).len(), 2);
    // Named by hand it is not passed over in silence, and does not hang either.
    let output = send(&house, &[], &pipe);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(stdout(&output).contains("neither a file nor a folder"), "{}", said(&output));
}

/// Fails if the answer is printed with `println!`, which panics when nobody reads any more. The reader has left before the verb
/// begins, so it does not depend on who is faster.
#[test]
fn studies_whose_reader_has_left_do_not_panic() {
    let house = house();
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    for verb in [&["list"][..], &["list", "--json"], &["show", &instance.study], &["show", &instance.study, "--json"]] {
        let (reader, writer) = std::io::pipe().expect("there are descriptors");
        drop(reader);
        let mut command = Command::new(binary());
        command.arg("studies").args(verb).arg("--dir").arg(house.dir()).stdout(writer);
        let output = command.stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{verb:?}: {said}");
        // 101 is what a panic ends with.
        assert_ne!(output.status.code(), Some(101), "{verb:?}: {said}");
    }
    // And as a person types it.
    let line = format!("'{}' studies list --dir '{}' | true", binary().display(), house.dir().display());
    let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
}

/// Fails if an association without a single accepted context is accepted: the sender gets a place, can send nothing on it, and
/// comes back for ever.
#[test]
fn a_proposal_of_which_nothing_may_be_sent_is_rejected_and_the_audit_says_why() {
    let house = house();
    let ultrasound = || contexts(&[("UltrasoundImageStorage", &[EXPLICIT])]);
    assert_eq!(connect(&house, "hospital-b").associate(CALLED, B, ultrasound()), Associated::Rejected(1, 1, 1));
    let denied = [("event", "association"), ("decision", "deny"), ("reason", "no_context"), ("row", "hospital-b")];
    audited(&house, &[&denied[..], &[("calling_ae", B), ("called_ae", CALLED)]].concat());
    assert!(house.audit().iter().all(|line| line["reason"] != "granted"));
    // The control: one context that may is enough.
    let both = contexts(&[("UltrasoundImageStorage", &[EXPLICIT]), ("CTImageStorage", &[EXPLICIT])]);
    assert_eq!(connect(&house, "hospital-b").associate(CALLED, B, both), Associated::Accepted(1));
    // In hospital-a's row every class is listed.
    assert_eq!(connect(&house, "hospital-a").associate(CALLED, A, ultrasound()), Associated::Accepted(1));
}
