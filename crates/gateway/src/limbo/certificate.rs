//! A certificate as a list of what stands in it (RFC 5280 §4.1), each part changeable before it is signed.

use model::Digest;
use rcgen::KeyPair;

use super::der::{CONTEXT, bits, boolean, element, integer, moment, octets, oid, sequence, set, utf8};
use super::keys::{Key, Keys, Kind, sign};
use crate::pki::Result;

pub(super) const SUBJECT_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 14];
pub(super) const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
pub(super) const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
pub(super) const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
pub(super) const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
pub(super) const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
pub(super) const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
/// An extension that no verifier can know: the arc is for examples (RFC 5612).
pub(super) const OF_NOBODY: &[u64] = &[1, 3, 6, 1, 4, 1, 32473, 1];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];

/// keyUsage bits, most significant first (RFC 5280 §4.2.1.3).
pub(super) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(super) const NON_REPUDIATION: u8 = 0x40;
pub(super) const KEY_ENCIPHERMENT: u8 = 0x20;
pub(super) const KEY_AGREEMENT: u8 = 0x08;
pub(super) const KEY_CERT_SIGN: u8 = 0x04;
pub(super) const CRL_SIGN: u8 = 0x02;

/// Purposes (RFC 5280 §4.2.1.12).
pub(super) const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
pub(super) const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
pub(super) const CODE_SIGNING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 3];
pub(super) const ANY_PURPOSE: &[u64] = &[2, 5, 29, 37, 0];

/// One extension. The value is the DER inside the OCTET STRING.
#[derive(Debug, Clone)]
pub(super) struct Extension {
    pub(super) oid: &'static [u64],
    /// The content of the BOOLEAN, if it is written.
    pub(super) critical: Option<u8>,
    pub(super) value: Vec<u8>,
}

impl Extension {
    pub(super) fn new(oid: &'static [u64], critical: bool, value: Vec<u8>) -> Self {
        // DER leaves a default out: FALSE is written by nobody who keeps to it.
        Self { oid, critical: critical.then_some(0xFF), value }
    }

    fn encode(&self) -> Vec<u8> {
        let critical = self.critical.map(|content| element(0x01, &[content])).unwrap_or_default();
        sequence(&[oid(self.oid), critical, octets(&self.value)])
    }
}

/// Everything that a certificate says.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// 2 is version 3; version 1 is not written.
    pub(super) version: Option<u8>,
    /// The content of the INTEGER.
    pub(super) serial: Vec<u8>,
    /// Another issuer's name than the signer's.
    pub(super) issuer: Option<Vec<u8>>,
    /// In seconds since 1970.
    pub(super) not_before: i64,
    /// In seconds since 1970.
    pub(super) not_after: i64,
    pub(super) subject: Vec<u8>,
    pub(super) key: Key,
    pub(super) extensions: Vec<Extension>,
    /// What it says that it is signed with, if that is not true: inside, where it is signed, and outside.
    pub(super) algorithms: [Option<Vec<u8>>; 2],
    /// The signature is over other bytes.
    pub(super) spoilt: bool,
    /// Another SubjectPublicKeyInfo than that of `key`: a root's, whose key is its own.
    pub(super) own: Option<Vec<u8>>,
    /// What happens to the finished bytes.
    pub(super) mangle: Option<fn(Vec<u8>) -> Vec<u8>>,
}

