//! One verdict: what was decided about whom, and by which rule. No patient data.

use std::net::SocketAddr;
use std::time::Duration;

use access::{Denial, Grant, Origin, Rejection, VerifiedPeer};
use model::{AeTitle, Digest, InstanceClaim, InstanceName, SopClass, SpiffeId, Tenant, Timestamp, TransferSyntax, Uid};
use serde::Serialize;

use super::uids::Uids;

/// A termination later than this after the change that demanded it is an alert: the published bound is poll + 1 s.
const LATE: Duration = Duration::from_secs(1);

/// The alert of a termination that came too late.
pub(super) const LATE_TERMINATION: &str = "late_termination";

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The process started.
    Startup,
    /// The process ends.
    Shutdown,
    /// A TLS connection, before any DICOM.
    Connection,
    /// An association.
    Association,
    /// One instance.
    Instance,
    /// The access table or the certificates were loaded again.
    Policy,
    /// One identity, beyond a single association.
    Identity,
    /// A study became stable.
    Study,
    /// The audit log itself.
    Log,
}

/// The verdict itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Done as asked.
    Allow,
    /// Refused.
    Deny,
    /// Would have been refused, but the row or the gateway only observes.
    Observe,
    /// Something live was ended.
    Terminate,
    /// Something happened that an auditor wants to know.
    Note,
}

/// One line of the audit log. Fields that say nothing are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub(super) ts: Timestamp,
    pub(super) event: Subject,
    pub(super) decision: Decision,
    /// A stable code: what `access`, `transport` and the session call it.
    pub(super) reason: String,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) association: Option<u64>,
    #[serde(flatten)]
    pub(super) facts: Facts,
}

/// Everything that a verdict may carry.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(default)]
pub(super) struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_id: Option<SpiffeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trust_domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leaf_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) socket_peer: Option<SocketAddr>,
    /// The caller's own address, as a load balancer claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<SocketAddr>,
    /// The VPC endpoint, as a load balancer claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vpce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) called_ae: Option<AeTitle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calling_ae: Option<AeTitle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<Tenant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sop_class: Option<Uid<SopClass>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transfer_syntax: Option<Uid<TransferSyntax>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) study: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alert: Option<&'static str>,
    /// Milliseconds between the change coming into force and the end of the association.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lag_ms: Option<u64>,
    /// The profile of the gateway: `baseline` or `strict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<&'static str>,
    /// Verdicts that could not be kept while the log could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
}

impl Verdict {
    /// A verdict with nothing but its kind and reason code.
    #[must_use]
    pub fn new(event: Subject, decision: Decision, reason: impl Into<String>) -> Self {
        let ts = crate::clock::now();
        Self { ts, event, decision, reason: reason.into(), detail: None, association: None, facts: Facts::default() }
    }

    /// A refusal or termination by the table.
    #[must_use]
    pub fn denial(event: Subject, decision: Decision, denial: &Denial) -> Self {
        Self::new(event, decision, denial.code.as_str()).detail(denial.to_string()).row_of(denial)
    }

    /// A certificate that broke a rule.
    #[must_use]
    pub fn rejection(rejection: &Rejection) -> Self {
        let verdict = Self::new(Subject::Connection, Decision::Deny, rejection.code.as_str());
        let mut verdict = verdict.detail(rejection.to_string());
        verdict.facts.rule = Some(rejection.code.rule());
        verdict.facts.spiffe_id.clone_from(&rejection.claimed);
        verdict.facts.trust_domain = rejection.claimed.as_ref().map(|id| id.trust_domain().to_string());
        verdict.facts.leaf_sha256 = rejection.leaf;
        verdict.facts.serial.clone_from(&rejection.serial);
        verdict.facts.not_after = rejection.not_after;
        verdict
    }

    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Adds a sentence for people. It must hold nothing that a peer wrote, unless that was parsed first.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds which association it was.
    #[must_use]
    pub fn association(mut self, id: u64) -> Self {
        self.association = Some(id);
        self
    }

    /// Adds where the connection came from: by its socket, and by what a load balancer claims.
    #[must_use]
    pub fn origin(mut self, origin: &Origin) -> Self {
        self.facts.socket_peer = Some(origin.socket);
        self.facts.source = origin.source;
        self.facts.vpce.clone_from(&origin.vpce);
        self
    }

    /// Adds whom it is about, where there is no connection.
    #[must_use]
    pub fn id(mut self, id: &SpiffeId) -> Self {
        self.facts.spiffe_id = Some(id.clone());
        self.facts.trust_domain = Some(id.trust_domain().to_string());
        self
    }

    /// Adds who it was and how it proved it.
    #[must_use]
    pub fn peer(mut self, peer: &VerifiedPeer, origin: &Origin) -> Self {
        let svid = peer.svid();
        self.facts.spiffe_id = Some(svid.id().clone());
        self.facts.trust_domain = Some(svid.id().trust_domain().to_string());
        self.facts.leaf_sha256 = Some(svid.leaf_digest());
        self.facts.serial = Some(svid.serial().to_owned());
        self.facts.not_after = Some(svid.not_after());
        self.facts.tls_version = Some(peer.tls_version());
        self.facts.tls_suite = Some(peer.cipher_suite());
        self.origin(origin)
    }

