//! threats.md, S, prefix tricks: an identity is compared byte for byte, a prefix by whole segments.

use model::SpiffeId;

use super::precedence::{CT1_ROW, table};
use super::questions::question;
use crate::testing::{CT1, now};
use crate::{DenialCode, Table};

/// What cannot be parsed never reaches the table; what can is no other identity.
#[test]
fn an_identity_that_merely_looks_alike_has_no_row() {
    let exact = table(CT1_ROW);
    let prefix = CT1_ROW
        .replace("identity = \"spiffe://hosp-a.example/ingest/ct1\"", "prefix = \"spiffe://hosp-a.example/ingest/\"");
    let prefix = table(&format!("allow_prefix = [\"hosp-a.example\"]\n{prefix}"));
    let cases: &[(&str, &str, bool, bool)] = &[
        ("itself", CT1, true, true),
        ("another below the prefix", "spiffe://hosp-a.example/ingest/ct2", false, true),
        ("deeper below the prefix", "spiffe://hosp-a.example/ingest/ct1/x", false, true),
        ("a longer last segment", "spiffe://hosp-a.example/ingest/ct1x", false, true),
        ("a shorter last segment", "spiffe://hosp-a.example/ingest/ct", false, true),
        ("the prefix without its slash", "spiffe://hosp-a.example/ingest", false, false),
        ("a longer segment than the prefix", "spiffe://hosp-a.example/ingestx/ct1", false, false),
        ("a longer trust domain", "spiffe://hosp-a.example.evil/ingest/ct1", false, false),
        ("the trust domain as a path", "spiffe://evil.example/hosp-a.example/ingest/ct1", false, false),
        ("upper case in the path", "spiffe://hosp-a.example/ingest/CT1", false, true),
        ("upper case in the prefix", "spiffe://hosp-a.example/Ingest/ct1", false, false),
    ];
    let allows = |table: &Table, id: &str| {
        let mut question = question();
        question.caller.id = SpiffeId::parse(id).expect("well-formed");
        let verdict = table.answer(&question, now()).verdict;
        assert!(verdict.as_ref().err().is_none_or(|denial| denial.code == DenialCode::NoRow), "{id}: {verdict:?}");
        verdict.is_ok()
    };
    for (name, id, by_name, by_prefix) in cases {
        assert_eq!((allows(&exact, id), allows(&prefix, id)), (*by_name, *by_prefix), "{name}");
    }
    for malformed in [
        "spiffe://hosp-a.example/ingest/%63t1",
        "spiffe://hosp-a.example/x/%2e%2e/ingest/ct1",
        "spiffe://hosp-a.example/x/../ingest/ct1",
        "spiffe://hosp-a.example//ingest/ct1",
        "spiffe://hosp-a.example/ingest//ct1",
        "spiffe://hosp-a.example/ingest/ct1/",
        "spiffe://HOSP-A.example/ingest/ct1",
        "SPIFFE://hosp-a.example/ingest/ct1",
        "spiffe://hosp-a.example:443/ingest/ct1",
        "spiffe://hosp-a.example@evil.example/ingest/ct1",
        "spiffe://hosp-a.example/ingest/ct1?x",
        "spiffe://hosp-a.example/ingest/ct1#x",
    ] {
        assert!(SpiffeId::parse(malformed).is_err(), "{malformed}");
    }
}

#[test]
fn a_row_cannot_name_an_identity_that_is_not_well_formed() {
    let prefix = |prefix: &str| {
        let row =
            CT1_ROW.replace("identity = \"spiffe://hosp-a.example/ingest/ct1\"", &format!("prefix = \"{prefix}\""));
        format!("revision = 1\nallow_prefix = [\"hosp-a.example\", \"hosp-a.example.evil\"]\n{row}")
    };
    assert!(Table::parse(&prefix("spiffe://hosp-a.example/ingest/")).is_ok());
    for bad in [
        "spiffe://hosp-a.example/ingest",
        "spiffe://hosp-a.example/",
        "spiffe://hosp-a.example",
        "spiffe://hosp-a.example/ingest//",
        "spiffe://hosp-a.example/in%67est/",
        "spiffe://hosp-a.example/ingest/*/",
        "spiffe://hosp-a.example/ingest/../",
        "spiffe://*.example/ingest/",
        "spiffe://hosp-b.example/ingest/",
        "spiffe://hosp-a.example.evi/ingest/",
        "spiffe://HOSP-A.example/ingest/",
    ] {
        assert!(Table::parse(&prefix(bad)).is_err(), "{bad}");
    }
}
