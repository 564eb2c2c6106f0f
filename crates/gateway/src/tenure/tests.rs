//! The matrix of continuous verification: each CV row at each position of an association, on a clock of the test's own. And
//! the property that nothing is cleared for commit by anything but what is in force at that moment.
//!
//! CV-10 and CV-14 have no clock and no table: they are cancellations, which `line.rs` looks at before anything else
//! (`tests/endings.rs` has them against the real binary).

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{AuthorisedInstance, DenyList, Origin, Rules, Strictness, Table, Trust, TrustBundles};
use model::{AeTitle, InstanceClaim, InstanceHead, InstanceName, Promoted, Proposal, ProposedContext, Timestamp, Uid};
use proptest::prelude::*;
use testkit::memory::verified;
use testkit::pki::{HOSPITAL_A, HOSPITAL_B, Pki, RECEIVER, TRUSTED};

use super::*;
use crate::config::Staleness;
use crate::live::{Freshness, InForce, Source};
use crate::quotas::Quotas;
use crate::suspend::{Measure, Suspensions};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Where an association is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Nothing in flight, waiting.
    Idle,
    /// A message has ended and the next C-STORE is there.
    Between,
    /// In the middle of a command; then it is asked whether it may store.
    MidPdu,
    /// In the middle of a data set; then it ends and is to be committed.
    MidUpload,
    /// Everything has come; the gate is asked.
    AtCommit,
}

const POSITIONS: [Position; 5] =
    [Position::Idle, Position::Between, Position::MidPdu, Position::MidUpload, Position::AtCommit];

/// One association that was granted at the beginning, with an instance that was authorised then.
struct Scene {
    pki: Pki,
    live: Live,
    dicom: Dicom,
    tenure: Tenure,
    instance: AuthorisedInstance,
    quotas: Arc<Quotas>,
    begin: Moment,
    now: Moment,
    changed: bool,
}

