//! A study with an instance in flight is still arriving, whenever that instance began and however slowly it comes: the first
//! event has it.
//!
//! How long "quiet" is, is measured with another study: one that began later has fallen quiet, so the one in question has had
//! all the time that it would have needed. Only the sender is paced; no result is waited for with a clock.

use std::time::{Duration, Instant};

use model::Timestamp;
use serde_json::Value;
use testkit::house::{House, eventually};
use testkit::peer::Peer;

use crate::support::instance::Instance;
use crate::support::{SUCCESS, associated, audited, house_with, within};

/// Bytes sent at a time by a sender that is slow.
const SMALL: usize = 512;
/// For the end of a study of [`LONG`], on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

fn events_of(house: &House, study: &str) -> Vec<Value> {
    house.events().into_iter().filter(|event| event["study"] == study).collect()
}

/// A study of one instance that begins now, from another association.
fn store_other(house: &House, number: u64) -> Instance {
    let other = Instance::numbered(number);
    assert_eq!(associated(house).store(&other.claim(), &other.data_set()), SUCCESS);
    other
}

/// An instance of which the sender has sent the beginning, into a study that holds a whole one.
struct InFlight {
    peer: Peer,
    context: u8,
    instance: Instance,
    rest: Vec<u8>,
}

impl InFlight {
    /// Stores a first instance, and begins a second one `after` that.
    fn begin(house: &House, study: u64, after: Duration) -> Self {
        let (whole, instance) = (Instance::of_study(study, 1), Instance::of_study(study, 2).with_pixels(1 << 20, 2));
        let mut peer = associated(house);
        let first = Instant::now();
        assert_eq!(peer.store(&whole.claim(), &whole.data_set()), SUCCESS);
        // The sender takes its time.
        std::thread::sleep(after.saturating_sub(first.elapsed()));
        let context = peer.begin_store(&instance.claim()).expect("the receiver listens");
        let mut begun = Self { peer, context, rest: instance.data_set(), instance };
        // All UIDs are in it: from here on it is known whose study this is.
        begun.send_some();
        begun
    }

    fn send_some(&mut self) {
        let piece: Vec<u8> = self.rest.drain(..SMALL).collect();
        self.peer.send_fragment(self.context, &piece, false).expect("the receiver listens");
    }

    /// Sends what is left. The study's one event must have both instances, and be later than the second one's Success.
    fn finish(mut self, house: &House) {
        let study = &self.instance.study;
        assert_eq!(events_of(house, study), Vec::<Value>::new(), "it is still arriving");
        self.peer.send_data(self.context, self.rest.as_slice()).expect("the receiver listens");
        assert_eq!(self.peer.outcome(), SUCCESS);
        let event = within(PATIENCE, "the study is stable", || events_of(house, study).pop());
        assert_eq!((&event["generation"], &event["instances"]), (&1.into(), &2.into()), "{event}");
        let stored = audited(house, &[("reason", "stored"), ("instance", &self.instance.uid)]);
        assert!(moment(&event["occurred_at"]) > moment(&stored["ts"]), "{event} {stored}");
        // And when a study that began after the event is stable, nothing more has come.
        let other = store_other(house, 1_000);
        within(PATIENCE, "another study is stable", || events_of(house, &other.study).pop());
        assert_eq!(events_of(house, study).len(), 1);
    }
}

fn moment(value: &Value) -> Timestamp {
    Timestamp::parse(value.as_str().expect("text")).expect("RFC 3339")
}

/// Long enough that a sender can begin "shortly before the end of it" on a loaded machine.
const LONG: Duration = Duration::from_secs(6);
/// Less than a quarter of it is left.
const LATE: Duration = Duration::from_millis(5_200);

/// Fails if an arrival is noted at the commit, and else only when a piece comes a quarter of the quiet time after the
/// beginning: here that is after the study was due, by more than one round of the stabiliser. The first event then has one
/// instance.
#[test]
fn an_instance_that_begins_just_before_the_quiet_time_ends_and_comes_slowly_keeps_the_study_open() {
    let house = house_with(&["--quiet", "6s"], &[]);
    let mut slow = (1..=3)
        .find_map(|study| {
            let first = Instant::now();
            let slow = InFlight::begin(&house, study, LATE);
            // On a machine so busy that we came too late, the study is rightly stable, and another is tried.
            (first.elapsed() < LATE + (LONG - LATE) / 2).then_some(slow)
        })
        .expect("one of three is begun in time");
    let other = store_other(&house, 100);
    within(PATIENCE, "a study that began later is stable", || {
        slow.send_some();
        (!events_of(&house, &other.study).is_empty()).then_some(())
    });
    slow.finish(&house);
}

/// Fails if an arrival is noted only when bytes arrive: for longer than the quiet time there are none.
#[test]
fn a_sender_that_pauses_for_longer_than_quiet_in_the_middle_of_an_instance_keeps_the_study_open() {
    let house = house_with(&["--quiet", "1s"], &[]);
    let slow = InFlight::begin(&house, 1, Duration::ZERO);
    // Not a byte, twice as long as a study needs to become stable.
    for number in [100, 101] {
        let other = store_other(&house, number);
        eventually("a study that began later is stable", || events_of(&house, &other.study).pop());
    }
    slow.finish(&house);
}
