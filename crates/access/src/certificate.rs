//! What the rules ask about one certificate, read once from its DER.

use model::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use crate::strict;

/// V-31: a shorter RSA key is below the 112 bits of security that BCP 195 asks for.
const MIN_RSA_BITS: usize = 2048;
/// Longer RSA keys than this cost the verifier more than they cost the peer; webpki has the same bound.
const MAX_RSA_BITS: usize = 8192;
/// `[6] IA5String`: uniformResourceIdentifier in a GeneralName (RFC 5280 §4.2.1.6).
const TAG_URI: u8 = 0x86;
/// `SEQUENCE`, constructed.
const TAG_SEQUENCE: u8 = 0x30;
/// `BIT STRING`, primitive: key usage.
const TAG_BIT_STRING: u8 = 0x03;

/// One certificate, as far as the rules ask about it.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// Every URI name, whatever its scheme, length or characters: V-4 counts before anything is filtered.
    pub(crate) uris: Vec<Vec<u8>>,
    /// The cA flag, if there are basic constraints.
    pub(crate) ca: Option<bool>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended: Option<ExtendedKeyUsage>,
    /// Whether an extension is critical that an end-entity certificate has no business with.
    pub(crate) unknown_critical: bool,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Lower-case hex.
    pub(crate) serial: String,
    /// The kind of key, if it is one that V-31 allows.
    pub(crate) key: Option<String>,
    /// The subject key identifier: what a revocation list names its signer by.
    pub(crate) key_id: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyUsage {
    pub(crate) critical: bool,
    pub(crate) digital_signature: bool,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) client: bool,
    pub(crate) server: bool,
}

/// The bytes are not a strict version 3 certificate (V-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Certificate {
    pub(crate) fn read(der: &[u8]) -> Result<Self, Malformed> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Malformed)?;
        if !rest.is_empty() || parsed.version() != X509Version::V3 {
            return Err(Malformed);
        }
        // The serial number goes into the audit log, and deny-lists go by it.
        if !strict::is_serial(parsed.raw_serial()) || !strict::criticality_is_der(der) {
            return Err(Malformed);
        }
        // RFC 5280 §4.2: no extension twice. Two readers could otherwise each take another one.
        parsed.extensions_map().map_err(|_| Malformed)?;
        let mut certificate = Self {
            uris: Vec::new(),
            ca: None,
            key_usage: None,
            extended: None,
            unknown_critical: false,
            not_before: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            key: key_kind(parsed.public_key()),
            key_id: None,
        };
        for extension in parsed.extensions() {
            certificate.take(extension)?;
        }
        Ok(certificate)
    }

    /// Takes over what one extension says.
    fn take(&mut self, extension: &X509Extension<'_>) -> Result<(), Malformed> {
        let ours = [
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_EXTENDED_KEY_USAGE,
            OID_X509_EXT_SUBJECT_ALT_NAME,
        ];
        if !ours.contains(&extension.oid) {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                self.key_id = Some(id.0.to_vec());
            }
            self.unknown_critical |= extension.critical;
            return Ok(());
        }
        let body = only(extension.value)?;
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => self.ca = Some(basic.ca),
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    critical: extension.critical,
                    digital_signature: usage.digital_signature(),
                    cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            // anyExtendedKeyUsage does not stand for clientAuth: webpki would not take it either.
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended = Some(ExtendedKeyUsage { client: usage.client_auth, server: usage.server_auth });
            }
            ParsedExtension::SubjectAlternativeName(_) => self.uris = uris(body)?,
            _ => return Err(Malformed),
        }
        Ok(())
    }
}

/// The URI names of a GeneralNames body. Walked here and not taken from the parser, which may set aside a name that it
/// cannot read and so make two names look like one.
fn uris(mut names: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut found = Vec::new();
    while !names.is_empty() {
        let (tag, body, rest) = element(names)?;
        // A constructed [6] is no IA5String in DER; it must not hide from the count.
        match tag {
            TAG_URI => found.push(body.to_vec()),
            tag if tag == TAG_URI | 0x20 => return Err(Malformed),
            _ => {}
        }
        names = rest;
    }
    Ok(found)
}

/// The content of the one element that must fill an extension value; the parser looks whether it is of the right kind.
fn only(value: &[u8]) -> Result<&[u8], Malformed> {
    match element(value)? {
        (TAG_SEQUENCE | TAG_BIT_STRING, body, []) => Ok(body),
        _ => Err(Malformed),
    }
}

