//! DICOM audit messages (PS3.15 A.5) made of verdicts.
//!
//! One message tells what an association brought into a study, when the association has ended; what was refused for want of
//! a right, and what changed the rules, is a Security Alert at once. There is no patient participant: the gateway keeps
//! patient data out of every log, so the study is named by its UID alone.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use access::{DenialCode, RejectionCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Timestamp;

use super::verdict::{Decision, RECOVERED, RESTORED, Subject, UNWRITABLE, Verdict};
use super::xml::Xml;

/// Groups of instances of one association that are counted at a time; one more and those so far are told.
const MOST_GROUPS: usize = 1000;

/// A coded value: code, system, meaning.
type Code = (&'static str, &'static str, &'static str);

const APPLICATION_ACTIVITY: Code = ("110100", "DCM", "Application Activity");
const INSTANCES_TRANSFERRED: Code = ("110104", "DCM", "DICOM Instances Transferred");
const SECURITY_ALERT: Code = ("110113", "DCM", "Security Alert");
const APPLICATION_START: Code = ("110120", "DCM", "Application Start");
const APPLICATION_STOP: Code = ("110121", "DCM", "Application Stop");
const NODE_AUTHENTICATION: Code = ("110126", "DCM", "Node Authentication");
const SECURITY_CONFIGURATION: Code = ("110129", "DCM", "Security Configuration");
const RESTRICTED_FUNCTION: Code = ("110132", "DCM", "Use of Restricted Function");
const RECORDING_STOPPED: Code = ("110133", "DCM", "Audit Recording Stopped");
const RECORDING_STARTED: Code = ("110134", "DCM", "Audit Recording Started");
const APPLICATION: Code = ("110150", "DCM", "Application");
const DESTINATION: Code = ("110152", "DCM", "Destination Role ID");
const SOURCE: Code = ("110153", "DCM", "Source Role ID");
const STUDY_UID: Code = ("110180", "DCM", "Study Instance UID");
const NODE_ID: Code = ("110182", "DCM", "Node ID");
const URI: Code = ("12", "RFC-3881", "URI");

/// How it went (PS3.15 Table A.5.2-1, EventOutcomeIndicator).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// Refused; who was refused may try again.
    MinorFailure,
    /// Something live was ended.
    SeriousFailure,
}

impl Outcome {
    fn indicator(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::MinorFailure => "4",
            Self::SeriousFailure => "8",
        }
    }
}

/// One audit message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    /// The document, UTF-8.
    pub(super) xml: String,
}

/// Who tells: the gateway.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    /// The receiver's name in the configuration.
    pub(super) name: String,
    /// Our own SPIFFE ID.
    pub(super) id: String,
}

/// Makes messages of verdicts.
pub(super) struct Collector {
    teller: Teller,
    open: HashMap<u64, Open>,
}

/// An association that has not ended.
#[derive(Default)]
struct Open {
    peer: Peer,
    groups: BTreeMap<Group, Counted>,
}

/// The other side, as far as it is known.
#[derive(Debug, Clone, Default)]
struct Peer {
    id: Option<String>,
    address: Option<SocketAddr>,
    calling: Option<String>,
    called: Option<String>,
}

/// Instances that one message can speak of: one study, one outcome (A.5.2: no message with mixed results).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    study: Option<String>,
    /// EventActionCode: created, already held (read), updated.
    action: &'static str,
    /// Why they were refused.
    refused: Option<String>,
}

#[derive(Default)]
struct Counted {
    by_class: BTreeMap<String, u64>,
    last: Option<Timestamp>,
}

impl Collector {
    pub(super) fn new(teller: Teller) -> Self {
        Self { teller, open: HashMap::new() }
    }

    /// What this verdict gives rise to.
    pub(super) fn take(&mut self, verdict: &Verdict) -> Vec<Message> {
        match verdict.event {
            Subject::Startup => vec![self.activity(verdict, APPLICATION_START)],
            Subject::Shutdown => {
                let mut messages = self.end_all();
                messages.push(self.activity(verdict, APPLICATION_STOP));
                messages
            }
            Subject::Connection | Subject::Identity => self.alert(verdict, &Peer::of(verdict)).into_iter().collect(),
            Subject::Association => self.association(verdict),
            Subject::Instance => self.instance(verdict),
            Subject::Policy => vec![self.configuration(verdict)],
            Subject::Log => self.recording(verdict).into_iter().collect(),
            Subject::Study => Vec::new(),
        }
    }

