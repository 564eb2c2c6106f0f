use model::{Digest, OnDuplicate, OnPatientConflict, Timestamp};

use super::precedence::CT1_ROW;
use crate::testing::now;
use crate::{Limits, MinTls, Standing, Table, TableError};

/// The example of access-table.md.
const EXAMPLE: &str = r#"revision = 17

[[row]]
id = "hosp-a-ct1"
effect = "allow"
identity = "spiffe://hosp-a.example/ingest/ct1"
tenant = "hosp-a"
called_aets = ["ARCHIVE"]
calling_aets = ["HOSPA_FWD"]
operations = ["echo", "store", "commit"]
sop_classes = ["CTImageStorage"]          # keyword or UID; named sets such as "all-storage"; "*" is legal and linted
transfer_syntaxes = ["*"]
source_vpce = ["vpce-08d2bf15fac5001c9"]  # narrows, never grants
max_associations = 8
on_conflict = "revise"
quiet = "60s"
valid_until = 2027-01-31T00:00:00Z
state = "enabled"
owner = "pacs@hosp-a.example"
ticket = "CHG-1"
"#;

fn refused(text: &str) -> TableError {
    Table::parse(text).err().unwrap_or_else(|| panic!("accepted: {text}"))
}

#[test]
fn the_example_of_the_specification_is_a_table() {
    let table = Table::parse(EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((table.revision(), table.digest()), (17, Digest::of(EXAMPLE.as_bytes())));
    let [row] = table.rows() else { panic!("one row") };
    assert_eq!((row.id(), row.tenant().as_str()), ("hosp-a-ct1", "hosp-a"));
    assert_eq!(row.identity().to_string(), "spiffe://hosp-a.example/ingest/ct1");
    assert_eq!((row.max_associations(), row.quiet().map(|span| span.as_secs())), (Some(8), Some(60)));
    assert_eq!(row.valid_until().map(|end| end.to_string()).as_deref(), Some("2027-01-31T00:00:00.000Z"));
    assert_eq!((row.owner(), row.ticket()), (Some("pacs@hosp-a.example"), Some("CHG-1")));
    assert_eq!(row.standing(), &Standing::Enabled);
    let warnings = table.warnings(Timestamp::from_seconds(1_790_000_000));
    assert_eq!(warnings[0], "row \"hosp-a-ct1\": transfer_syntaxes has \"*\", which allows every value");
    assert!(warnings[1].contains("PROXY v2") && warnings.len() == 2, "{warnings:?}");
}

#[test]
fn the_other_columns_are_read_as_well() {
    let more = "rev = 3\nmin_tls = \"1.3\"\nmax_svid_lifetime = \"90m\"\nmax_wait = \"24h\"\nquiet = \"500ms\"\n\
        max_instance_bytes = 1\nnot_before = 2026-01-01T01:00:00+01:00\nstate = \"suspended\"\nreason = \"lost\"\n\
        until = 2026-02-01T00:00:00Z\ncontact = \"c\"\ncreated_by = \"a\"\napproved_by = \"b\"\n\
        updated_at = 2026-01-01\nreview_by = 2027-01-01T00:00:00Z\nmodalities = [\"CT\"]\n";
    let table = Table::parse(&format!("revision = 0\n{CT1_ROW}{more}")).unwrap_or_else(|error| panic!("{error}"));
    let row = &table.rows()[0];
    assert_eq!((row.rev(), row.min_tls(), row.max_instance_bytes()), (Some(3), Some(MinTls::Tls13), Some(1)));
    assert_eq!(row.max_svid_lifetime().map(|span| span.as_secs()), Some(5400));
    assert_eq!(row.quiet().zip(row.max_wait()).map(|(q, w)| (q.as_millis(), w.as_secs())), Some((500, 86400)));
    assert_eq!(row.not_before().map(|begin| begin.to_string()).as_deref(), Some("2026-01-01T00:00:00.000Z"));
    assert_eq!(row.updated_at().map(|day| day.to_string()).as_deref(), Some("2026-01-01T00:00:00.000Z"));
    assert_eq!((row.contact(), row.created_by(), row.approved_by()), (Some("c"), Some("a"), Some("b")));
    assert!(row.review_by().is_some());
    assert!(matches!(row.standing(), Standing::Suspended { reason: Some(_), until: Some(_) }));
}

#[test]
fn quotas_and_the_columns_of_the_data_set_are_read() {
    let more = "max_associations = 8\nmax_rate = \"20/s\"\nmax_instances_day = 1000\nmax_bytes_day = 2000\n\
        windows = [\"Mon-Fri 07:00-19:00\"]\nposture_ok_until = 2027-01-01T00:00:00Z\nrequire_vpce = true\n\
        patient_issuers = [\"A\"]\ncoerce_issuer = \"A\"\ninstitutions = [\"\u{c4}rztehaus\"]\nmode = \"enforce\"\n\
        study_binding = \"own\"\nconflict_patient_id = \"reject\"\nduplicate = \"idempotent\"\n";
    let tenant = "[[tenant]]\nname = \"hosp-a\"\nmax_rate = \"600/m\"\nmax_associations = 20\n\
        max_instances_day = 3\nmax_bytes_day = 4\n";
    let text = format!("revision = 0\nmode = \"enforce\"\n{CT1_ROW}{more}{tenant}");
    let table = Table::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let row = &table.rows()[0];
    let numbers = |limits: &Limits| {
        let rate = limits.max_rate.expect("there").to_string();
        let instances = limits.max_instances_day.expect("there").get();
        (limits.max_associations.expect("there").get(), rate, instances, limits.max_bytes_day.expect("there").get())
    };
    assert_eq!(numbers(row.limits()), (8, "20/s".to_owned(), 1000, 2000));
    assert_eq!(numbers(table.tenant_limits(row.tenant()).expect("there")), (20, "600/m".to_owned(), 3, 4));
    assert_eq!(table.tenant_limits(&model::Tenant::parse("other").expect("valid")), None);
    assert!(row.windows().is_some() && row.posture_ok_until().is_some() && !row.observes() && row.binds_study());
    assert_eq!((row.on_patient_conflict(), row.on_duplicate()), (OnPatientConflict::Reject, OnDuplicate::Idempotent));
    let plain = Table::parse(&format!("revision = 0\n{CT1_ROW}")).expect("legal");
    assert!(plain.rows()[0].limits().is_empty() && !plain.is_killed());
}

#[test]
fn a_table_without_rows_is_legal_and_a_text_without_a_revision_is_not() {
    assert!(Table::parse("revision = 1").expect("legal").rows().is_empty());
    for (name, text) in [("empty", ""), ("comment", "# nothing\n"), ("rows only", CT1_ROW), ("no TOML", "][")] {
        assert!(Table::parse(text).is_err(), "{name}");
    }
    assert!(refused("").to_string().contains("revision"));
}

/// The row with one thing changed, and a word that must be in the message.
#[test]
fn one_fault_refuses_the_whole_table_and_is_named() {
    let with = |column: &str| format!("{CT1_ROW}{column}\n");
    let without = |from: &str, to: &str| {
        assert!(CT1_ROW.contains(from), "{from}");
        CT1_ROW.replace(from, to)
    };
    let deny = |columns: &str| format!("[[row]]\nid = \"ct1\"\neffect = \"deny\"\n{columns}\n");
    let prefix =
        |prefix: &str| without("identity = \"spiffe://hosp-a.example/ingest/ct1\"", &format!("prefix = \"{prefix}\""));
    let again = |from: &str, to: &str| format!("{CT1_ROW}{}", without("\"ct1\"\n", "\"b\"\n").replace(from, to));
    let cases: Vec<(&str, String, &str)> = vec![
        ("unknown column", with("colour = \"red\""), "colour"),
        ("a column that nobody enforces", with("quarantine = true"), "not enforced"),
        ("cron", with("windows = [\"* * * * *\"]"), "windows"),
        ("id twice", format!("{CT1_ROW}{}", deny("")), "twice"),
        ("no id", without("id = \"ct1\"\n", ""), "missing field `id`"),
        ("bad id", without("\"ct1\"\n", "\"c t\"\n"), "1 to 64"),
        ("no effect", without("effect = \"allow\"\n", ""), "missing field `effect`"),
        ("unknown effect", without("\"allow\"", "\"maybe\""), "maybe"),
        ("no identity", without("identity", "# "), "identity is missing"),
        ("identity without a path", without("/ingest/ct1", ""), "identity"),
        ("wildcard in the trust domain", without("spiffe://hosp-a.example", "spiffe://*.example"), "identity"),
        ("wildcard in the path", without("ingest/ct1", "ingest/*"), "identity"),
        ("identity and prefix", with("prefix = \"spiffe://hosp-a.example/x/\""), "keep one"),
        ("prefix without leave", prefix("spiffe://hosp-a.example/ingest/"), "allow_prefix"),
        ("prefix without a slash", prefix("spiffe://hosp-a.example/ingest"), "end with /"),
        ("bare prefix", prefix("spiffe://hosp-a.example/"), "no path"),
        ("prefix in the trust domain", prefix("spiffe://hosp-a/"), "no path"),
        ("no tenant", without("tenant", "# "), "tenant is missing"),
        ("bad tenant", without("\"hosp-a\"", "\"../x\""), "tenant"),
        ("AE title of 17", without("ARCHIVE", "ARCHIVE_ARCHIVE_1"), "called_aets"),
        ("unknown keyword", without("CTImageStorage", "CTStorage"), "CTStorage"),
        ("unknown UID", without("CTImageStorage", "1.2.840.10008.5.1.4.1.1.9999"), "sop_classes"),
        ("a query class", without("CTImageStorage", "1.2.840.10008.5.1.4.1.2.2.1"), "sop_classes"),
        ("verification as a class", without("CTImageStorage", "1.2.840.10008.1.1"), "operations"),
        ("no UID", without("CTImageStorage", "1..2"), "sop_classes"),
        ("unknown syntax", without("[\"*\"]", "[\"JPEG\"]"), "transfer_syntaxes"),
        ("unknown syntax UID", without("[\"*\"]", "[\"1.2.840.10008.1.2.999\"]"), "transfer_syntaxes"),
        ("unknown operation", without("\"echo\"", "\"find\""), "find"),
        ("bad modality", with("modalities = [\"ct\"]"), "modalities"),
        ("empty narrowing", with("source_cidrs = []"), "source_cidrs"),
        ("host bits", with("source_cidrs = [\"192.0.2.7/24\"]"), "source_cidrs"),
        ("too many bits", with("source_cidrs = [\"192.0.2.7/33\"]"), "source_cidrs"),
        ("mapped addresses", with("source_cidrs = [\"::ffff:192.0.2.0/120\"]"), "source_cidrs"),
        ("signed bits", with("source_cidrs = [\"0.0.0.0/+0\"]"), "source_cidrs"),
        ("bad endpoint", with("source_vpce = [\"vpce-XYZ\"]"), "source_vpce"),
        ("local time", with("valid_until = 2027-01-31T00:00:00"), "valid_until"),
        ("a day", with("valid_until = 2027-01-31"), "valid_until"),
        (
            "window upside down",
            with("not_before = 2027-01-31T00:00:00Z\nvalid_until = 2026-01-31T00:00:00Z"),
            "not_before",
        ),
        ("unknown TLS", with("min_tls = \"1.1\""), "1.1"),
        ("no unit", with("quiet = \"60\""), "quiet"),
        ("no number", with("quiet = \"s\""), "quiet"),
        ("nothing", with("quiet = \"0s\""), "quiet"),
        ("too long", with("max_wait = \"18446744073709551615h\""), "max_wait"),
        ("wait before quiet", with("quiet = \"60s\"\nmax_wait = \"30s\""), "max_wait"),
        ("no association", with("max_associations = 0"), "max_associations"),
        ("negative", with("max_instance_bytes = -1"), "-1"),
        ("until without suspension", with("until = 2027-01-31T00:00:00Z"), "until"),
        ("reason without suspension", with("reason = \"x\""), "reason"),
        ("unknown conflict", with("on_conflict = \"overwrite\""), "overwrite"),
        ("same identity, same AE", again("x", "x"), "unclear"),
        ("same identity, any AE", again("\"ARCHIVE\"", "\"*\""), "unclear"),
        ("no rate", with("max_rate = \"0/s\""), "max_rate"),
        ("a rate without a unit", with("max_rate = \"20\""), "max_rate"),
        ("no instance a day", with("max_instances_day = 0"), "max_instances_day"),
        ("no byte a day", with("max_bytes_day = 0"), "max_bytes_day"),
        ("no byte", with("max_instance_bytes = 0"), "max_instance_bytes"),
        ("no window", with("windows = []"), "windows is an empty list"),
        ("no window in a deny row", deny("windows = []"), "windows is an empty list"),
        ("no issuer", with("patient_issuers = []"), "patient_issuers"),
        ("an issuer with spaces around it", with("patient_issuers = [\"A \"]"), "patient_issuers"),
        ("an empty issuer", with("coerce_issuer = \"\""), "coerce_issuer"),
        ("an issuer that is not let in", with("patient_issuers = [\"A\"]\ncoerce_issuer = \"B\""), "coerce_issuer"),
        ("two institutions in one", with("institutions = [\"A\\\\B\"]"), "institutions"),
        ("a long institution", with(&format!("institutions = [\"{}\"]", "x".repeat(65))), "institutions"),
        ("no institution in a deny row", deny("institutions = []"), "institutions"),
        ("unknown binding", with("study_binding = \"any\""), "any"),
        ("unknown patient conflict", with("conflict_patient_id = \"revise\""), "revise"),
        ("unknown duplicate", with("duplicate = \"quarantine\""), "quarantine"),
        ("unknown mode", with("mode = \"dry-run\""), "dry-run"),
        ("a posture that is a day", with("posture_ok_until = 2027-01-31"), "posture_ok_until"),
        ("mode in a deny row", deny("mode = \"observe\""), "mode"),
        ("a quota in a deny row", deny("max_rate = \"1/s\""), "max_rate"),
        ("a binding in a deny row", deny("study_binding = \"own\""), "study_binding"),
        ("posture in a deny row", deny("posture_ok_until = 2027-01-31T00:00:00Z"), "posture_ok_until"),
        ("an endpoint demanded by a deny row", deny("require_vpce = true"), "require_vpce"),
        ("an issuer assigned by a deny row", deny("coerce_issuer = \"A\""), "coerce_issuer"),
        ("tenant without a name", format!("{CT1_ROW}[[tenant]]\nmax_rate = \"1/s\"\n"), "missing field `name`"),
        ("tenant that is none", format!("{CT1_ROW}[[tenant]]\nname = \"A\"\nmax_rate = \"1/s\"\n"), "name"),
        ("tenant without a limit", format!("{CT1_ROW}[[tenant]]\nname = \"a\"\n"), "no quota"),
        ("tenant with nothing allowed", format!("{CT1_ROW}[[tenant]]\nname = \"a\"\nmax_associations = 0\n"), "is 0"),
        ("tenant with a column of a row", format!("{CT1_ROW}[[tenant]]\nname = \"a\"\nquiet = \"1s\"\n"), "quiet"),
        (
            "tenant twice",
            format!("{CT1_ROW}{0}{0}", "[[tenant]]\nname = \"a\"\nmax_rate = \"1/s\"\n"),
            "name \"a\" is there twice",
        ),
        ("tenant in a deny row", deny("tenant = \"a\""), "tenant"),
        ("empty list in a deny row", deny("called_aets = []"), "called_aets"),
    ];
    for (name, rows, word) in cases {
        let error = refused(&format!("revision = 1\n{rows}"));
        assert!(error.to_string().contains(word), "{name}: {error}");
        assert!(error.line.is_some(), "{name}: {error}");
    }
    assert!(refused("revision = 1\ncolour = 1").to_string().contains("colour"));
    assert_eq!(refused("revision = 1\nkill_switch = 1").line, Some(2));
    assert!(refused("revision = 1\nmode = \"off\"").to_string().contains("off"));
    assert!(refused("revision = 1\nallow_prefix = [\"A B\"]").to_string().contains("allow_prefix"));
}

#[test]
fn an_error_says_where_it_is() {
    let second = CT1_ROW.replace("\"ct1\"\n", "\"ct2\"\n").replace("CTImageStorage", "Nonsense");
    let second = second.replace("ingest/ct1", "ingest/ct2");
    let error = refused(&format!("revision = 1\n{CT1_ROW}{second}"));
    assert_eq!((error.line, error.row.as_deref(), error.field), (Some(14), Some("ct2"), Some("sop_classes")));
    assert!(error.to_string().contains("line 14: row \"ct2\": sop_classes has \"Nonsense\""), "{error}");
    assert_eq!(refused("revision = 1\n\nrevision = 2\n").line, Some(3));
}

#[test]
fn rows_of_one_identity_may_differ_in_their_ae_titles() {
    let other = CT1_ROW.replace("\"ct1\"\n", "\"ct1-research\"\n").replace("ARCHIVE", "RESEARCH");
    assert_eq!(Table::parse(&format!("revision = 1\n{CT1_ROW}{other}")).expect("legal").rows().len(), 2);
}

/// Which of two rows decides must never be a question, whichever comes first.
#[test]
fn two_rows_of_one_identity_share_no_pair_of_ae_titles() {
    for (name, titles, legal) in [
        ("apart", ["\"A\"", "\"B\""], true),
        ("the same", ["\"A\"", "\"A\""], false),
        ("one in common", ["\"A\", \"B\"", "\"B\", \"C\""], false),
        ("any and one", ["\"*\"", "\"A\""], false),
        ("any and any", ["\"*\"", "\"*\""], false),
        ("any and none", ["\"*\"", ""], true),
        ("none and none", ["", ""], true),
    ] {
        for [one, other] in [titles, [titles[1], titles[0]]] {
            let called = |id: &str, list: &str| {
                CT1_ROW.replace("\"ct1\"\n", &format!("\"{id}\"\n")).replace("\"ARCHIVE\"", list)
            };
            let calling = |id: &str, list: &str| {
                CT1_ROW.replace("\"ct1\"\n", &format!("\"{id}\"\n")).replace("\"HOSPA_FWD\"", list)
            };
            let is_legal = |rows: [String; 2]| Table::parse(&format!("revision = 1\n{}", rows.concat())).is_ok();
            assert_eq!(is_legal([called("a", one), called("b", other)]), legal, "{name}, called");
            assert_eq!(is_legal([calling("a", one), calling("b", other)]), legal, "{name}, calling");
        }
    }
}

#[test]
fn what_is_perhaps_not_meant_is_warned_about() {
    let rows = r#"
revision = 1
allow_prefix = ["hosp-a.example"]
[[row]]
id = "wide"
effect = "allow"
prefix = "spiffe://hosp-a.example/ingest/"
tenant = "hosp-a"
called_aets = ["*"]
operations = ["store"]
[[row]]
id = "stop"
effect = "deny"
"#;
    let warnings = Table::parse(rows).expect("legal").warnings(now()).join("\n");
    for part in ["\"stop\" denies everything", "called_aets has \"*\"", "calling_aets is not there", "prefix", "owner"]
    {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}
