//! D3 to D5: one instance.

use std::sync::Arc;

use model::{Attribute, InstanceClaim, InstanceHead, InstanceName, OnDuplicate, OnPatientConflict, Promoted, Uid};

use super::decisions::grant;
use super::precedence::{CT1_ROW, closed, table};
use crate::testing::{CT, DEFLATED, EXPLICIT, IMPLICIT, MR, now, seconds};
use crate::{AuthorisedInstance, Contradiction, Denial, DenialCode, Grant, Permit, Table};

const INSTANCE: &str = "1.2.3.4";

pub(super) fn claim(class: &str, syntax: &str) -> InstanceClaim {
    InstanceClaim {
        class: Uid::parse(class).expect("valid"),
        instance: Uid::parse(INSTANCE).expect("valid"),
        transfer_syntax: Uid::parse(syntax).expect("valid"),
    }
}

pub(super) fn head(class: &str, instance: &str, modality: Option<&str>) -> InstanceHead {
    let name = InstanceName {
        study: Uid::parse("1.2.3").expect("valid"),
        series: Uid::parse("1.2.3.1").expect("valid"),
        instance: Uid::parse(instance).expect("valid"),
        class: Uid::parse(class).expect("valid"),
    };
    InstanceHead { name, modality: modality.map(str::to_owned), said: model::Promoted::default() }
}

fn permit(table: &Table, grant: &Arc<Grant>) -> Result<Permit, Denial> {
    table.permit(grant, claim(CT, IMPLICIT), now())
}

fn authorised(table: &Table) -> AuthorisedInstance {
    let grant = grant(table, &[(CT, &[IMPLICIT])]);
    permit(table, &grant).expect("allowed").confirm(head(CT, INSTANCE, Some("CT"))).expect("agrees")
}

fn code<T>(result: Result<T, Denial>) -> Option<DenialCode> {
    result.err().map(|denial| denial.code)
}

#[test]
fn only_what_was_accepted_for_the_association_is_permitted() {
    let wide = table(&CT1_ROW.replace("\"CTImageStorage\"", "\"*\""));
    let verification = "1.2.840.10008.1.1";
    let grant = grant(&wide, &[(CT, &[IMPLICIT]), (MR, &[EXPLICIT]), (verification, &[IMPLICIT])]);
    for (name, class, syntax, expected) in [
        ("as accepted", CT, IMPLICIT, None),
        ("the other context", MR, EXPLICIT, None),
        ("the syntax of the other context", CT, EXPLICIT, Some(DenialCode::TransferSyntax)),
        ("a class that was not proposed", "1.2.840.10008.5.1.4.1.1.7", IMPLICIT, Some(DenialCode::SopClass)),
        ("an instance of the verification class", verification, IMPLICIT, Some(DenialCode::SopClass)),
        ("deflated", CT, DEFLATED, Some(DenialCode::TransferSyntax)),
    ] {
        assert_eq!(code(wide.permit(&grant, claim(class, syntax), now())), expected, "{name}");
    }
}

#[test]
fn each_instance_is_asked_of_the_table_of_today() {
    use DenialCode::*;
    let before = table(CT1_ROW);
    let grant = grant(&before, &[(CT, &[IMPLICIT]), (CT, &[EXPLICIT])]);
    let deny = |columns: &str| format!("{CT1_ROW}[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}\n");
    let cases = [
        ("same", CT1_ROW.to_owned(), None),
        ("row removed", String::new(), Some(PolicyRevoked)),
        ("suspended", format!("{CT1_ROW}state = \"suspended\"\n"), Some(PolicyRevoked)),
        ("another tenant", CT1_ROW.replace("\"hosp-a\"", "\"hosp-b\""), Some(PolicyRevoked)),
        ("AE removed", CT1_ROW.replace("\"HOSPA_FWD\"", "\"OTHER\""), Some(PolicyNarrowed)),
        ("class removed", CT1_ROW.replace("\"CTI", "\"MRI"), Some(SopClass)),
        ("syntax removed", CT1_ROW.replace("[\"*\"]", &format!("[\"{EXPLICIT}\"]")), Some(TransferSyntax)),
        ("store removed", CT1_ROW.replace("\"echo\", \"store\"", "\"echo\""), Some(Operation)),
        ("class denied", deny(&format!("sop_classes = [\"{CT}\"]")), Some(DenyRow)),
        ("caller denied", deny(""), Some(PolicyRevoked)),
    ];
    for (name, rows, expected) in cases {
        assert_eq!(code(permit(&table(&rows), &grant)), expected, "{name}");
    }
    let late = grant.peer().svid().not_after().plus(seconds(1));
    assert_eq!(code(before.permit(&grant, claim(CT, IMPLICIT), late)), Some(SvidExpired));
}