    fn end_all(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.open).into_values().flat_map(|open| self.transferred(open)).collect()
    }

    fn association(&mut self, verdict: &Verdict) -> Vec<Message> {
        let Some(number) = verdict.association else { return Vec::new() };
        match verdict.decision {
            Decision::Allow => {
                self.open.entry(number).or_default().peer = Peer::of(verdict);
                Vec::new()
            }
            Decision::Deny => self.alert(verdict, &Peer::of(verdict)).into_iter().collect(),
            Decision::Observe => Vec::new(),
            Decision::Note | Decision::Terminate => {
                let mut messages = self.open.remove(&number).map_or_else(Vec::new, |open| self.transferred(open));
                messages.extend(self.alert(verdict, &Peer::of(verdict)));
                messages
            }
        }
    }

    fn instance(&mut self, verdict: &Verdict) -> Vec<Message> {
        let (Some(number), Decision::Allow | Decision::Deny) = (verdict.association, verdict.decision) else {
            return Vec::new();
        };
        let open = self.open.entry(number).or_default();
        if open.peer.id.is_none() {
            open.peer = Peer::of(verdict);
        }
        let full = open.groups.len() >= MOST_GROUPS;
        let told = if full { std::mem::take(&mut open.groups) } else { BTreeMap::new() };
        let group = open.groups.entry(Group::of(verdict)).or_default();
        let class = verdict.facts.sop_class.as_ref().map(ToString::to_string).unwrap_or_default();
        *group.by_class.entry(class).or_default() += 1;
        group.last = Some(verdict.ts);
        let told = Open { peer: open.peer.clone(), groups: told };
        self.transferred(told)
    }

    /// A.5.3.1.
    fn activity(&self, verdict: &Verdict, what: Code) -> Message {
        let mut xml = begin(verdict, "E", APPLICATION_ACTIVITY, Some(what), Outcome::Success);
        self.ourselves(&mut xml, Some(APPLICATION), None);
        self.end(verdict.ts, Outcome::Success, xml)
    }

    /// A.5.3.7, one message for each group.
    fn transferred(&self, open: Open) -> Vec<Message> {
        let Open { peer, groups } = open;
        groups.iter().filter_map(|(group, counted)| self.transfer(&peer, group, counted)).collect()
    }

    fn transfer(&self, peer: &Peer, group: &Group, counted: &Counted) -> Option<Message> {
        let at = counted.last?;
        let count: u64 = counted.by_class.values().sum();
        let outcome = if group.refused.is_some() { Outcome::MinorFailure } else { Outcome::Success };
        let why = group.refused.as_ref().map(|reason| format!("{reason}: {count} instances refused"));
        let Some(study) = &group.study else {
            // Refused before a byte of the data set was looked at: there is no study to speak of.
            let reason = group.refused.as_deref()?;
            let kind = kind_of_alert(reason)?;
            return Some(self.security_alert(at, kind, outcome, reason, &why.unwrap_or_default(), peer));
        };
        let mut xml = Xml::document();
        identify(&mut xml, at, group.action, INSTANCES_TRANSFERRED, None, outcome, why.as_deref());
        peer.participant(&mut xml, true, Some(SOURCE));
        self.ourselves(&mut xml, Some(DESTINATION), peer.called.as_deref());
        self.source(&mut xml);
        xml.open(
            "ParticipantObjectIdentification",
            &[
                ("ParticipantObjectID", study),
                ("ParticipantObjectTypeCode", "2"),
                ("ParticipantObjectTypeCodeRole", "3"),
                ("ParticipantObjectDataLifeCycle", "1"),
            ],
        );
        coded(&mut xml, "ParticipantObjectIDTypeCode", STUDY_UID);
        xml.leaf("ParticipantObjectName", "study");
        xml.open("ParticipantObjectDescription", &[]);
        for (class, count) in &counted.by_class {
            xml.empty("SOPClass", &[("UID", class), ("NumberOfInstances", &count.to_string())]);
        }
        xml.close("ParticipantObjectDescription");
        xml.close("ParticipantObjectIdentification");
        Some(finished(at, outcome, xml))
    }

    /// A refusal or termination that has to do with rights; others are no alert.
    fn alert(&self, verdict: &Verdict, peer: &Peer) -> Option<Message> {
        let outcome = match verdict.decision {
            Decision::Deny => Outcome::MinorFailure,
            Decision::Terminate => Outcome::SeriousFailure,
            _ => return None,
        };
        let refused_at_the_door = verdict.event == Subject::Connection;
        let kind = if refused_at_the_door { Some(NODE_AUTHENTICATION) } else { kind_of_alert(&verdict.reason) };
        let mut text = verdict.reason.clone();
        for more in verdict.facts.alert.into_iter().chain(verdict.detail.as_deref()) {
            text = format!("{text}: {more}");
        }
        Some(self.security_alert(verdict.ts, kind?, outcome, &verdict.reason, &text, peer))
    }

    /// A.5.3.11 about a node.
    fn security_alert(
        &self,
        at: Timestamp,
        kind: Code,
        outcome: Outcome,
        reason: &str,
        text: &str,
        peer: &Peer,
    ) -> Message {
        let mut xml = Xml::document();
        identify(&mut xml, at, "E", SECURITY_ALERT, Some(kind), outcome, Some(text));
        self.ourselves(&mut xml, None, None);
        peer.participant(&mut xml, false, None);
        self.source(&mut xml);
        let node = peer.address.map_or_else(|| "unknown".to_owned(), |address| address.ip().to_string());
        subject(&mut xml, NODE_ID, &node, reason, text);
        finished(at, outcome, xml)
    }

    /// A.5.3.11 about the rules themselves.
    fn configuration(&self, verdict: &Verdict) -> Message {
        let failed = verdict.reason.ends_with("_failed");
        let outcome = if failed { Outcome::MinorFailure } else { Outcome::Success };
        let text = verdict.detail.as_deref().unwrap_or(&verdict.reason);
        let what = match verdict.facts.policy_revision {
            Some(revision) => format!("urn:portcullis:access-table:{revision}"),
            None => "urn:portcullis:configuration".to_owned(),
        };
        self.about_ourselves(verdict, SECURITY_CONFIGURATION, outcome, (&what, text))
    }

    fn recording(&self, verdict: &Verdict) -> Option<Message> {
        let (kind, outcome) = match verdict.reason.as_str() {
            UNWRITABLE => (RECORDING_STOPPED, Outcome::SeriousFailure),
            RESTORED | RECOVERED => (RECORDING_STARTED, Outcome::Success),
            _ => return None,
        };
        let text = verdict.detail.as_deref().unwrap_or(&verdict.reason);
        Some(self.about_ourselves(verdict, kind, outcome, ("urn:portcullis:audit-log", text)))
    }

    fn about_ourselves(&self, verdict: &Verdict, kind: Code, outcome: Outcome, what: (&str, &str)) -> Message {
        let mut xml = begin(verdict, "E", SECURITY_ALERT, Some(kind), outcome);
        self.ourselves(&mut xml, None, None);
        self.source(&mut xml);
        subject(&mut xml, URI, what.0, &verdict.reason, what.1);
        finished(verdict.ts, outcome, xml)
    }

    /// The gateway as a participant.
    fn ourselves(&self, xml: &mut Xml, role: Option<Code>, called: Option<&str>) {
        let titles = called.map(|title| format!("AETITLES={title}"));
        let mut attributes = vec![("UserID", self.teller.id.as_str()), ("UserIsRequestor", "false")];
        attributes.extend(titles.as_deref().map(|titles| ("AlternativeUserID", titles)));
        participant(xml, &attributes, role);
    }

    fn source(&self, xml: &mut Xml) {
        xml.open("AuditSourceIdentification", &[("AuditSourceID", &self.teller.name)]);
        // 4: application server process.
        xml.empty("AuditSourceTypeCode", &[("csd-code", "4")]);
        xml.close("AuditSourceIdentification");
    }

    fn end(&self, at: Timestamp, outcome: Outcome, mut xml: Xml) -> Message {
        self.source(&mut xml);
        finished(at, outcome, xml)
    }
}

