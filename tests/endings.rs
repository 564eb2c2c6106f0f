//! How associations end that have a good right to go on, and how the gateway ends: age (CV-8), silence and slowness (CV-13),
//! SIGTERM (CV-14). A dead watcher (CV-10) is a test of `gateway/src/receive.rs`, because nothing outside can kill one.

use std::io::Write;

use dimse::Abort;
use model::sop_class;
use serde_json::Value;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Outcome, Peer, plain, sample_contexts};

use crate::support::archive::{incoming, rows};
use crate::support::clock::Clock;
use crate::support::instance::Instance;
use crate::support::{
    B, Bystander, CALLED, SUCCESS, admin_page, associated, audited, connect, house, house_with, portcullis, said,
};

/// PS3.8 §9.3.8: the receiver itself wants to end it.
const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });
/// Refused for now: out of resources.
const LATER: Outcome = Outcome::Status(0xA700);

/// An instance of which the sender has sent the beginning.
struct Half {
    instance: Instance,
    context: u8,
    sent: usize,
}

impl Half {
    fn of(peer: &mut Peer, number: u64) -> Self {
        Self::after(peer, number, 100_000, 50_000)
    }

    /// After `sent` of more than `length` bytes.
    fn after(peer: &mut Peer, number: u64, length: usize, sent: usize) -> Self {
        let instance = Instance::numbered(number).with_pixels(length, number);
        let context = peer.begin_store(&instance.claim()).expect("the receiver listens");
        let data_set = instance.data_set();
        for piece in data_set[..sent].chunks(50_000) {
            peer.send_fragment(context, piece, false).expect("the receiver listens");
        }
        Self { instance, context, sent }
    }

    fn finish(&self, peer: &mut Peer) {
        let data_set = self.instance.data_set();
        peer.send_data(self.context, &data_set[self.sent..]).expect("the receiver listens");
    }
}

/// Waits for the end of an association, with its reason.
fn ended(house: &House, reason: &str) -> Value {
    audited(house, &[("event", "association"), ("decision", "terminate"), ("reason", reason)])
}

fn assert_nothing_kept(house: &House) {
    assert_eq!(rows(house.dir()).len(), 0);
    eventually("the upload is removed", || incoming(house.dir()).is_empty().then_some(()));
}

#[test]
fn an_association_that_is_too_old_ends_between_two_messages_and_what_is_in_flight_is_kept() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__MAX_ASSOCIATION_AGE", "2s")]);
    let (mut idle, mut busy) = (associated(&house), associated(&house));
    let half = Half::of(&mut busy, 1);
    assert_eq!(idle.outcome(), ENDED, "without a word from the peer");
    ended(&house, "max_age");
    // It is as old, and in the middle of an instance.
    let mut next = associated(&house);
    half.finish(&mut busy);
    assert_eq!(busy.outcome(), SUCCESS, "the instance in flight is finished first");
    assert_eq!(busy.outcome(), ENDED, "and then it is over");
    assert_eq!(next.echo(), SUCCESS, "the sender may come again");
    assert_eq!(rows(house.dir()).len(), 1);
}

#[test]
fn an_instance_that_outlasts_the_grace_is_cut_off() {
    let age = [("PORTCULLIS__DICOM__MAX_ASSOCIATION_AGE", "1s"), ("PORTCULLIS__DICOM__BOUNDARY_GRACE", "1s")];
    let house = house_with(&[], &age);
    let mut peer = associated(&house);
    Half::of(&mut peer, 1);
    assert_eq!(peer.outcome(), ENDED);
    ended(&house, "max_age");
    assert_nothing_kept(&house);
}

#[test]
fn an_association_that_says_nothing_between_two_messages_ends() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__IDLE", "1s")]);
    let mut peer = associated(&house);
    assert_eq!(peer.echo(), SUCCESS);
    assert_eq!(peer.outcome(), ENDED);
    ended(&house, "idle");
}

