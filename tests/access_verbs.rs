//! `portcullis access`, beside a receiver that runs: what it says is what happens.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Outcome, Peer, sample_contexts};
use testkit::pki::Pki;

use crate::support::instance::Instance;
use crate::support::{
    A, B, CALLED, SUCCESS, amend, associated, associated_b, audited, connect, credentials, house, issue, portcullis,
    said, stdout, with_columns, without_row,
};

fn text(path: &Path) -> &str {
    path.to_str().expect("our paths are text")
}

/// `portcullis access` with these arguments.
fn access(args: &[&str]) -> Output {
    portcullis(&[&["access"], args].concat())
}

/// What it says, and that it ends so.
fn ends(code: i32, args: &[&str]) -> String {
    let output = access(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}", said(&output));
    said(&output)
}

fn file(house: &House, name: &str) -> String {
    house.dir().join(name).display().to_string()
}

/// `access explain` with the configuration of the house.
fn explain(house: &House, who: &[&str], called: &str, calling: &str, more: &[&str]) -> Value {
    let config = file(house, "gateway.toml");
    let asked = ["explain", "--json", "--config", &config, "--called", called, "--calling", calling];
    let output = access(&[&asked[..], who, more].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(output.status.code(), Some(if answer["allowed"] == true { 0 } else { 1 }), "{answer:#}");
    answer
}

/// That the audit log says of this denial what `explain` says.
fn agrees(house: &House, event: &str, explained: &Value) {
    let reason = explained["reason"].as_str().unwrap_or_else(|| panic!("denied: {explained:#}"));
    let line = audited(house, &[("event", event), ("decision", "deny"), ("reason", reason)]);
    for (recorded, told) in [("detail", "detail"), ("row", "row"), ("spiffe_id", "spiffe_id")] {
        assert_eq!(line[recorded], explained[told], "{recorded}: {line}\n{explained:#}");
    }
    let rows = explained["rows"].as_array().into_iter().flatten();
    let mut failing = rows.filter(|row| row["row"] == explained["row"]).map(|row| &row["detail"]);
    if !explained["row"].is_null() {
        assert_eq!(failing.next(), Some(&explained["detail"]), "the row says it in the same words");
    }
}

/// How an answer stands on the wire, as `explain` writes it.
fn wire(answer: &Associated) -> String {
    match answer {
        Associated::Rejected(result, source, reason) => format!("A-ASSOCIATE-RJ {result}/{source}/{reason}"),
        Associated::Accepted(_) => "A-ASSOCIATE-AC".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn explain_says_of_an_association_what_the_receiver_then_does_and_records() {
    let house = house();
    let pem = house.cert("hospital-a").cert;
    let own = ["--cert", text(&pem)];
    let cases: [(&str, &str, &str, &str); 4] = [
        ("allowed", CALLED, A, ""),
        ("called", "ELSEWHERE", A, ""),
        ("calling", CALLED, "SOMEBODY", ""),
        ("from elsewhere", CALLED, A, "source_cidrs = [\"192.0.2.0/24\"]"),
    ];
    for (name, called, calling, columns) in cases {
        if !columns.is_empty() {
            amend(&house, |text| with_columns(&text, "hospital-a", columns));
        }
        let explained = explain(&house, &own, called, calling, &["--source", "127.0.0.1"]);
        let answer = connect(&house, "hospital-a").associate(called, calling, sample_contexts());
        let told = explained["wire"].as_str().expect("told");
        assert!(told.starts_with(&wire(&answer)), "{name}: {answer:?}, {told}");
        assert_eq!(explained["allowed"], matches!(answer, Associated::Accepted(_)), "{name}");
        if explained["allowed"] == false {
            agrees(&house, "association", &explained);
        }
    }
}

#[test]
fn explain_says_of_an_instance_what_the_receiver_then_does_and_records() {
    let house = house();
    let (pem, instance) = (house.cert("hospital-a").cert, Instance::numbered(1));
    let own = ["--cert", text(&pem)];
    let mut peer = associated(&house);
    let narrowed: [(&str, &str, &str); 3] = [
        ("sop_class", "sop_classes = [\"*\"]", "sop_classes = [\"MRImageStorage\"]"),
        ("modality", "sop_classes = [\"MRImageStorage\"]", "sop_classes = [\"*\"]\nmodalities = [\"MR\"]"),
        ("deny_row", "[[row]]", "[[row]]\nid = \"no-ct\"\neffect = \"deny\"\nmodalities = [\"CT\"]\n\n[[row]]"),
    ];
    for (reason, from, to) in narrowed {
        amend(&house, |text| text.replacen(from, to, 1));
        let asked = ["--sop", "CTImageStorage", "--ts", "ExplicitVRLittleEndian", "--modality", "CT"];
        let explained = explain(&house, &own, CALLED, A, &asked);
        assert_eq!(explained["reason"], reason);
        let told = explained["wire"].as_str().expect("told");
        assert!(told.contains("C-STORE-RSP 0x0124"), "{told}");
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), Outcome::Status(0x0124), "{reason}");
        agrees(&house, "instance", &explained);
    }
}

#[test]
fn a_stranger_and_a_bad_certificate_are_explained_as_they_are_recorded() {
    let house = house();
    let stranger = issue(&house, "spiffe://hospital-a.invalid/viewer", Duration::from_secs(3600));
    let unknown = Pki::new().issue("spiffe://stranger.invalid/forwarder");
    let pem = |name: &str, chain: &str| {
        let path = house.dir().join(name);
        fs::write(&path, chain).expect("ours");
        path
    };
    let (known, foreign) = (pem("viewer.pem", &stranger.chain_pem), pem("foreign.pem", &unknown.chain_pem));

    let explained = explain(&house, &["--cert", text(&known)], CALLED, A, &[]);
    let mut peer = Peer::connect(house.addr(), &credentials(&house, &stranger)).expect("it is who it says");
    let answer = peer.associate(CALLED, A, sample_contexts());
    assert!(explained["wire"].as_str().is_some_and(|told| told.starts_with(&wire(&answer))), "{explained:#}");
    agrees(&house, "association", &explained);

    let explained = explain(&house, &["--cert", text(&foreign)], CALLED, A, &[]);
    assert_eq!((&explained["allowed"], &explained["asked"]), (&false.into(), &false.into()), "{explained:#}");
    assert!(explained["rows"].as_array().is_some_and(|rows| rows.len() == 2), "the table is shown all the same");
    // TLS 1.3 tells a client of its refusal only when it reads.
    if let Ok(mut peer) = Peer::connect(house.addr(), &credentials(&house, &unknown)) {
        assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Closed);
    }
    let code = explained["certificate"]["broken"]["code"].as_str().expect("a rule is broken");
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", code)]);
}

