use super::precedence::{CT1_ROW, table};
use crate::testing::{now, seconds};

const SIGNED_OFF: &str = "owner = \"a\"\ncontact = \"b\"\nticket = \"c\"\ncreated_by = \"d\"\napproved_by = \"e\"\n\
    updated_at = 2026-01-01\n";

#[test]
fn what_is_perhaps_not_meant_is_warned_about_once() {
    let past = now().minus(seconds(60));
    let deny = |columns: &str| format!("{CT1_ROW}[[row]]\nid = \"stop\"\neffect = \"deny\"\n{columns}\n");
    let cases: Vec<(&str, String, &str)> = vec![
        ("kill switch", format!("kill_switch = true\n{CT1_ROW}"), "kill_switch is on"),
        ("a tenant nobody has", format!("{CT1_ROW}[[tenant]]\nname = \"x\"\nmax_rate = \"1/s\"\n"), "tenant \"x\""),
        ("expired", format!("{CT1_ROW}valid_until = {past}\n"), "valid_until"),
        ("expired deny row", deny(&format!("valid_until = {past}")), "row \"stop\": valid_until"),
        ("review", format!("{CT1_ROW}review_by = 2026-01-01\n"), "review_by 2026-01-01"),
        ("review of a deny row", deny("review_by = 2026-01-01\ncalled_aets = [\"X\"]"), "row \"stop\": review_by"),
        ("endpoint", format!("{CT1_ROW}source_vpce = [\"vpce-00000000\"]\n"), "PROXY v2"),
        ("any endpoint", format!("{CT1_ROW}require_vpce = true\n"), "PROXY v2"),
        ("observe", format!("{CT1_ROW}mode = \"observe\"\n"), "only observes"),
        ("observe everywhere", format!("mode = \"observe\"\n{CT1_ROW}"), "only observes"),
        ("denied by name", deny("identity = \"spiffe://hosp-a.example/ingest/ct1\""), "\"ct1\" is never reached"),
        ("denied by prefix", deny("prefix = \"spiffe://hosp-a.example/ingest/\""), "\"ct1\" is never reached"),
        ("everybody denied", deny(""), "denies everything to everybody"),
        ("wildcard", CT1_ROW.replace("\"HOSPA_FWD\"", "\"*\""), "calling_aets has \"*\""),
        ("nothing listed", CT1_ROW.replace("\"CTImageStorage\"", ""), "sop_classes is not there or empty"),
        ("no owner", CT1_ROW.into(), "owner is not there"),
    ];
    for (name, rows, part) in cases {
        let warnings = table(&rows).warnings(now());
        assert_eq!(warnings.iter().filter(|warning| warning.contains(part)).count(), 1, "{name}: {warnings:?}");
    }
}

#[test]
fn a_deny_row_that_is_narrow_or_for_a_time_shadows_nothing() {
    for columns in [
        "called_aets = [\"ARCHIVE\"]",
        "state = \"suspended\"",
        "windows = [\"Sat 00:00-24:00\"]",
        "valid_until = 2099-01-01T00:00:00Z",
        "not_before = 2099-01-01T00:00:00Z",
        "identity = \"spiffe://hosp-a.example/ingest/ct2\"",
        "prefix = \"spiffe://hosp-a.example/other/\"",
    ] {
        let table = table(&format!("{CT1_ROW}[[row]]\nid = \"stop\"\neffect = \"deny\"\n{columns}\n"));
        assert!(!table.warnings(now()).iter().any(|warning| warning.contains("never reached")), "{columns}");
    }
}

#[test]
fn the_strict_profile_wants_somebody_to_answer_for_every_row() {
    let good = format!("{CT1_ROW}{SIGNED_OFF}");
    assert!(table(&good).strict_problems().is_empty());
    let deny = format!("{good}[[row]]\nid = \"stop\"\neffect = \"deny\"\n");
    let prefix = good
        .replace("identity = \"spiffe://hosp-a.example/ingest/ct1\"", "prefix = \"spiffe://hosp-a.example/ingest/\"");
    let prefix = format!("allow_prefix = [\"hosp-a.example\"]\n{prefix}");
    let cases: Vec<(&str, String, usize, &str)> = vec![
        ("nothing", CT1_ROW.into(), 6, "no owner"),
        ("a deny row", deny, 6, "\"stop\" has no ticket"),
        ("no contact", good.replace("contact", "#"), 1, "no contact"),
        ("no date", good.replace("updated_at", "#"), 1, "no updated_at"),
        ("two eyes", good.replace("\"e\"", "\"d\""), 1, "approved by the person who wrote it"),
        ("observe", format!("{good}mode = \"observe\"\n"), 1, "only observes"),
        ("observe everywhere", format!("mode = \"observe\"\n{good}"), 1, "only observes"),
        ("anything below a prefix", prefix.clone(), 1, "every value of transfer_syntaxes"),
        ("any title below a prefix", prefix.replace("\"ARCHIVE\"", "\"*\""), 2, "every value of called_aets"),
    ];
    for (name, rows, count, part) in cases {
        let problems = table(&rows).strict_problems();
        assert_eq!(problems.len(), count, "{name}: {problems:?}");
        assert!(problems.iter().any(|problem| problem.contains(part)), "{name}: {problems:?}");
    }
}

#[test]
fn overdue_reviews_are_counted() {
    let rows =
        format!("{CT1_ROW}review_by = 2026-01-01\n[[row]]\nid = \"stop\"\neffect = \"deny\"\nreview_by = 2026-01-02\n");
    let at = |text: &str| model::Timestamp::parse(text).expect("valid");
    let table = table(&rows);
    assert_eq!(table.overdue_reviews(at("2026-01-01T00:00:00Z")), 0);
    assert_eq!(table.overdue_reviews(at("2026-01-01T00:00:00.001Z")), 1);
    assert_eq!(table.overdue_reviews(at("2026-02-01T00:00:00Z")), 2);
}
