//! SPIFFE bundles in their own format: a JWK Set (SPIFFE_Trust_Domain_and_Bundle.md §4, X509-SVID.md §6).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A member that comes twice refuses the set: two readers could otherwise each take another one. Members that are not
/// named here are ignored (TB §4.1, RFC 7517 §4).
#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
    spiffe_sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    x5c: Option<Vec<String>>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// What a bundle holds for X509-SVIDs.
pub(crate) struct Authorities {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) sequence: Option<u64>,
}

/// The text is no bundle, or one of its keys for X509-SVIDs (counted from 1) contradicts itself.
#[derive(Debug)]
pub(crate) enum Fault {
    Set(String),
    Key(usize, &'static str),
}

/// The certificates of the keys that are for X509-SVIDs. There may be none: that is how a trust domain revokes all of them
/// (TB §4.1.3).
pub(crate) fn authorities(text: &[u8]) -> Result<Authorities, Fault> {
    let set: Set = serde_json::from_slice(text).map_err(|error| Fault::Set(error.to_string()))?;
    let mut certificates = Vec::new();
    for key in &set.keys {
        let number = certificates.len() + 1;
        certificates.extend(key.authority().map_err(|why| Fault::Key(number, why))?);
    }
    Ok(Authorities { certificates, sequence: set.spiffe_sequence })
}

impl Jwk {
    /// None for a key that must be ignored: of an unknown use or type (TB §4.1.3, §4.2), or without a certificate. Further
    /// certificates of a key are ignored as well (X509-SVID §6.2).
    fn authority(&self) -> Result<Option<CertificateDer<'static>>, &'static str> {
        let known = matches!(self.kty.as_deref(), Some("EC" | "RSA" | "OKP"));
        let Some(first) = self.x5c.as_deref().and_then(<[String]>::first) else { return Ok(None) };
        if self.usage.as_deref() != Some("x509-svid") || !known {
            return Ok(None);
        }
        let der = STANDARD.decode(first).map_err(|_| "its x5c is not base64")?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| "its x5c is not a certificate")?;
        if !self.is_key_of(certificate.public_key()) {
            return Err("its kty, x, y, n or e is not of the key in its x5c");
        }
        Ok(Some(der.into()))
    }

    /// RFC 7517 §4.7: the key in the certificate must be the one that the other members represent.
    fn is_key_of(&self, spki: &SubjectPublicKeyInfo<'_>) -> bool {
        match (self.kty.as_deref(), spki.parsed()) {
            (Some("EC"), Ok(PublicKey::EC(point))) => {
                let [4, coordinates @ ..] = point.data() else { return false };
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                says(self.x.as_deref(), x) && says(self.y.as_deref(), y)
            }
            (Some("RSA"), Ok(PublicKey::RSA(rsa))) => {
                says(self.n.as_deref(), unsigned(rsa.modulus)) && says(self.e.as_deref(), unsigned(rsa.exponent))
            }
            (Some("OKP"), _) => {
                spki.algorithm.algorithm == OID_SIG_ED25519 && says(self.x.as_deref(), &spki.subject_public_key.data)
            }
            _ => false,
        }
    }
}

/// Whether a member, if it is there, is this number (RFC 7518 §2: base64url without padding).
fn says(member: Option<&str>, number: &[u8]) -> bool {
    member.is_none_or(|text| URL_SAFE_NO_PAD.decode(text).is_ok_and(|value| value == number))
}

/// Without the octet that keeps an INTEGER positive (RFC 7518 §6.3.1.1).
fn unsigned(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}
