//! Our own SVID: rotated under load, renamed into place or swapped as Kubernetes does, at once on SIGHUP.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use gateway::pki::{Authority, Issued, SVID_LIFETIME, write_pair};
use model::{SpiffeId, TrustDomain};
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};
use testkit::pki::RECEIVER;

use super::{A_BUNDLE, A_DOMAIN, A_ID, AN_HOUR, B_ID, Site, assert_ended, hang_up, sender, stores, svid, swap_link};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS};

/// A development authority that nobody knows yet.
fn authority(domain: &str) -> Authority {
    let domain = TrustDomain::parse(domain).expect("a valid name");
    Authority::create(domain, SystemTime::now()).expect("a development authority can be made")
}

fn issue(authority: &Authority, id: &str) -> Issued {
    let id = SpiffeId::parse(id).expect("a valid ID");
    authority.issue(&id, SVID_LIFETIME, SystemTime::now()).expect("an SVID can be made")
}

fn write(issued: &Issued, dir: &Path) {
    let id = SpiffeId::parse(RECEIVER).expect("a valid ID");
    write_pair(issued, &id, &dir.join("receiver.pem"), &dir.join("receiver.key")).expect("ours");
}

/// An association of a caller who takes no receiver but one under this authority.
fn caller(house: &House, issued: &Issued, authority: &Authority) -> Option<Peer> {
    let mut peer = Peer::connect(house.addr(), &Credentials::of(issued, authority.pem())).ok()?;
    let answer = peer.associate(CALLED, A, sample_contexts());
    matches!(answer, Associated::Accepted(_)).then_some(peer)
}

#[test]
fn our_svid_is_rotated_under_load_and_only_the_next_caller_notices() {
    const SENDERS: u64 = 3;
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    let house = site.house(&[]);
    let a = svid(&house, A_ID);
    let (over, stored) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let senders: Vec<_> = (1..=SENDERS)
            .map(|number| {
                let mut peer = sender(&house, &a, A_ID);
                let (over, stored) = (&over, &stored);
                scope.spawn(move || {
                    for slice in 1.. {
                        stores(&mut peer, number * 1_000_000 + slice);
                        stored.fetch_add(1, Ordering::Relaxed);
                        if over.load(Ordering::Relaxed) {
                            return peer.release();
                        }
                    }
                    unreachable!("there are numbers enough")
                })
            })
            .collect();
        for _ in 0..4 {
            let newer = authority("gateway.invalid");
            assert!(caller(&house, &a, &newer).is_none(), "nobody shows it yet");
            write(&issue(&newer, RECEIVER), &site.path("certs"));
            let mut next = eventually("the new SVID is shown", || caller(&house, &a, &newer));
            assert_eq!(next.echo(), SUCCESS);
            next.release();
            let before = stored.load(Ordering::Relaxed);
            let more = || (stored.load(Ordering::Relaxed) > before + SENDERS).then_some(());
            eventually("everybody stores on", more);
        }
        over.store(true, Ordering::Relaxed);
        for sender in senders {
            assert_eq!(sender.join().expect("every instance was stored"), Outcome::Released);
        }
    });
    assert!(house.audit().iter().all(|line| line["decision"] != "terminate"), "nobody was disturbed");
}

/// The directory of one version, as Kubernetes mounts a Secret: our SVID, and hospital-a's bundle.
fn version(site: &Site, name: &str, own: &Issued, bundle: &str) {
    let dir = site.path("mount").join(name);
    fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("a.pem"), bundle)).expect("ours");
    write(own, &dir);
}

#[test]
fn a_directory_that_is_swapped_as_kubernetes_does_is_taken_whole_and_at_once_on_sighup() {
    let site = Site::trusting("bundle = \"mount/a.pem\"");
    let text = site.read("gateway.toml").replace("certs/receiver", "mount/receiver");
    site.put("gateway.toml", text);
    let own = Authority::load(&site.path("certs/gateway.invalid")).expect("it was made");
    version(&site, "..1", &issue(&own, RECEIVER), &site.read(A_BUNDLE));
    for name in ["receiver.pem", "receiver.key", "a.pem"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), site.path("mount").join(name)).expect("ours");
    }
    let data = site.path("mount").join("..data");
    swap_link(&data, Path::new("..1"));
    // Nobody looks by himself.
    let hours = model::span::format(AN_HOUR * 3);
    let slow = [("PORTCULLIS__ACCESS__POLL", "1h"), ("PORTCULLIS__ACCESS__MAX_STALENESS", hours.as_str())];
    let house = site.house(&slow);
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let (mut live, mut other) = (sender(&house, &a, A_ID), sender(&house, &b, B_ID));
    stores(&mut live, 1);

    let (newer, newer_a) = (authority("gateway.invalid"), authority(A_DOMAIN));
    version(&site, "..2", &issue(&newer, RECEIVER), newer_a.pem());
    swap_link(&data, Path::new("..2"));
    hang_up(&house);
    assert_ended(&house, &mut live, &a, "bundle_changed");
    let mut after = caller(&house, &issue(&newer_a, A_ID), &newer).expect("both are in force at the same moment");
    let instance = Instance::numbered(2);
    assert_eq!(after.store(&instance.claim(), &instance.data_set()), SUCCESS);
    stores(&mut other, 3);
}
