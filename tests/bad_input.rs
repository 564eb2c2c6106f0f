//! "Bad input": whatever calls gets a clear log line and the right answer on the wire, nothing is lost, nothing half-written is
//! visible, and other associations are unaffected.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use dimse::Abort;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Outcome, Peer, plain};

use crate::support::archive::{assert_objects_are_whole, assert_rows_have_objects, files, incoming, rows};
use crate::support::instance::Instance;
use crate::support::witness::dcmtk;
use crate::support::{
    A, Bystander, CALLED, SUCCESS, associated, audited, binary, connect, house, house_in, house_with, said,
};

const OUT_OF_RESOURCES: Outcome = Outcome::Status(0xA700);

fn refusals(house: &House, reason: &str) -> usize {
    house.audit().iter().filter(|line| line["event"] == "connection" && line["reason"] == reason).count()
}

#[test]
fn what_is_not_tls_is_turned_away_with_a_reason() {
    let house = house_with(&[], &[("PORTCULLIS__RECEIVER__HANDSHAKE_TIMEOUT", "1s")]);
    let mut bystander = Bystander::of(&house);
    // The beginning of a TLS 1.2 ClientHello whose record announces 512 bytes.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
    let cases: [(&str, &[u8], &str); 7] = [
        ("a web browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        ("a DICOM sender without TLS", b"\x01\x00\x00\x00\x00\xCD\x00\x01\x00\x00PORTCULLIS      ", "plain_dicom"),
        ("noise", &[0xA5; 300], "not_tls"),
        ("a mail client", b"EHLO example\r\n", "not_tls"),
        ("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "proxy_header_unexpected"),
        ("half a ClientHello, then silence", &hello, "handshake_timeout"),
        ("silence", b"", "handshake_timeout"),
    ];
    for (name, bytes, reason) in cases {
        let seen = refusals(&house, reason);
        let mut socket = plain(house.addr()).expect("the receiver listens");
        socket.write_all(bytes).expect("the receiver reads");
        let mut answer = Vec::new();
        // A reset is an end as good as any.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 64 && answer.first().is_none_or(|first| *first == 0x15), "{name}: an alert at most");
        eventually(name, || (refusals(&house, reason) > seen).then_some(()));
        bystander.still_served();
    }
}

#[test]
fn storescu_without_tls_is_told_nothing_and_the_log_says_what_to_do() {
    let house = house();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = scratch.path().join("one.dcm");
    fs::write(&file, &testkit::samples::ct_study(1, 16, 1)[0].part10).expect("a temporary directory");
    let port = house.addr().port().to_string();
    let mut command = dcmtk("storescu");
    let output = command.args(["-aet", A, "-aec", CALLED, "127.0.0.1", &port]).arg(&file).output().expect("it starts");
    assert!(!output.status.success(), "{}", said(&output));
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "plain_dicom")]);
    house.wait_for("advice", |lines| lines.iter().any(|line| line.contains("turn TLS on at the sender")).then_some(()));
    assert_eq!(rows(house.dir()).len(), 0);
}

#[test]
fn half_a_request_and_then_silence_is_closed_by_artim() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__ARTIM", "1s")]);
    let mut bystander = Bystander::of(&house);
    let whole_header = [1, 0, 0, 0, 0, 200, 0, 1];
    for (name, sent) in [("nothing", &[][..]), ("half a header", &whole_header[..3]), ("half a request", &whole_header)]
    {
        let mut peer = connect(&house, "hospital-a");
        peer.send_raw(sent).expect("the receiver listens");
        // PS3.8 Table 9-10, AA-2: when ARTIM runs out in Sta2 the connection is closed, and nothing more is said.
        assert_eq!(peer.read_to_end(), Vec::<u8>::new(), "{name}");
    }
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "artim")]);
    bystander.still_served();
}

#[test]
fn a_broken_protocol_gets_an_abort_with_the_right_reason() {
    let house = house();
    let mut bystander = Bystander::of(&house);
    // Provider, and the reason of PS3.8 Table 9-26.
    let abort = |reason| Outcome::Aborted(Abort { source: 2, reason });
    let cases: [(&str, &[u8], u8); 6] = [
        ("a PDU of a type that there is not", &[0x42, 0, 0, 0, 0, 4, 0, 0, 0, 0], 1),
        ("a second association request", &[1, 0, 0, 0, 0, 100], 2),
        ("a P-DATA that declares 4 GiB", &[4, 0, 0xFF, 0xFF, 0xFF, 0xFF], 6),
        ("a P-DATA without a PDV", &[4, 0, 0, 0, 0, 0], 6),
        ("a PDV longer than its PDU", &[4, 0, 0, 0, 0, 8, 0, 0, 1, 0, 3, 3, 0, 0], 6),
        ("a release request with a body of 2 GiB", &[5, 0, 0x80, 0, 0, 0], 6),
    ];
    for (name, bytes, reason) in cases {
        let mut peer = associated(&house);
        peer.send_raw(bytes).expect("the receiver listens");
        assert_eq!(peer.outcome(), abort(reason), "{name}");
        bystander.still_served();
    }
    for (name, bytes, reason) in [
        ("P-DATA before any association", &[4, 0, 0, 0, 0, 8][..], 2),
        ("an association request that declares 4 GiB", &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF], 6),
    ] {
        let mut peer = connect(&house, "hospital-a");
        peer.send_raw(bytes).expect("the receiver listens");
        assert_eq!(peer.read_pdu(), Some((7, vec![0, 0, 2, reason])), "{name}");
    }
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "protocol_violation")]);
    bystander.still_served();
}