#[test]
fn explain_ends_with_the_verdict_in_one_line() {
    let house = house();
    let table = file(&house, "access.toml");
    let id = "spiffe://hospital-b.invalid/forwarder";
    let asked = ["explain", "--table", &table, "--id", id, "--called", CALLED, "--calling", B];
    let last = |code: i32, more: &[&str]| {
        let said = ends(code, &[&asked[..], more].concat());
        said.lines().last().expect("a line").to_owned()
    };
    let allowed = last(0, &["--sop", "CTImageStorage"]);
    assert_eq!(allowed, "ALLOWED by row \"hospital-b\" as tenant hospital-b; the sender sees A-ASSOCIATE-AC");
    let denied = last(1, &["--sop", "UltrasoundImageStorage"]);
    assert!(
        denied.starts_with("DENIED sop_class: the row does not list the SOP class (row \"hospital-b\");"),
        "{denied}"
    );
    ends(2, &asked[..5]);
    ends(2, &[&asked[..], &["--sop", "UltrasoundStorge"]].concat());
    ends(2, &["explain", "--table", "nowhere.toml", "--id", id, "--called", CALLED, "--calling", B]);
}

#[test]
fn a_suspension_ends_a_live_association_and_resuming_lets_it_in_again() {
    let house = house();
    let (config, table) = (file(&house, "gateway.toml"), file(&house, "access.toml"));
    let before = fs::read_to_string(&table).expect("there");
    let mut peer = associated(&house);
    let mut other = associated_b(&house);
    let said = ends(
        0,
        &["suspend", "spiffe://hospital-a.invalid/forwarder", "--reason", "CHG-7", "--config", &config, "--dry-run"],
    );
    assert!(said.contains("state: (nothing) → \"suspended\"") && said.contains("unchanged"), "{said}");
    assert_eq!(fs::read_to_string(&table).expect("there"), before);

    let said = ends(0, &["suspend", "hospital-a", "--reason", "CHG-7", "--ttl", "2h", "--config", &config]);
    assert!(said.contains("revision 1 → 2") && said.contains("within 1s and 1 s"), "{said}");
    assert!(matches!(peer.outcome(), Outcome::Aborted(_)), "without a word from the peer");
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "policy_revoked")]);
    let answer = connect(&house, "hospital-a").associate(CALLED, A, sample_contexts());
    assert_eq!(answer, Associated::Rejected(1, 1, 1));
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "row_suspended")]);
    let instance = Instance::numbered(1);
    assert_eq!(other.store(&instance.claim(), &instance.data_set()), SUCCESS, "another row's association goes on");

    ends(0, &["resume", "hospital-a", "--config", &config]);
    eventually("it is let in again", || {
        let answer = connect(&house, "hospital-a").associate(CALLED, A, sample_contexts());
        matches!(answer, Associated::Accepted(_)).then_some(())
    });
    assert!(ends(0, &["resume", "hospital-a", "--table", &table]).contains("nothing changed"));
    let comments =
        |text: &str| text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(comments(&fs::read_to_string(&table).expect("there")), comments(&before));
}

