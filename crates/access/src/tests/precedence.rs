//! access-table.md, precedence 1 to 7, at the door (D1) and at the association (D2).

use crate::testing::{CT, CT1, IMPLICIT, now, origin, peer, peer_over, proposal, seconds};
use crate::{DenialCode, Origin, Table};

pub(super) const CT1_ROW: &str = r#"
[[row]]
id = "ct1"
effect = "allow"
identity = "spiffe://hosp-a.example/ingest/ct1"
tenant = "hosp-a"
called_aets = ["ARCHIVE"]
calling_aets = ["HOSPA_FWD"]
operations = ["echo", "store"]
sop_classes = ["CTImageStorage"]
transfer_syntaxes = ["*"]
"#;

pub(super) fn table(rows: &str) -> Table {
    Table::parse(&format!("revision = 1\n{rows}")).unwrap_or_else(|error| panic!("{error}"))
}

/// What D1 and then D2 say to CT1 as HOSPA_FWD calling ARCHIVE for CT images.
fn verdict(rows: &str, from: &Origin) -> Option<DenialCode> {
    let (table, peer) = (table(rows), peer(CT1));
    let proposal = proposal("ARCHIVE", "HOSPA_FWD", &[(CT, &[IMPLICIT])]);
    let admitted = table.admit(&peer, from, now());
    let granted = table.grant(peer, from.clone(), proposal, now());
    if let Err(denial) = &admitted {
        assert_eq!(granted.as_ref().err(), Some(denial), "D2 asks all that D1 asked");
    }
    admitted.err().or_else(|| granted.err()).map(|denial| denial.code)
}

fn at(offset_seconds: i64) -> String {
    model::Timestamp::from_millis(now().as_millis() + offset_seconds * 1000).to_string()
}

/// A window on another day than today.
pub(super) fn closed() -> String {
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let in_three_days = now().as_millis() / 86_400_000 + 3;
    format!("{} 00:00-24:00", days[usize::try_from(in_three_days % 7).expect("small")])
}