#[test]
fn a_data_set_must_say_what_its_command_said() {
    let narrowed = format!("{CT1_ROW}modalities = [\"CT\", \"PT\"]\n");
    let denied = format!("{CT1_ROW}[[row]]\nid = \"deny\"\neffect = \"deny\"\nmodalities = [\"MR\"]\n");
    let cases = [
        ("agrees", CT1_ROW, head(CT, INSTANCE, None), "stored"),
        ("other class", CT1_ROW, head(MR, INSTANCE, Some("CT")), "class"),
        ("other instance", CT1_ROW, head(CT, "1.2.3.5", Some("CT")), "instance"),
        ("modality that is listed", &narrowed, head(CT, INSTANCE, Some("PT ")), "stored"),
        ("modality that is not", &narrowed, head(CT, INSTANCE, Some("MR")), "modality"),
        ("no modality", &narrowed, head(CT, INSTANCE, None), "modality"),
        ("modality that is denied", &denied, head(CT, INSTANCE, Some("MR")), "deny_row"),
        ("another", &denied, head(CT, INSTANCE, Some("CT")), "stored"),
        ("a missing attribute counts as a match", &denied, head(CT, INSTANCE, None), "deny_row"),
    ];
    for (name, rows, head, expected) in cases {
        let table = table(rows);
        let permit = permit(&table, &grant(&table, &[(CT, &[IMPLICIT])])).expect(name);
        let outcome = match permit.confirm(head) {
            Ok(_) => "stored",
            Err(Contradiction::Class) => "class",
            Err(Contradiction::Instance) => "instance",
            Err(Contradiction::NotAllowed(denial)) => denial.code.as_str(),
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

/// A CT instance whose data set says so.
fn said(issuer: Option<&str>, institution: Option<&str>) -> InstanceHead {
    let values = [(Attribute::IssuerOfPatientId, issuer), (Attribute::InstitutionName, institution)];
    let values = values.into_iter().filter_map(|(attribute, value)| Some((attribute, value?.to_owned()))).collect();
    InstanceHead { said: Promoted::new(values), ..head(CT, INSTANCE, Some("CT")) }
}

#[test]
fn issuer_and_institution_are_those_of_the_row() {
    let issuers = "patient_issuers = [\"HOSP_A\", \"HOSP B\"]\n";
    let coerced = "patient_issuers = [\"HOSP_A\"]\ncoerce_issuer = \"HOSP_A\"\n";
    let institutions = "institutions = [\"Hospital A\"]\n";
    let deny = |columns: &str| format!("[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}");
    let (deny_issuer, deny_institution) = (deny("patient_issuers = [\"X\"]\n"), deny("institutions = [\"X\"]\n"));
    let coerced_and_denied = format!("coerce_issuer = \"HOSP_A\"\n{deny_issuer}");
    let cases: &[(&str, &str, InstanceHead, Result<Option<&str>, &str>)] = &[
        ("nothing is asked", "", said(None, None), Ok(None)),
        ("listed", issuers, said(Some("HOSP B"), None), Ok(None)),
        ("padded", issuers, said(Some(" HOSP_A "), None), Ok(None)),
        ("not listed", issuers, said(Some("HOSP_C"), None), Err("patient_issuer")),
        ("another case", issuers, said(Some("hosp_a"), None), Err("patient_issuer")),
        ("missing", issuers, said(None, None), Err("patient_issuer")),
        ("empty", issuers, said(Some("  "), None), Err("patient_issuer")),
        ("assigned", coerced, said(None, None), Ok(Some("HOSP_A"))),
        ("assigned when empty", coerced, said(Some(" "), None), Ok(Some("HOSP_A"))),
        ("not assigned over its own", coerced, said(Some("HOSP_A"), None), Ok(None)),
        ("not in place of another", coerced, said(Some("HOSP_C"), None), Err("patient_issuer")),
        ("assigned, and any is allowed", "coerce_issuer = \"X\"\n", said(None, None), Ok(Some("X"))),
        ("its own, and any is allowed", "coerce_issuer = \"X\"\n", said(Some("Y"), None), Ok(None)),
        ("institution listed", institutions, said(None, Some("Hospital A ")), Ok(None)),
        ("institution not listed", institutions, said(None, Some("Hospital")), Err("institution")),
        ("institution missing", institutions, said(None, None), Err("institution")),
        ("issuer denied", &deny_issuer, said(Some("X"), None), Err("deny_row")),
        ("issuer not denied", &deny_issuer, said(Some("Y"), None), Ok(None)),
        ("a missing issuer counts as a match", &deny_issuer, said(None, None), Err("deny_row")),
        ("also if one would be assigned", &coerced_and_denied, said(None, None), Err("deny_row")),
        ("institution denied", &deny_institution, said(None, Some("X")), Err("deny_row")),
        ("a missing institution counts as a match", &deny_institution, said(None, None), Err("deny_row")),
    ];
    for (name, rows, head, expected) in cases {
        let table = table(&format!("{CT1_ROW}{rows}"));
        let permit = permit(&table, &grant(&table, &[(CT, &[IMPLICIT])])).expect(name);
        let confirmed = permit.confirm(head.clone());
        let outcome = match &confirmed {
            Ok(instance) => Ok(instance.assigned_issuer()),
            Err(Contradiction::NotAllowed(denial)) => Err(denial.code.as_str()),
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(outcome, *expected, "{name}");
    }
}

#[test]
fn what_a_data_set_says_does_not_show_in_debug() {
    let table = table(CT1_ROW);
    let permit = permit(&table, &grant(&table, &[(CT, &[IMPLICIT])])).expect("allowed");
    let instance = permit.confirm(said(Some("SECRET_ISSUER"), Some("SECRET CLINIC"))).expect("agrees");
    assert!(!format!("{instance:?}").contains("SECRET"));
}

#[test]
fn an_authorised_instance_belongs_to_the_tenant_of_its_row() {
    let rows =
        format!("{CT1_ROW}on_conflict = \"reject\"\nquiet = \"3s\"\nmax_wait = \"10m\"\nmax_instance_bytes = 4096\n");
    let instance = authorised(&table(&rows));
    assert_eq!(instance.tenant().as_str(), "hosp-a");
    assert_eq!(instance.on_conflict(), model::OnConflict::Reject);
    assert_eq!((instance.quiet(), instance.max_wait()), (Some(seconds(3)), Some(seconds(600))));
    assert_eq!(code(instance.allows_size(4096)), None);
    assert_eq!(code(instance.allows_size(4097)), Some(DenialCode::InstanceSize));
    assert_eq!(code(authorised(&table(CT1_ROW)).allows_size(u64::MAX)), None, "the row says nothing about size");
    let plain = (instance.binds_study(), instance.on_patient_conflict(), instance.on_duplicate());
    assert_eq!(plain, (false, OnPatientConflict::Accept, OnDuplicate::Idempotent));
    let bound = "study_binding = \"own\"\nconflict_patient_id = \"quarantine\"\nduplicate = \"reject\"\n";
    let bound = authorised(&table(&format!("{CT1_ROW}{bound}")));
    let found = (bound.binds_study(), bound.on_patient_conflict(), bound.on_duplicate());
    assert_eq!(found, (true, OnPatientConflict::Quarantine, OnDuplicate::Reject));
    assert_eq!((instance.called().as_str(), instance.calling().as_str()), ("ARCHIVE", "HOSPA_FWD"));
    assert_eq!(instance.sender(), instance.grant().peer().id());
    assert_eq!((instance.transfer_syntax().as_str(), instance.table_revision()), (IMPLICIT, 1));
}

#[test]
fn the_commit_gate_asks_today_s_table_once_more() {
    use DenialCode::*;
    let instance = authorised(&table(CT1_ROW));
    let deny = |columns: &str| format!("{CT1_ROW}[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}\n");
    let cases = [
        ("same", CT1_ROW.to_owned(), None),
        ("row removed", String::new(), Some(PolicyRevoked)),
        ("suspended", format!("{CT1_ROW}state = \"suspended\"\n"), Some(PolicyRevoked)),
        ("another tenant", CT1_ROW.replace("\"hosp-a\"", "\"hosp-b\""), Some(PolicyRevoked)),
        ("class removed", CT1_ROW.replace("\"CTI", "\"MRI"), Some(SopClass)),
        ("modality removed", format!("{CT1_ROW}modalities = [\"MR\"]\n"), Some(Modality)),
        ("modality denied", deny("modalities = [\"CT\"]"), Some(DenyRow)),
        ("killed", format!("kill_switch = true\n{CT1_ROW}"), Some(KillSwitch)),
        ("issuer removed", format!("{CT1_ROW}patient_issuers = [\"HOSP_A\"]\n"), Some(PatientIssuer)),
        ("institution removed", format!("{CT1_ROW}institutions = [\"Hospital A\"]\n"), Some(Institution)),
        ("outside its windows", format!("{CT1_ROW}windows = [\"{}\"]\n", closed()), Some(WindowClosed)),
        ("posture", format!("{CT1_ROW}posture_ok_until = {}\n", now().minus(seconds(1))), Some(Posture)),
        ("endpoint", format!("{CT1_ROW}require_vpce = true\n"), Some(PolicyNarrowed)),
        ("window closed", format!("{CT1_ROW}valid_until = {}\n", now().minus(seconds(1))), Some(WindowClosed)),
    ];
    for (name, rows, expected) in cases {
        assert_eq!(code(instance.clear(&table(&rows), now())), expected, "{name}");
    }
    let end = instance.grant().peer().svid().not_after();
    assert_eq!(code(instance.clear(&table(CT1_ROW), end)), None);
    assert_eq!(code(instance.clear(&table(CT1_ROW), end.plus(seconds(1)))), Some(SvidExpired));
}

#[test]
fn a_clearance_is_for_one_instance_and_not_for_another_of_the_same_name() {
    let table = Table::parse(&format!("revision = 9\n{CT1_ROW}")).expect("valid");
    let (one, two) = (authorised(&table), authorised(&table));
    let cleared = one.clear(&table, now()).expect("allowed");
    assert_eq!((cleared.revision(), cleared.expires()), (9, one.grant().expires()));
    assert!(cleared.is_for(&one));
    assert!(!cleared.is_for(&two));
}