fn table_text(revision: u32, columns: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("called_aets", r#"["ARCHIVE"]"#),
        ("calling_aets", r#"["CT1"]"#),
        ("operations", r#"["echo", "store"]"#),
        ("sop_classes", r#"["CTImageStorage", "MRImageStorage"]"#),
        ("transfer_syntaxes", r#"["*"]"#),
    ];
    for (name, value) in columns {
        all.retain(|(known, _)| known != name);
        all.push((name, value));
    }
    let columns: String = all.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!(
        "revision = {revision}\n[[row]]\nid = \"a\"\neffect = \"allow\"\nidentity = \"{HOSPITAL_A}\"\ntenant = \"a\"\n{columns}"
    )
}

fn table(revision: u32, columns: &[(&str, &str)]) -> Table {
    Table::parse(&table_text(revision, columns)).expect("valid")
}

fn proposal() -> Proposal {
    let context = |(id, class): (u8, &str)| ProposedContext {
        id,
        abstract_syntax: Uid::parse(class).expect("valid"),
        transfer_syntaxes: vec![Uid::parse(EXPLICIT).expect("valid")],
    };
    Proposal {
        called: AeTitle::parse("ARCHIVE").expect("valid"),
        calling: AeTitle::parse("CT1").expect("valid"),
        contexts: [(1, CT), (3, MR)].map(context).into(),
    }
}

fn claim() -> InstanceClaim {
    InstanceClaim {
        class: Uid::parse(CT).expect("valid"),
        instance: Uid::parse("1.2.3.4").expect("valid"),
        transfer_syntax: Uid::parse(EXPLICIT).expect("valid"),
    }
}

fn head() -> InstanceHead {
    let name = InstanceName {
        study: Uid::parse("1.2.1").expect("valid"),
        series: Uid::parse("1.2.2").expect("valid"),
        instance: claim().instance,
        class: claim().class,
    };
    InstanceHead { name, modality: Some("CT".into()), said: Promoted::default() }
}

impl Scene {
    fn new() -> Self {
        Self::with(Staleness::Strict, Strictness::Compatible)
    }

    fn with(staleness: Staleness, strictness: Strictness) -> Self {
        let pki = Pki::new();
        let wall = Timestamp::from(pki.now());
        let begin = Moment { wall, at: Instant::now() };
        let trust = Arc::new(trust(&pki, pki.bundles(), strictness));
        let peer = verified(&pki, &trust, &pki.issue(HOSPITAL_A), wall);
        let in_force = InForce { table: Arc::new(table(1, &[])), trust: trust.clone(), shadow: None, since: begin.at };
        let freshness = Freshness::new(staleness, 5 * MINUTE, begin.at);
        let suspensions = Suspensions::new(Some(Measure { denials: 2, window: MINUTE, ttl: 10 * MINUTE }));
        let live = Live::new(in_force, freshness, suspensions);
        let origin = Origin { socket: ([192, 0, 2, 7], 40000).into(), source: None, vpce: None };
        let grant = live.grant(&peer, &origin, &proposal(), begin).map_err(|(denial, _)| denial);
        let grant = Arc::new(grant.expect("the row allows it"));
        let quotas = Arc::new(Quotas::default());
        let place = quotas.seat(&live.table(), grant.row(), peer.id(), 10).expect("there is room");
        let mut tenure = Tenure::begin(trust, begin.at);
        tenure.grant_with(grant.clone(), place);
        let permit = live.permit(&grant, claim(), &mut tenure.vouched, begin).expect("the row allows it");
        let instance = permit.confirm(head()).expect("data set and command agree");
        let dicom = Dicom::default();
        Self { pki, live, dicom, tenure, instance, quotas, begin, now: begin, changed: false }
    }

    /// Time passes; the peer says a byte now and then, and table and certificates are read.
    fn pass(&mut self, span: Duration) {
        let end = self.now.at + span;
        while self.now.at < end {
            let step = (end - self.now.at).min(10 * SECOND);
            self.now = Moment { wall: self.now.wall.plus(step), at: self.now.at + step };
            self.tenure.life.heard(1 << 20, self.now.at);
            self.read();
        }
    }

    /// Time passes and nobody says anything.
    fn silence(&mut self, span: Duration) {
        self.now = Moment { wall: self.now.wall.plus(span), at: self.now.at + span };
        self.read();
    }

    fn read(&self) {
        Source::ALL.into_iter().for_each(|source| self.live.freshness().seen(source, self.now.at));
    }

    fn publish(&mut self, change: impl FnOnce(&mut InForce)) {
        let mut next = InForce::clone(&self.live.registry.in_force());
        change(&mut next);
        next.since = self.now.at;
        self.live.registry.publish(next);
        self.changed = true;
    }

    fn publish_table(&mut self, columns: &[(&str, &str)]) {
        let revision = u32::try_from(self.live.table().revision()).expect("small") + 1;
        let table = Arc::new(table(revision, columns));
        self.publish(|next| next.table = table);
    }

    fn publish_trust(&mut self, bundles: TrustBundles) {
        let trust = Arc::new(trust(&self.pki, bundles, Strictness::Compatible));
        self.publish(|next| next.trust = trust);
    }

    /// What becomes of the association, or of the instance, at this position.
    fn at(&mut self, position: Position) -> String {
        match self.walk(position) {
            Ok(()) => "goes on".to_owned(),
            Err(what) => what,
        }
    }

    fn walk(&mut self, position: Position) -> Result<(), String> {
        let ends = |end: End| format!("ends: {}", end.code());
        match position {
            Position::Idle => self.wait(Phase::Boundary).map_err(ends),
            Position::Between => {
                self.tenure.at_boundary(&self.live, &self.dicom, self.now).map_err(ends)?;
                self.heed(Phase::Boundary).map_err(ends)?;
                self.permit()
            }
            Position::MidPdu => {
                self.wait(Phase::Message).map_err(ends)?;
                self.permit()
            }
            Position::MidUpload => {
                self.wait(Phase::Message).map_err(ends)?;
                self.clear()
            }
            Position::AtCommit => self.clear(),
        }
    }

    /// As a wait does: changes first, then the clocks.
    fn wait(&mut self, phase: Phase) -> Result<(), End> {
        self.heed(phase)?;
        self.tenure.look(&self.live, &self.dicom, phase, self.now)
    }

    fn heed(&mut self, phase: Phase) -> Result<(), End> {
        if self.changed { self.tenure.still_stands(&self.live, &self.dicom, phase, self.now) } else { Ok(()) }
    }

    fn permit(&mut self) -> Result<(), String> {
        let grant = self.tenure.grant().expect("it was granted").clone();
        let permit = self.live.permit(&grant, claim(), &mut self.tenure.vouched, self.now);
        permit.map(drop).map_err(|refusal| format!("refuses: {}", refusal.code()))
    }

    fn clear(&mut self) -> Result<(), String> {
        let cleared = self.live.clear(&self.instance, &mut self.tenure.vouched, self.now);
        let cleared = cleared.map_err(|refusal| format!("refuses: {}", refusal.code()))?;
        assert_eq!(cleared.revision(), self.live.table().revision(), "cleared by what is in force");
        Ok(())
    }
}

fn trust(pki: &Pki, bundles: TrustBundles, strictness: Strictness) -> Trust {
    let own = pki.issue(RECEIVER);
    let identity = access::Identity::from_pem(own.chain_pem.as_bytes(), own.key_pem.as_bytes()).expect("usable");
    Trust::new(identity, bundles, Rules { strictness, ..Rules::default() }).expect("usable")
}

/// What is expected at each of [`POSITIONS`].
type Expected = [&'static str; 5];

const GOES_ON: Expected = ["goes on"; 5];

struct Row {
    cv: &'static str,
    what: &'static str,
    happens: fn(&mut Scene),
    expected: Expected,
}

fn end_of_svid(scene: &Scene) -> Duration {
    scene.instance.grant().peer().svid().not_after().since(scene.begin.wall)
}

/// Keeps the association young while the certificate grows old.
fn until(scene: &mut Scene, span: Duration) {
    scene.dicom.max_association_age = 10 * span;
    scene.now = Moment { wall: scene.begin.wall.plus(span), at: scene.begin.at + span };
    scene.tenure.life.heard(1 << 20, scene.now.at);
    scene.read();
}

#[rustfmt::skip]
const MATRIX: &[Row] = &[
    Row { cv: "–", what: "nothing happens", happens: |scene| scene.pass(MINUTE), expected: GOES_ON },
    Row { cv: "CV-1", what: "the SOP class leaves the row",
        happens: |scene| scene.publish_table(&[("sop_classes", r#"["MRImageStorage"]"#)]),
        expected: ["goes on", "refuses: sop_class", "refuses: sop_class", "refuses: sop_class", "refuses: sop_class"] },
    Row { cv: "CV-2", what: "the SVID has expired",
        happens: |scene| until(scene, end_of_svid(scene) + 2 * SECOND),
        expected: ["ends: svid_expired", "ends: svid_expired", "refuses: svid_expired", "refuses: svid_expired", "refuses: svid_expired"] },
    Row { cv: "CV-3", what: "the SVID expires in half a minute",
        happens: |scene| until(scene, end_of_svid(scene) - 30 * SECOND),
        expected: ["ends: svid_expiring", "ends: svid_expiring", "goes on", "goes on", "goes on"] },
    Row { cv: "CV-4", what: "the row is removed",
        happens: |scene| scene.publish(|next| next.table = Arc::new(Table::parse("revision = 2").expect("valid"))),
        expected: ["ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "refuses: policy_revoked"] },
    Row { cv: "CV-4", what: "the row is suspended",
        happens: |scene| scene.publish_table(&[("state", r#""suspended""#)]),
        expected: ["ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "refuses: policy_revoked"] },
    Row { cv: "CV-4", what: "the row becomes another tenant's",
        happens: |scene| {
            let text = table_text(2, &[]).replace("tenant = \"a\"", "tenant = \"b\"");
            scene.publish(|next| next.table = Arc::new(Table::parse(&text).expect("valid")));
        },
        expected: ["ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "refuses: policy_revoked"] },
    Row { cv: "CV-4", what: "a deny row comes",
        happens: |scene| {
            let text = format!("{}\n[[row]]\nid = \"no\"\neffect = \"deny\"\n", table_text(2, &[]));
            scene.publish(|next| next.table = Arc::new(Table::parse(&text).expect("valid")));
        },
        expected: ["ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "refuses: policy_revoked"] },
    Row { cv: "CV-4", what: "the kill switch is thrown",
        happens: |scene| {
            let text = format!("kill_switch = true\n{}", table_text(2, &[]));
            scene.publish(|next| next.table = Arc::new(Table::parse(&text).expect("valid")));
        },
        expected: ["ends: kill_switch", "ends: kill_switch", "ends: kill_switch", "ends: kill_switch", "refuses: kill_switch"] },
    Row { cv: "CV-4", what: "the identity is suspended for repeated denials",
        happens: |scene| {
            let (table, id) = (scene.live.table(), scene.instance.sender().clone());
            assert!((0..2).any(|_| scene.live.suspensions.denied(&table, &id, scene.now.at).is_some()));
            scene.changed = true;
        },
        expected: ["ends: auto_suspended", "ends: auto_suspended", "ends: auto_suspended", "ends: auto_suspended", "refuses: auto_suspended"] },
    Row { cv: "CV-5", what: "the called AE title leaves the row",
        happens: |scene| scene.publish_table(&[("called_aets", r#"["OTHER"]"#)]),
        expected: ["ends: policy_narrowed", "ends: policy_narrowed", "refuses: policy_narrowed", "refuses: policy_narrowed", "refuses: policy_narrowed"] },
    Row { cv: "CV-5", what: "the row asks for a VPC endpoint",
        happens: |scene| scene.publish_table(&[("source_vpce", r#"["vpce-08d2bf15fac5001c9"]"#)]),
        expected: ["ends: policy_narrowed", "ends: policy_narrowed", "refuses: policy_narrowed", "refuses: policy_narrowed", "refuses: policy_narrowed"] },
    Row { cv: "CV-5", what: "the quota falls below this association's place",
        happens: |scene| {
            // Somebody older has the one place that is left: the scene's own place is given up and taken again.
            let (table, grant) = (scene.live.table(), scene.tenure.grant().expect("granted").clone());
            let older = scene.quotas.seat(&table, grant.row(), grant.peer().id(), 10).expect("room");
            let place = scene.quotas.seat(&table, grant.row(), grant.peer().id(), 10).expect("room");
            scene.tenure.grant_with(grant, place);
            std::mem::forget(older);
            scene.publish_table(&[("max_associations", "1")]);
        },
        expected: ["ends: policy_narrowed", "ends: policy_narrowed", "goes on", "goes on", "goes on"] },
    Row { cv: "CV-5", what: "the row changes and covers it still",
        happens: |scene| scene.publish_table(&[("ticket", r#""CHG-7""#)]), expected: GOES_ON },
    Row { cv: "CV-6", what: "the roots of its trust domain are others",
        happens: |scene| { let bundles = Pki::new().bundles(); scene.publish_trust(bundles); },
        expected: ["ends: bundle_changed", "ends: bundle_changed", "ends: bundle_changed", "ends: bundle_changed", "refuses: bundle_changed"] },
    Row { cv: "CV-6", what: "its trust domain is not trusted any more",
        happens: |scene| {
            let others = TRUSTED.iter().filter(|name| **name != "hospital-a.invalid").map(|name| scene.pki.authority(name));
            let bundles = TrustBundles::new(others.map(|own| (own.domain().clone(), own.pem().as_bytes()))).expect("usable");
            scene.publish_trust(bundles);
        },
        expected: ["ends: bundle_changed", "ends: bundle_changed", "ends: bundle_changed", "ends: bundle_changed", "refuses: bundle_changed"] },
    Row { cv: "CV-6", what: "bundles are loaded again and vouch for it still",
        happens: |scene| { let bundles = scene.pki.bundles(); scene.publish_trust(bundles); }, expected: GOES_ON },
    Row { cv: "CV-7", what: "its certificate is put on the deny-list",
        happens: |scene| {
            let leaf = scene.instance.grant().peer().svid().leaf_digest();
            let list = DenyList::parse(&format!("[[deny]]\nleaf_sha256 = \"{leaf}\"")).expect("valid");
            let bundles = scene.pki.bundles().with_deny_list(list);
            scene.publish_trust(bundles);
        },
        expected: ["ends: revoked", "ends: revoked", "ends: revoked", "ends: revoked", "refuses: revoked"] },
    Row { cv: "CV-7", what: "somebody else is put on the deny-list",
        happens: |scene| {
            let list = DenyList::parse(&format!("[[deny]]\nspiffe_id = \"{HOSPITAL_B}\"")).expect("valid");
            let bundles = scene.pki.bundles().with_deny_list(list);
            scene.publish_trust(bundles);
        },
        expected: GOES_ON },
    Row { cv: "CV-8", what: "it is as old as it may be",
        happens: |scene| scene.pass(15 * MINUTE),
        expected: ["ends: max_age", "ends: max_age", "goes on", "goes on", "goes on"] },
    Row { cv: "CV-8", what: "and its grace is over",
        happens: |scene| scene.pass(17 * MINUTE),
        expected: ["ends: max_age", "ends: max_age", "ends: max_age", "ends: max_age", "goes on"] },
    Row { cv: "CV-9", what: "table and certificates cannot be read for too long",
        happens: |scene| scene.now = Moment { wall: scene.now.wall.plus(301 * SECOND), at: scene.now.at + 301 * SECOND },
        expected: ["ends: idle", "refuses: policy_stale", "ends: stalled", "ends: stalled", "refuses: policy_stale"] },
    Row { cv: "CV-9", what: "and the peer is lively all the while",
        happens: |scene| {
            scene.now = Moment { wall: scene.now.wall.plus(301 * SECOND), at: scene.now.at + 301 * SECOND };
            scene.tenure.life.heard(100 << 20, scene.now.at);
        },
        expected: ["goes on", "refuses: policy_stale", "refuses: policy_stale", "refuses: policy_stale", "refuses: policy_stale"] },
    Row { cv: "CV-11", what: "a table that cannot be used is not published",
        happens: |scene| assert!(Table::parse("revision = 2\n[[row]]\nid = \"a\"").is_err(), "{}", scene.live.table().revision()),
        expected: GOES_ON },
    Row { cv: "CV-12", what: "the row's time is over",
        happens: |scene| {
            let end = scene.now.wall.plus(MINUTE);
            scene.publish_table(&[("valid_until", &end.to_string())]);
            // The change was seen when it came, and was none: it is time that ends this.
            assert_eq!(scene.at(Position::Idle), "goes on");
            scene.changed = false;
            scene.pass(MINUTE + SECOND);
        },
        expected: ["ends: window_closed", "ends: window_closed", "refuses: window_closed", "refuses: window_closed", "refuses: window_closed"] },
    Row { cv: "CV-12", what: "a deny row's time begins",
        happens: |scene| {
            let begin = scene.now.wall.plus(MINUTE);
            let text = format!("{}\n[[row]]\nid = \"no\"\neffect = \"deny\"\nnot_before = {begin}\n", table_text(2, &[]));
            scene.publish(|next| next.table = Arc::new(Table::parse(&text).expect("valid")));
            assert_eq!(scene.at(Position::Idle), "goes on");
            scene.changed = false;
            scene.pass(MINUTE + SECOND);
        },
        expected: ["ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "ends: policy_revoked", "refuses: policy_revoked"] },
    Row { cv: "CV-12", what: "the row's time is over, and the grace for what is in flight as well",
        happens: |scene| {
            let end = scene.now.wall.plus(MINUTE);
            scene.publish_table(&[("valid_until", &end.to_string())]);
            scene.changed = false;
            scene.pass(MINUTE + SECOND);
            assert!(matches!(scene.wait(Phase::Message), Ok(())));
            scene.pass(2 * MINUTE + SECOND);
        },
        expected: ["ends: window_closed", "ends: window_closed", "ends: window_closed", "ends: window_closed", "refuses: window_closed"] },
    Row { cv: "CV-13", what: "nothing is said for half a minute and a second",
        happens: |scene| scene.silence(31 * SECOND),
        expected: ["goes on", "goes on", "ends: stalled", "ends: stalled", "goes on"] },
    Row { cv: "CV-13", what: "nothing is said for five minutes and a second",
        happens: |scene| scene.silence(301 * SECOND),
        expected: ["ends: idle", "goes on", "ends: stalled", "ends: stalled", "goes on"] },
    Row { cv: "CV-13", what: "a byte a second for a minute",
        happens: |scene| for _ in 0..61 {
            scene.silence(SECOND);
            scene.tenure.life.heard(1, scene.now.at);
        },
        expected: ["goes on", "goes on", "ends: slow", "ends: slow", "goes on"] },
];

#[test]
fn each_row_of_continuous_verification_holds_at_each_position() {
    let mut page = String::from(
        "| CV | what happens | idle | between messages | mid-PDU | mid-upload | at commit |\n|---|---|---|---|---|---|---|\n",
    );
    for Row { cv, what, happens, expected } in MATRIX {
        let seen = POSITIONS.map(|position| {
            let mut scene = Scene::new();
            happens(&mut scene);
            scene.at(position)
        });
        assert_eq!(seen.each_ref().map(String::as_str), *expected, "{cv}: {what}, at {POSITIONS:?}");
        page += &format!("| {cv} | {what} | {} |\n", seen.join(" | "));
    }
    compare_with_page(&page);
}

/// The table stands in the documentation as it was observed.
fn compare_with_page(matrix: &str) {
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/continuous-verification.md");
    const BEGIN: &str = "<!-- matrix -->\n";
    const END: &str = "<!-- end of matrix -->";
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the matrix");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{matrix}{END}{after}")).expect("the page is writable");
        return;
    }
    assert_eq!(written, matrix, "run UPDATE_DOCS=1 cargo test -p gateway --lib tenure");
}

#[test]
fn with_best_effort_a_stale_policy_stays_in_force() {
    for position in POSITIONS {
        let mut scene = Scene::with(Staleness::BestEffort, Strictness::Compatible);
        scene.now = Moment { wall: scene.now.wall.plus(301 * SECOND), at: scene.now.at + 301 * SECOND };
        scene.tenure.life.heard(100 << 20, scene.now.at);
        assert_eq!(scene.at(position), "goes on", "{position:?}");
    }
}

#[test]
fn a_clock_that_was_set_bars_every_new_decision() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(Position::AtCommit), "goes on");
    scene.live.freshness().bar("the clock was set".to_owned());
    assert_eq!(scene.at(Position::AtCommit), "refuses: policy_stale");
    assert_eq!(scene.at(Position::Between), "refuses: policy_stale");
}

#[test]
fn a_sender_whose_certificate_had_little_left_is_given_most_of_it() {
    let mut scene = Scene::new();
    scene.dicom.rotate_hint = 48 * 60 * MINUTE;
    let life = end_of_svid(&scene);
    until(&mut scene, life / 2);
    assert_eq!(scene.at(Position::Between), "goes on", "a hint longer than the certificate's life");
    until(&mut scene, life - life / 5);
    assert_eq!(scene.at(Position::Between), "ends: svid_expiring");
}

#[test]
fn what_ended_an_association_and_how_long_after_the_change_is_known() {
    let mut scene = Scene::new();
    scene.publish_table(&[("state", r#""suspended""#)]);
    scene.silence(3 * SECOND);
    assert!(scene.tenure.still_stands(&scene.live, &scene.dicom, Phase::Message, scene.now).is_err());
    assert_eq!(scene.tenure.lag(), Some(3 * SECOND));
}

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Pass(u16),
    Publish(Change),
    Clear,
    Permit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Allow,
    Remove,
    Suspend,
    OtherClass,
    Kill,
    Distrust,
    Deny,
    Trust,
}

impl Change {
    fn of_table(self) -> bool {
        !matches!(self, Self::Distrust | Self::Deny | Self::Trust)
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    use Change::*;
    let change =
        prop::sample::select(vec![Allow, Allow, Remove, Suspend, OtherClass, Kill, Distrust, Deny, Trust, Trust]);
    prop_oneof![
        (0_u16..400).prop_map(Happening::Pass),
        change.prop_map(Happening::Publish),
        Just(Happening::Clear),
        Just(Happening::Permit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// "No instance has metadata committed with decision revision < revocation revision": whatever happened before, the gate
    /// says yes exactly when what was published last allows it.
    #[test]
    fn nothing_is_cleared_by_a_decision_older_than_a_revocation(happenings in prop::collection::vec(happening(), 1..40)) {
        let mut scene = Scene::new();
        let (mut table_allows, mut trust_allows) = (true, true);
        for happening in happenings {
            match happening {
                Happening::Pass(seconds) => scene.silence(Duration::from_secs(seconds.into())),
                Happening::Publish(change) => {
                    publish(&mut scene, change);
                    if change.of_table() { table_allows = change == Change::Allow } else { trust_allows = change == Change::Trust }
                }
                Happening::Clear => prop_assert_eq!(scene.clear().is_ok(), table_allows && trust_allows),
                Happening::Permit => prop_assert_eq!(scene.permit().is_ok(), table_allows && trust_allows),
            }
        }
    }
}

fn publish(scene: &mut Scene, change: Change) {
    let revision = u32::try_from(scene.live.table().revision()).expect("small") + 1;
    let text = |text: String| Arc::new(Table::parse(&text).expect("valid"));
    let table = match change {
        Change::Allow => text(table_text(revision, &[])),
        Change::Remove => text(format!("revision = {revision}")),
        Change::Suspend => text(table_text(revision, &[("state", r#""suspended""#)])),
        Change::OtherClass => text(table_text(revision, &[("sop_classes", r#"["MRImageStorage"]"#)])),
        Change::Kill => text(format!("kill_switch = true\n{}", table_text(revision, &[]))),
        Change::Distrust => return scene.publish_trust(Pki::new().bundles()),
        Change::Deny => {
            let list = DenyList::parse(&format!("[[deny]]\nspiffe_id = \"{HOSPITAL_A}\"")).expect("valid");
            let bundles = scene.pki.bundles().with_deny_list(list);
            return scene.publish_trust(bundles);
        }
        Change::Trust => {
            let bundles = scene.pki.bundles();
            return scene.publish_trust(bundles);
        }
    };
    scene.publish(|next| next.table = table);
}