#[test]
fn a_caller_whose_request_does_not_come_in_time_is_closed_without_a_word() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__ARTIM", "1s")]);
    let mut bystander = Bystander::of(&house);
    let (mut silent, mut half) = (connect(&house, "hospital-a"), connect(&house, "hospital-b"));
    // PS3.8 §9.3.2: the head of an A-ASSOCIATE-RQ, whose body never comes.
    half.send_raw(&[1, 0, 0, 0, 0, 200, 0, 1]).expect("the receiver listens");
    for peer in [&mut silent, &mut half] {
        assert_eq!(peer.read_to_end(), b"", "Sta2, AA-2: nothing is said");
    }
    let late = || house.audit().into_iter().filter(|line| line["reason"] == "artim").count();
    eventually("both are on record", || (late() == 2).then_some(()));
    bystander.still_served();
}

#[test]
fn a_sender_that_falls_silent_in_the_middle_of_an_instance_is_cut_off() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__STALL", "1s")]);
    let mut peer = associated(&house);
    Half::of(&mut peer, 1);
    assert_eq!(peer.outcome(), ENDED);
    ended(&house, "stalled");
    assert_nothing_kept(&house);
}

/// A minute passes on the receiver's clocks, and not on ours.
#[test]
fn a_sender_below_the_least_pace_is_cut_off_after_a_minute_and_one_above_it_goes_on() {
    let clock = Clock::ahead(0);
    // Silence is another clock's business.
    let house = {
        let stall = ("PORTCULLIS__DICOM__STALL".to_owned(), "10m".to_owned());
        let env = clock.env_of_every_clock().into_iter().chain([stall]).collect();
        House::start(Options { env, ..Options::default() })
    };
    let (mut slow, ..) = half_a_command(&house, &Instance::numbered(1));
    let mut fast = associated(&house);
    // 4 KiB/s are 240 KiB in a minute; the first 576 KiB go to the disk together.
    let half = Half::after(&mut fast, 2, 1_000_000, 700_000);
    eventually("what was sent has arrived", || (!incoming(house.dir()).is_empty()).then_some(()));
    clock.set(61);
    assert_eq!(slow.outcome(), ENDED);
    ended(&house, "slow");
    half.finish(&mut fast);
    assert_eq!(fast.outcome(), SUCCESS);
    assert_eq!(rows(house.dir()).len(), 1);
}

/// Waits until it takes nothing new.
fn draining(house: &House) {
    eventually("/readyz says so", || {
        let page = admin_page(house, "/readyz");
        (page.starts_with("HTTP/1.1 503") && page.ends_with("draining\n")).then_some(())
    });
}

/// A sender that has sent half of a C-STORE command, and the receiver has it.
fn half_a_command(house: &House, instance: &Instance) -> (Peer, u8, Vec<u8>) {
    const MESSAGE: u16 = 77;
    let mut peer = associated(house);
    let claim = instance.claim();
    let association = peer.association();
    let verification = association.contexts().iter().find(|context| context.class.as_str() == sop_class::VERIFICATION);
    let echo = association.echo_command(verification.expect("it was accepted").id, MESSAGE - 1);
    let context = association.accepted(&claim.class, &claim.transfer_syntax).expect("it was accepted");
    let command = association.store_command(context, MESSAGE, &claim);
    let (begun, rest) = command.split_at(command.len() / 2);
    // In one TLS record: who answers the C-ECHO has read what stands behind it.
    peer.send_raw(&[&echo, begun].concat()).expect("the receiver listens");
    assert_eq!(peer.outcome(), SUCCESS, "the C-ECHO");
    let rest = rest.to_vec();
    (peer, context, rest)
}

