//! "Own SVID and bundles from a SPIFFE agent": the real receiver against an agent that speaks the Workload API.

use std::path::Path;
use std::process::Output;

use gateway::pki::{Issued, SVID_LIFETIME};
use model::SpiffeId;
use tempfile::TempDir;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Credentials, NoConnection, Outcome, Peer, sample_contexts};
use testkit::pki::{HOSPITAL_A, HOSPITAL_B, Pki, RECEIVER};
use testkit::workload::{Agent, Offer, OfferedSvid};

use crate::support::instance::Instance;
use crate::support::{A, B, CALLED, SUCCESS, audited, portcullis, said};

const A_DOMAIN: &str = "hospital-a.invalid";
const B_DOMAIN: &str = "hospital-b.invalid";

/// Both hospitals may do everything; only hospital-a's domain is trusted unless a test says more.
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
[[row]]
id = "hospital-b"
effect = "allow"
identity = "spiffe://hospital-b.invalid/forwarder"
tenant = "hospital-b"
called_aets = ["PORTCULLIS"]
calling_aets = ["HOSPITAL_B"]
operations = ["echo", "store"]
sop_classes = ["*"]
transfer_syntaxes = ["*"]
owner = "tests"
"#;

/// An agent that gives the receiver's SVID and federates with both hospitals, and what a receiver needs to ask it.
struct Site {
    home: TempDir,
    pki: Pki,
    agent: Agent,
}

impl Site {
    /// Whose receiver trusts these domains, by what the agent says about them.
    fn trusting(domains: &[&str]) -> Self {
        let (home, pki) = (tempfile::tempdir().expect("a temporary directory"), Pki::new());
        let offer = Offer::of(OfferedSvid::from_pki(&pki, RECEIVER))
            .federated_with(A_DOMAIN, pki.authority(A_DOMAIN).pem())
            .federated_with(B_DOMAIN, pki.authority(B_DOMAIN).pem());
        let agent = Agent::start(&home.path().join("agent.sock"), offer);
        let site = Self { home, pki, agent };
        let trust: String = domains.iter().map(|domain| format!("[[trust]]\ndomain = \"{domain}\"\n")).collect();
        let address = site.agent.address();
        let gateway = format!(
            "[receiver]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [identity]\nworkload_api = \"{address}\"\n{trust}\
             [access]\ntable = \"access.toml\"\npoll = \"1s\"\n[archive]\ndir = \".\"\n[audit]\nfile = \"audit.jsonl\"\n"
        );
        site.write("gateway.toml", &gateway);
        site.write("access.toml", TABLE);
        site
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).expect("the directory is ours");
    }

    fn config(&self) -> std::path::PathBuf {
        self.home.path().join("gateway.toml")
    }

    fn house(&self) -> House {
        crate::support::binary();
        let dir = Some(self.home.path().to_owned());
        House::start(Options { dir, config: Some(self.config()), ..Options::default() })
    }

    fn check(&self) -> Output {
        portcullis(&["receive", "--check", "--config", path(&self.config())])
    }

    /// A sender that shows this and expects a receiver vouched for by this PKI.
    fn credentials(&self, issued: &Issued) -> Credentials {
        Credentials::of(issued, self.pki.authority("gateway.invalid").pem())
    }

    fn sender(&self, house: &House, id: &str, calling: &str) -> Peer {
        let credentials = self.credentials(&self.pki.issue(id));
        associated(house, &credentials, calling).expect("a sender of a trusted domain is let in")
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a name in ASCII")
}

/// `None` when the receiver ended the connection without a word of DICOM, or its certificate was not the expected one.
fn associated(house: &House, credentials: &Credentials, calling: &str) -> Option<Peer> {
    let mut peer = match Peer::connect(house.addr(), credentials) {
        Ok(peer) => peer,
        Err(NoConnection::Closed(_) | NoConnection::Receiver(_)) => return None,
    };
    match peer.associate(CALLED, calling, sample_contexts()) {
        Associated::Accepted(_) => Some(peer),
        Associated::Closed => None,
        other => panic!("a row is there, so it is a question of certificates: {other:?}"),
    }
}

