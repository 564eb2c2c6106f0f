//! Against the agent of testkit, over a real socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use testkit::house::eventually;
use testkit::pki::{HOSPITAL_A, Pki, RECEIVER};
use testkit::workload::{Agent, Offer, OfferedSvid};
use tokio::sync::watch;

use super::agent::Pace;
use super::{Given, Material, Workload};
use crate::config::Endpoint;

/// Fast enough for tests; the deadline of an answer is never reached by an agent that is well.
const PACE: Pace = Pace {
    answer: Duration::from_secs(20),
    refresh: Duration::from_secs(60),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(40),
};

struct Scene {
    dir: tempfile::TempDir,
    pki: Pki,
    agent: Agent,
    shown: OfferedSvid,
}

impl Scene {
    /// An agent that gives the receiver's SVID and federates with hospital-a.
    fn new() -> Self {
        let (dir, pki) = (tempfile::tempdir().expect("a temporary directory"), Pki::new());
        let shown = OfferedSvid::from_pki(&pki, RECEIVER);
        let offer =
            Offer::of(shown.clone()).federated_with("hospital-a.invalid", pki.authority("hospital-a.invalid").pem());
        let agent = Agent::start(&dir.path().join("agent.sock"), offer);
        Self { dir, pki, agent, shown }
    }

    fn endpoint(&self) -> Endpoint {
        self.agent.address().parse().expect("a Unix socket is an endpoint")
    }

    async fn started(&self) -> Workload {
        start(&self.endpoint(), None).await.expect("the agent answers")
    }

    fn bundle(&self, domain: &str) -> Vec<Vec<u8>> {
        crate::pki::certificates(self.pki.authority(domain).pem())
    }
}

async fn start(endpoint: &Endpoint, hint: Option<&str>) -> Result<Workload, String> {
    Workload::start_at(PACE, endpoint, hint, Duration::from_secs(20)).await
}

/// As [`start`], for an agent that will not answer: asked once, because the next try would come too late.
async fn problem(endpoint: &Endpoint, hint: Option<&str>) -> String {
    problem_at(Pace { first_pause: Duration::from_secs(60), ..PACE }, endpoint, hint).await
}

async fn problem_at(pace: Pace, endpoint: &Endpoint, hint: Option<&str>) -> String {
    let refused = Workload::start_at(pace, endpoint, hint, Duration::from_secs(30)).await;
    refused.err().expect("there is nothing to start with")
}

/// The next change.
async fn change(watch: &mut watch::Receiver<Given>) -> Given {
    let changed = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await;
    changed.expect("the change arrives").expect("the agent is listened to");
    watch.borrow_and_update().clone()
}

fn domains(material: &Material) -> Vec<&str> {
    material.bundles.iter().map(|(domain, _)| domain.as_str()).collect()
}

#[tokio::test]
async fn the_first_answer_is_our_svid_and_a_bundle_for_each_domain_never_merged() {
    let scene = Scene::new();
    let material = scene.started().await.material().expect("the agent has given something");
    assert_eq!(material.chain, scene.shown.chain);
    assert_eq!(*material.key, scene.shown.key);
    assert_eq!(domains(&material), ["gateway.invalid", "hospital-a.invalid"]);
    for domain in domains(&material) {
        let name = model::TrustDomain::parse(domain).expect("a domain");
        assert_eq!(material.bundle(&name), Some(scene.bundle(domain).as_slice()), "{domain}");
    }
    let stranger = model::TrustDomain::parse("hospital-b.invalid").expect("a domain");
    assert_eq!(material.bundle(&stranger), None);
}

#[tokio::test]
async fn a_rotated_svid_arrives_while_the_call_stays_open() {
    let scene = Scene::new();
    let mut watch = scene.started().await.watch();
    let rotated = OfferedSvid::from_pki(&scene.pki, RECEIVER);
    scene.agent.rotate(rotated.clone());
    let material = change(&mut watch).await.expect("the agent has given something");
    assert_eq!((material.chain.clone(), material.key.to_vec()), (rotated.chain, rotated.key));
    assert_eq!(scene.agent.calls(), 1);
}

#[tokio::test]
async fn what_an_answer_no_longer_names_is_gone() {
    let scene = Scene::new();
    let mut watch = scene.started().await.watch();
    scene.agent.withdraw("hospital-a.invalid");
    let material = change(&mut watch).await.expect("the agent has given something");
    assert_eq!(domains(&material), ["gateway.invalid"]);
}

