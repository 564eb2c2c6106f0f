//! Who looks like somebody else: by other names in the certificate, by another authority, by a SPIFFE ID that is almost the same.

use std::collections::BTreeSet;

use testkit::stranger::Tls;

use super::forge::{Door, Forge, Forged, common_name, dns, mail, row, uri};

const A: &str = "hosp-a.example";
const B: &str = "hosp-b.example";
const EVIL: &str = "hosp-a.example.evil";
const CT1: &str = "spiffe://hosp-a.example/ingest/ct1";
const OTHER: &str = "spiffe://hosp-b.example/ingest/ct1";

/// Three authorities, and a row for one identity of each of two hospitals.
fn three() -> (Forge, Forge, Forge, String) {
    let rows =
        row("a", &format!("identity = \"{CT1}\"")) + &row("b", &format!("identity = \"{OTHER}\"")) + &row("ward", WARD);
    (Forge::new(A), Forge::new(B), Forge::new(EVIL), rows)
}

const WARD: &str = "prefix = \"spiffe://hosp-a.example/ward/\"";

/// Shows each over TLS 1.3 and 1.2. Gives the alerts of the refused ones.
fn assert_judged(door: &mut Door, cases: Vec<(&str, Forged, &str)>) -> BTreeSet<String> {
    let mut alerts = BTreeSet::new();
    for (name, forged, expected) in cases {
        for version in [Tls::V13, Tls::V12] {
            let (word, alert) = door.judge(&forged, version);
            assert_eq!(word, expected, "{name}, {version:?}");
            alerts.extend(alert);
        }
    }
    alerts
}

#[test]
fn no_other_name_in_a_certificate_stands_for_the_spiffe_id() {
    let (a, b, evil, rows) = three();
    let mut door = Door::trusting(&[&a, &b, &evil], &rows);
    let named = |names: Vec<rcgen::SanType>, subject: &str| {
        let subject = common_name(subject);
        b.sign(|params| {
            params.subject_alt_names = names;
            params.distinguished_name = subject;
        })
    };
    let cases = vec![
        ("the other hospital as common name", named(vec![uri(OTHER)], CT1), OTHER),
        ("its DNS name first", named(vec![dns(A), uri(OTHER)], A), OTHER),
        ("its DNS name last", named(vec![uri(OTHER), dns(A)], A), OTHER),
        ("its ID as a mail address", named(vec![mail("ct1@hosp-a.example"), uri(OTHER)], "svid"), OTHER),
        ("its ID as a DNS name", named(vec![dns(CT1), uri(OTHER)], "svid"), OTHER),
        ("no URI, its ID as common name", named(vec![dns(A)], CT1), "uri_san_count"),
        ("no URI, its ID as a DNS name", named(vec![dns(CT1)], "svid"), "uri_san_count"),
        ("its ID second", named(vec![uri(OTHER), uri(CT1)], "svid"), "uri_san_count"),
        ("its ID first", named(vec![uri(CT1), uri(OTHER)], "svid"), "uri_san_count"),
        ("a DNS name between", named(vec![uri(OTHER), dns(A), uri(CT1)], "svid"), "uri_san_count"),
        ("the own ID twice", named(vec![uri(OTHER), uri(OTHER)], "svid"), "uri_san_count"),
        ("a web address beside it", named(vec![uri(OTHER), uri("https://hosp-b.example/")], "svid"), "uri_san_count"),
        ("an empty URI beside it", named(vec![uri(""), uri(OTHER)], "svid"), "uri_san_count"),
        ("4 KiB of URI beside it", named(vec![uri(&"x".repeat(4096)), uri(OTHER)], "svid"), "uri_san_count"),
    ];
    assert_judged(&mut door, cases);
}

/// Fails if the roots of the bundles are one pool, as they are for a verifier that knows TLS and not SPIFFE.
#[test]
fn an_authority_vouches_for_its_own_trust_domain_and_no_other() {
    let (a, b, evil, rows) = three();
    let mut door = Door::trusting(&[&a, &b, &evil], &rows);
    let domains = [&a, &b, &evil];
    let mut cases = Vec::new();
    for signer in domains {
        for claimed in domains {
            let id = format!("spiffe://{}/ingest/ct1", claimed.domain);
            let expected = match claimed.domain {
                _ if signer.domain != claimed.domain => "chain_untrusted",
                A => CT1,
                B => OTHER,
                _ => "no_row",
            };
            cases.push(("each by each", signer.svid(&id), expected));
            let dressed = signer.svid(&id).with_root_of(claimed);
            cases.push(("with the root of the claimed one", dressed, expected));
        }
    }
    // Same name, same SPIFFE ID, another key; with its own root, and with the true one.
    let twin = Forge::new(A);
    cases.push(("an authority of the same name", twin.svid(CT1), "chain_untrusted"));
    cases.push(("and its root", twin.svid(CT1).with_root_of(&twin), "chain_untrusted"));
    cases.push(("and the true root", twin.svid(CT1).with_root_of(&a), "chain_untrusted"));
    cases.push(("nobody's", Forge::new("hosp-c.example").svid("spiffe://hosp-c.example/ingest/ct1"), "td_unknown"));
    let alerts = assert_judged(&mut door, cases);
    // TLS 1.2 tells within the handshake; which rule was broken is for the audit log alone.
    assert_eq!(alerts.len(), 1, "{alerts:?}");
}

