//! D2: contexts, one by one; and live associations under a changed table.

use std::sync::Arc;

use model::{ContextResult, Timestamp};

use super::precedence::{CT1_ROW, closed, table};
use crate::testing::{CT, CT1, DEFLATED, EXPLICIT, IMPLICIT, MR, now, origin, peer, proposal, seconds};
use crate::{Caller, DenialCode, Grant, Table};

const VERIFICATION: &str = "1.2.840.10008.1.1";
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const PRIVATE: &str = "1.3.6.1.4.1.55555.7";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const PRIVATE_SYNTAX: &str = "1.3.6.1.4.1.55555.8";

pub(super) fn grant(table: &Table, contexts: &[(&str, &[&str])]) -> Arc<Grant> {
    let proposal = proposal("ARCHIVE", "HOSPA_FWD", contexts);
    Arc::new(table.grant(peer(CT1), origin(), proposal, now()).unwrap_or_else(|denial| panic!("{denial}")))
}

/// 0 and the last component of the chosen syntax, or the reason.
fn answer(table: &Table, class: &str, syntaxes: &[&str]) -> (u8, String) {
    let grant = grant(table, &[(class, syntaxes)]);
    let result = &grant.contexts()[0].result;
    assert_eq!(grant.accepted(), usize::from(result.code() == 0));
    match result {
        ContextResult::Accepted(syntax) => (0, syntax.to_string()),
        other => (other.code(), String::new()),
    }
}

/// Name, rows, class and syntaxes proposed, what [`answer`] says.
type Answer = (&'static str, String, &'static str, &'static [&'static str], (u8, String));

#[test]
fn each_context_is_answered_on_its_own() {
    let listed = CT1_ROW.replace("transfer_syntaxes = [\"*\"]", &format!("transfer_syntaxes = [\"{EXPLICIT}\"]"));
    let wide = CT1_ROW.replace("\"CTImageStorage\"", "\"*\"");
    let deflated = CT1_ROW.replace("[\"*\"]", "[\"*\", \"DeflatedExplicitVRLittleEndian\"]");
    let all_storage = CT1_ROW.replace("\"CTImageStorage\"", "\"all-storage\"");
    let echo_only = CT1_ROW.replace("\"echo\", \"store\"", "\"echo\"");
    let store_only = CT1_ROW.replace("\"echo\", \"store\"", "\"store\"");
    let deny = |columns: &str| format!("{CT1_ROW}[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}\n");
    let yes = |syntax: &str| (0, syntax.to_owned());
    let no = |code: u8| (code, String::new());
    let cases: Vec<Answer> = vec![
        ("the sender's favourite", CT1_ROW.into(), CT, &[EXPLICIT, IMPLICIT], yes(EXPLICIT)),
        ("the first that is listed", listed.clone(), CT, &[IMPLICIT, EXPLICIT], yes(EXPLICIT)),
        ("none that is listed", listed.clone(), CT, &[IMPLICIT, JPEG], no(4)),
        ("a private syntax by *", CT1_ROW.into(), CT, &[PRIVATE_SYNTAX], yes(PRIVATE_SYNTAX)),
        ("* leaves deflated out", CT1_ROW.into(), CT, &[DEFLATED, IMPLICIT], yes(IMPLICIT)),
        ("deflated alone", CT1_ROW.into(), CT, &[DEFLATED], no(4)),
        ("deflated when listed", deflated, CT, &[DEFLATED], yes(DEFLATED)),
        ("another class", CT1_ROW.into(), MR, &[IMPLICIT], no(1)),
        ("all-storage has it", all_storage.clone(), MR, &[IMPLICIT], yes(IMPLICIT)),
        ("all-storage has nothing private", all_storage, PRIVATE, &[IMPLICIT], no(1)),
        ("* has everything private", wide.clone(), PRIVATE, &[IMPLICIT], yes(IMPLICIT)),
        ("a query is not storage", wide, FIND, &[IMPLICIT], no(3)),
        ("store is not allowed", echo_only.clone(), CT, &[IMPLICIT], no(1)),
        ("echo", echo_only, VERIFICATION, &[IMPLICIT], yes(IMPLICIT)),
        ("echo in a syntax that is not listed", listed, VERIFICATION, &[JPEG, IMPLICIT], yes(IMPLICIT)),
        ("echo is not allowed", store_only, VERIFICATION, &[IMPLICIT], no(1)),
        ("a denied class", deny("sop_classes = [\"all-storage\"]"), CT, &[IMPLICIT], no(1)),
        (
            "a denied syntax",
            deny(&format!("transfer_syntaxes = [\"{IMPLICIT}\"]")),
            CT,
            &[IMPLICIT, EXPLICIT],
            yes(EXPLICIT),
        ),
        ("a denied operation", deny("operations = [\"store\"]"), CT, &[IMPLICIT], no(1)),
        ("another denied operation", deny("operations = [\"echo\"]"), CT, &[IMPLICIT], yes(IMPLICIT)),
    ];
    for (name, rows, class, syntaxes, expected) in cases {
        assert_eq!(answer(&table(&rows), class, syntaxes), expected, "{name}");
    }
}

