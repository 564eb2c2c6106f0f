//! The way to an `AuthorisedInstance` as every sender goes it: a minted SVID, a TLS handshake in memory, the table. There is
//! no shorter one, and that is the point of the keys.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use access::{AuthorisedInstance, Cleared, Identity, Origin, Rules, Table, Trust, TrustBundles, VerifiedPeer};
use model::{
    AeTitle, InstanceClaim, InstanceHead, InstanceName, Proposal, ProposedContext, Timestamp, TrustDomain, Uid,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

/// A row of the table below, chosen by the AE title that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Revise,
    Reject,
    Quarantine,
    OtherTenant,
    /// Of the other tenant, and binds.
    OtherBound,
    Bound,
    BoundQuarantine,
    OnePatient,
    OnePatientApart,
    /// Two rules that may both be broken.
    OnePatientRejectBytes,
    OnePatientApartRejectBytes,
    OnePatientRejectBytesApart,
    Once,
    OnceQuarantine,
    Issuer,
    IssuerOnePatient,
}

impl Row {
    const ALL: [Self; 16] = [
        Self::Revise,
        Self::Reject,
        Self::Quarantine,
        Self::OtherTenant,
        Self::OtherBound,
        Self::Bound,
        Self::BoundQuarantine,
        Self::OnePatient,
        Self::OnePatientApart,
        Self::OnePatientRejectBytes,
        Self::OnePatientApartRejectBytes,
        Self::OnePatientRejectBytesApart,
        Self::Once,
        Self::OnceQuarantine,
        Self::Issuer,
        Self::IssuerOnePatient,
    ];

    pub(crate) fn tenant(self) -> &'static str {
        match self {
            Self::OtherTenant | Self::OtherBound => "hospital-b",
            _ => "hospital-a",
        }
    }

    /// Its columns that are not everybody's.
    fn columns(self) -> &'static str {
        match self {
            Self::Revise | Self::OtherTenant => "",
            Self::Reject => "on_conflict = 'reject'",
            Self::Quarantine => "on_conflict = 'quarantine'",
            Self::OtherBound | Self::Bound => "study_binding = 'own'",
            Self::BoundQuarantine => "study_binding = 'own'\non_conflict = 'quarantine'",
            Self::OnePatient => "conflict_patient_id = 'reject'",
            Self::OnePatientApart => "conflict_patient_id = 'quarantine'",
            Self::OnePatientRejectBytes => "conflict_patient_id = 'reject'\non_conflict = 'reject'",
            Self::OnePatientApartRejectBytes => "conflict_patient_id = 'quarantine'\non_conflict = 'reject'",
            Self::OnePatientRejectBytesApart => "conflict_patient_id = 'reject'\non_conflict = 'quarantine'",
            Self::Once => "duplicate = 'reject'",
            Self::OnceQuarantine => "duplicate = 'reject'\non_conflict = 'quarantine'",
            Self::Issuer => "coerce_issuer = 'HOSPITAL-A'",
            Self::IssuerOnePatient => "coerce_issuer = 'HOSPITAL-A'\nconflict_patient_id = 'reject'",
        }
    }

    /// The AE title that is called chooses the row.
    fn called(self) -> String {
        match self {
            Self::Revise => "REVISE".to_owned(),
            _ => format!("ROW{}", self as usize),
        }
    }
}

const COLUMNS: &str = r#"
effect = "allow"
identity = "spiffe://a.invalid/ct1"
calling_aets = ["CT1"]
sop_classes = ["*"]
transfer_syntaxes = ["*"]
operations = ["store"]
quiet = "60s"
max_wait = "10m"
"#;

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// Lives long, so that a test can put the clock forward by hours.
const LIFETIME: Duration = Duration::from_secs(400 * 24 * 3600);

pub(crate) fn now() -> Timestamp {
    static NOW: OnceLock<Timestamp> = OnceLock::new();
    *NOW.get_or_init(|| SystemTime::now().into())
}

pub(crate) fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

pub(crate) fn name(study: &str, instance: &str) -> InstanceName {
    InstanceName {
        study: Uid::parse(study).expect("valid"),
        series: Uid::parse(&format!("{study}.1")).expect("valid"),
        instance: Uid::parse(&format!("{study}.1.{instance}")).expect("valid"),
        class: Uid::parse(CT).expect("valid"),
    }
}

