//! The precedence is total and does not depend on the order of the rows: properties over generated tables and questions.

use std::sync::{Arc, LazyLock};

use model::{AeTitle, Attribute, InstanceClaim, InstanceHead, InstanceName, Promoted, Uid};
use proptest::prelude::*;
use proptest::sample::select;

use super::precedence::closed;
use crate::testing::{CT, DEFLATED, EXPLICIT, MR, now, origin, peer, proposal};
use crate::{
    Answer, Content, Contradiction, Denial, DenialCode, Effect, Operation, Origin, Question, RowOutcome, Table,
    VerifiedPeer,
};

const IDS: [&str; 3] =
    ["spiffe://hosp-a.example/in/ct1", "spiffe://hosp-a.example/in/ct2", "spiffe://hosp-a.example/in/x/ct"];

static PEERS: LazyLock<Vec<Arc<VerifiedPeer>>> = LazyLock::new(|| IDS.iter().map(|id| peer(id)).collect());

/// One row as text, but for its id.
#[derive(Debug, Clone)]
struct RowText {
    effect: Effect,
    columns: String,
}

impl RowText {
    fn with_id(&self, id: usize) -> String {
        format!("[[row]]\nid = \"row{id}\"\neffect = \"{}\"\n{}", self.effect.as_str(), self.columns)
    }
}

/// The table of these rows; each is left out that the table would be refused for.
fn table(rows: &[RowText]) -> (Table, Vec<String>) {
    let mut kept = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        kept.push(row.with_id(at));
        if Table::parse(&text(&kept)).is_err() {
            kept.pop();
        }
    }
    (parse(&kept), kept)
}

fn text(rows: &[String]) -> String {
    format!("revision = 1\nallow_prefix = [\"hosp-a.example\"]\n{}", rows.concat())
}

fn parse(rows: &[String]) -> Table {
    Table::parse(&text(rows)).unwrap_or_else(|error| panic!("{error}"))
}

fn subject() -> impl Strategy<Value = &'static str> {
    select(vec![
        "identity = \"spiffe://hosp-a.example/in/ct1\"\n",
        "identity = \"spiffe://hosp-a.example/in/ct2\"\n",
        "identity = \"spiffe://hosp-a.example/in/x/ct\"\n",
        "prefix = \"spiffe://hosp-a.example/in/\"\n",
        "prefix = \"spiffe://hosp-a.example/in/x/\"\n",
    ])
}

/// Columns that narrow, each rarely there.
fn narrowing() -> impl Strategy<Value = String> {
    let columns = [
        "modalities = [\"CT\"]\n",
        "patient_issuers = [\"A\"]\n",
        "institutions = [\"Hospital A\", \"Hospital B\"]\n",
        "source_vpce = [\"vpce-00000001\"]\n",
        "source_cidrs = [\"192.0.2.0/24\"]\n",
        "source_cidrs = [\"198.51.100.0/24\"]\n",
        "windows = [\"* 00:00-24:00\"]\n",
        "windows = [\"CLOSED\"]\n",
        "state = \"suspended\"\n",
        "valid_until = 2020-01-01T00:00:00Z\n",
    ];
    prop::collection::vec(select(columns.to_vec()), 0..3).prop_map(|columns| {
        let mut seen = Vec::new();
        let once = columns.into_iter().filter(|column| {
            let name = column.split(' ').next();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        });
        once.collect::<String>().replace("CLOSED", &closed())
    })
}

