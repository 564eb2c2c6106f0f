//! Promise 1: "Success is said only after the bytes and the index row are durable. Kill any process at any point: nothing
//! acknowledged is missing."

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use model::Digest;
use testkit::house::House;
use testkit::peer::{Associated, Credentials, Peer, sample_contexts};

use crate::support::archive::{assert_objects_are_whole, assert_rows_have_objects, incoming, rows, study};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, house_in};

/// As the issue asks.
const ROUNDS: u64 = 50;
/// Associations that store while the process dies.
const SENDERS: u64 = 4;

/// What a sender was told Success for.
#[derive(Debug, Clone)]
struct Acknowledged {
    study: String,
    uid: String,
    digest: Digest,
}

#[test]
fn success_is_said_only_after_bytes_and_index_are_durable() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut house = house_in(home.path(), &["--quiet", "60s"], &[]);
    let mut random = Random::new();
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let (told, news) = channel();
        let credentials = Arc::new(Credentials::of_house(&house, "hospital-a"));
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| send(house.addr(), &credentials, round * SENDERS + sender, &told)).collect();
        drop(told);
        let mut acknowledged = until_a_random_moment(&news, &mut random);
        house.kill();
        senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
        acknowledged.extend(news);

        house = house.restart();
        assert_eq!(incoming(home.path()), Vec::<std::path::PathBuf>::new(), "round {round}: leftovers are removed");
        assert!(!acknowledged.is_empty(), "round {round}: something was acknowledged");
        assert_held(home.path(), &acknowledged, &format!("round {round}, seed {}", random.seed));
        all.extend(acknowledged);
    }
    assert_everything_is_whole(home.path(), &house, &all);
}

/// Stores instances of one study until the receiver is gone: mostly small ones, some of megabytes.
fn send(addr: SocketAddr, credentials: &Arc<Credentials>, number: u64, told: &Sender<Acknowledged>) -> JoinHandle<()> {
    let (credentials, told) = (credentials.clone(), told.clone());
    spawn(move || {
        let Ok(mut peer) = Peer::connect(addr, &credentials) else { return };
        let Associated::Accepted(_) = peer.associate(CALLED, A, sample_contexts()) else { return };
        for slice in 1.. {
            let size = if slice % 8 == 3 { 2 << 20 | (slice as usize % 4) << 20 } else { 20 << 10 };
            let instance = Instance::of_study(1000 + number, slice).with_pixels(size, number << 32 | slice);
            let data_set = instance.data_set();
            if peer.store(&instance.claim(), &data_set) != SUCCESS {
                return;
            }
            let digest = Digest::of(&data_set);
            // Nobody listens any more when the test has failed already.
            let _ = told.send(Acknowledged { study: instance.study, uid: instance.uid, digest });
        }
    })
}

/// Collects until a number of acknowledgements that was drawn by lot has come, and then a little longer or not.
fn until_a_random_moment(news: &Receiver<Acknowledged>, random: &mut Random) -> Vec<Acknowledged> {
    let most = usize::try_from(1 + random.below(40)).expect("a small number");
    let mut acknowledged: Vec<_> = news.iter().take(most).collect();
    acknowledged.extend(news.recv_timeout(Duration::from_micros(random.below(8_000))));
    acknowledged
}

fn assert_held(dir: &Path, acknowledged: &[Acknowledged], when: &str) {
    let studies: BTreeSet<_> = acknowledged.iter().map(|one| one.study.as_str()).collect();
    let rows: Vec<_> = studies.into_iter().flat_map(|uid| study(dir, "hospital-a", uid)).collect();
    let held: BTreeMap<_, _> = rows.iter().map(|row| (row.held.name.instance.as_str(), row.held.digest)).collect();
    for Acknowledged { uid, digest, .. } in acknowledged {
        assert_eq!(held.get(uid.as_str()), Some(digest), "{when}: {uid} was acknowledged and is in the index");
    }
    assert_rows_have_objects(dir, &rows);
}

fn assert_everything_is_whole(dir: &Path, house: &House, acknowledged: &[Acknowledged]) {
    assert_held(dir, acknowledged, "at the end");
    let rows = rows(dir);
    assert_rows_have_objects(dir, &rows);
    assert!(rows.len() >= acknowledged.len());
    assert!(assert_objects_are_whole(dir).len() >= rows.len());
    assert!(!house.output().iter().any(|line| line.contains("panicked")), "no panic");
}

/// A xorshift generator (Marsaglia 2003) with a seed that a failure can tell.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = u64::from(now.subsec_nanos()) | 1;
        Self { seed, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % limit
    }
}