#[test]
fn an_association_lost_in_the_middle_of_an_instance_leaves_nothing() {
    let house = house();
    let mut bystander = Bystander::of(&house);
    let before = files(house.dir(), "instances").len();
    let instance = Instance::numbered(1).with_pixels(4 << 20, 1);
    let data_set = instance.data_set();
    let endings: [(&str, fn(Peer)); 3] = [
        ("the connection drops", Peer::drop_connection),
        ("the sender closes", |mut peer| peer.half_close().expect("it is open")),
        ("the sender aborts", |mut peer| peer.send_raw(&Abort::user().bytes()).expect("it is open")),
    ];
    for (name, ending) in endings {
        let mut peer = associated(&house);
        let context = peer.begin_store(&instance.claim()).expect("the receiver listens");
        for piece in data_set[..3 << 20].chunks(64 << 10) {
            peer.send_fragment(context, piece, false).expect("the receiver listens");
        }
        eventually("bytes are on their way to the disk", || (!incoming(house.dir()).is_empty()).then_some(()));
        ending(peer);
        eventually(name, || incoming(house.dir()).is_empty().then_some(()));
        assert_eq!(files(house.dir(), "instances").len(), before, "{name}");
        bystander.still_served();
        assert_eq!(files(house.dir(), "instances").len(), before + 1, "{name}: the bystander's own");
        fs::remove_file(files(house.dir(), "instances").pop().expect("there is one")).expect("ours");
    }
    audited(&house, &[("event", "association"), ("reason", "connection_lost")]);
    audited(&house, &[("event", "association"), ("reason", "peer_aborted")]);
    assert!(rows(house.dir()).iter().all(|row| row.held.name.instance.as_str() != instance.uid));
}

#[test]
fn a_data_set_that_contradicts_its_command_is_a900_and_one_that_cannot_be_read_c000() {
    let house = house();
    let mut peer = associated(&house);
    let claimed = Instance::numbered(1);
    let other_instance = Instance::numbered(2);
    let other_class = claimed.clone().with(0x0008_0016, b"UI", b"1.2.840.10008.5.1.4.1.1.4");
    let path = claimed.clone().with(0x0020_000D, b"UI", b"../../etc/passwd");
    let cases: [(&str, Vec<u8>, u16, &str); 6] = [
        ("another instance", other_instance.data_set(), 0xA900, "data_set_mismatch"),
        ("another class", other_class.data_set(), 0xA900, "data_set_mismatch"),
        ("a path for a UID", path.data_set(), 0xC000, "cannot_understand"),
        ("cut off", claimed.data_set()[..50].to_vec(), 0xC000, "cannot_understand"),
        ("empty", Vec::new(), 0xC000, "cannot_understand"),
        ("noise", vec![0xA5; 10_000], 0xC000, "cannot_understand"),
    ];
    for (name, data_set, status, reason) in cases {
        assert_eq!(peer.store(&claimed.claim(), &data_set), Outcome::Status(status), "{name}");
        audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", reason)]);
    }
    assert_eq!(peer.store(&claimed.claim(), &claimed.data_set()), SUCCESS, "the association goes on");
    assert_eq!(files(house.dir(), "instances").len(), 1);
}

#[test]
fn objects_that_cannot_be_written_are_a700_until_they_can() {
    let house = house();
    let mut peer = associated(&house);
    let (small, large) = (Instance::numbered(1), Instance::numbered(2).with_pixels(3 << 20, 2));
    let objects = house.dir().join("objects");
    let away = house.dir().join("objects.away");
    let mut store = |instance: &Instance| peer.store(&instance.claim(), &instance.data_set());

    fs::rename(&objects, &away).and_then(|()| fs::write(&objects, b"in the way")).expect("ours");
    assert_eq!(store(&small), OUT_OF_RESOURCES, "a file where the directory was");
    assert_eq!(store(&large), OUT_OF_RESOURCES, "a file where the directory was");
    fs::remove_file(&objects).and_then(|()| fs::rename(&away, &objects)).expect("ours");
    assert_eq!(store(&small), SUCCESS, "and again when it is back");

    let lock = ReadOnly::make(objects.join("instances/hospital-a"));
    assert_eq!(store(&large), OUT_OF_RESOURCES, "a directory that nobody may write");
    drop(lock);
    assert_eq!(store(&large), SUCCESS, "and again when one may");

    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "store_failed"), ("status", "A700")]);
    assert_eq!(rows(house.dir()).len(), 2);
    assert_rows_have_objects(house.dir(), &rows(house.dir()));
    assert_objects_are_whole(house.dir());
}