/// Splits one DER element with a one-byte tag off: tag, content, what follows (X.690 §8.1, §10.1).
fn element(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Malformed> {
    let (&tag, rest) = bytes.split_first().ok_or(Malformed)?;
    let (&first, rest) = rest.split_first().ok_or(Malformed)?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // Two bytes of length reach 64 KiB, as much as a whole chain may have (V-2).
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0F)).ok_or(Malformed)?;
            let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            if length < 0x80 || digits[0] == 0 {
                return Err(Malformed);
            }
            (length, rest)
        }
        _ => return Err(Malformed),
    };
    if tag & 0x1F == 0x1F {
        return Err(Malformed);
    }
    let (body, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
    Ok((tag, body, rest))
}

/// The name of a key that V-31 allows.
fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Some("Ed25519".into());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
        return match curve {
            curve if curve == OID_EC_P256 => Some("ECDSA P-256".into()),
            curve if curve == OID_NIST_EC_P384 => Some("ECDSA P-384".into()),
            _ => None,
        };
    }
    if *algorithm != OID_PKCS1_RSAENCRYPTION {
        return None;
    }
    let Ok(PublicKey::RSA(rsa)) = spki.parsed() else { return None };
    let bits = bit_length(rsa.modulus);
    (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits).then(|| format!("RSA {bits}"))
}

fn bit_length(number: &[u8]) -> usize {
    let Some(first) = number.iter().position(|byte| *byte != 0) else { return 0 };
    (number.len() - first) * 8 - number[first].leading_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CT1, Ca};

    fn leaf() -> Vec<u8> {
        Ca::root().leaf(CT1).chain.swap_remove(0)
    }

    /// For a leaf, webpki would refuse most of these as well. It never reads an issuer that no path needs.
    #[test]
    fn what_is_not_strict_is_not_read() {
        let good = leaf();
        let with = |from: &[u8], to: &[u8]| {
            let at = good.windows(from.len()).position(|bytes| bytes == from).expect("there");
            [&good[..at], to, &good[at + from.len()..]].concat()
        };
        let long_serial = Ca::root().leaf_with(CT1, |params| {
            params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x7F; 21]));
        });
        assert!(Certificate::read(&good).is_ok());
        for (name, der) in [
            ("a byte behind it", [good.as_slice(), &[0]].concat()),
            ("version 2", with(&[0xA0, 3, 2, 1, 2], &[0xA0, 3, 2, 1, 1])),
            ("a serial number of 21 octets", long_serial.chain[0].clone()),
            ("critical by a 1", with(&[1, 1, 0xFF], &[1, 1, 1])),
        ] {
            assert!(Certificate::read(&der).is_err(), "{name}");
        }
    }

    #[test]
    fn only_definite_minimal_lengths_split_off() {
        let long = [&[0x86, 0x81, 0x80][..], &[b'x'; 128]].concat();
        let longer = [&[0x86, 0x82, 0x01, 0x02][..], &[b'x'; 0x102]].concat();
        let padded = [&[0x86, 0x82, 0x00, 0x80][..], &[b'x'; 128]].concat();
        let cases: &[(&str, &[u8], bool)] = &[
            ("short form", &[0x86, 0x01, b'x'], true),
            ("empty", &[0x86, 0x00], true),
            ("long form", &long, true),
            ("two bytes of length", &longer, true),
            ("two bytes of length, cut off", &longer[..0x105], false),
            ("leading zero in a length that needs the long form", &padded, false),
            ("long form where short would do", &[0x86, 0x81, 0x01, b'x'], false),
            ("leading zero in the length", &[0x86, 0x82, 0x00, 0x01, b'x'], false),
            ("indefinite", &[0x86, 0x80, 0, 0], false),
            ("cut off", &[0x86, 0x02, b'x'], false),
            ("tag of several bytes", &[0x9F, 0x06, 0x00], false),
            ("nothing", &[], false),
        ];
        for (name, bytes, good) in cases {
            assert_eq!(element(bytes).is_ok(), *good, "{name}");
        }
    }

    #[test]
    fn a_uri_that_is_not_text_is_counted_too() {
        let names = [&[0x82, 1, b'd'][..], &[0x86, 1, 0xFF], &[0x86, 1, b'x'], &[0x86, 0]].concat();
        assert_eq!(uris(&names).expect("well-formed").len(), 3);
        assert_eq!(uris(&[0xA6, 0x03, 0x16, 0x01, b'x']), Err(Malformed));
    }

    #[test]
    fn the_length_of_a_modulus_is_counted_in_bits() {
        for (name, number, bits) in
            [("one", &[1][..], 1), ("a sign byte", &[0, 0x80], 8), ("nine", &[1, 0], 9), ("nothing", &[0], 0)]
        {
            assert_eq!(bit_length(number), bits, "{name}");
        }
    }
}