fn allow_row() -> impl Strategy<Value = RowText> {
    let lists = (
        select(vec!["[\"A\"]", "[\"B\"]", "[\"*\"]", "[\"A\", \"B\"]", "[]"]),
        select(vec!["[\"X\"]", "[\"*\"]", "[\"*\"]"]),
        select(vec!["[\"store\"]", "[\"echo\", \"store\"]", "[\"echo\"]"]),
        select(vec!["[\"CTImageStorage\"]", "[\"all-storage\"]", "[\"*\"]"]),
        select(vec!["[\"*\"]", "[\"ExplicitVRLittleEndian\"]", "[\"*\", \"DeflatedExplicitVRLittleEndian\"]"]),
    );
    let granting = select(vec![
        "",
        "",
        "",
        "mode = \"observe\"\n",
        "mode = \"observe\"\n",
        "mode = \"observe\"\n",
        "min_tls = \"1.3\"\n",
        "max_svid_lifetime = \"1m\"\n",
        "require_vpce = true\n",
        "coerce_issuer = \"A\"\n",
        "max_instance_bytes = 10\n",
        "posture_ok_until = 2020-01-01T00:00:00Z\n",
    ]);
    (subject(), select(vec!["one", "two"]), lists, narrowing(), granting).prop_map(
        |(subject, tenant, (called, calling, operations, classes, syntaxes), narrowing, granting)| RowText {
            effect: Effect::Allow,
            columns: format!(
                "{subject}tenant = \"{tenant}\"\ncalled_aets = {called}\ncalling_aets = {calling}\noperations = \
                 {operations}\nsop_classes = {classes}\ntransfer_syntaxes = {syntaxes}\n{narrowing}{granting}"
            ),
        },
    )
}

fn deny_row() -> impl Strategy<Value = RowText> {
    let columns = select(vec![
        "",
        "called_aets = [\"A\"]\n",
        "calling_aets = [\"Y\"]\n",
        "operations = [\"echo\"]\n",
        "operations = [\"store\", \"commit\"]\n",
        "sop_classes = [\"MRImageStorage\"]\n",
        "transfer_syntaxes = [\"ExplicitVRLittleEndian\"]\n",
    ]);
    let subject = prop_oneof![2 => subject(), 1 => Just("")];
    (subject, columns, narrowing()).prop_map(|(subject, columns, narrowing)| RowText {
        effect: Effect::Deny,
        columns: format!("{subject}{columns}{narrowing}"),
    })
}

fn rows() -> impl Strategy<Value = Vec<RowText>> {
    prop::collection::vec(prop_oneof![4 => allow_row(), 1 => deny_row()], 0..7)
}

fn asked() -> impl Strategy<Value = (usize, Question)> {
    let content = (
        select(vec![None, Some("CT"), Some("CT"), Some("MR")]),
        select(vec![None, Some("A"), Some("B")]),
        select(vec![None, Some("Hospital A"), Some("Elsewhere")]),
    );
    let instance =
        (select(vec![CT, CT, MR]), select(vec![EXPLICIT, EXPLICIT, DEFLATED]), content, select(vec![1u64, 10, 11]));
    let vpce = select(vec![None, Some("vpce-00000001"), Some("vpce-00000002")]);
    (0..IDS.len(), vpce, select(vec!["A", "B", "C"]), select(vec!["X", "Y"]), instance).prop_map(
        |(who, vpce, called, calling, (class, syntax, (modality, issuer, institution), size))| {
            let question = Question {
                caller: PEERS[who].caller().clone(),
                origin: Origin { vpce: vpce.map(str::to_owned), ..origin() },
                called: AeTitle::parse(called).expect("valid"),
                calling: AeTitle::parse(calling).expect("valid"),
                operation: Operation::Store,
                class: Some(Uid::parse(class).expect("valid")),
                syntax: Some(Uid::parse(syntax).expect("valid")),
                content: Some(Content::new(modality, issuer, institution)),
                size: Some(size),
            };
            (who, question)
        },
    )
}

/// A denial of a context, which A-ASSOCIATE-AC tells without a reason; or the answer in full.
enum Live {
    Context,
    Answer(Answer),
}