fn stores(peer: &mut Peer, number: u64) {
    let instance = Instance::numbered(number);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
}

fn ended(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Aborted(_) | Outcome::Closed)
}

#[test]
fn an_agent_gives_the_receiver_its_svid_and_its_bundles() {
    let site = Site::trusting(&[A_DOMAIN, B_DOMAIN]);
    let house = site.house();
    stores(&mut site.sender(&house, HOSPITAL_A, A), 1);
    stores(&mut site.sender(&house, HOSPITAL_B, B), 2);
}

#[test]
fn a_domain_that_the_agent_federates_with_is_trusted_only_if_it_is_listed() {
    let site = Site::trusting(&[A_DOMAIN]);
    let house = site.house();
    stores(&mut site.sender(&house, HOSPITAL_A, A), 1);
    let other = site.credentials(&site.pki.issue(HOSPITAL_B));
    assert!(associated(&house, &other, B).is_none());
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "td_unknown")]);
}

#[test]
fn a_federated_bundle_vouches_for_its_own_domain_and_no_other() {
    let site = Site::trusting(&[A_DOMAIN, B_DOMAIN]);
    let house = site.house();
    // hospital-b's authority says that somebody is hospital-a's forwarder.
    let id = SpiffeId::parse(HOSPITAL_A).expect("valid");
    let forged = site.pki.authority(B_DOMAIN).issue(&id, SVID_LIFETIME, site.pki.now()).expect("it can be made");
    assert!(associated(&house, &site.credentials(&forged), A).is_none());
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "chain_untrusted")]);
}

#[test]
fn a_rotated_svid_is_shown_to_the_next_caller_and_associations_go_on() {
    let site = Site::trusting(&[A_DOMAIN]);
    let house = site.house();
    let mut before = site.sender(&house, HOSPITAL_A, A);
    // Under a new authority, so that a caller can tell them apart.
    let newer = Pki::new();
    site.agent.rotate(OfferedSvid::from_pki(&newer, RECEIVER));
    let issued = site.pki.issue(HOSPITAL_A);
    let credentials = Credentials::of(&issued, newer.authority("gateway.invalid").pem());
    let mut after = eventually("the new SVID is shown", || associated(&house, &credentials, A));
    stores(&mut after, 1);
    stores(&mut before, 2);
}

#[test]
fn a_bundle_that_the_agent_withdraws_ends_the_associations_that_it_vouched_for() {
    let site = Site::trusting(&[A_DOMAIN, B_DOMAIN]);
    let house = site.house();
    let mut withdrawn = site.sender(&house, HOSPITAL_A, A);
    let mut other = site.sender(&house, HOSPITAL_B, B);
    site.agent.withdraw(A_DOMAIN);
    assert!(ended(withdrawn.outcome()), "without a word from the peer");
    assert!(associated(&house, &site.credentials(&site.pki.issue(HOSPITAL_A)), A).is_none());
    stores(&mut other, 1);
}

#[test]
fn a_bundle_that_cannot_be_used_is_nobodys_and_keeps_no_other_in_force() {
    let site = Site::trusting(&[A_DOMAIN, B_DOMAIN]);
    let house = site.house();
    let (mut a, mut b) = (site.sender(&house, HOSPITAL_A, A), site.sender(&house, HOSPITAL_B, B));
    site.agent.amend(|offer| {
        // hospital-a's roots under hospital-b's name: they say themselves that they are not hospital-b's.
        offer.federated.retain(|(domain, _)| domain.ends_with(A_DOMAIN));
        offer.federated[0].0 = format!("spiffe://{B_DOMAIN}");
    });
    assert!(ended(a.outcome()), "hospital-a is not named any more");
    assert!(ended(b.outcome()), "hospital-b has no root that could be its own (V-16)");
}

