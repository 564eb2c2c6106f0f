//! "A hundred concurrent associations: no error, memory bounded." The short version; bench/load runs it for a minute.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread::spawn;

use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};

use crate::support::archive::{assert_rows_have_objects, rows};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, amend, associated, connect, house, house_with, with_columns};

const ASSOCIATIONS: u64 = 100;
const INSTANCES: u64 = 10;

#[test]
fn a_hundred_associations_at_once_all_succeed() {
    let house = house();
    let credentials = Arc::new(Credentials::of_house(&house, "hospital-a"));
    // Nobody begins to store before all are in.
    let all_in = Arc::new(Barrier::new(usize::try_from(ASSOCIATIONS).expect("small")));
    let addr = house.addr();
    let senders: Vec<_> = (0..ASSOCIATIONS)
        .map(|number| {
            let (credentials, all_in) = (credentials.clone(), all_in.clone());
            spawn(move || {
                let mut peer = Peer::connect(addr, &credentials).expect("a good certificate is let in");
                let answer = peer.associate(CALLED, A, sample_contexts());
                all_in.wait();
                assert!(matches!(answer, Associated::Accepted(_)), "{number}: {answer:?}");
                for slice in 0..INSTANCES {
                    // Ten studies that ten associations each write to, as a modality with many lines does.
                    let instance =
                        Instance::of_study(number % 10, number * INSTANCES + slice).with_pixels(20_000, number);
                    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "{number}/{slice}");
                }
                assert_eq!(peer.release(), Outcome::Released, "{number}");
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("every sender was served");
    }
    let rows = rows(house.dir());
    let uids: BTreeSet<_> = rows.iter().map(|row| row.held.name.instance.to_string()).collect();
    assert_eq!(uids.len() as u64, ASSOCIATIONS * INSTANCES);
    assert_rows_have_objects(house.dir(), &rows);
    assert!(house.peak_rss() < 200 << 20, "{} MB", house.peak_rss() >> 20);
}

#[test]
fn one_association_more_than_the_row_allows_is_told_to_come_back() {
    let house = house();
    amend(&house, |text| with_columns(&text, "hospital-a", "max_associations = 2"));
    let (mut one, mut two) = (associated(&house), associated(&house));
    let answer = connect(&house, "hospital-a").associate(CALLED, A, sample_contexts());
    assert_eq!(answer, Associated::Rejected(2, 3, 2));
    assert_eq!(one.release(), Outcome::Released);
    drop(one);
    testkit::house::eventually("a place is free again", || {
        let answer = connect(&house, "hospital-a").associate(CALLED, A, sample_contexts());
        matches!(answer, Associated::Accepted(_)).then_some(())
    });
    assert_eq!(two.echo(), SUCCESS);
}

#[test]
fn one_association_more_than_the_receiver_takes_is_told_to_come_back() {
    let house = house_with(&[], &[("PORTCULLIS__RECEIVER__MAX_ASSOCIATIONS", "1")]);
    let mut one = associated(&house);
    let answer = connect(&house, "hospital-b").associate(CALLED, crate::support::B, sample_contexts());
    assert_eq!(answer, Associated::Rejected(2, 3, 2));
    assert_eq!(one.echo(), SUCCESS);
}

#[test]
fn stalled_handshakes_hold_nobody_up() {
    let house = house();
    // They have connected and say nothing, or begin and go no further.
    let mut stalled: Vec<_> =
        (0..50).map(|_| testkit::peer::plain(house.addr()).expect("the receiver listens")).collect();
    for socket in stalled.iter_mut().step_by(2) {
        std::io::Write::write_all(socket, &[0x16, 3, 1, 2, 0, 1]).expect("the receiver listens");
    }
    assert_eq!(associated(&house).echo(), SUCCESS);
    drop(stalled);
}