    /// Adds the titles that the caller typed.
    #[must_use]
    pub fn titles(mut self, proposal: &model::Proposal) -> Self {
        self.facts.called_ae = Some(proposal.called.clone());
        self.facts.calling_ae = Some(proposal.calling.clone());
        self
    }

    /// Adds the row that granted the association, and the revision of its table: where nothing later has decided, such as a
    /// deny row or the table of an instance.
    #[must_use]
    pub fn grant(mut self, grant: &Grant) -> Self {
        self.facts.row.get_or_insert_with(|| grant.row().id().to_owned());
        self.facts.policy_revision.get_or_insert_with(|| grant.table_revision());
        self.facts.tenant = Some(grant.tenant().clone());
        self
    }

    /// Adds the revision of the table that decided this.
    #[must_use]
    pub fn revision(mut self, revision: u64) -> Self {
        self.facts.policy_revision = Some(revision);
        self
    }

    /// Adds the row that a denial names, if it names one.
    #[must_use]
    pub fn row_of(mut self, denial: &Denial) -> Self {
        self.facts.row.clone_from(&denial.row);
        self
    }

    /// Adds the table in force.
    #[must_use]
    pub fn policy(mut self, table: &access::Table) -> Self {
        self.facts.policy_revision = Some(table.revision());
        self.facts.policy_sha256 = Some(table.digest());
        self
    }

    /// Adds what the command said was coming.
    #[must_use]
    pub fn claim(mut self, claim: &InstanceClaim) -> Self {
        self.facts.sop_class = Some(claim.class.clone());
        self.facts.transfer_syntax = Some(claim.transfer_syntax.clone());
        self.facts.instance = Some(claim.instance.to_string());
        self
    }

    /// Adds what the data set said it was.
    #[must_use]
    pub fn name(mut self, name: &InstanceName) -> Self {
        self.facts.study = Some(name.study.to_string());
        self.facts.series = Some(name.series.to_string());
        self
    }

    /// Adds what was stored where.
    #[must_use]
    pub fn receipt(mut self, receipt: &store::Receipt) -> Self {
        self.facts.sha256 = Some(receipt.digest());
        self.facts.bytes = Some(receipt.size());
        self.facts.object = Some(receipt.object().to_owned());
        if receipt.cross_tenant() {
            self.facts.alert = Some("cross_tenant_uid");
        }
        self
    }

    /// Adds the status answered.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.facts.status = Some(format!("{status:04X}"));
        self
    }

    /// Adds how an association went.
    #[must_use]
    pub fn counts(mut self, stored: u64, refused: u64) -> Self {
        self.facts.stored = Some(stored);
        self.facts.refused = Some(refused);
        self
    }

    /// Adds the event of a stable study.
    #[must_use]
    pub fn stable(mut self, event: &study::Event) -> Self {
        self.facts.tenant = Some(event.tenant.clone());
        self.facts.study = Some(event.study.to_string());
        self.facts.generation = Some(event.generation);
        self.facts.object = Some(event.manifest.clone());
        self
    }

    /// Marks something that somebody should look at now. A stable code.
    #[must_use]
    pub fn alert(mut self, code: &'static str) -> Self {
        self.facts.alert = Some(code);
        self
    }

    /// Adds how long a change was in force before the association ended; more than a second is the alert
    /// `late_termination`.
    #[must_use]
    pub fn lag(mut self, lag: Duration) -> Self {
        self.facts.lag_ms = Some(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        if lag > LATE { self.alert(LATE_TERMINATION) } else { self }
    }

    /// Adds the profile under which the gateway runs.
    #[must_use]
    pub fn profile(mut self, profile: &'static str) -> Self {
        self.facts.profile = Some(profile);
        self
    }

    /// The log begins again behind a line that a killed process left unfinished: so many bytes, with this digest.
    pub(super) fn recovered(bytes: u64, digest: Digest) -> Self {
        let mut verdict = Self::new(Subject::Log, Decision::Note, RECOVERED);
        verdict.facts.bytes = Some(bytes);
        verdict.facts.sha256 = Some(digest);
        verdict.detail("the line before this one was not finished: the process was killed while it wrote")
    }

    /// The log cannot be written: for the repository, since the log cannot say it.
    pub(super) fn unwritable() -> Self {
        Self::new(Subject::Log, Decision::Note, UNWRITABLE)
    }

    /// The log can be written again.
    pub(super) fn restored(lost: u64) -> Self {
        let mut verdict = Self::new(Subject::Log, Decision::Note, RESTORED);
        verdict.facts.lost = Some(lost);
        verdict.detail("the log could not be written for a while")
    }

    /// UIDs as this log shows them. Object keys are made of UIDs.
    #[must_use]
    pub(super) fn showing(mut self, uids: &Uids) -> Self {
        let facts = &mut self.facts;
        for uid in [&mut facts.study, &mut facts.series, &mut facts.instance].into_iter().flatten() {
            *uid = uids.shown(uid);
        }
        if uids.are_hidden() {
            facts.object = None;
        }
        self
    }
}

