//! The system's clock is moved: lists and certificates end by it, and none comes back to life.

use std::time::Duration;

use super::{
    A_BUNDLE, A_ID, B_ID, ENDED, LATER, NOT_AUTHORISED, Site, assert_ended, assert_shut_out, associate, records,
    sender, stores, svid, taken,
};
use crate::support::clock::Clock;
use crate::support::instance::Instance;
use crate::support::{SUCCESS, audited, issue};
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Outcome};

/// For a list that ends in ten minutes.
const TEN_MINUTES: u32 = 600;
/// In seconds.
const A_DAY: i64 = 24 * 60 * 60;

fn on(site: &Site, clock: &Clock, more: &[(&str, &str)]) -> House {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    site.house_with(clock.env().into_iter().chain(more).collect())
}

fn site_with_a_list() -> Site {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\"\ncrls = [\"a.crl\"]"));
    site.revoke("a.crl", TEN_MINUTES, &[]);
    site
}

#[test]
fn by_the_strict_rules_a_list_that_is_over_vouches_for_nobody() {
    let (site, clock) = (site_with_a_list(), Clock::ahead(0));
    let house = on(&site, &clock, &[("PORTCULLIS__IDENTITY__RULES", "strict")]);
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let (mut live, mut other) = (sender(&house, &a, A_ID), sender(&house, &b, B_ID));
    stores(&mut live, 1);
    clock.set(1200);
    assert_ended(&house, &mut live, &a, "revocation_unknown");
    assert_shut_out(&house, &a, A_ID, "revocation_unknown");
    stores(&mut other, 2);
    stores(&mut sender(&house, &b, B_ID), 3);
    taken(&house, "certificates_changed", || site.revoke("a.crl", 2 * 3600, &[]));
    stores(&mut sender(&house, &a, A_ID), 4);
}

#[test]
fn an_instance_whose_list_is_over_before_it_is_whole_is_not_kept() {
    let (site, clock) = (site_with_a_list(), Clock::ahead(0));
    let house = on(&site, &clock, &[("PORTCULLIS__IDENTITY__RULES", "strict")]);
    let mut peer = sender(&house, &svid(&house, A_ID), A_ID);
    let half = super::Half::of(&mut peer, 1);
    clock.set(1200);
    half.finish(&mut peer);
    let outcome = peer.outcome();
    assert!(matches!(outcome, NOT_AUTHORISED | ENDED | Outcome::Closed), "{outcome:?}");
    audited(&house, &[("reason", "revocation_unknown")]);
    assert_eq!(crate::support::archive::rows(house.dir()).len(), 0);
}

#[test]
fn by_the_compatible_rules_a_list_that_is_over_still_revokes_whom_it_names_and_nobody_else() {
    let (site, clock) = (site_with_a_list(), Clock::ahead(0));
    let house = on(&site, &clock, &[]);
    let (a, named) = (svid(&house, A_ID), svid(&house, A_ID));
    let mut live = sender(&house, &a, A_ID);
    sender(&house, &named, A_ID).release();
    let line = audited(&house, &[("reason", "granted"), ("leaf_sha256", &super::leaf(&named))]);
    let serial = line["serial"].as_str().expect("the log has it").to_owned();
    taken(&house, "certificates_changed", || site.revoke("a.crl", TEN_MINUTES, &[&serial]));
    clock.set(1200);
    stores(&mut live, 1);
    stores(&mut sender(&house, &a, A_ID), 2);
    assert_shut_out(&house, &named, A_ID, "revoked");
}

/// Fails if the time is the later of the system's and that since the start: who sets the clock ahead and back again brings a
/// certificate to life that had ended.
#[test]
fn a_clock_that_is_set_back_does_not_bring_an_expired_client_to_life() {
    let clock = Clock::ahead(0);
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    let house = on(&site, &clock, &[]);
    let (short, b) = (issue(&house, A_ID, Duration::from_secs(600)), svid(&house, B_ID));
    let mut live = sender(&house, &short, A_ID);
    stores(&mut live, 1);
    clock.set(1200);
    assert_ended(&house, &mut live, &short, "svid_expired");
    assert_shut_out(&house, &short, A_ID, "expired");
    for back in [0, -A_DAY, -300 * A_DAY] {
        clock.set(back);
        assert_shut_out(&house, &short, A_ID, "expired");
        stores(&mut sender(&house, &b, B_ID), 2);
    }
    let jumps = records(&house, "clock_jumped");
    assert!(!jumps.is_empty() && jumps.iter().all(|line| line["alert"] == "clock_jumped"), "{jumps:?}");
}

/// What the strict profile wants to know of a row.
const ANSWERED: &str = "contact = \"you@hospital-a.invalid\"\nticket = \"T-1\"\ncreated_by = \"one\"\n\
    approved_by = \"another\"\nupdated_at = 2026-01-01T00:00:00Z\n";

#[test]
fn under_the_strict_profile_nothing_is_decided_by_a_clock_that_was_set() {
    for offset in [600, -600] {
        let clock = Clock::ahead(0);
        let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
        // dev writes a table; it is answered for before the profile asks.
        let first = site.house(&[]);
        let table = site.read("access.toml").replace("on_conflict", &format!("{ANSWERED}on_conflict"));
        drop(first);
        site.put("access.toml", table);
        site.put("gateway.toml", format!("profile = \"strict\"\n{}", site.read("gateway.toml")));
        let house = on(&site, &clock, &[]);
        let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
        let mut live = sender(&house, &a, A_ID);
        stores(&mut live, 1);
        clock.set(offset);
        let line = audited(&house, &[("event", "policy"), ("reason", "clock_jumped"), ("alert", "clock_jumped")]);
        assert!(line["detail"].as_str().is_some_and(|text| text.contains("restart")), "{line}");
        let instance = Instance::numbered(2);
        assert_eq!(live.store(&instance.claim(), &instance.data_set()), LATER, "{offset}");
        assert_eq!(live.echo(), SUCCESS);
        assert_eq!(associate(&house, &b, B_ID).err(), Some(Some(Associated::Rejected(2, 3, 1))), "{offset}");
        audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "policy_stale")]);
        assert_eq!(records(&house, "clock_jumped").len(), 1, "said once");
        // Right again is not enough: a restart is a person's word that it is.
        clock.set(0);
        taken_again(&house);
        assert_eq!(live.store(&instance.claim(), &instance.data_set()), LATER, "{offset}, and back");
        let mut house = house.restart();
        stores(&mut sender(&house, &b, B_ID), 3);
        assert!(house.terminate().success());
    }
}

/// Waits until table and certificates have been looked at since: an edit of the bundle that changes nothing is taken.
fn taken_again(house: &House) {
    let path = house.dir().join(A_BUNDLE);
    let text = std::fs::read_to_string(&path).expect("it is there");
    taken(house, "certificates_changed", || std::fs::write(&path, text + "\n").expect("ours"));
}

#[test]
fn a_clock_that_is_set_back_to_where_it_was_is_still_one_that_was_set() {
    let clock = Clock::ahead(0);
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    let house = on(&site, &clock, &[]);
    let b = svid(&house, B_ID);
    clock.set(600);
    eventually("the jump is seen", || (!records(&house, "clock_jumped").is_empty()).then_some(()));
    clock.set(0);
    // What is written from now on is dated by the clock that never goes back.
    sender(&house, &b, B_ID).release();
    let granted = audited(&house, &[("reason", "granted")]);
    let jumped = audited(&house, &[("reason", "clock_jumped")]);
    assert!(granted["ts"].as_str() > jumped["ts"].as_str(), "{jumped} {granted}");
}