#[test]
fn the_precedence_of_the_table_holds() {
    use DenialCode::*;
    let deny = |columns: &str| format!("[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}\n");
    let about_ct1 = "identity = \"spiffe://hosp-a.example/ingest/ct1\"\n";
    let prefix = r#"
[[row]]
id = "all-of-ingest"
effect = "allow"
prefix = "spiffe://hosp-a.example/ingest/"
tenant = "hosp-a"
called_aets = ["*"]
calling_aets = ["*"]
operations = ["store"]
sop_classes = ["*"]
transfer_syntaxes = ["*"]
"#;
    let allow_prefix = "allow_prefix = [\"hosp-a.example\"]\n";
    let elsewhere = CT1_ROW.replace("ingest/ct1", "ingest/ct2");
    let plus = |columns: &str| format!("{CT1_ROW}{columns}\n");
    let cases: Vec<(&str, String, Option<DenialCode>)> = vec![
        ("2 the kill switch", format!("kill_switch = true\n{CT1_ROW}"), Some(KillSwitch)),
        ("2 before a deny row", format!("kill_switch = true\n{}", plus(&deny(about_ct1))), Some(KillSwitch)),
        ("2 before no_row", "kill_switch = true\n".into(), Some(KillSwitch)),
        ("2 off", format!("kill_switch = false\n{CT1_ROW}"), None),
        ("4 an empty table", String::new(), Some(NoRow)),
        ("4 another's row", elsewhere.clone(), Some(NoRow)),
        ("6 its own row", CT1_ROW.into(), None),
        ("4 a prefix", format!("{allow_prefix}{prefix}"), None),
        ("3 a deny row without columns", plus(&deny(about_ct1)), Some(DenyRow)),
        ("3 before the row as well", format!("{}{CT1_ROW}", deny(about_ct1)), Some(DenyRow)),
        ("3 everybody", plus(&deny("")), Some(DenyRow)),
        (
            "3 by prefix, which needs no leave",
            plus(&deny("prefix = \"spiffe://hosp-a.example/ingest/\"")),
            Some(DenyRow),
        ),
        ("3 another's deny row", plus(&deny("identity = \"spiffe://hosp-a.example/ingest/ct2\"")), None),
        ("3 before no_row", format!("{elsewhere}{}", deny(about_ct1)), Some(DenyRow)),
        ("3 called", plus(&deny(&format!("{about_ct1}called_aets = [\"ARCHIVE\"]"))), Some(DenyRow)),
        ("3 another called", plus(&deny(&format!("{about_ct1}called_aets = [\"OTHER\"]"))), None),
        ("3 any column", plus(&deny("called_aets = [\"OTHER\"]\ncalling_aets = [\"HOSPA_FWD\"]")), Some(DenyRow)),
        ("3 a missing endpoint", plus(&deny("source_vpce = [\"vpce-00000000\"]")), Some(DenyRow)),
        ("3 a network", plus(&deny("source_cidrs = [\"192.0.2.0/24\"]")), Some(DenyRow)),
        ("3 another network", plus(&deny("source_cidrs = [\"198.51.100.0/24\"]")), None),
        ("3 a suspended deny row", plus(&deny("state = \"suspended\"")), None),
        ("3 a deny row that has ended", plus(&deny(&format!("valid_until = {}", at(-60)))), None),
        ("3 a deny row outside its windows", plus(&deny(&format!("windows = [\"{}\"]", closed()))), None),
        ("3 a deny row within its windows", plus(&deny("windows = [\"* 00:00-24:00\"]")), Some(DenyRow)),
        ("5 outside its windows", plus(&format!("windows = [\"{}\"]", closed())), Some(OutsideWindow)),
        ("5 within one of its windows", plus(&format!("windows = [\"{}\", \"* 00:00-24:00\"]", closed())), None),
        ("5 a posture that was good until now", plus(&format!("posture_ok_until = {}", at(-1))), Some(Posture)),
        ("5 a posture that is good", plus(&format!("posture_ok_until = {}", at(60))), None),
        ("5 suspended", plus("state = \"suspended\"\nreason = \"stolen\""), Some(RowSuspended)),
        ("5 suspended until later", plus(&format!("state = \"suspended\"\nuntil = {}", at(60))), Some(RowSuspended)),
        ("5 suspended until just now", plus(&format!("state = \"suspended\"\nuntil = {}", at(-60))), None),
        ("5 expired", plus(&format!("valid_until = {}", at(-60))), Some(RowExpired)),
        ("5 not yet", plus(&format!("not_before = {}", at(60))), Some(RowNotYet)),
        ("5 within its window", plus(&format!("not_before = {}\nvalid_until = {}", at(-60), at(60))), None),
        (
            "5 a suspended row is not undone by a prefix",
            format!("{allow_prefix}{}{prefix}", plus("state = \"suspended\"")),
            Some(RowSuspended),
        ),
        ("6 called", CT1_ROW.replace("\"ARCHIVE\"", "\"archive\""), Some(CalledAet)),
        ("6 calling", CT1_ROW.replace("\"HOSPA_FWD\"", "\"OTHER\""), Some(CallingAet)),
        ("6 no called", CT1_ROW.replace("[\"ARCHIVE\"]", "[]"), Some(CalledAet)),
        ("6 unpopulated calling", CT1_ROW.replace("calling_aets", "#"), Some(CallingAet)),
        ("6 any called", CT1_ROW.replace("\"ARCHIVE\"", "\"*\""), None),
        ("6 an endpoint that is missing", plus("source_vpce = [\"vpce-08d2bf15fac5001c9\"]"), Some(VpceMissing)),
        ("6 any endpoint that is missing", plus("require_vpce = true"), Some(VpceMissing)),
        ("6 no endpoint is asked for", plus("require_vpce = false"), None),
        ("6 another network", plus("source_cidrs = [\"198.51.100.0/24\", \"2001:db8::/32\"]"), Some(Source)),
        ("6 the network", plus("source_cidrs = [\"192.0.2.0/24\"]"), None),
        ("6 a shorter SVID is asked for", plus("max_svid_lifetime = \"1h\""), Some(SvidLifetime)),
        ("6 short enough", plus("max_svid_lifetime = \"2h\""), None),
        ("6 TLS 1.3", plus("min_tls = \"1.3\""), None),
    ];
    for (name, rows, expected) in cases {
        assert_eq!(verdict(&rows, &origin()), expected, "{name}");
    }
}

#[test]
fn two_rows_never_add_up() {
    let second = CT1_ROW
        .replace("\"ct1\"\neffect", "\"ct1-b\"\neffect")
        .replace("ARCHIVE", "RESEARCH")
        .replace("HOSPA_FWD", "RESEARCHER")
        .replace("CTImageStorage", "MRImageStorage")
        .replace("\"hosp-a\"", "\"research\"");
    let table = table(&format!("{CT1_ROW}{second}"));
    let peer = peer(CT1);
    for (called, calling, expected) in [
        ("ARCHIVE", "HOSPA_FWD", Ok(("ct1", 1))),
        ("RESEARCH", "RESEARCHER", Ok(("ct1-b", 0))),
        ("ARCHIVE", "RESEARCHER", Err(DenialCode::CallingAet)),
        ("RESEARCH", "HOSPA_FWD", Err(DenialCode::CallingAet)),
        ("OTHER", "HOSPA_FWD", Err(DenialCode::CalledAet)),
    ] {
        let grant = table.grant(peer.clone(), origin(), proposal(called, calling, &[(CT, &[IMPLICIT])]), now());
        let found = grant.as_ref().map(|grant| (grant.row().id(), grant.accepted())).map_err(|denial| denial.code);
        assert_eq!(found, expected, "{calling} calls {called}");
    }
}