#[tokio::test]
async fn a_federated_domain_with_an_empty_bundle_is_named_without_a_root() {
    let scene = Scene::new();
    let mut watch = scene.started().await.watch();
    scene.agent.amend(|offer| offer.federated[0].1.clear());
    let material = change(&mut watch).await.expect("the agent has given something");
    let domain = model::TrustDomain::parse("hospital-a.invalid").expect("a domain");
    assert_eq!(material.bundle(&domain), Some([].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_agent_is_away_its_last_answer_stays_in_force_and_it_is_found_when_it_is_back() {
    let mut scene = Scene::new();
    let workload = scene.started().await;
    let (mut watch, before) = (workload.watch(), workload.material());
    scene.agent.go_away();
    eventually("the call has broken", || (scene.agent.open_calls() == 0).then_some(()));
    assert_eq!(workload.material(), before);
    let rotated = OfferedSvid::from_pki(&scene.pki, RECEIVER);
    scene.agent.rotate(rotated.clone());
    let age = workload.age();
    scene.agent.come_back();
    let material = change(&mut watch).await.expect("the agent has given something");
    assert_eq!(material.chain, rotated.chain);
    assert!(workload.age() < age + PACE.answer, "the age is that of the last answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_changes_nothing_is_no_news() {
    let mut scene = Scene::new();
    let workload = scene.started().await;
    scene.agent.come_back();
    eventually("it was asked again", || (scene.agent.calls() == 2).then_some(()));
    scene.agent.withdraw("hospital-a.invalid");
    let material = change(&mut workload.watch()).await.expect("the agent has given something");
    // The first change that is seen is the withdrawal, and not the answer before it.
    assert_eq!(domains(&material), ["gateway.invalid"]);
}

#[tokio::test]
async fn an_agent_that_says_no_withdraws_what_it_gave_until_it_says_yes() {
    let scene = Scene::new();
    let workload = scene.started().await;
    let (mut watch, before) = (workload.watch(), workload.material());
    scene.agent.deny();
    assert_eq!(change(&mut watch).await, None);
    assert_eq!(workload.material(), None);
    let offer = Offer::of(scene.shown.clone());
    scene.agent.offer(offer.federated_with("hospital-a.invalid", scene.pki.authority("hospital-a.invalid").pem()));
    assert_eq!(change(&mut watch).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_away_after_saying_no_gives_nothing_back() {
    let mut scene = Scene::new();
    let mut watch = scene.started().await.watch();
    scene.agent.deny();
    assert_eq!(change(&mut watch).await, None);
    scene.agent.go_away();
    let calls = scene.agent.calls();
    scene.agent.come_back();
    eventually("it was asked again", || (scene.agent.calls() > calls).then_some(()));
    assert_eq!(*watch.borrow(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_standard_changes_nothing() {
    let scene = Scene::new();
    let workload = scene.started().await;
    let before = workload.material();
    for (name, broken) in [
        ("no SVID", Offer::default()),
        ("no bundle", Offer::of(OfferedSvid { bundle: Vec::new(), ..scene.shown.clone() })),
        ("no key", Offer::of(OfferedSvid { key: Vec::new(), ..scene.shown.clone() })),
        ("not a certificate", Offer::of(OfferedSvid { chain: vec![vec![0x30, 3, 1, 1, 0]], ..scene.shown.clone() })),
        ("an authority as leaf", {
            let chain = scene.bundle("gateway.invalid");
            Offer::of(OfferedSvid { chain, ..scene.shown.clone() })
        }),
        (
            "a broken name",
            Offer {
                federated: vec![("spiffe://Hospital A".to_owned(), scene.bundle("hospital-a.invalid"))],
                ..Offer::of(scene.shown.clone())
            },
        ),
    ] {
        let calls = scene.agent.calls();
        scene.agent.offer(broken);
        // A broken answer ends the call; the next call gets it too.
        eventually(name, || (scene.agent.calls() > calls + 1).then_some(()));
        assert_eq!(workload.material(), before, "{name}");
    }
    let mut watch = workload.watch();
    let rotated = OfferedSvid::from_pki(&scene.pki, RECEIVER);
    scene.agent.offer(Offer::of(rotated.clone()));
    assert_eq!(change(&mut watch).await.expect("a good answer").chain, rotated.chain);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_is_called_again() {
    let scene = Scene::new();
    let pace = Pace { refresh: Duration::from_millis(20), ..PACE };
    let patience = Duration::from_secs(20);
    let workload = Workload::start_at(pace, &scene.endpoint(), None, patience).await.expect("the agent answers");
    scene.agent.fall_silent();
    let calls = scene.agent.calls();
    eventually("it was asked again", || (scene.agent.calls() > calls).then_some(()));
    assert!(workload.material().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_listened_to_for_nobody() {
    let scene = Scene::new();
    let workload = scene.started().await;
    assert_eq!(scene.agent.open_calls(), 1);
    drop(workload);
    eventually("the call has ended", || (scene.agent.open_calls() == 0).then_some(()));
}

#[tokio::test]
async fn the_first_svid_is_ours_unless_a_hint_chooses_another() {
    let scene = Scene::new();
    let svid = |hint: &str| OfferedSvid::from_pki(&scene.pki, HOSPITAL_A).with_hint(hint);
    let (internal, again) = (svid("internal"), svid("internal"));
    scene.agent.amend(|offer| offer.svids.extend([internal.clone(), again]));
    let hinted = start(&scene.endpoint(), Some("internal")).await.expect("the agent answers");
    // The first of two with the same hint counts.
    assert_eq!(hinted.material().expect("given").chain, internal.chain);
    assert_eq!(scene.started().await.material().expect("given").chain, scene.shown.chain);
    let says = problem(&scene.endpoint(), Some("external")).await;
    assert!(says.contains("external") && says.contains(HOSPITAL_A) && says.contains("internal"), "{says}");
}

#[tokio::test]
async fn an_svid_with_our_hint_that_is_gone_must_no_longer_be_used() {
    let scene = Scene::new();
    scene.agent.amend(|offer| offer.svids[0].hint = "receiver".to_owned());
    let workload = start(&scene.endpoint(), Some("receiver")).await.expect("the agent answers");
    scene.agent.amend(|offer| offer.svids[0].hint = "other".to_owned());
    assert_eq!(change(&mut workload.watch()).await, None);
}

#[tokio::test]
async fn a_start_without_an_agent_says_what_to_check() {
    let scene = Scene::new();
    let at = |path: &Path| Endpoint::Unix(path.to_owned());
    let says = problem(&at(&scene.dir.path().join("missing.sock")), None).await;
    assert!(says.contains("missing.sock") && says.contains("no such socket"), "{says}");

    let abandoned = scene.dir.path().join("abandoned.sock");
    drop(std::os::unix::net::UnixListener::bind(&abandoned).expect("the directory is ours"));
    let says = problem(&at(&abandoned), None).await;
    assert!(says.contains("nobody listens"), "{says}");

    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let says = problem(&Endpoint::Loopback(port), None).await;
    assert!(says.contains("nobody listens"), "{says}");

    scene.agent.deny();
    let says = problem(&scene.endpoint(), None).await;
    assert!(says.contains("registration entry") && says.contains("no identity issued"), "{says}");

    scene.agent.fall_silent();
    let short = Pace { answer: Duration::from_millis(20), first_pause: Duration::from_secs(60), ..PACE };
    let says = problem_at(short, &scene.endpoint(), None).await;
    assert!(says.contains("says nothing"), "{says}");
}

#[tokio::test]
async fn an_agent_that_starts_after_us_is_waited_for() {
    let mut scene = Scene::new();
    scene.agent.go_away();
    let endpoint = scene.endpoint();
    let starting = tokio::spawn(async move { start(&endpoint, None).await.map(|workload| workload.material()) });
    scene.agent.come_back();
    let material = starting.await.expect("no panic").expect("the agent answers").expect("given");
    assert_eq!(material.chain, scene.shown.chain);
}

#[test]
fn material_does_not_print_its_key() {
    let key = zeroize::Zeroizing::new(vec![217, 218, 219]);
    let domain = model::TrustDomain::parse("gateway.invalid").expect("a domain");
    let material = Arc::new(Material { chain: vec![vec![1]], key, bundles: vec![(domain, vec![vec![2]])] });
    let printed = format!("{material:?}");
    assert!(printed.contains("gateway.invalid") && !printed.contains("217"), "{printed}");
}