/// Refusals that say something about rights or identity. That a receiver is busy is no alert.
fn kind_of_alert(reason: &str) -> Option<Code> {
    if RejectionCode::ALL.iter().any(|code| code.as_str() == reason) {
        return Some(NODE_AUTHENTICATION);
    }
    let denied = DenialCode::ALL.iter().any(|code| code.as_str() == reason);
    let misbehaved = matches!(reason, "protocol_violation" | "too_many_denials");
    (denied || misbehaved).then_some(RESTRICTED_FUNCTION)
}

impl Peer {
    fn of(verdict: &Verdict) -> Self {
        let facts = &verdict.facts;
        Self {
            id: facts.spiffe_id.as_ref().map(ToString::to_string),
            // What a load balancer claims is nearer to the truth than the load balancer's own address.
            address: facts.source.or(facts.socket_peer),
            calling: facts.calling_ae.as_ref().map(ToString::to_string),
            called: facts.called_ae.as_ref().map(ToString::to_string),
        }
    }

    fn participant(&self, xml: &mut Xml, requestor: bool, role: Option<Code>) {
        let address = self.address.map(|address| address.ip().to_string());
        let titles = self.calling.as_ref().map(|title| format!("AETITLES={title}"));
        let id = self.id.as_deref().or(address.as_deref()).unwrap_or("unknown");
        let mut attributes = vec![("UserID", id), ("UserIsRequestor", if requestor { "true" } else { "false" })];
        attributes.extend(titles.as_deref().map(|titles| ("AlternativeUserID", titles)));
        if let Some(address) = &address {
            // 2: an IP address.
            attributes.extend([("NetworkAccessPointTypeCode", "2"), ("NetworkAccessPointID", address)]);
        }
        participant(xml, &attributes, role);
    }
}

