//! Behind a load balancer: what its PROXY v2 header says is believed of nobody else, narrows and never grants, and a connection
//! that breaks a rule (P-1 to P-11) ends before TLS. haproxy stands for the load balancer; what it cannot send is sent by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use gateway::telemetry::HEALTH_PROBES;
use serde_json::Value;
use tempfile::TempDir;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Credentials, NoConnection, Peer, plain, sample_contexts};
use testkit::pki::Pki;
use testkit::relay::{Header, Relay, SIGNATURE};

use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::witness::storescu_tls;
use crate::support::{
    A, B, CALLED, SUCCESS, amend, audited, credentials, house, house_with, portcullis, said, stdout, with_columns,
};

pub(crate) const ENDPOINT: &str = "vpce-08d2bf15fac5001c9";
pub(crate) const OTHER_ENDPOINT: &str = "vpce-0123456789abcdef0";

pub(crate) fn source() -> SocketAddr {
    "198.51.100.9:40000".parse().expect("an address")
}

pub(crate) fn destination() -> SocketAddr {
    "10.0.0.1:2762".parse().expect("an address")
}

fn relayed() -> Header {
    Header::relayed(source(), destination()).checksum()
}

/// A house behind a load balancer on loopback, with further keys of `[receiver]`.
fn house_behind(networks: &str, more: &str) -> House {
    let house = house();
    let path = house.dir().join("gateway.toml");
    let text = fs::read_to_string(&path).expect("dev has written it");
    assert!(text.contains("[receiver]\n"));
    let section = format!("[receiver]\nproxy_protocol = \"required\"\nproxy_networks = [\"{networks}\"]\n{more}\n");
    fs::write(&path, text.replacen("[receiver]\n", &section, 1)).expect("ours");
    house.restart()
}

fn house_behind_loopback() -> House {
    house_behind("127.0.0.0/8", "")
}

fn connect(address: SocketAddr, house: &House, name: &str) -> Result<Peer, NoConnection> {
    Peer::connect(address, &Credentials::of_house(house, name))
}

/// An association of hospital-a through a relay that says this.
fn associate(house: &House, header: &Header) -> (Option<Peer>, Associated) {
    let relay = Relay::start(house.addr(), header);
    let mut peer = connect(relay.addr(), house, "hospital-a").expect("the header is good");
    let answer = peer.associate(CALLED, A, sample_contexts());
    (Some(peer).filter(|_| matches!(answer, Associated::Accepted(_))), answer)
}

/// Sends these bytes and nothing more; what the receiver answers until it closes.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = plain(address).expect("it listens");
    // A receiver that has closed already has said all it wanted.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    // A reset is an end as good as any.
    let _ = socket.read_to_end(&mut answer);
    answer
}

/// The refusals of connections, by their reasons.
fn refusals(house: &House) -> Vec<Value> {
    house.audit().into_iter().filter(|line| line["event"] == "connection").collect()
}

