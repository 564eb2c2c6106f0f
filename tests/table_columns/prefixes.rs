//! Rows that name many identities by their prefix.

use std::time::Duration;

use testkit::house::House;
use testkit::peer::{Associated, Peer, sample_contexts};

use crate::support::furnish::{assert_others_are_served, put, quick, table_of, with_key};
use crate::support::{A, CALLED, audited, credentials, issue, write_table};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn row(id: &str, who: &str, more: &str) -> String {
    format!(
        "\n[[row]]\nid = \"{id}\"\neffect = \"allow\"\n{who}\ntenant = \"{id}\"\ncalled_aets = [\"*\"]\n\
         calling_aets = [\"*\"]\noperations = [\"echo\"]\n{more}\n"
    )
}

fn ask(house: &House, path: &str) -> Associated {
    let issued = issue(house, &format!("spiffe://hospital-a.invalid/{path}"), DAY);
    let mut peer = Peer::connect(house.addr(), &credentials(house, &issued)).expect("a good certificate");
    peer.associate(CALLED, A, sample_contexts())
}

#[test]
fn a_prefix_is_of_whole_segments_and_the_nearer_row_speaks_alone() {
    let house = quick();
    let base = with_key(&table_of(&house), "allow_prefix = [\"hospital-a.invalid\"]");
    let prefix = |path: &str| format!("prefix = \"spiffe://hospital-a.invalid/{path}\"");
    let exact = |path: &str| format!("identity = \"spiffe://hospital-a.invalid/{path}\"");
    let rows = [
        row("ingest", &prefix("ingest/"), ""),
        row("ingest-old", &prefix("ingest/old/"), "state = \"suspended\""),
        row("ct1", &exact("ingest/ct1"), "state = \"suspended\""),
        format!("\n[[row]]\nid = \"stop\"\neffect = \"deny\"\n{}\n", prefix("ingest/lost/")),
    ];
    put(&house, &format!("{base}{}", rows.concat()));
    for (path, expected, told) in [
        ("ingest/ct7", Associated::Accepted(1), ("row", "ingest")),
        ("ingest/site/ct7", Associated::Accepted(1), ("row", "ingest")),
        ("ingest", Associated::Rejected(1, 1, 1), ("reason", "no_row")),
        ("ingestion/ct7", Associated::Rejected(1, 1, 1), ("reason", "no_row")),
        ("Ingest/ct7", Associated::Rejected(1, 1, 1), ("reason", "no_row")),
        ("ingest/ct1", Associated::Rejected(1, 1, 1), ("row", "ct1")),
        ("ingest/lost/ct7", Associated::Rejected(1, 1, 1), ("row", "stop")),
        ("ingest/old/ct7", Associated::Rejected(1, 1, 1), ("row", "ingest-old")),
    ] {
        assert_eq!(ask(&house, path), expected, "{path}");
        let id = format!("spiffe://hospital-a.invalid/{path}");
        audited(&house, &[("event", "association"), ("spiffe_id", &id), told]);
    }
}

#[test]
fn a_prefix_in_a_domain_that_does_not_allow_it_is_no_table() {
    let house = quick();
    let anybody = row("any", "prefix = \"spiffe://hospital-a.invalid/ingest/\"", "");
    write_table(&house, |text| text + &anybody);
    let failed = audited(&house, &[("event", "policy"), ("reason", "reload_failed")]);
    assert!(failed["detail"].as_str().is_some_and(|detail| detail.contains("allow_prefix")), "{failed}");
    assert_eq!(ask(&house, "ingest/ct7"), Associated::Rejected(1, 1, 1), "the previous table stays");
    assert_others_are_served(&house);
}