impl Group {
    fn of(verdict: &Verdict) -> Self {
        let action = match verdict.reason.as_str() {
            "already_held" => "R",
            "revised" => "U",
            _ => "C",
        };
        let refused = (verdict.decision == Decision::Deny).then(|| verdict.reason.clone());
        Self { study: verdict.facts.study.clone(), action, refused }
    }
}

fn begin(verdict: &Verdict, action: &str, id: Code, kind: Option<Code>, outcome: Outcome) -> Xml {
    let mut xml = Xml::document();
    identify(&mut xml, verdict.ts, action, id, kind, outcome, verdict.detail.as_deref());
    xml
}

fn identify(
    xml: &mut Xml,
    at: Timestamp,
    action: &str,
    id: Code,
    kind: Option<Code>,
    outcome: Outcome,
    why: Option<&str>,
) {
    xml.open("AuditMessage", &[]);
    let attributes = [
        ("EventActionCode", action),
        ("EventDateTime", &at.to_string()),
        ("EventOutcomeIndicator", outcome.indicator()),
    ];
    xml.open("EventIdentification", &attributes);
    coded(xml, "EventID", id);
    if let Some(kind) = kind {
        coded(xml, "EventTypeCode", kind);
    }
    if let Some(why) = why {
        xml.leaf("EventOutcomeDescription", why);
    }
    xml.close("EventIdentification");
}

fn participant(xml: &mut Xml, attributes: &[(&str, &str)], role: Option<Code>) {
    xml.open("ActiveParticipant", attributes);
    if let Some(role) = role {
        coded(xml, "RoleIDCode", role);
    }
    xml.close("ActiveParticipant");
}

/// What an alert is about. The description is base64, as the schema has every value of a detail.
fn subject(xml: &mut Xml, kind: Code, id: &str, name: &str, description: &str) {
    xml.open(
        "ParticipantObjectIdentification",
        &[
            ("ParticipantObjectID", id),
            ("ParticipantObjectTypeCode", "2"),
            // 13: security resource.
            ("ParticipantObjectTypeCodeRole", "13"),
        ],
    );
    coded(xml, "ParticipantObjectIDTypeCode", kind);
    xml.leaf("ParticipantObjectName", name);
    let description = STANDARD.encode(description);
    xml.empty("ParticipantObjectDetail", &[("type", "Alert Description"), ("value", &description)]);
    xml.close("ParticipantObjectIdentification");
}

fn coded(xml: &mut Xml, name: &str, (code, system, meaning): Code) {
    xml.empty(name, &[("csd-code", code), ("codeSystemName", system), ("originalText", meaning)]);
}

fn finished(at: Timestamp, outcome: Outcome, mut xml: Xml) -> Message {
    xml.close("AuditMessage");
    Message { at, outcome, xml: xml.into_text() }
}