pub(crate) fn authorised(row: Row, name: &InstanceName) -> Arc<AuthorisedInstance> {
    let transfer_syntax = Uid::parse(EXPLICIT_LITTLE_ENDIAN).expect("valid");
    let context = ProposedContext {
        id: 1,
        abstract_syntax: name.class.clone(),
        transfer_syntaxes: vec![transfer_syntax.clone()],
    };
    let proposal = Proposal {
        called: AeTitle::parse(row.called()).expect("valid"),
        calling: AeTitle::parse("CT1").expect("valid"),
        contexts: vec![context],
    };
    let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, 11112));
    let origin = Origin { socket, source: None, vpce: None };
    let grant = table().grant(peer(), origin, proposal, now()).expect("the row allows it");
    let claim = InstanceClaim { class: name.class.clone(), instance: name.instance.clone(), transfer_syntax };
    let permit = table().permit(&Arc::new(grant), claim, now()).expect("the row allows it");
    let head = InstanceHead { name: name.clone(), modality: Some("CT".to_owned()), said: model::Promoted::default() };
    Arc::new(permit.confirm(head).expect("head and claim agree"))
}

pub(crate) fn ask_again(instance: &Arc<AuthorisedInstance>) -> crate::AskAgain {
    let instance = instance.clone();
    Arc::new(move || Some(cleared(&instance)))
}

pub(crate) fn cleared(instance: &AuthorisedInstance) -> Cleared {
    instance.clear(table(), now()).expect("the row still allows it")
}

/// After the SVID has expired.
pub(crate) fn too_late() -> Timestamp {
    now().plus(LIFETIME)
}

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| revision(7, "enabled"))
}

/// The table of this revision, all of whose rows are in this state.
pub(crate) fn revision(number: u64, state: &str) -> Table {
    let row = |row: Row| {
        let (tenant, called, own) = (row.tenant(), row.called(), row.columns());
        format!(
            "[[row]]\nid = \"{}\"\ntenant = \"{tenant}\"\ncalled_aets = [\"{called}\"]\nstate = \"{state}\"{COLUMNS}{own}\n",
            called.to_lowercase(),
        )
    };
    let rows: String = Row::ALL.map(row).concat();
    Table::parse(&format!("revision = {number}\n{rows}")).expect("the table holds")
}

fn peer() -> Arc<VerifiedPeer> {
    static PEER: OnceLock<Arc<VerifiedPeer>> = OnceLock::new();
    PEER.get_or_init(|| Arc::new(handshake())).clone()
}

fn handshake() -> VerifiedPeer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let trust = |id: &str| {
        let identity = svid(&ca, id);
        let domain = TrustDomain::parse("a.invalid").expect("valid");
        let root = ca.pem();
        let bundles = TrustBundles::new([(domain, root.as_bytes())]).expect("one root");
        let rules = Rules { max_svid_lifetime: LIFETIME, ..Rules::default() };
        Trust::new(identity, bundles, rules).expect("it holds together")
    };
    let (caller, receiver) = (trust("spiffe://a.invalid/ct1"), trust("spiffe://a.invalid/receiver"));
    let now = SystemTime::now().into();
    let (call, awaited) = (caller.call(receiver.identity().id().clone(), now), receiver.await_caller(now));
    let mut client = rustls::ClientConnection::new(call.config(), call.server_name()).expect("a client");
    let mut server = rustls::ServerConnection::new(awaited.config()).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("a vector takes every byte");
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            server.read_tls(&mut sent).expect("it is in memory");
            server.process_new_packets().expect("the client is trusted");
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("a vector takes every byte");
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).expect("it is in memory");
            client.process_new_packets().expect("the server is trusted");
        }
    }
    awaited.finish(&server).expect("the caller was verified")
}

fn svid(ca: &CertifiedIssuer<'_, KeyPair>, id: &str) -> Identity {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let begin = SystemTime::now() - Duration::from_secs(60);
    params.not_before = begin.into();
    params.not_after = (begin + LIFETIME).into();
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, ca).expect("a leaf");
    Identity::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("it is well-formed")
}
