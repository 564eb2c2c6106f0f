use std::path::Path;
use std::time::SystemTime;

use metrics_exporter_prometheus::PrometheusBuilder;
use testkit::house::DEADLINE;
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};
use tokio::sync::oneshot;

use super::*;

const GATEWAY: &str = r#"
[receiver]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
[identity]
chain = "certs/receiver.pem"
key = "certs/receiver.key"
[[trust]]
domain = "hospital-a.invalid"
bundle = "certs/hospital-a.invalid/ca.pem"
[access]
table = "access.toml"
[archive]
dir = "."
[audit]
file = "audit.jsonl"
"#;

const TABLE: &str = r#"
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
transfer_syntaxes = ["*"]
owner = "tests"
"#;

/// A receiver on a port of its own.
async fn receiver(dir: &Path) -> Receiver {
    crate::pki::ensure(&dir.join("certs"), SystemTime::now()).expect("development certificates can be made");
    std::fs::write(dir.join("gateway.toml"), GATEWAY).expect("the directory is ours");
    std::fs::write(dir.join("access.toml"), TABLE).expect("the directory is ours");
    let config = Config::load(&dir.join("gateway.toml"), std::iter::empty()).expect("a valid file");
    let checked = Checked::build(config).await.expect("everything is in order");
    Receiver::bind(checked, PrometheusBuilder::new().build_recorder().handle()).await.expect("the ports are free")
}

fn associated(address: SocketAddr, dir: &Path) -> Peer {
    let read = |name: &str| std::fs::read_to_string(dir.join("certs").join(name)).expect("it was made");
    let credentials =
        Credentials::new(&read("hospital-a.pem"), &read("hospital-a.key"), &read("gateway.invalid/ca.pem"));
    let mut peer = Peer::connect(address, &credentials).expect("a good certificate");
    let answer = peer.associate("PORTCULLIS", "HOSPITAL_A", sample_contexts());
    assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
    peer
}

/// How the watcher dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Ends,
    Panics,
}

/// Fails if the watcher is only spawned: the receiver would go on for ever by what it read last.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_watcher_dies_ends_with_an_error_and_serves_nobody_any_more() {
    for death in [Death::Ends, Death::Panics] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let receiver = receiver(dir.path()).await;
        let (address, admin) = (receiver.address().expect("bound"), receiver.admin_address().expect("bound"));
        let house = receiver.house();
        let (kill, killed) = oneshot::channel::<()>();
        let running = tokio::spawn(receiver.run_watched_by(async move |_, _| {
            killed.await.expect("the test kills it");
            assert_eq!(death, Death::Ends, "on purpose");
        }));
        let home = dir.path().to_owned();
        let waiting = tokio::task::spawn_blocking(move || associated(address, &home));
        let mut peer = waiting.await.expect("it is let in");
        assert!(!house.drain.is_cancelled(), "{death:?}: it is ready");

        kill.send(()).expect("it lives");
        let ended = tokio::time::timeout(DEADLINE, running).await.expect("it ends");
        let ended = ended.expect("the receiver itself does not panic");
        let why = ended.expect_err("a dead watcher is no good end").to_string();
        assert!(why.contains("watcher of table and certificates died"), "{death:?}: {why}");
        let outcome = tokio::task::spawn_blocking(move || peer.outcome()).await.expect("an end");
        assert!(matches!(outcome, Outcome::Aborted(_)), "{death:?}: {outcome:?}");
        assert!(house.drain.is_cancelled() && house.halt.is_cancelled(), "{death:?}: not ready from then on");
        assert!(std::net::TcpStream::connect(address).is_err(), "{death:?}: nobody new");
        assert!(std::net::TcpStream::connect(admin).is_err(), "{death:?}: no /readyz either");
        let log = std::fs::read_to_string(dir.path().join("audit.jsonl")).expect("it was written");
        let last = log.lines().last().expect("it has lines");
        assert!(last.contains("\"shutdown\"") && last.contains("\"watcher_dead\""), "{death:?}: {last}");
    }
}
