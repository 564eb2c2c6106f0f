//! Who would rather speak a weaker TLS. Asked with openssl, with tlslite-ng and by hand; a control in each table shows that it is
//! the weakness that is refused.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};

use testkit::house::{House, eventually};

use super::hello::{Answer, GOOD_SUITE, Hello, answer_to, record};
use crate::support::witness::{fed, python};
use crate::support::{Bystander, house, said, stdout};

/// RFC 8446 §6.2.
const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// A ServerHello of TLS 1.2 with the one suite that was offered and no compression.
const TAKEN: Answer = Answer::Hello { version: 0x0303, suite: GOOD_SUITE, compression: 0 };

fn s_client(house: &House, more: &[&str]) -> Command {
    let files = house.cert("hospital-a");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &house.addr().to_string(), "-CAfile"]).arg(house.ca("gateway.invalid"));
    command.arg("-cert").arg(files.cert).arg("-key").arg(files.key).args(more);
    command
}

/// Nobody was known, so nothing was read as DICOM.
fn assert_no_association(house: &House) {
    assert!(house.audit().iter().all(|line| line["event"] != "association"));
}

#[test]
fn no_older_version_weaker_suite_or_unbound_handshake_is_agreed_to_with_tlslite() {
    let house = house();
    let files = house.cert("hospital-a");
    let port = house.addr().port().to_string();
    let output = python("downgrade.py").args(["127.0.0.1", &port]).args([files.cert, files.key]).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let told: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(told.len(), 14, "{text}");
    for (name, outcome) in &told {
        let expected = if matches!(*name, "TLS 1.2" | "TLS 1.3") { "complete" } else { "alert handshake_failure" };
        assert_eq!(*outcome, expected, "{name}");
    }
    let refused = || house.audit().into_iter().filter(|line| line["reason"] == "tls_handshake").collect::<Vec<_>>();
    let refused = eventually("each is on record", || Some(refused()).filter(|lines| lines.len() >= told.len() - 2));
    assert_eq!(refused.len(), told.len() - 2, "and the good ones are not: {refused:#?}");
    let unbound = |line: &&serde_json::Value| line["detail"].as_str().is_some_and(|why| why.contains("ExtendedMaster"));
    assert!(refused.iter().any(|line| unbound(&line)), "RFC 7627 is demanded: {refused:#?}");
}

#[test]
fn a_hello_that_asks_for_less_is_refused() {
    let house = house();
    let good = Hello::good;
    let version = |version| Hello { version, ..good() };
    let suites = |suites: &[u16]| Hello { suites: suites.to_vec(), ..good() };
    let fails = Answer::Alert(HANDSHAKE_FAILURE);
    let cases = [
        ("the control", good(), TAKEN),
        ("SSL 3.0", version(0x0300), Answer::Alert(PROTOCOL_VERSION)),
        ("TLS 1.0", version(0x0301), Answer::Alert(PROTOCOL_VERSION)),
        ("TLS 1.1", version(0x0302), Answer::Alert(PROTOCOL_VERSION)),
        ("a version to come", version(0x0399), TAKEN),
        ("TLS 1.1 by extension", good().with(43, &[2, 3, 2]), Answer::Alert(PROTOCOL_VERSION)),
        ("no extended master secret", good().without(23), fails.clone()),
        ("no encryption", suites(&[0xC006, 0xC010, 0x003B, 0x0002]), fails.clone()),
        ("anonymous", suites(&[0xC018, 0xC019, 0x00A7, 0x00A6, 0x006D]), fails.clone()),
        ("export grade", suites(&[0x0003, 0x0006, 0x0008, 0x0014]), fails.clone()),
        ("RC4, 3DES and CBC", suites(&[0xC007, 0xC008, 0xC009, 0xC024]), fails.clone()),
        ("signalling to fall back", suites(&[GOOD_SUITE, 0x5600]), TAKEN),
        ("SHA-1 signatures alone", good().without(13).with(13, &[0, 4, 2, 3, 2, 1]), fails.clone()),
        ("no signature algorithms", good().without(13), fails),
        ("compression alone", Hello { compressions: vec![1], ..good() }, Answer::Alert(ILLEGAL_PARAMETER)),
        ("compression if possible", Hello { compressions: vec![1, 0], ..good() }, TAKEN),
    ];
    for (name, hello, expected) in cases {
        assert_eq!(answer_to(house.addr(), &hello.bytes()), expected, "{name}");
    }
    assert_no_association(&house);
}