/// A directory that not even root can write to, until this is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(path: PathBuf) -> Self {
        let chattr = Command::new("chattr").arg("+i").arg(&path).status();
        if !chattr.is_ok_and(|status| status.success()) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).expect("ours");
        }
        let tried = fs::File::create(path.join("try"));
        assert!(tried.is_err(), "run this as an ordinary user, or as root on a file system that knows chattr +i");
        Self(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).expect("ours");
    }
}

#[test]
fn a_disk_without_room_is_a700_until_there_is_room() {
    // Files may grow to 2 MiB: the system's own way to make writes fail in the middle, for any user. The signal that
    // comes with it is ignored, as it is nowhere but in this test.
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let program = scratch.path().join("portcullis");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", binary().display());
    fs::write(&program, script).expect("a temporary directory");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("ours");
    let house = House::start(Options { program: Some(program), ..Options::default() });
    let limit = |bytes: &str| {
        let status =
            Command::new("prlimit").arg(format!("--pid={}", house.pid())).arg(format!("--fsize={bytes}:")).status();
        assert!(status.expect("util-linux is there").success());
    };
    let (small, large) = (Instance::numbered(1), Instance::numbered(2).with_pixels(3 << 20, 2));
    let mut bystander = Bystander::of(&house);
    let mut peer = associated(&house);
    limit("2097152");
    assert_eq!(peer.store(&large.claim(), &large.data_set()), OUT_OF_RESOURCES);
    assert_eq!(incoming(house.dir()), Vec::<PathBuf>::new(), "what was written of it is removed");
    assert_eq!(peer.store(&small.claim(), &small.data_set()), SUCCESS, "the association goes on");
    bystander.still_served();
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "store_failed"), ("status", "A700")]);
    limit("unlimited");
    assert_eq!(peer.store(&large.claim(), &large.data_set()), SUCCESS);
    assert_rows_have_objects(house.dir(), &rows(house.dir()));
}

#[test]
fn a_full_disk_is_a700_and_nothing_acknowledged_is_lost() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let Some(disk) = SmallDisk::mount(scratch.path().join("disk")) else {
        // Without the right to mount, the test above is what can be shown.
        return a_disk_without_room_is_a700_until_there_is_room();
    };
    let home = disk.0.join("house");
    let house = house_in(&home, &[], &[]);
    let mut peer = associated(&house);
    let mut acknowledged = Vec::new();
    let mut store = |number: u64| {
        let instance = Instance::numbered(number).with_pixels(1 << 20, number);
        let outcome = peer.store(&instance.claim(), &instance.data_set());
        if outcome == SUCCESS {
            acknowledged.push(instance.uid);
        }
        outcome
    };
    let refused = (1..100).map(&mut store).find(|outcome| *outcome != SUCCESS);
    assert_eq!(refused, Some(OUT_OF_RESOURCES));
    house.wait_for("a log line", |lines| lines.iter().any(|line| line.contains("store_failed")).then_some(()));
    assert_eq!(store(200), OUT_OF_RESOURCES, "and stays so");
    // Room again: somebody removed what was not ours.
    fs::remove_file(disk.0.join("filler")).expect("ours");
    assert_eq!(store(300), SUCCESS);
    drop(house);
    let house = house_in(&home, &[], &[]);
    let rows = rows(house.dir());
    assert!(acknowledged.iter().all(|uid| rows.iter().any(|row| row.held.name.instance.as_str() == uid)));
    assert_rows_have_objects(house.dir(), &rows);
    assert_objects_are_whole(house.dir());
    assert!(!house.audit().is_empty(), "every line of the audit log can still be read");
}

/// A file system of 24 MiB in memory with 8 MiB of somebody else's on it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).expect("a temporary directory");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&at).status();
        let disk = mounted.is_ok_and(|status| status.success()).then_some(Self(at))?;
        fs::write(disk.0.join("filler"), vec![7; 8 << 20]).expect("there is room for it");
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a house that is still being killed may hold it a moment longer.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_sender_that_closes_its_side_before_a_request_is_let_go() {
    let house = house();
    let mut peer = connect(&house, "hospital-a");
    peer.half_close().expect("it is open");
    assert_eq!(peer.read_to_end(), Vec::<u8>::new());
    let socket = plain(house.addr()).expect("the receiver listens");
    socket.shutdown(Shutdown::Both).expect("it is open");
    audited(&house, &[("event", "association"), ("reason", "connection_lost")]);
    Bystander::of(&house);
}
