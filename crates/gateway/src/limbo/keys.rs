//! Keys of every kind that the vectors use. Leaves share one key of each kind: a vector is about its certificate.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, RsaKeySize, SigningKey,
};

use super::der::{bits, element, integer, oid, sequence};
use crate::pki::Result;

const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10045, 2, 1];
const SECP256K1: &[u64] = &[1, 3, 132, 0, 10];
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const ED448: &[u64] = &[1, 3, 101, 113];

/// A kind of key that can sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa2048,
    Rsa3072,
}

impl Kind {
    const ALL: [Self; 6] = [Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::Rsa2048, Self::Rsa3072];

    pub(super) fn generate(self) -> Result<KeyPair> {
        Ok(match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::P521 => KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        }?)
    }

    /// The AlgorithmIdentifier of its signatures (RFC 5758, RFC 8410, RFC 4055).
    pub(super) fn signature_algorithm(self) -> Vec<u8> {
        match self {
            Self::P256 => algorithm(&[1, 2, 840, 10045, 4, 3, 2]),
            Self::P384 => algorithm(&[1, 2, 840, 10045, 4, 3, 3]),
            Self::P521 => algorithm(&[1, 2, 840, 10045, 4, 3, 4]),
            Self::Ed25519 => algorithm(&[1, 3, 101, 112]),
            Self::Rsa2048 | Self::Rsa3072 => sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 11]), element(0x05, &[])]),
        }
    }
}

/// An AlgorithmIdentifier without parameters.
pub(super) fn algorithm(arcs: &[u64]) -> Vec<u8> {
    sequence(&[oid(arcs)])
}

/// What stands in a certificate as its subject's key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    /// The leaves' key of that kind.
    Of(Kind),
    /// The intermediates' key of that kind.
    Issuing(Kind),
    /// A key of which only the public half is written down.
    Public(fn() -> Vec<u8>),
}

/// RSA of 1024 bits. The modulus is a number like any other: nobody knows its factors, so there is no private key.
pub(super) fn rsa_1024() -> Vec<u8> {
    rsa(&number(128))
}

/// An elliptic curve that is as strong as P-256 and not on the list.
pub(super) fn secp256k1() -> Vec<u8> {
    let point = [&[4], number(32).as_slice(), &number(32)].concat();
    sequence(&[sequence(&[oid(EC_PUBLIC_KEY), oid(SECP256K1)]), bits(&point)])
}

/// Ed448 (RFC 8410): strong and not on the list.
pub(super) fn ed448() -> Vec<u8> {
    sequence(&[algorithm(ED448), bits(&number(57))])
}

fn rsa(modulus: &[u8]) -> Vec<u8> {
    let key = sequence(&[integer(&[&[0], modulus].concat()), integer(&[1, 0, 1])]);
    sequence(&[sequence(&[oid(RSA), element(0x05, &[])]), bits(&key)])
}

/// An odd number of so many bytes whose first bit is set; always the same one.
fn number(bytes: usize) -> Vec<u8> {
    let digests = (0_u8..).flat_map(|count| *model::Digest::of(&[count]).as_bytes());
    let mut number: Vec<u8> = digests.take(bytes).collect();
    number[0] |= 0x80;
    number[bytes - 1] |= 1;
    number
}

/// Every key of a suite but those of the roots.
pub(super) struct Keys {
    leaves: Vec<(Kind, KeyPair)>,
    issuing: Vec<(Kind, KeyPair)>,
}

impl Keys {
    /// # Errors
    /// When no key can be made.
    pub(super) fn generate() -> Result<Self> {
        let all = |kinds: &[Kind]| kinds.iter().map(|kind| Ok((*kind, kind.generate()?))).collect::<Result<_>>();
        // No intermediate has an RSA key: making one takes longer than all the rest.
        Ok(Self { leaves: all(&Kind::ALL)?, issuing: all(&[Kind::P256, Kind::P384, Kind::P521, Kind::Ed25519])? })
    }

    /// The pair, unless only the public half exists.
    pub(super) fn pair(&self, key: Key) -> Option<(Kind, &KeyPair)> {
        let (pairs, kind) = match key {
            Key::Of(kind) => (&self.leaves, kind),
            Key::Issuing(kind) => (&self.issuing, kind),
            Key::Public(_) => return None,
        };
        let (_, pair) = pairs.iter().find(|(known, _)| *known == kind).expect("made in generate()");
        Some((kind, pair))
    }

    /// SubjectPublicKeyInfo.
    pub(super) fn public(&self, key: Key) -> Vec<u8> {
        match key {
            Key::Public(write) => write(),
            other => self.pair(other).expect("not a public half only").1.subject_public_key_info(),
        }
    }
}

/// Signs with the hash that belongs to the kind.
pub(super) fn sign(pair: &KeyPair, message: &[u8]) -> Result<Vec<u8>> {
    Ok(pair.sign(message)?)
}