#[test]
fn while_the_agent_is_away_the_receiver_goes_on_and_takes_what_is_new_when_it_is_back() {
    let mut site = Site::trusting(&[A_DOMAIN]);
    let house = site.house();
    let mut before = site.sender(&house, HOSPITAL_A, A);
    site.agent.go_away();
    house.wait_for("the line about the agent", |lines| {
        lines.iter().any(|line| line.contains("SPIFFE agent")).then_some(())
    });
    stores(&mut before, 1);
    stores(&mut site.sender(&house, HOSPITAL_A, A), 2);
    site.agent.withdraw(A_DOMAIN);
    site.agent.come_back();
    assert!(ended(before.outcome()), "the agent is back and no longer vouches for hospital-a");
}

#[test]
fn an_agent_that_says_no_closes_the_door_until_it_says_yes() {
    let site = Site::trusting(&[A_DOMAIN]);
    let house = site.house();
    let mut before = site.sender(&house, HOSPITAL_A, A);
    site.agent.deny();
    assert!(ended(before.outcome()), "what the agent gave must no longer be used");
    let credentials = site.credentials(&site.pki.issue(HOSPITAL_A));
    assert!(associated(&house, &credentials, A).is_none());
    let offer = Offer::of(OfferedSvid::from_pki(&site.pki, RECEIVER));
    site.agent.offer(offer.federated_with(A_DOMAIN, site.pki.authority(A_DOMAIN).pem()));
    let mut after = eventually("the door is open again", || associated(&house, &credentials, A));
    stores(&mut after, 1);
}

#[test]
fn an_answer_that_breaks_the_standard_leaves_the_receiver_as_it_was() {
    let site = Site::trusting(&[A_DOMAIN]);
    let house = site.house();
    let calls = site.agent.calls();
    site.agent.amend(|offer| offer.svids[0].bundle.clear());
    eventually("the receiver has seen it", || (site.agent.calls() > calls).then_some(()));
    stores(&mut site.sender(&house, HOSPITAL_A, A), 1);
}

#[test]
fn a_check_asks_the_agent_and_says_who_we_are() {
    let site = Site::trusting(&[A_DOMAIN]);
    let output = site.check();
    assert!(output.status.success() && said(&output).contains(RECEIVER), "{}", said(&output));
}

#[test]
fn a_receiver_that_the_agent_does_not_know_says_what_to_check() {
    let site = Site::trusting(&[A_DOMAIN]);
    site.agent.deny();
    let output = site.check();
    assert!(!output.status.success() && said(&output).contains("registration entry"), "{}", said(&output));
}

#[test]
fn an_agent_elsewhere_is_not_asked() {
    let site = Site::trusting(&[A_DOMAIN]);
    let text = std::fs::read_to_string(site.config()).expect("it was written");
    site.write("gateway.toml", &text.replace(&site.agent.address(), "tcp:10.0.0.7:8081"));
    let output = site.check();
    assert!(!output.status.success() && said(&output).contains("loopback"), "{}", said(&output));
    assert_eq!(site.agent.calls(), 0);
}

#[test]
fn without_files_and_without_an_address_the_agent_of_the_environment_is_asked() {
    let site = Site::trusting(&[A_DOMAIN]);
    let text = std::fs::read_to_string(site.config()).expect("it was written");
    let line = format!("workload_api = \"{}\"\n", site.agent.address());
    site.write("gateway.toml", &text.replace(&line, ""));
    let output = site.check();
    assert!(!output.status.success() && said(&output).contains("SPIFFE_ENDPOINT_SOCKET"), "{}", said(&output));
    let mut check = std::process::Command::new(crate::support::binary());
    check.args(["receive", "--check", "--config", path(&site.config())]);
    let output = check.env("SPIFFE_ENDPOINT_SOCKET", site.agent.address()).output().expect("the binary starts");
    assert!(output.status.success(), "{}", said(&output));
}