/// Waits for the one refusal with that reason that was not there before.
fn refused(house: &House, reason: &str, before: usize) -> Value {
    let line = eventually(reason, || refusals(house).into_iter().nth(before));
    assert_eq!((&line["decision"], &line["reason"]), (&"deny".into(), &reason.into()), "{line}");
    assert!(line["socket_peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    line
}

fn health_probes(house: &House) -> u64 {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    let count = answer.lines().find_map(|line| line.strip_prefix(HEALTH_PROBES)?.trim().parse().ok());
    // A counter is there from its first count on.
    count.unwrap_or(0)
}

/// haproxy in TCP mode, which says that everybody comes from 198.51.100.9.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _scratch: TempDir,
}

impl Haproxy {
    fn start(to: SocketAddr, server: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        // It cannot choose a port itself; between here and its start nobody else is likely to.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let config = scratch.path().join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             frontend door\n  bind {free}\n  unique-id-format %{{+X}}o\\ %ci:%cp_%Ts\n\
             \x20 tcp-request connection set-src str(198.51.100.9)\n  default_backend house\n\
             backend house\n  server house {to} send-proxy-v2 proxy-v2-options crc32c,unique-id {server}\n"
        );
        fs::write(&config, text).expect("a temporary directory");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdin(Stdio::null());
        let child = command.spawn().expect("haproxy is missing: run ./tests/run, which installs it");
        Self { child, address: free, _scratch: scratch }
    }

    /// Waits until it takes connections. The house sees one that is closed without a word.
    fn ready(self) -> Self {
        eventually("haproxy listens", || plain(self.address).ok());
        self
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_in_front_says_where_a_sender_came_from() {
    let house = house_behind_loopback();
    let haproxy = Haproxy::start(house.addr(), "").ready();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = scratch.path().join("one.dcm");
    fs::write(&file, &testkit::samples::ct_study(1, 16, 1)[0].part10).expect("a temporary directory");
    let mut storescu = storescu_tls(&house, "hospital-a");
    storescu.args(["-aet", A, "-aec", CALLED, "127.0.0.1", &haproxy.address.port().to_string()]);
    let output = storescu.arg(&file).output().expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(rows(house.dir()).len(), 1);

    let line = audited(&house, &[("event", "association"), ("reason", "granted")]);
    let (source, socket) = (line["source"].as_str().expect("claimed"), line["socket_peer"].as_str().expect("known"));
    assert!(source.starts_with("198.51.100.9:"), "{line}");
    assert!(socket.starts_with("127.0.0.1:"), "{line}");
    assert_eq!(line["vpce"], Value::Null, "haproxy says nothing of an endpoint");
}

/// Fails if the check of haproxy is not understood (it is marked down, and the audit log fills) or is audited as a refusal.
#[test]
fn health_checks_of_haproxy_are_counted_and_not_audited() {
    let house = house_behind_loopback();
    let _haproxy = Haproxy::start(house.addr(), "check inter 50ms");
    eventually("haproxy looks again and again", || (health_probes(&house) >= 3).then_some(()));
    assert_eq!(refusals(&house), Vec::<Value>::new());
}

#[test]
fn who_says_local_and_goes_or_goes_without_a_word_is_no_offender() {
    let house = house_behind_loopback();
    for (before, bytes) in [Header::local().bytes(), Header::local().checksum().bytes(), Vec::new()].iter().enumerate()
    {
        let mut socket = plain(house.addr()).expect("the receiver listens");
        socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write)).expect("it is open");
        assert_eq!(socket.read(&mut [0]).expect("a clean end"), 0, "nothing is answered");
        eventually("it is counted", || (health_probes(&house) > before as u64).then_some(()));
    }
    assert_eq!(refusals(&house), Vec::<Value>::new());
    // The control: a caller who goes like that is a refusal.
    answer_to(Relay::start(house.addr(), &relayed()).addr(), b"GET / HTTP/1.0\r\n");
    assert_eq!(refused(&house, "proxy_not_tls", 0)["source"], source().to_string());
    assert_eq!(health_probes(&house), 3);
}

#[test]
fn a_row_with_an_endpoint_is_for_those_who_came_through_it() {
    let house = house_behind_loopback();
    let rejected = Associated::Rejected(1, 1, 1);
    let through = |vpce| Header::aws(source(), destination(), vpce);
    assert!(associate(&house, &through(OTHER_ENDPOINT)).0.is_some(), "a row without an endpoint does not care");
    amend(&house, |text| with_columns(&text, "hospital-a", &format!("source_vpce = [\"{ENDPOINT}\"]")));

    let (peer, answer) = associate(&house, &through(ENDPOINT));
    let instance = Instance::numbered(1);
    let stored = peer.map(|mut peer| peer.store(&instance.claim(), &instance.data_set()));
    assert_eq!(stored, Some(SUCCESS), "{answer:?}");
    let line = audited(&house, &[("event", "association"), ("reason", "granted"), ("vpce", ENDPOINT)]);
    assert_eq!(line["source"], source().to_string());

    assert_eq!(associate(&house, &through(OTHER_ENDPOINT)).1, rejected);
    let denied = [("event", "association"), ("decision", "deny"), ("reason", "vpce"), ("vpce", OTHER_ENDPOINT)];
    audited(&house, &denied);
    for (name, header) in
        [("no endpoint", relayed()), ("LOCAL, with one that says nothing", Header::local().vpce(ENDPOINT))]
    {
        let missing = || house.audit().iter().filter(|line| line["reason"] == "vpce_missing").count();
        let before = missing();
        assert_eq!(associate(&house, &header).1, rejected, "{name}");
        eventually(name, || (missing() > before).then_some(()));
    }
    assert_eq!(rows(house.dir()).len(), 1);
}

