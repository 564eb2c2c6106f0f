//! Bundles in SPIFFE's own format: what a domain says about its keys counts, also that it has none.

use gateway::pki::certificates;
use serde_json::{Value, json};

use super::{
    A_DOMAIN, A_ID, B_ID, Site, assert_ended, assert_shut_out, failed_looks, records, sender, stores, svid, taken,
};
use crate::support::audited;

/// A JWK Set with these roots.
fn jwks(sequence: u64, roots: &[&str]) -> String {
    let key = |pem: &&str| {
        assert_eq!(certificates(pem).len(), 1);
        // RFC 7517 §4.7: base64 of the DER, which is what PEM has between its lines.
        let x5c: String = pem.lines().filter(|line| !line.starts_with('-')).map(str::trim).collect();
        json!({ "kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": [x5c] })
    };
    let keys: Vec<Value> = roots.iter().map(key).collect();
    json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": 60 }).to_string()
}

#[test]
fn a_domain_that_withdraws_every_key_in_its_jwks_bundle_loses_its_associations_and_gets_them_back_with_a_key() {
    let site = Site::trusting("bundle = \"a.jwks\"");
    let root = site.read(super::A_BUNDLE);
    site.put("a.jwks", jwks(1, &[&root]));
    let house = site.house(&[]);
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let (mut live, mut other) = (sender(&house, &a, A_ID), sender(&house, &b, B_ID));
    stores(&mut live, 1);

    taken(&house, "certificates_changed", || site.put("a.jwks", jwks(2, &[])));
    assert_ended(&house, &mut live, &a, "bundle_changed");
    assert_shut_out(&house, &a, A_ID, "td_no_keys");
    stores(&mut other, 2);
    stores(&mut sender(&house, &b, B_ID), 3);

    taken(&house, "certificates_changed", || site.put("a.jwks", jwks(3, &[&root])));
    let mut again = sender(&house, &a, A_ID);
    stores(&mut again, 4);

    // An older one would bring back what was withdrawn since.
    taken(&house, "reload_failed", || site.put("a.jwks", jwks(2, &[])));
    let line = records(&house, "reload_failed").pop().expect("just taken");
    assert!(line["detail"].as_str().is_some_and(|text| text.contains("spiffe_sequence")), "{line}");
    assert!(failed_looks(&house, "certificates") > 0);
    stores(&mut again, 5);
}

#[test]
fn a_jwks_bundle_vouches_for_its_own_domain_alone() {
    let site = Site::trusting("bundle = \"a.jwks\"");
    site.put("a.jwks", jwks(1, &[&site.read(super::A_BUNDLE)]));
    let house = site.house(&[]);
    // hospital-b's root under hospital-a's name says itself that it is not hospital-a's.
    let foreign = site.read("certs/hospital-b.invalid/ca.pem");
    taken(&house, "reload_failed", || site.put("a.jwks", jwks(2, &[&foreign])));
    let line = audited(&house, &[("event", "policy"), ("reason", "reload_failed"), ("alert", "reload_failed")]);
    assert!(line["detail"].as_str().is_some_and(|text| text.contains(A_DOMAIN)), "{line}");
    stores(&mut sender(&house, &svid(&house, A_ID), A_ID), 1);
}