#[test]
fn the_kill_switch_ends_everything_until_it_is_off() {
    let house = house();
    let table = file(&house, "access.toml");
    let (mut one, mut other) = (associated(&house), associated_b(&house));
    ends(0, &["kill-switch", "on", "--table", &table]);
    assert!(matches!(one.outcome(), Outcome::Aborted(_)) && matches!(other.outcome(), Outcome::Aborted(_)));
    assert!(ends(0, &["kill-switch", "on", "--table", &table]).contains("already"));
    ends(0, &["kill-switch", "off", "--table", &table]);
    eventually("they are let in again", || {
        let answer = connect(&house, "hospital-b").associate(CALLED, B, sample_contexts());
        matches!(answer, Associated::Accepted(_)).then_some(())
    });
}

#[test]
fn who_changes_a_signed_table_is_told_to_sign_it_again() {
    let house = house();
    let table = file(&house, "access.toml");
    fs::write(house.dir().join("access.toml.sig"), "of another text").expect("ours");
    let said = ends(0, &["suspend", "hospital-a", "--reason", "CHG-7", "--table", &table]);
    assert!(said.contains("NOT IN FORCE YET") && said.contains("openssl pkeyutl -sign -rawin"), "{said}");
    ends(2, &["suspend", "hospital-a", "--reason", " ", "--table", &table]);
    ends(2, &["suspend", "hospital-a", "--reason", "x", "--until", "2020-01-01T00:00:00Z", "--table", &table]);
    ends(2, &["suspend", "hospital-c", "--reason", "x", "--table", &table]);
}

#[test]
fn what_is_suggested_can_be_pasted_and_lets_nobody_in() {
    let house = house();
    let (table, audit) = (file(&house, "access.toml"), file(&house, "audit.jsonl"));
    let stranger = issue(&house, "spiffe://hospital-a.invalid/viewer", Duration::from_secs(3600));
    let call = || {
        let mut peer = Peer::connect(house.addr(), &credentials(&house, &stranger)).expect("it is who it says");
        peer.associate(CALLED, A, sample_contexts())
    };
    assert_eq!(call(), Associated::Rejected(1, 1, 1));
    let answer = connect(&house, "hospital-b").associate("ARCHIVE2", B, sample_contexts());
    assert_eq!(answer, Associated::Rejected(1, 1, 7));
    audited(&house, &[("reason", "called_aet")]);

    let output = access(&["suggest", "--from", &audit, "--table", &table]);
    let suggested = stdout(&output);
    assert!(output.status.success(), "{}", said(&output));
    assert!(suggested.contains("identity = \"spiffe://hospital-a.invalid/viewer\""), "{suggested}");
    assert!(suggested.contains("#     called_aets = [\"PORTCULLIS\", \"ARCHIVE2\"]"), "{suggested}");
    assert!(!suggested.contains('*'), "{suggested}");
    amend(&house, |text| format!("{text}\n{suggested}"));
    ends(0, &["lint", &table]);
    assert_eq!(call(), Associated::Rejected(1, 1, 1), "it is suspended until somebody has looked at it");
    audited(&house, &[("reason", "row_suspended"), ("spiffe_id", "spiffe://hospital-a.invalid/viewer")]);
}