#[test]
fn a_grant_tells_what_was_decided() {
    let until = now().plus(seconds(60));
    let rows = format!("{CT1_ROW}valid_until = {until}\n");
    let grant = grant(&table(&rows), &[(CT, &[IMPLICIT]), (MR, &[IMPLICIT]), (VERIFICATION, &[IMPLICIT])]);
    assert_eq!((grant.accepted(), grant.contexts().len(), grant.table_revision()), (2, 3, 1));
    assert_eq!(grant.contexts().iter().map(|answer| answer.id).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(grant.allows_echo() && !grant.allows_commit());
    assert_eq!(grant.expires(), until, "the row ends before the SVID");
    let posture = format!("{rows}posture_ok_until = {}\n", until.minus(seconds(1)));
    assert_eq!(super::decisions::grant(&table(&posture), &[]).expires(), until.minus(seconds(1)));
    let open_ended = super::decisions::grant(&table(CT1_ROW), &[]);
    assert_eq!(open_ended.expires(), open_ended.peer().svid().not_after());
}

#[test]
fn a_grant_ends_with_its_window() {
    let seven = Timestamp::parse("2026-11-23T07:00:00Z").expect("valid");
    let table = table(&format!("{CT1_ROW}windows = [\"Mon 06:00-07:30\"]\n"));
    let caller = Caller { not_after: seven.plus(seconds(86_400)), ..peer(CT1).caller().clone() };
    let asked = proposal("ARCHIVE", "HOSPA_FWD", &[]);
    let judged = table.choose(&caller, &origin(), &asked.called, &asked.calling, seven).expect("open");
    assert_eq!(judged.expires().to_string(), "2026-11-23T07:29:59.999Z");
    let soon = Caller { not_after: seven.plus(seconds(60)), ..caller };
    let judged = table.choose(&soon, &origin(), &asked.called, &asked.calling, seven).expect("open");
    assert_eq!(judged.expires(), soon.not_after, "the SVID ends before");
}

#[test]
fn a_live_association_follows_the_table() {
    use DenialCode::*;
    let grant = grant(&table(CT1_ROW), &[(CT, &[IMPLICIT])]);
    let deny = "[[row]]\nid = \"deny\"\neffect = \"deny\"\n";
    let past = now().minus(seconds(60));
    let future = now().plus(seconds(60));
    let cases = [
        ("nothing changed", CT1_ROW.to_owned(), None),
        ("widened", CT1_ROW.replace("\"ARCHIVE\"", "\"*\""), None),
        ("another class as well", CT1_ROW.replace("\"CTI", "\"MRImageStorage\", \"CTI"), None),
        ("row removed", String::new(), Some(PolicyRevoked)),
        ("row renamed", CT1_ROW.replace("\"ct1\"\n", "\"ct1-new\"\n"), Some(PolicyRevoked)),
        ("row given to another", CT1_ROW.replace("ingest/ct1", "ingest/ct2"), Some(PolicyRevoked)),
        ("another tenant", CT1_ROW.replace("\"hosp-a\"", "\"hosp-b\""), Some(PolicyRevoked)),
        ("suspended", format!("{CT1_ROW}state = \"suspended\"\n"), Some(PolicyRevoked)),
        ("denied", format!("{CT1_ROW}{deny}"), Some(PolicyRevoked)),
        ("window closed", format!("{CT1_ROW}valid_until = {past}\n"), Some(WindowClosed)),
        ("window moved", format!("{CT1_ROW}not_before = {future}\n"), Some(WindowClosed)),
        ("killed", format!("kill_switch = true\n{CT1_ROW}"), Some(KillSwitch)),
        ("killed before a removed row", "kill_switch = true\n".to_owned(), Some(KillSwitch)),
        ("outside its windows", format!("{CT1_ROW}windows = [\"{}\"]\n", closed()), Some(WindowClosed)),
        ("posture", format!("{CT1_ROW}posture_ok_until = {past}\n"), Some(Posture)),
        ("endpoint asked for", format!("{CT1_ROW}require_vpce = true\n"), Some(PolicyNarrowed)),
        ("shorter SVID asked for", format!("{CT1_ROW}max_svid_lifetime = \"1m\"\n"), Some(PolicyNarrowed)),
        ("content narrowed, which each instance is asked", format!("{CT1_ROW}institutions = [\"X\"]\n"), None),
        ("observed now", format!("{CT1_ROW}mode = \"observe\"\nrequire_vpce = true\n"), None),
        ("other called", CT1_ROW.replace("\"ARCHIVE\"", "\"OTHER\""), Some(PolicyNarrowed)),
        ("other calling", CT1_ROW.replace("\"HOSPA_FWD\"", "\"OTHER\""), Some(PolicyNarrowed)),
        ("other network", format!("{CT1_ROW}source_cidrs = [\"198.51.100.0/24\"]\n"), Some(PolicyNarrowed)),
        ("no class is left", CT1_ROW.replace("\"CTI", "\"MRI"), Some(PolicyNarrowed)),
        ("no operation is left", CT1_ROW.replace("\"echo\", \"store\"", "\"echo\""), Some(PolicyNarrowed)),
    ];
    for (name, rows, expected) in cases {
        let still = table(&rows).still_grants(&grant, now());
        let waits = matches!(expected, Some(PolicyNarrowed | WindowClosed | Posture));
        assert!(still.as_ref().err().is_none_or(|denial| denial.can_wait() == waits), "{name}");
        assert_eq!(still.err().map(|denial| denial.code), expected, "{name}");
    }
    let late = grant.peer().svid().not_after().plus(seconds(1));
    assert_eq!(table(CT1_ROW).still_grants(&grant, late).expect_err("late").code, SvidExpired);
}
