//! Authorities that sign whatever they are told, and a house that takes some of them for those of its trust domains.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::Value;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, NoConnection, Peer, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use crate::support::{CALLED, house_with};

const HOUR: Duration = Duration::from_secs(3600);

/// An authority: with the name and the SPIFFE ID of a trust domain, and a key of its own.
pub(crate) struct Forge {
    pub(crate) domain: &'static str,
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain with its key.
pub(crate) struct Forged {
    pub(crate) chain: Vec<Vec<u8>>,
    key: String,
}

impl Forge {
    /// Two of one domain have the same name, and differ in their keys.
    pub(crate) fn new(domain: &'static str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority(domain);
        let root = params.self_signed(&key).expect("a root");
        Self { domain, pem: root.pem(), der: root.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// An SVID that keeps every rule and has no name yet, changed before it is signed.
    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Forged {
        let mut params = base();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        Forged { chain: vec![leaf.der().to_vec()], key: key.serialize_pem() }
    }

    /// An SVID for this URI, well-formed or not.
    pub(crate) fn svid(&self, id: &str) -> Forged {
        self.sign(|params| params.subject_alt_names = vec![uri(id)])
    }
}

impl Forged {
    /// Shows this authority's root after the leaf.
    pub(crate) fn with_root_of(mut self, forge: &Forge) -> Self {
        self.chain.push(forge.der.clone());
        self
    }

    /// A client that shows it.
    pub(crate) fn shown(&self, version: Tls) -> Stranger {
        Stranger::new(&self.chain, Some(&self.key), version)
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(ia5(text))
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(ia5(text))
}

pub(crate) fn mail(text: &str) -> SanType {
    SanType::Rfc822Name(ia5(text))
}

fn ia5(text: &str) -> Ia5String {
    Ia5String::try_from(text).expect("ASCII")
}

pub(crate) fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn authority(domain: &str) -> CertificateParams {
    let mut params = base();
    params.distinguished_name = common_name(&format!("{domain} root"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn base() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(30)).into();
    params.not_after = (now + 12 * HOUR).into();
    params.distinguished_name = common_name("svid");
    params
}

/// A house, and how much of its audit log was read.
pub(crate) struct Door {
    pub(crate) house: House,
    read: usize,
}

impl Door {
    /// A house that trusts these authorities, each for its own domain, with these rows.
    pub(crate) fn trusting(forges: &[&Forge], rows: &str) -> Self {
        Self::trusting_with(forges, rows, &[])
    }

    /// As [`Self::trusting`], with further arguments of `dev`.
    pub(crate) fn trusting_with(forges: &[&Forge], rows: &str, args: &[&str]) -> Self {
        let house = house_with(args, &[]);
        let path = house.dir().join("gateway.toml");
        let text = std::fs::read_to_string(&path).expect("dev has written it");
        let (own, sections) = text.split_once("[[trust]]").expect("dev trusts its hospitals");
        let (_, rest) = sections.split_once("[access]").expect("there is a table");
        let mut trust = String::new();
        for (number, forge) in forges.iter().enumerate() {
            let bundle = format!("forged-{number}.pem");
            std::fs::write(house.dir().join(&bundle), &forge.pem).expect("ours");
            trust += &format!("[[trust]]\ndomain = \"{}\"\nbundle = \"{bundle}\"\n", forge.domain);
        }
        std::fs::write(&path, format!("{own}{trust}[access]{rest}")).expect("ours");
        let table = format!("revision = 2\nallow_prefix = [\"{}\"]\n{rows}", forges[0].domain);
        std::fs::write(house.dir().join("access.toml"), table).expect("ours");
        Self { house: house.restart(), read: 0 }
    }

    /// What the receiver says to a client that asks for an association: the identity that it was granted as, or the reason
    /// of its refusal, by the audit log. And the alert, where the handshake ended with one.
    pub(crate) fn judge(&mut self, forged: &Forged, version: Tls) -> (String, Option<String>) {
        self.read = self.house.audit().len();
        let alert = match Peer::connect_as(self.house.addr(), &forged.shown(version)) {
            Ok(mut peer) => {
                let answer = peer.associate(CALLED, "ANYBODY", sample_contexts());
                if matches!(answer, Associated::Accepted(_)) {
                    peer.release();
                }
                None
            }
            Err(NoConnection::Closed(error)) => Some(error.to_string()),
            Err(NoConnection::Receiver(why)) => panic!("a stranger takes every receiver: {why}"),
        };
        let line = eventually("a verdict", || self.house.audit().into_iter().skip(self.read).find(is_verdict));
        let word = if line["reason"] == "granted" { &line["spiffe_id"] } else { &line["reason"] };
        (word.as_str().expect("text").to_owned(), alert)
    }
}

/// An answer to a certificate: the connection was refused, or its association was judged.
fn is_verdict(line: &Value) -> bool {
    match line["event"].as_str() {
        Some("connection") => line["decision"] == "deny",
        Some("association") => line["decision"] == "allow" || line["decision"] == "deny",
        _ => false,
    }
}

/// A row for this identity or prefix, with its own tenant, that takes every title.
pub(crate) fn row(id: &str, subject: &str) -> String {
    format!(
        "[[row]]\nid = \"{id}\"\neffect = \"allow\"\n{subject}\ntenant = \"{id}\"\ncalled_aets = [\"{CALLED}\"]\n\
         calling_aets = [\"*\"]\noperations = [\"echo\", \"store\"]\nsop_classes = [\"*\"]\n\
         transfer_syntaxes = [\"*\"]\nowner = \"somebody\"\n"
    )
}