/// What the doors say to a live peer, one after the other.
fn live(table: &Table, who: usize, question: &Question) -> Live {
    let refused = |denial: Denial| Live::Answer(Answer { verdict: Err(denial), observed: Vec::new() });
    let (class, syntax) = (question.class.clone().expect("asked"), question.syntax.clone().expect("asked"));
    let contexts: &[(&str, &[&str])] = &[(class.as_str(), &[syntax.as_str()])];
    let proposed = proposal(question.called.as_str(), question.calling.as_str(), contexts);
    let (peer, now) = (Arc::clone(&PEERS[who]), now());
    if let Err(denial) = table.admit(&peer, &question.origin, now) {
        return refused(denial);
    }
    let grant = match table.grant(peer, question.origin.clone(), proposed, now) {
        Ok(grant) => Arc::new(grant),
        Err(denial) => return refused(denial),
    };
    if grant.accepted() == 0 {
        return Live::Context;
    }
    let instance = Uid::parse("1.2.3.4").expect("valid");
    let claim = InstanceClaim { class: class.clone(), instance, transfer_syntax: syntax };
    let permit = table.permit(&grant, claim, now).expect("a context that was accepted a moment ago");
    let instance = match permit.confirm(head(question)) {
        Ok(instance) => instance,
        Err(Contradiction::NotAllowed(denial)) => return refused(denial),
        Err(other) => panic!("{other}"),
    };
    let size = question.size.expect("asked");
    if let Err(denial) = instance.allows_size(size) {
        return refused(denial);
    }
    assert_eq!(instance.clear(table, now).expect("the same table").observed(), instance.observed());
    let observed = [instance.observed(), instance.observed_size(size).as_slice()].concat();
    let row = table.rows().iter().find(|row| row.id() == grant.row().id()).expect("its row");
    Live::Answer(Answer { verdict: Ok(Arc::clone(row)), observed })
}