#[cfg(test)]
mod tests {
    use model::{Digest, Uid};

    use super::*;

    fn collector() -> Collector {
        Collector::new(Teller { name: "receiver-1".to_owned(), id: "spiffe://gateway.example/r".to_owned() })
    }

    fn instance(reason: &str, decision: Decision, study: Option<&str>, class: &str) -> Verdict {
        let mut verdict = Verdict::new(Subject::Instance, decision, reason).association(7);
        verdict.facts.study = study.map(str::to_owned);
        verdict.facts.sop_class = Some(Uid::parse(class).expect("valid"));
        verdict.facts.sha256 = Some(Digest::of(b""));
        verdict
    }

    fn released() -> Verdict {
        Verdict::new(Subject::Association, Decision::Note, "released").association(7)
    }

    #[test]
    fn an_association_is_told_once_for_each_study_and_outcome_when_it_has_ended() {
        let mut collector = collector();
        let taken = [
            instance("stored", Decision::Allow, Some("1.1"), "1.9"),
            instance("stored", Decision::Allow, Some("1.1"), "1.9"),
            instance("stored", Decision::Allow, Some("1.1"), "1.8"),
            instance("already_held", Decision::Allow, Some("1.1"), "1.9"),
            instance("stored", Decision::Allow, Some("1.2"), "1.9"),
            instance("modality", Decision::Deny, Some("1.2"), "1.9"),
            instance("sop_class", Decision::Deny, None, "1.9"),
        ];
        assert!(taken.iter().all(|verdict| collector.take(verdict).is_empty()), "nothing before the end");
        let messages: Vec<_> = collector.take(&released()).into_iter().map(|message| message.xml).collect();
        let count = |text: &str| messages.iter().filter(|xml| xml.contains(text)).count();
        assert_eq!((messages.len(), count("\"110104\""), count("\"110113\"")), (5, 4, 1), "{messages:#?}");
        let first = messages.iter().find(|xml| xml.contains("EventActionCode=\"C\"") && xml.contains("\"1.1\""));
        let first = first.expect("what was new in the first study");
        assert!(first.contains(r#"<SOPClass UID="1.8" NumberOfInstances="1"/>"#), "{first}");
        assert!(first.contains(r#"<SOPClass UID="1.9" NumberOfInstances="2"/>"#), "{first}");
        assert_eq!((count("EventActionCode=\"R\""), count("EventOutcomeIndicator=\"4\"")), (1, 2));
        assert!(collector.take(&released()).is_empty(), "told once");
    }

    #[test]
    fn only_what_touches_rights_is_an_alert() {
        let end = |decision, reason: &str| Verdict::new(Subject::Association, decision, reason).association(7);
        let cases: &[(Verdict, Option<Code>)] = &[
            (Verdict::new(Subject::Connection, Decision::Deny, "plain_dicom"), Some(NODE_AUTHENTICATION)),
            (end(Decision::Deny, "no_row"), Some(RESTRICTED_FUNCTION)),
            (end(Decision::Deny, "association_limit"), None),
            (end(Decision::Terminate, "policy_revoked"), Some(RESTRICTED_FUNCTION)),
            (end(Decision::Terminate, RejectionCode::ChainUntrusted.as_str()), Some(NODE_AUTHENTICATION)),
            (end(Decision::Terminate, "idle"), None),
            (end(Decision::Note, "released"), None),
            (Verdict::new(Subject::Policy, Decision::Note, "policy_changed"), Some(SECURITY_CONFIGURATION)),
            (Verdict::unwritable(), Some(RECORDING_STOPPED)),
            (Verdict::restored(0), Some(RECORDING_STARTED)),
            (Verdict::new(Subject::Startup, Decision::Note, "startup"), Some(APPLICATION_START)),
        ];
        for (verdict, expected) in cases {
            let messages = collector().take(verdict);
            let found = messages.first().map(|message| message.xml.clone()).unwrap_or_default();
            let kind = expected.map_or_else(String::new, |(code, ..)| format!("<EventTypeCode csd-code=\"{code}\""));
            assert_eq!(found.is_empty(), expected.is_none(), "{}: {found}", verdict.reason);
            assert!(found.contains(&kind), "{}: {found}", verdict.reason);
        }
    }
}