/// A caller cannot come through another endpoint by saying so: haproxy, like AWS's load balancer, passes on what it sends.
#[test]
fn a_callers_own_header_behind_that_of_haproxy_is_refused_and_not_believed() {
    let house = house_behind_loopback();
    let haproxy = Haproxy::start(house.addr(), "").ready();
    let own = Header::aws(source(), destination(), ENDPOINT).bytes();
    for bytes in [&own, &SIGNATURE.to_vec(), &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec()] {
        let duplicates = || {
            let all = refusals(&house);
            all.into_iter().filter(|line| line["reason"] == "proxy_header_duplicate").collect::<Vec<_>>()
        };
        let before = duplicates().len();
        assert_eq!(answer_to(haproxy.address, bytes), Vec::<u8>::new());
        let line = eventually("the attempt is on record", || duplicates().into_iter().nth(before));
        assert_eq!((&line["decision"], &line["vpce"]), (&"deny".into(), &Value::Null));
        let source = line["source"].as_str().expect("haproxy has said it");
        assert!(source.starts_with("198.51.100.9:") && source != self::source().to_string(), "{line}");
    }
    let mut peer = connect(haproxy.address, &house, "hospital-b").expect("others are served");
    assert!(matches!(peer.associate(CALLED, B, sample_contexts()), Associated::Accepted(_)));
}

#[test]
fn a_beginning_that_breaks_a_rule_is_closed_without_a_word() {
    let house = house_behind_loopback();
    let good = relayed().bytes();
    let with = |at: usize, byte: u8| {
        let mut header = good.clone();
        header[at] = byte;
        header
    };
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("version 1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), "proxy_v1"),
        ("DICOM without TLS, past the load balancer", b"\x01\0\0\0\0\xCD".to_vec(), "proxy_signature"),
        ("a browser, past the load balancer", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "proxy_signature"),
        ("another version", with(12, 0x31), "proxy_version"),
        ("another command", with(12, 0x2F), "proxy_command"),
        ("another family", with(13, 0x41), "proxy_family"),
        ("64 KiB of header", with(14, 0xFF), "proxy_too_long"),
        ("too short for its addresses", [&with(15, 4)[..16], &[0; 4]].concat(), "proxy_address"),
        ("a TLV that is cut off", relayed().tlv(4, &[]).bytes()[..37].to_vec(), "proxy_truncated"),
        ("another source than was summed up", with(16, 10), "proxy_crc"),
        ("two endpoints", relayed().vpce(ENDPOINT).vpce(OTHER_ENDPOINT).bytes(), "proxy_vpce"),
        ("TLVs that do not fill it", relayed().tlv(4, &[]).bytes(), "proxy_tlv"),
    ];
    for (name, mut bytes, reason) in cases {
        if reason == "proxy_tlv" {
            // One byte of the last TLV too few.
            bytes[15] -= 1;
        }
        let before = refusals(&house).len();
        let mut socket = plain(house.addr()).expect("the receiver listens");
        // A receiver that has closed already has said all it wanted.
        let _ = socket.write_all(&bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert_eq!(answer, Vec::<u8>::new(), "{name}");
        let line = refused(&house, reason, before);
        assert_eq!((&line["source"], &line["vpce"]), (&Value::Null, &Value::Null), "{name}: nothing of it is believed");
    }
    // A hospital that comes past the load balancer, with all the right certificates.
    let before = refusals(&house).len();
    assert!(matches!(connect(house.addr(), &house, "hospital-a"), Err(NoConnection::Closed(_))));
    refused(&house, "proxy_signature", before);
    assert_eq!(health_probes(&house), 0);
    assert!(associate(&house, &relayed()).0.is_some(), "the control");
}

#[test]
fn what_follows_the_header_must_be_tls() {
    let house = house_behind_loopback();
    let relay = Relay::start(house.addr(), &relayed());
    let output = answer_to(relay.addr(), b"\x01\0\0\0\0\xCD\0\x01\0\0PORTCULLIS      ");
    assert_eq!(output, Vec::<u8>::new());
    let line = refused(&house, "proxy_not_tls", 0);
    assert_eq!(line["source"], source().to_string());
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("turn TLS on at the sender")), "{line}");
}