fn head(question: &Question) -> InstanceHead {
    let content = question.content.as_ref().expect("asked");
    let said = [(Attribute::IssuerOfPatientId, content.issuer()), (Attribute::InstitutionName, content.institution())];
    let said = said.into_iter().filter_map(|(attribute, value)| Some((attribute, value?.to_owned()))).collect();
    InstanceHead {
        name: InstanceName {
            study: Uid::parse("1.2.3").expect("valid"),
            series: Uid::parse("1.2.3.1").expect("valid"),
            instance: Uid::parse("1.2.3.4").expect("valid"),
            class: question.class.clone().expect("asked"),
        },
        modality: content.modality().map(str::to_owned),
        said: Promoted::new(said),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_order_of_the_rows_means_nothing(rows in rows(), (_, question) in asked(), seed in any::<u64>()) {
        let (table, mut kept) = table(&rows);
        // The order of some hash is an order like any other.
        kept.sort_by_key(|row| model::Digest::of(format!("{seed}{row}").as_bytes()).to_string());
        let shuffled = parse(&kept);
        prop_assert_eq!(table.answer(&question, now()), shuffled.answer(&question, now()));
        let sorted = |table: &Table| {
            let mut findings = table.explain(&question, now());
            findings.sort_by(|one, other| one.row.cmp(&other.row));
            findings
        };
        prop_assert_eq!(sorted(&table), sorted(&shuffled));
    }

    #[test]
    fn a_deny_row_more_never_allows_more(rows in rows(), deny in deny_row(), (_, question) in asked()) {
        let (before, mut kept) = table(&rows);
        kept.push(deny.with_id(99));
        let (before, after) = (before.answer(&question, now()), parse(&kept).answer(&question, now()));
        // It takes away or changes nothing: it never moves a question to another row.
        prop_assert!(after.verdict.is_err() || after == before, "{after:?} {before:?}");
    }

    #[test]
    fn a_row_for_somebody_else_changes_nothing(rows in rows(), other in allow_row(), (_, question) in asked()) {
        let (before, mut kept) = table(&rows);
        let elsewhere = other.with_id(99).replace("hosp-a.example/in/", "hosp-a.example/other/");
        kept.push(elsewhere);
        prop_assert_eq!(before.answer(&question, now()), parse(&kept).answer(&question, now()));
    }

    #[test]
    fn permissions_of_two_rows_are_never_mixed(rows in rows(), (_, question) in asked()) {
        let (table, kept) = table(&rows);
        let answer = table.answer(&question, now());
        if let Ok(row) = &answer.verdict {
            let own = format!("id = \"{}\"", row.id());
            let alone: Vec<_> = kept.into_iter().filter(|row| row.contains(&own)).collect();
            prop_assert_eq!(parse(&alone).answer(&question, now()), answer);
        }
    }

    #[test]
    fn a_question_is_answered_as_a_live_peer_is((rows, (who, question)) in (rows(), asked())) {
        let (table, _) = table(&rows);
        let answer = table.answer(&question, now());
        match live(&table, who, &question) {
            Live::Answer(live) => prop_assert_eq!(answer, live),
            Live::Context => {
                let code = answer.verdict.expect_err("the context was refused").code;
                use DenialCode::*;
                prop_assert!(matches!(code, Operation | SopClass | TransferSyntax | DenyRow), "{code:?}");
            }
        }
    }

    #[test]
    fn what_is_explained_is_what_is_decided(rows in rows(), (_, question) in asked()) {
        let (table, kept) = table(&rows);
        let (answer, findings) = (table.answer(&question, now()), table.explain(&question, now()));
        prop_assert_eq!(findings.len(), kept.len());
        let deciding: Vec<_> =
            findings.iter().filter(|finding| matches!(finding.outcome, RowOutcome::Decides(_))).collect();
        let find = |id: &str| findings.iter().find(|finding| finding.row == id).expect("every row is listed");
        match &answer.verdict {
            Ok(row) => {
                prop_assert_eq!(deciding.len(), 1);
                prop_assert_eq!(&deciding[0].row, row.id());
                prop_assert_eq!(&deciding[0].outcome, &RowOutcome::Decides(answer.observed.clone()));
                prop_assert!(!findings.iter().any(|finding| matches!(finding.outcome, RowOutcome::Denies(_))));
            }
            Err(denial) => {
                prop_assert!(deciding.is_empty());
                match (&denial.row, denial.code) {
                    (None, code) => prop_assert_eq!(code, DenialCode::NoRow),
                    (Some(row), DenialCode::DenyRow) => {
                        prop_assert_eq!(&find(row).outcome, &RowOutcome::Denies(denial.detail.clone()));
                    }
                    (Some(row), _) => prop_assert_eq!(&find(row).outcome, &RowOutcome::Fails(denial.clone())),
                }
            }
        }
    }

    #[test]
    fn observing_tells_exactly_what_enforcing_refuses(rows in rows(), (_, question) in asked()) {
        let (_, kept) = table(&rows);
        let enforced: Vec<_> = kept.iter().map(|row| row.replace("mode = \"observe\"\n", "")).collect();
        let enforced = parse(&enforced).answer(&question, now());
        let observed = Table::parse(&format!("mode = \"observe\"\n{}", text(&kept))).expect("legal");
        let observed = observed.answer(&question, now());
        match (&enforced.verdict, &observed.verdict) {
            (Ok(row), Ok(same)) => prop_assert!(row.id() == same.id() && observed.observed.is_empty()),
            (Err(denial), Ok(row)) => {
                prop_assert!(!observed.observed.is_empty());
                if denial.row.as_deref() == Some(row.id()) {
                    prop_assert_eq!(denial, &observed.observed[0]);
                }
            }
            (Err(_), Err(denial)) => {
                use DenialCode::*;
                prop_assert!(matches!(denial.code, NoRow | DenyRow | RowSuspended | RowExpired), "{denial}");
            }
            (Ok(_), Err(denial)) => prop_assert!(false, "{denial}"),
        }
    }

    #[test]
    fn the_kill_switch_denies_everything(rows in rows(), (_, question) in asked()) {
        let (_, kept) = table(&rows);
        let killed = Table::parse(&format!("kill_switch = true\n{}", text(&kept))).expect("legal");
        prop_assert_eq!(killed.answer(&question, now()).verdict.expect_err("killed").code, DenialCode::KillSwitch);
    }

    #[test]
    fn an_attribute_that_is_missing_counts_as_a_match_in_a_deny_row(
        rows in rows(),
        column in select(vec!["modalities = [\"US\"]\n", "patient_issuers = [\"Z\"]\n", "institutions = [\"Z\"]\n", "source_vpce = [\"vpce-00000009\"]\n"]),
        (_, question) in asked(),
    ) {
        let (_, mut kept) = table(&rows);
        kept.push(RowText { effect: Effect::Deny, columns: column.to_owned() }.with_id(99));
        let silent = Question {
            content: Some(Content::default()),
            origin: Origin { vpce: None, ..question.origin.clone() },
            ..question
        };
        prop_assert!(parse(&kept).answer(&silent, now()).verdict.is_err());
    }
}