/// The note behind a line that is not whole.
pub(super) const RECOVERED: &str = "log_recovered";
/// Nothing can be written.
pub(super) const UNWRITABLE: &str = "log_unwritable";
/// The note after a time in which nothing could be written.
pub(super) const RESTORED: &str = "log_restored";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const SCHEMA: &str = include_str!("../../../../docs/schema/audit.schema.json");

    /// Without `..`: a fact that is added does not compile until it stands here, and then in the schema.
    fn everything() -> Verdict {
        let uid = || Some("1.2.3".to_owned());
        let some = || Some("x".to_owned());
        let address = Some(SocketAddr::from(([192, 0, 2, 1], 104)));
        let title = || Some(AeTitle::parse(b"A").expect("valid"));
        let facts = Facts {
            rule: Some("V-1"),
            row: some(),
            policy_revision: Some(1),
            policy_sha256: Some(Digest::of(b"")),
            spiffe_id: Some(SpiffeId::parse("spiffe://a.example/x").expect("valid")),
            trust_domain: some(),
            leaf_sha256: Some(Digest::of(b"")),
            serial: some(),
            not_after: Some(Timestamp::from_seconds(1)),
            tls_version: Some("TLSv1.3"),
            tls_suite: some(),
            socket_peer: address,
            source: address,
            vpce: some(),
            called_ae: title(),
            calling_ae: title(),
            tenant: Some(Tenant::parse("a").expect("valid")),
            sop_class: Some(Uid::parse("1.2").expect("valid")),
            transfer_syntax: Some(Uid::parse("1.2").expect("valid")),
            study: uid(),
            series: uid(),
            instance: uid(),
            sha256: Some(Digest::of(b"")),
            bytes: Some(1),
            object: some(),
            status: some(),
            stored: Some(1),
            refused: Some(1),
            generation: Some(1),
            alert: Some("x"),
            lag_ms: Some(1),
            profile: Some("strict"),
            lost: Some(1),
        };
        Verdict { association: Some(1), facts, ..Verdict::new(Subject::Startup, Decision::Note, "x").detail("x") }
    }

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    }

    #[test]
    fn the_schema_names_exactly_the_fields_that_a_record_can_have() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let chain = BTreeSet::from(["seq", "prev"].map(str::to_owned));
        let written: BTreeSet<_> =
            keys(&serde_json::to_value(everything()).expect("plain data")).union(&chain).cloned().collect();
        assert_eq!(keys(&schema["properties"]), written);
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
        let bare = Verdict::new(Subject::Startup, Decision::Note, "startup");
        let always: BTreeSet<_> =
            keys(&serde_json::to_value(bare).expect("plain data")).union(&chain).cloned().collect();
        let required = schema["required"].as_array().expect("a list").iter();
        assert_eq!(required.map(|name| name.as_str().expect("a name").to_owned()).collect::<BTreeSet<_>>(), always);
    }

    #[test]
    fn the_schema_knows_every_event_and_decision() {
        use Decision::*;
        use Subject::*;
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let events = [Startup, Shutdown, Connection, Association, Instance, Policy, Identity, Study, Log];
        assert_eq!(schema["properties"]["event"]["enum"], serde_json::to_value(events).expect("plain data"));
        let decisions = [Allow, Deny, Observe, Terminate, Note];
        assert_eq!(schema["properties"]["decision"]["enum"], serde_json::to_value(decisions).expect("plain data"));
    }

    #[test]
    fn a_termination_that_came_late_is_an_alert() {
        let end = || Verdict::new(Subject::Association, Decision::Terminate, "policy_revoked");
        assert_eq!(end().lag(Duration::from_millis(1000)).facts.alert, None);
        let late = end().lag(Duration::from_millis(1001));
        assert_eq!((late.facts.lag_ms, late.facts.alert), (Some(1001), Some(LATE_TERMINATION)));
    }

    #[test]
    fn hidden_uids_leave_no_uid_behind() {
        let key = model::DigestKey::new(&[7; 32]).expect("long enough");
        let uids = Uids::Hidden(Box::new(key));
        let mut verdict = everything();
        verdict.facts.object = Some("instances/a/1.2.3/1.2.3/1.2.3/x.dcm".to_owned());
        let text = serde_json::to_string(&verdict.clone().showing(&uids)).expect("plain data");
        assert!(!text.contains("1.2.3") && text.contains("hmac-sha256:"), "{text}");
        let clear = serde_json::to_string(&verdict.showing(&Uids::Clear)).expect("plain data");
        assert!(clear.contains("\"1.2.3\"") && clear.contains("instances/a"), "{clear}");
    }
}