#[test]
fn a_hello_that_is_none_is_refused_and_costs_nobody_else_anything() {
    let house = house();
    let mut bystander = Bystander::of(&house);
    let associations = || house.audit().iter().filter(|line| line["event"] == "association").count();
    let before = associations();
    let good = Hello::good();
    let message = good.message();
    let changed = |at: usize, byte: u8| {
        let mut message = message.clone();
        message[at] = byte;
        record(22, 0x0301, &message)
    };
    let twice = Hello { extensions: [good.extensions.clone(), good.extensions.clone()].concat(), ..good.clone() };
    let byte_by_byte: Vec<u8> = message.iter().flat_map(|byte| record(22, 0x0301, &[*byte])).collect();
    let noise: Vec<u8> = (0..4096_u32).map(|byte| (byte * 31 % 251) as u8).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a record of 64 KiB", [&[22, 3, 1, 0xFF, 0xFF], &noise[..]].concat()),
        ("a record larger than any may be", record(22, 0x0301, &[&message[..], &[0; 0x4200]].concat())),
        ("an empty record", record(22, 0x0301, &[])),
        ("a message that says 16 MiB", changed(1, 0xFF)),
        ("a message that ends too early", changed(3, 1)),
        ("a session id that does not end", changed(38, 0xFF)),
        ("suites that do not end", changed(39, 0xFF)),
        ("an odd number of bytes of suites", changed(40, 3)),
        ("every extension twice", twice.bytes()),
        ("noise in a record", record(22, 0x0301, &noise)),
        ("application data first", record(23, 0x0303, &noise)),
        ("a change of cipher first", record(20, 0x0303, &[1])),
        ("an alert first", record(21, 0x0303, &[2, 40])),
        ("a Finished first", record(22, 0x0303, &[20, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("two hellos", [good.bytes(), good.bytes()].concat()),
        ("SSL 2.0", b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\x01\0\x80\0\0\x05".to_vec()),
        ("the half of one", good.bytes()[..30].to_vec()),
    ];
    for (name, bytes) in cases {
        let answer = answer_to(house.addr(), &bytes);
        let refused = match answer {
            // With two of them the first is answered before the second is read.
            Answer::Hello { .. } => name == "two hellos",
            Answer::Alert(why) => {
                [UNEXPECTED_MESSAGE, RECORD_OVERFLOW, HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECODE_ERROR].contains(&why)
            }
            Answer::Closed => true,
        };
        assert!(refused, "{name}: {answer:?}");
        bystander.still_served();
    }
    assert_eq!(answer_to(house.addr(), &byte_by_byte), TAKEN, "a hello in many records is a hello");
    assert_eq!(associations(), before, "nothing of it was read as DICOM");
}

/// `R` asks s_client to renegotiate. Fails where the receiver shakes hands again under the same connection.
#[test]
fn a_handshake_cannot_be_negotiated_again() {
    let house = house();
    let output = fed(s_client(&house, &["-tls1_2", "-msg"]), "R\n");
    let said = said(&output);
    assert!(said.contains("Verify return code: 0 (ok)") && said.contains("RENEGOTIATING"), "{said}");
    assert_eq!(said.matches(", ClientHello").count(), 2, "it was asked for again: {said}");
    let hellos = said.matches(", ServerHello").count() - said.matches(", ServerHelloDone").count();
    assert_eq!(hellos, 1, "and not granted: {said}");
    assert!(said.contains("no_renegotiation") || said.contains("unexpected_message"), "{said}");
    assert_eq!(house.audit().iter().filter(|line| line["reason"] == "granted").count(), 0);
}

/// A session with a ticket for early data, from a server that gives such things: the receiver takes neither.
#[test]
fn early_data_is_not_taken_even_with_a_ticket_from_elsewhere() {
    let house = house();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (session, early) = (scratch.path().join("session.pem"), scratch.path().join("early"));
    // An association request of nothing: if it were read, the audit log would say so.
    std::fs::write(&early, [&[1, 0, 0, 0, 0, 68][..], &[0; 68]].concat()).expect("ours");
    let generous = Generous::start(&house);
    let port = generous.port.to_string();
    let files = house.cert("hospital-a");
    let mut fetch = Command::new("openssl");
    fetch.args(["s_client", "-tls1_3", "-connect", &format!("127.0.0.1:{port}"), "-sess_out"]).arg(&session);
    fetch.arg("-cert").arg(&files.cert).arg("-key").arg(&files.key);
    // The ticket comes after the handshake.
    eventually("a ticket is given", || {
        fetch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = fetch.spawn().expect("openssl starts");
        let given = eventually("a ticket or the end", || {
            let ended = child.try_wait().expect("our child").is_some();
            (ended || session.exists()).then(|| session.exists())
        });
        drop(child.stdin.take());
        child.wait().expect("our child");
        given.then_some(())
    });
    let ticket = ["-tls1_3", "-sess_in", session.to_str().expect("text"), "-early_data", early.to_str().expect("text")];
    let own = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(ticket)
        .stdin(Stdio::null())
        .output()
        .expect("openssl starts");
    assert!(told_early(&own, "accepted"), "the control: {}", said(&own));

    let output = s_client(&house, &ticket).stdin(Stdio::null()).output().expect("openssl starts");
    assert!(!told_early(&output, "accepted"), "{}", said(&output));
    assert!(!said(&output).contains("Reused, TLS"), "{}", said(&output));
    eventually("it is over", || house.audit().into_iter().find(|line| line["event"] != "startup"));
    let read = house.audit().into_iter().find(|line| line["event"] == "association" && line["decision"] != "note");
    assert_eq!(read, None, "early data was read as DICOM");
}

fn told_early(output: &Output, what: &str) -> bool {
    said(output).contains(&format!("Early data was {what}"))
}

/// A server that takes early data, with the receiver's own name and key.
struct Generous {
    child: Child,
    port: u16,
}

impl Generous {
    fn start(house: &House) -> Self {
        let files = house.cert("receiver");
        // It cannot say which port it took; between here and its start nobody else is likely to take this one.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-tls1_3", "-early_data", "-no_anti_replay", "-port", &port.to_string()]);
        command.arg("-cert").arg(files.cert).arg("-key").arg(files.key).stdin(Stdio::piped());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl starts");
        let generous = Self { child, port };
        eventually("openssl listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        generous
    }
}

impl Drop for Generous {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