#[test]
fn on_sigterm_what_is_in_flight_is_finished_and_answered_and_nothing_new_is_taken() {
    let mut house = house();
    let (mut idle, mut busy) = (associated(&house), associated(&house));
    let half = Half::of(&mut busy, 1);
    let late = Instance::numbered(2);
    let (mut begun, context, rest) = half_a_command(&house, &late);
    let mut knocking = connect(&house, "hospital-b");
    house.signal_terminate();

    assert_eq!(idle.outcome(), ENDED, "between two messages, without a word from the peer");
    draining(&house);
    assert!(admin_page(&house, "/healthz").starts_with("HTTP/1.1 200"), "it lives, and is not to be killed");
    let answer = knocking.associate(CALLED, B, sample_contexts());
    assert_eq!(answer, Associated::Rejected(2, 3, 1), "come again: another one may be there");
    assert!(plain(house.addr()).is_err(), "nobody listens any more");

    begun.send_raw(&rest).expect("the receiver listens");
    begun.send_data(context, late.data_set().as_slice()).expect("the receiver listens");
    assert_eq!(begun.outcome(), LATER, "a further C-STORE");
    assert_eq!(begun.outcome(), ENDED);

    half.finish(&mut busy);
    assert_eq!(busy.outcome(), SUCCESS, "what was in flight");
    assert_eq!(busy.outcome(), ENDED);
    for peer in [idle, busy, begun, knocking] {
        peer.drop_connection();
    }
    assert_eq!(house.wait_for_exit().code(), Some(0));
    let rows = rows(house.dir());
    let held: Vec<_> = rows.iter().map(|row| row.held.name.instance.as_str()).collect();
    assert_eq!(held, [half.instance.uid.as_str()]);
    let log = house.audit();
    assert_eq!(
        log.last().map(|line| (&line["event"], &line["reason"])),
        Some((&"shutdown".into(), &"shutdown".into()))
    );
    let with = |event: &str, decision: &str| {
        let found =
            |line: &&Value| line["event"] == event && line["decision"] == decision && line["reason"] == "shutdown";
        log.iter().filter(found).count()
    };
    let counts = [with("association", "terminate"), with("association", "deny"), with("instance", "deny")];
    assert_eq!(counts, [3, 1, 1], "every end is on record");
    let path = house.dir().join("audit.jsonl");
    let output = portcullis(&["audit", "verify", path.to_str().expect("a path of text")]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_second_sigterm_ends_what_is_in_flight_at_once() {
    let mut house = house();
    let mut busy = associated(&house);
    Half::of(&mut busy, 1);
    house.signal_terminate();
    draining(&house);
    house.signal_terminate();
    assert_eq!(busy.outcome(), ENDED);
    assert_eq!(house.wait_for_exit().code(), Some(0));
    ended(&house, "shutdown");
    assert_nothing_kept(&house);
}

#[test]
fn what_is_in_flight_when_the_drain_time_is_up_is_dropped_unacknowledged() {
    let mut house = house_with(&[], &[("PORTCULLIS__RECEIVER__DRAIN", "1s")]);
    let mut busy = associated(&house);
    Half::of(&mut busy, 1);
    house.signal_terminate();
    assert_eq!(busy.outcome(), ENDED);
    assert_eq!(house.wait_for_exit().code(), Some(0));
    ended(&house, "shutdown");
    assert_nothing_kept(&house);
}

/// An end is an end for those too who have not said a word, and who are not done with TLS.
#[test]
fn a_caller_that_never_says_a_word_does_not_hold_up_the_end() {
    let mut house = house_with(&[], &[("PORTCULLIS__RECEIVER__DRAIN", "1s")]);
    let mut no_handshake = plain(house.addr()).expect("the receiver listens");
    no_handshake.write_all(&[0x16]).expect("the receiver listens");
    let no_request = connect(&house, "hospital-a");
    assert_eq!(associated(&house).echo(), SUCCESS);
    assert_eq!(house.terminate().code(), Some(0));
    drop((no_handshake, no_request));
}

/// Fails if the signals are caught by the time that callers are taken, and not by the time that somebody is told of the port.
#[test]
fn a_signal_right_after_the_start_is_answered_like_any_other() {
    for _ in 0..5 {
        let mut house = house();
        let hung_up = std::process::Command::new("kill").arg("-HUP").arg(house.pid().to_string()).status();
        assert!(hung_up.expect("kill(1) is there").success());
        assert_eq!(house.terminate().code(), Some(0));
    }
}