#[test]
fn a_header_in_many_segments_is_a_header() {
    let house = house_behind_loopback();
    let header = Header::aws(source(), destination(), ENDPOINT).tlv(0x20, &[7; 300]).bytes();
    let relay = Relay::in_pieces(house.addr(), header, 1);
    let mut peer = connect(relay.addr(), &house, "hospital-a").expect("the header is good");
    assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
    audited(&house, &[("event", "association"), ("reason", "granted"), ("vpce", ENDPOINT)]);
}

#[test]
fn a_header_that_does_not_come_in_time_ends_the_connection() {
    let house = house_behind("127.0.0.0/8", "proxy_timeout = \"200ms\"");
    let header = relayed().bytes();
    for (before, heard) in [0, 1, 15, header.len() - 1].into_iter().enumerate() {
        assert_eq!(answer_to(house.addr(), &header[..heard]), Vec::<u8>::new(), "{heard} bytes");
        refused(&house, "proxy_timeout", before);
    }
}

/// The reason would be another one if the receiver read first: these say nothing, or something with a mistake in it.
#[test]
fn whoever_is_not_the_load_balancer_is_refused_before_a_byte_is_read() {
    let house = house_behind("10.255.0.0/16", "");
    let own = Header::aws(source(), destination(), ENDPOINT).bytes();
    for (before, bytes) in [&own[..], b"", b"PROXY TCP4 ", &[0xA5; 40]].into_iter().enumerate() {
        assert_eq!(answer_to(house.addr(), bytes), Vec::<u8>::new());
        let line = refused(&house, "proxy_source_network", before);
        assert_eq!((&line["source"], &line["vpce"]), (&Value::Null, &Value::Null), "nothing of it is believed");
    }
    let relay = Relay::start(house.addr(), &relayed());
    assert!(matches!(connect(relay.addr(), &house, "hospital-a"), Err(NoConnection::Closed(_))));
}

#[test]
fn without_a_load_balancer_a_header_is_refused() {
    let house = house_with(&[], &[]);
    for (before, header) in [relayed().bytes(), Header::local().bytes()].into_iter().enumerate() {
        let piece = header.len();
        let relay = Relay::in_pieces(house.addr(), header, piece);
        assert!(matches!(connect(relay.addr(), &house, "hospital-a"), Err(NoConnection::Closed(_))));
        let line = refused(&house, "proxy_header_unexpected", before);
        assert_eq!(line["source"], Value::Null, "nothing of it is believed");
    }
    assert!(connect(house.addr(), &house, "hospital-a").is_ok(), "the control");
}

#[test]
fn a_refused_certificate_is_on_record_with_where_it_came_from() {
    let house = house_behind_loopback();
    let relay = Relay::start(house.addr(), &Header::aws(source(), destination(), ENDPOINT));
    let stranger = credentials(&house, &Pki::new().issue("spiffe://stranger.invalid/forwarder"));
    if let Ok(mut peer) = Peer::connect(relay.addr(), &stranger) {
        assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Closed);
    }
    let line = refused(&house, "td_unknown", 0);
    assert_eq!((&line["source"], &line["vpce"]), (&source().to_string().into(), &ENDPOINT.into()));
}

#[test]
fn receive_check_says_whether_a_load_balancer_is_in_front() {
    let check = |house: &House| {
        let config = house.dir().join("gateway.toml").display().to_string();
        let output = portcullis(&["receive", "--config", &config, "--check"]);
        assert!(output.status.success(), "{}", said(&output));
        stdout(&output)
    };
    let required = check(&house_behind("127.0.0.0/8", "proxy_timeout = \"3s\""));
    assert!(required.contains("proxy      v2 required, within 3s, only from 127.0.0.0/8\n"), "{required}");
    let off = check(&house());
    assert!(off.contains("proxy      off"), "{off}");
}