#[test]
fn what_a_proxy_claims_narrows_and_never_grants() {
    let claims =
        |source: [u8; 4], vpce: &str| Origin { source: Some((source, 1).into()), vpce: Some(vpce.into()), ..origin() };
    let narrowed =
        format!("{CT1_ROW}source_vpce = [\"vpce-08d2bf15fac5001c9\"]\nsource_cidrs = [\"198.51.100.0/24\"]\n");
    for (name, from, expected) in [
        ("right", claims([198, 51, 100, 9], "vpce-08d2bf15fac5001c9"), None),
        ("other endpoint", claims([198, 51, 100, 9], "vpce-00000000"), Some(DenialCode::Vpce)),
        ("other network", claims([203, 0, 113, 9], "vpce-08d2bf15fac5001c9"), Some(DenialCode::Source)),
    ] {
        assert_eq!(verdict(&narrowed, &from), expected, "{name}");
    }
    let right = claims([198, 51, 100, 9], "vpce-08d2bf15fac5001c9");
    assert_eq!(verdict(&narrowed.replace("ingest/ct1", "ingest/ct2"), &right), Some(DenialCode::NoRow));
    let mapped = Origin { socket: "[::ffff:198.51.100.9]:1".parse().expect("valid"), source: None, ..right };
    assert_eq!(verdict(&narrowed, &mapped), None, "an IPv4 peer on an IPv6 socket");
}

#[test]
fn a_row_can_ask_for_tls_1_3() {
    let table = table(&format!("{CT1_ROW}min_tls = \"1.3\"\n"));
    let old = peer_over(CT1, &rustls::version::TLS12);
    assert_eq!(table.admit(&old, &origin(), now()).expect_err("old").code, DenialCode::MinTls);
    assert_eq!(table.admit(&peer(CT1), &origin(), now()), Ok(()));
}

#[test]
fn an_svid_that_expired_after_the_handshake_is_no_longer_admitted() {
    let (table, peer) = (table(CT1_ROW), peer(CT1));
    let end = peer.svid().not_after();
    assert_eq!(table.admit(&peer, &origin(), end), Ok(()));
    let denial = table.admit(&peer, &origin(), end.plus(seconds(1))).expect_err("expired");
    assert_eq!(denial.code, DenialCode::SvidExpired);
}

#[test]
fn the_longest_prefix_speaks_for_an_identity() {
    let row = |id: &str, prefix: &str, tenant: &str| {
        CT1_ROW
            .replace("\"ct1\"\neffect", &format!("\"{id}\"\neffect"))
            .replace("identity = \"spiffe://hosp-a.example/ingest/ct1\"", &format!("prefix = \"{prefix}\""))
            .replace("\"hosp-a\"", &format!("\"{tenant}\""))
    };
    let (short, long) =
        (row("short", "spiffe://hosp-a.example/i/", "one"), row("long", "spiffe://hosp-a.example/i/x/", "two"));
    for rows in [format!("{short}{long}"), format!("{long}{short}")] {
        let table = table(&format!("allow_prefix = [\"hosp-a.example\"]\n{rows}"));
        for (id, expected) in [("i/x/ct", Some("two")), ("i/ct", Some("one")), ("i/xx", Some("one")), ("ix", None)] {
            let peer = peer(&format!("spiffe://hosp-a.example/{id}"));
            let grant = table.grant(peer, origin(), proposal("ARCHIVE", "HOSPA_FWD", &[]), now());
            assert_eq!(grant.ok().map(|grant| grant.tenant().to_string()).as_deref(), expected, "{id}");
        }
    }
}

#[test]
fn only_a_caller_with_a_row_in_force_is_helped() {
    use DenialCode::*;
    for code in DenialCode::ALL {
        let denial = crate::Denial { code: *code, row: None, detail: String::new() };
        let stranger = matches!(
            code,
            KillSwitch
                | PolicyStale
                | NoRow
                | DenyRow
                | AutoSuspended
                | RowSuspended
                | RowExpired
                | RowNotYet
                | OutsideWindow
                | Posture
                | VpceMissing
                | Vpce
                | Source
                | PolicyRevoked
        );
        assert_eq!(denial.knows_caller(), !stranger, "{}", code.as_str());
    }
}