impl Template {
    /// An end entity that keeps every rule, also the strict ones.
    pub(super) fn leaf(uri: &str, not_before: i64, not_after: i64) -> Self {
        let extensions = vec![
            Extension::new(BASIC_CONSTRAINTS, true, sequence(&[])),
            Extension::new(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE)),
            Extension::new(EXTENDED_KEY_USAGE, false, purposes(&[CLIENT_AUTH, SERVER_AUTH])),
            Extension::new(SUBJECT_ALT_NAME, false, names(&[uri_name(uri.as_bytes())])),
        ];
        Self { extensions, ..Self::bare("svid", Key::Of(Kind::P256), not_before, not_after) }
    }

    /// A certificate authority without a SPIFFE ID.
    pub(super) fn authority(name: &str, key: Key, not_before: i64, not_after: i64) -> Self {
        let extensions = vec![
            Extension::new(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)])),
            Extension::new(KEY_USAGE, true, key_usage(KEY_CERT_SIGN | CRL_SIGN)),
        ];
        Self { extensions, ..Self::bare(name, key, not_before, not_after) }
    }

    fn bare(common_name: &str, key: Key, not_before: i64, not_after: i64) -> Self {
        Self {
            version: Some(2),
            serial: vec![1],
            issuer: None,
            not_before,
            not_after,
            subject: name(common_name),
            key,
            extensions: Vec::new(),
            algorithms: [None, None],
            spoilt: false,
            own: None,
            mangle: None,
        }
    }

    /// Replaces an extension where it stands, or adds it.
    pub(super) fn set(&mut self, oid: &'static [u64], critical: bool, value: Vec<u8>) {
        let new = Extension::new(oid, critical, value);
        match self.extensions.iter_mut().find(|known| known.oid == oid) {
            Some(known) => *known = new,
            None => self.extensions.push(new),
        }
    }

    /// Leaves an extension out.
    pub(super) fn unset(&mut self, oid: &[u64]) {
        self.extensions.retain(|known| known.oid != oid);
    }

    /// The general names, in this order.
    pub(super) fn name_it(&mut self, general_names: &[Vec<u8>]) {
        self.set(SUBJECT_ALT_NAME, false, names(general_names));
    }

    /// Puts bytes behind the value of an extension, inside its OCTET STRING.
    pub(super) fn trail(&mut self, oid: &[u64]) {
        for known in self.extensions.iter_mut().filter(|known| known.oid == oid) {
            known.value.push(0);
        }
    }

    /// Writes and signs it.
    pub(super) fn encode(&self, signer: &Signer<'_>, keys: &Keys) -> Result<Vec<u8>> {
        let own = signer.kind.signature_algorithm();
        let [inner, outer] = self.algorithms.each_ref().map(|it| it.clone().unwrap_or_else(|| own.clone()));
        let public = self.own.clone().unwrap_or_else(|| keys.public(self.key));
        let to_be_signed = sequence(&[
            self.version.map(|version| element(CONTEXT, &integer(&[version]))).unwrap_or_default(),
            integer(&self.serial),
            inner,
            self.issuer.clone().unwrap_or_else(|| signer.name.to_vec()),
            sequence(&[moment(self.not_before), moment(self.not_after)]),
            self.subject.clone(),
            public.clone(),
            element(CONTEXT | 3, &self.all_extensions(&public, signer)),
        ]);
        let signed = if self.spoilt { [to_be_signed.as_slice(), &[0]].concat() } else { to_be_signed.clone() };
        let der = sequence(&[to_be_signed, outer, bits(&sign(signer.pair, &signed)?)]);
        Ok(self.mangle.map_or_else(|| der.clone(), |mangle| mangle(der.clone())))
    }

    /// With the key identifiers, which other verifiers build paths by.
    fn all_extensions(&self, public: &[u8], signer: &Signer<'_>) -> Vec<u8> {
        let mut all: Vec<_> = self.extensions.iter().map(Extension::encode).collect();
        let authority = sequence(&[element(0x80, &signer.identifier)]);
        all.push(Extension::new(SUBJECT_KEY_IDENTIFIER, false, octets(&identifier(public))).encode());
        all.push(Extension::new(AUTHORITY_KEY_IDENTIFIER, false, authority).encode());
        sequence(&all)
    }
}

/// Who signs.
pub(super) struct Signer<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) pair: &'a KeyPair,
    pub(super) identifier: Vec<u8>,
}

impl<'a> Signer<'a> {
    pub(super) fn new(name: &'a [u8], kind: Kind, pair: &'a KeyPair) -> Self {
        use rcgen::PublicKeyData as _;
        Self { name, kind, pair, identifier: identifier(&pair.subject_public_key_info()) }
    }
}

/// Any unique value will do (RFC 5280 §4.2.1.2); RFC 7093 §2 method 4 takes a SHA-256 of the SubjectPublicKeyInfo.
pub(super) fn identifier(public: &[u8]) -> Vec<u8> {
    Digest::of(public).as_bytes()[..20].to_vec()
}

/// A Name of organisation and common name.
pub(super) fn name(common_name: &str) -> Vec<u8> {
    let part = |arcs, text| set(&[sequence(&[oid(arcs), utf8(text)])]);
    sequence(&[part(ORGANIZATION, "Portcullis limbo, test vectors"), part(COMMON_NAME, common_name)])
}

/// One byte of key usage, trailing zero bits cut off as DER wants a named bit list (X.690 §11.2.2).
pub(super) fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros()).expect("at most eight");
    if bits == 0 { element(0x03, &[0]) } else { element(0x03, &[unused, bits]) }
}

pub(super) fn purposes(oids: &[&[u64]]) -> Vec<u8> {
    let oids: Vec<_> = oids.iter().map(|arcs| oid(arcs)).collect();
    sequence(&oids)
}

pub(super) fn names(general_names: &[Vec<u8>]) -> Vec<u8> {
    sequence(general_names)
}

/// `[6] IA5String`: uniformResourceIdentifier.
pub(super) fn uri_name(uri: &[u8]) -> Vec<u8> {
    element(0x86, uri)
}

/// `[2] IA5String`: dNSName.
pub(super) fn dns_name(name: &str) -> Vec<u8> {
    element(0x82, name.as_bytes())
}

/// `[1] IA5String`: rfc822Name.
pub(super) fn mail_name(address: &str) -> Vec<u8> {
    element(0x81, address.as_bytes())
}

/// `[7] OCTET STRING`: iPAddress.
pub(super) fn ip_name(address: [u8; 4]) -> Vec<u8> {
    element(0x87, &address)
}
