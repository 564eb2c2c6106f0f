//! The published bound: a change is in force within the poll interval and a second, and from then on nothing is committed that
//! it forbids. Read from what the gateway wrote down, not from a clock of the test's.

use std::sync::atomic::{AtomicBool, Ordering};

use model::Timestamp;
use serde_json::Value;
use testkit::house::{House, eventually};
use testkit::peer::Outcome;

use super::{A_BUNDLE, A_ID, B_ID, ENDED, NOT_AUTHORISED, Site, leaf, records, sender, stores, svid};
use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::{SUCCESS, with_columns, write_table};

/// Senders that store all the time.
const SENDERS: u64 = 4;

fn moment(value: &Value) -> Timestamp {
    Timestamp::parse(value.as_str().expect("text")).expect("RFC 3339")
}

/// Takes hospital-a's right away by `change` while it stores, and finds out when the last instance was received.
fn nothing_is_received_after(
    reason: &str,
    site: &Site,
    environment: &[(&str, &str)],
    change: impl FnOnce(&House, &str),
) {
    // The later one counts.
    let poll = [("PORTCULLIS__ACCESS__POLL", "500ms")];
    let house = site.house(&[environment, &poll].concat());
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let mut other = sender(&house, &b, B_ID);
    let (begun, on_record) = (AtomicBool::new(false), AtomicBool::new(false));
    let (acknowledged, changed) = std::thread::scope(|scope| {
        let senders: Vec<_> = (1..=SENDERS)
            .map(|number| {
                let mut peer = sender(&house, &a, A_ID);
                let (begun, on_record) = (&begun, &on_record);
                scope.spawn(move || {
                    for stored in 0_u64.. {
                        let instance = Instance::numbered(number * 1_000_000 + stored);
                        let late = on_record.load(Ordering::SeqCst);
                        match peer.store(&instance.claim(), &instance.data_set()) {
                            SUCCESS => assert!(!late, "begun after the change was on record, and acknowledged"),
                            NOT_AUTHORISED | ENDED | Outcome::Closed => return stored,
                            other => panic!("{other:?}"),
                        }
                        begun.store(true, Ordering::Relaxed);
                    }
                    unreachable!("there are numbers enough")
                })
            })
            .collect();
        eventually("they store", || begun.load(Ordering::Relaxed).then_some(()));
        change(&house, &leaf(&a));
        let changed = eventually("the change is on record", || records(&house, reason).pop());
        on_record.store(true, Ordering::SeqCst);
        let acknowledged = senders.into_iter().map(|sender| sender.join().expect("an answer that it knows"));
        (acknowledged.sum::<u64>(), changed)
    });
    stores(&mut other, 1);
    let mut own = rows(house.dir());
    own.retain(|row| row.held.sender.as_str() == A_ID);
    assert_eq!(own.len() as u64, acknowledged, "what was received was acknowledged, and nothing else");
    assert!(acknowledged > 0);
    let in_force = moment(&changed["ts"]);
    let late: Vec<_> = own.iter().map(|row| row.held.received_at).filter(|received| *received > in_force).collect();
    assert!(late.is_empty(), "in force by {in_force}, received at {late:?}");
    if let Some(revision) = changed["policy_revision"].as_u64() {
        assert!(own.iter().all(|row| row.held.table_revision < revision), "by the table that it forbids");
    }
}

#[test]
fn no_instance_is_received_after_the_table_that_forbids_it_is_in_force() {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    nothing_is_received_after("policy_changed", &site, &[], |house, _| {
        write_table(house, |text| with_columns(&text, "hospital-a", "state = \"suspended\""));
    });
}

#[test]
fn no_instance_is_received_after_the_deny_list_that_forbids_it_is_in_force() {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    site.put("deny.toml", "");
    let list = [("PORTCULLIS__ACCESS__DENY_LIST", "deny.toml")];
    nothing_is_received_after("certificates_changed", &site, &list, |_, leaf| {
        site.put("deny.toml", format!("[[deny]]\nleaf_sha256 = \"{leaf}\"\n"));
    });
}