#[test]
fn what_only_looks_like_an_identity_with_a_row_is_nobody() {
    let (a, b, evil, rows) = three();
    let mut door = Door::trusting(&[&a, &b, &evil], &rows);
    let cases: &[(&str, &Forge, &str, &str)] = &[
        ("itself", &a, CT1, CT1),
        ("below the prefix", &a, "spiffe://hosp-a.example/ward/7", "spiffe://hosp-a.example/ward/7"),
        ("deeper", &a, "spiffe://hosp-a.example/ward/7/ct", "spiffe://hosp-a.example/ward/7/ct"),
        ("a longer last segment", &a, "spiffe://hosp-a.example/ingest/ct1x", "no_row"),
        ("a shorter one", &a, "spiffe://hosp-a.example/ingest/ct", "no_row"),
        ("a segment more", &a, "spiffe://hosp-a.example/ingest/ct1/x", "no_row"),
        ("upper case", &a, "spiffe://hosp-a.example/ingest/CT1", "no_row"),
        ("the prefix without its slash", &a, "spiffe://hosp-a.example/ward", "no_row"),
        ("a longer segment than the prefix", &a, "spiffe://hosp-a.example/wards/7", "no_row"),
        ("the prefix in upper case", &a, "spiffe://hosp-a.example/Ward/7", "no_row"),
        ("a longer trust domain", &evil, "spiffe://hosp-a.example.evil/ingest/ct1", "no_row"),
        ("and below the prefix", &evil, "spiffe://hosp-a.example.evil/ward/7", "no_row"),
        ("the trust domain as a path", &evil, "spiffe://hosp-a.example.evil/hosp-a.example/ingest/ct1", "no_row"),
        ("the trust domain as a user", &evil, "spiffe://hosp-a.example@hosp-a.example.evil/ingest/ct1", "id_syntax"),
        ("a trust domain that is shorter", &a, "spiffe://hosp-a.exampl/ingest/ct1", "td_unknown"),
        ("a final dot", &a, "spiffe://hosp-a.example./ingest/ct1", "td_unknown"),
        ("upper case in the trust domain", &a, "spiffe://HOSP-A.example/ingest/ct1", "td_syntax"),
        ("a dot that is encoded", &a, "spiffe://hosp-a%2eexample/ingest/ct1", "td_syntax"),
        ("NUL behind the trust domain", &a, "spiffe://hosp-a.example\0.evil/ingest/ct1", "td_syntax"),
        ("upper case in the scheme", &a, "SPIFFE://hosp-a.example/ingest/ct1", "id_scheme"),
        ("a space before", &a, " spiffe://hosp-a.example/ingest/ct1", "id_scheme"),
        ("a port", &a, "spiffe://hosp-a.example:443/ingest/ct1", "id_syntax"),
        ("a query", &a, "spiffe://hosp-a.example/ingest/ct1?x", "id_syntax"),
        ("a fragment", &a, "spiffe://hosp-a.example/ingest/ct1#x", "id_syntax"),
        ("no path", &a, "spiffe://hosp-a.example", "id_no_path"),
        ("a letter that is encoded", &a, "spiffe://hosp-a.example/ingest/%63t1", "path_syntax"),
        ("two dots that are encoded", &a, "spiffe://hosp-a.example/x/%2e%2e/ingest/ct1", "path_syntax"),
        ("two dots", &a, "spiffe://hosp-a.example/ward/../ingest/ct1", "path_syntax"),
        ("one dot", &a, "spiffe://hosp-a.example/ward/./7", "path_syntax"),
        ("an empty segment first", &a, "spiffe://hosp-a.example//ingest/ct1", "path_syntax"),
        ("an empty segment", &a, "spiffe://hosp-a.example/ingest//ct1", "path_syntax"),
        ("a final slash", &a, "spiffe://hosp-a.example/ingest/ct1/", "path_syntax"),
        ("NUL behind it", &a, "spiffe://hosp-a.example/ingest/ct1\0x", "path_syntax"),
        ("a line break behind it", &a, "spiffe://hosp-a.example/ingest/ct1\n", "path_syntax"),
    ];
    let alerts =
        assert_judged(&mut door, cases.iter().map(|(name, by, id, word)| (*name, by.svid(id), *word)).collect());
    assert_eq!(alerts.len(), 1, "whatever is wrong, the peer hears the same: {alerts:?}");
}
