//! CV-9: table and certificates that could not be read for too long decide nothing new, until they can be read again.

use std::fs;

use gateway::telemetry::{POLICY_AGE, TRUST_AGE};
use testkit::house::{House, eventually};
use testkit::peer::Associated;

use super::{A_BUNDLE, A_ID, B_ID, LATER, Site, associate, records, sender, stores, svid};
use crate::support::instance::Instance;
use crate::support::{SUCCESS, admin_page, audited};

/// The poll of the tests many times over, and short enough to wait for.
const STALE: (&str, &str) = ("PORTCULLIS__ACCESS__MAX_STALENESS", "2s");

fn site() -> Site {
    Site::trusting(&format!("bundle = \"{A_BUNDLE}\""))
}

fn age(house: &House, metric: &str) -> f64 {
    let page = admin_page(house, "/metrics");
    let found = page.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
    found.expect("it is a metric from the start")
}

#[test]
fn what_cannot_be_read_for_too_long_decides_nothing_new_until_it_can_be_read_again() {
    for (file, says) in [("access.toml", "access table"), (A_BUNDLE, "certificates")] {
        let site = site();
        let house = site.house(&[STALE]);
        let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
        let mut live = sender(&house, &a, A_ID);
        stores(&mut live, 1);
        let away = site.path("away");
        fs::rename(site.path(file), &away).expect("ours");
        let refused = eventually("new associations are refused for now", || associate(&house, &b, B_ID).err());
        assert_eq!(refused, Some(Associated::Rejected(2, 3, 1)), "{file}: transient, as congestion");
        let instance = Instance::numbered(2);
        assert_eq!(live.store(&instance.claim(), &instance.data_set()), LATER, "{file}");
        assert_eq!(live.echo(), SUCCESS, "{file}: the association itself goes on");
        for event in ["association", "instance"] {
            let line = audited(&house, &[("event", event), ("decision", "deny"), ("reason", "policy_stale")]);
            assert!(line["detail"].as_str().is_some_and(|text| text.contains(says)), "{line}");
        }
        let failed = records(&house, "reload_failed");
        assert_eq!(failed.len(), 1, "{file}: said once: {failed:?}");
        fs::rename(&away, site.path(file)).expect("ours");
        // The same one as before: that it was read is what counts.
        eventually("new associations are allowed again", || associate(&house, &b, B_ID).ok());
        stores(&mut live, 2);
    }
}

#[test]
fn with_best_effort_what_was_read_last_stays_in_force() {
    let site = site();
    let house = site.house(&[STALE, ("PORTCULLIS__ACCESS__STALENESS", "best-effort")]);
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let mut live = sender(&house, &a, A_ID);
    for file in ["access.toml", A_BUNDLE] {
        fs::remove_file(site.path(file)).expect("it is there");
    }
    for metric in [POLICY_AGE, TRUST_AGE] {
        eventually("it is older than it may be under the strict rule", || (age(&house, metric) > 2.5).then_some(()));
    }
    stores(&mut live, 1);
    stores(&mut sender(&house, &b, B_ID), 2);
    assert_eq!(records(&house, "policy_stale").len(), 0);
    assert_eq!(records(&house, "reload_failed").len(), 2, "and an alarm for each");
}