#[test]
fn diff_replays_what_happened_and_says_what_would_be_denied() {
    let house = house();
    let (table, audit) = (file(&house, "access.toml"), file(&house, "audit.jsonl"));
    let mut peer = associated(&house);
    for number in 1..=3 {
        let instance = Instance::numbered(number);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    }
    associated_b(&house);
    eventually("three instances are on record", || {
        let stored = house.audit().into_iter().filter(|line| line["reason"] == "stored").count();
        (stored == 3).then_some(())
    });
    let text = fs::read_to_string(&table).expect("there").replacen("revision = 1", "revision = 2", 1);
    let next = |name: &str, text: &str| {
        let path = house.dir().join(name);
        fs::write(&path, text).expect("ours");
        path.display().to_string()
    };
    let same = next("same.toml", &text);
    let said = ends(0, &["diff", &table, &same, "--replay", &audit]);
    assert!(said.contains("revision: 1 → 2") && said.contains("replay of 5 decisions: 0 allow → deny"), "{said}");
    let narrow = next("narrow.toml", &text.replacen("sop_classes = [\"*\"]", "sop_classes = [\"MRImageStorage\"]", 1));
    let said = ends(1, &["diff", &table, &narrow, "--replay", &audit]);
    let line = "3 × spiffe://hospital-a.invalid/forwarder  sop_class: the row does not list the SOP class";
    assert!(said.contains("sop_classes: [\"*\"] → [\"MRImageStorage\"]") && said.contains(line), "{said}");
    ends(0, &["diff", &table, &narrow]);
    let gone = next("gone.toml", &without_row(&text, "hospital-b"));
    let said = ends(1, &["diff", &table, &gone, "--replay", &audit, "--json"]);
    let value: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(value["replay"]["changes"][0]["reason"], "no_row: no row names this identity", "{value:#}");
    assert_eq!(value["replay"]["changes"][0]["count"], 1, "{value:#}");
    ends(2, &["diff", &table, &next("broken.toml", "revision = x")]);
}

#[test]
fn the_cases_that_we_ship_hold_for_the_table_of_dev_and_fail_for_another() {
    let house = house();
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/access-cases.toml");
    let table = file(&house, "access.toml");
    let said = ends(0, &["test", cases, "--table", &table]);
    assert!(said.contains("6 of 6 cases passed"), "{said}");
    let other = fs::read_to_string(&table).expect("there").replace("\"MRImageStorage\"", "\"UltrasoundImageStorage\"");
    fs::write(&table, other).expect("ours");
    let said = ends(1, &["test", cases, "--table", &table]);
    assert!(said.contains("4 of 6 cases passed") && said.contains("found allow"), "{said}");
    let own = house.dir().join("cases.toml");
    let by_certificate = |more: &str| {
        format!(
            "[[case]]\nname = \"by certificate\"\ncert = \"certs/hospital-b.pem\"\ncalled = \"{CALLED}\"\ncalling = \"{B}\"\n{more}\n"
        )
    };
    let good = by_certificate("ca = \"certs/hospital-b.invalid/ca.pem\"\nexpect = \"allow\"\nrow = \"hospital-b\"");
    let later = by_certificate("at = 2050-01-01T00:00:00Z\nexpect = \"deny\"\ncode = \"expired\"");
    fs::write(&own, good + &later).expect("ours");
    ends(0, &["test", text(&own), "--table", &table]);
    fs::write(&own, "").expect("ours");
    assert!(ends(2, &["test", text(&own), "--table", &table]).contains("prove nothing"));
}

#[test]
fn lint_says_what_a_receiver_would_say() {
    let house = house();
    let table = file(&house, "access.toml");
    let good = fs::read_to_string(&table).expect("there");
    ends(0, &["lint", &table]);
    assert!(ends(1, &["lint", &table, "--strict"]).contains("has no approved_by"));
    assert!(ends(1, &["lint", &table, "--deny-warnings"]).contains("warning:"));
    fs::write(&table, good.replacen("operations", "operatoins", 1)).expect("ours");
    let said = ends(1, &["lint", &table]);
    let check = portcullis(&["receive", "--config", &file(&house, "gateway.toml"), "--check"]);
    let sentence = said.split_once("access.toml: ").expect("the file first").1.trim();
    assert!(crate::support::said(&check).contains(sentence), "{sentence}\n{}", crate::support::said(&check));
    ends(2, &["lint", "nowhere.toml"]);
}

#[test]
fn every_verb_of_access_explains_itself() {
    for verb in ["lint", "explain", "diff", "test", "suggest", "suspend", "resume", "kill-switch"] {
        let help = ends(0, &[verb, "--help"]);
        assert!(help.contains("Usage:") && (help.contains("Example") || help.contains("[[case]]")), "{help}");
    }
}
