//! What a person looks for first in a certificate. For eyes only: no rule is judged by what is read here, and nothing
//! else may use it. Rules are `access`'s business, which reads the same bytes strictly.

use model::{Digest, Timestamp};

/// The lines above the rules; what cannot be read is absent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(in crate::verb) struct Facts {
    pub(in crate::verb) spiffe_id: Option<model::SpiffeId>,
    pub(in crate::verb) not_before: Option<Timestamp>,
    pub(in crate::verb) not_after: Option<Timestamp>,
    pub(in crate::verb) key: Option<&'static str>,
    pub(in crate::verb) serial: Option<String>,
    pub(in crate::verb) issuer: Option<String>,
    /// Of the issuer's name in DER: how a deny-list names an issuer.
    pub(in crate::verb) issuer_sha256: Option<Digest>,
    pub(in crate::verb) sha256: Digest,
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
/// Content of an OBJECT IDENTIFIER, and the words for that key (RFC 5480, RFC 8410, RFC 8017).
const KEYS: [(&[u8], &str); 4] = [
    (&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], "ECDSA P-256"),
    (&[0x2B, 0x81, 0x04, 0x00, 0x22], "ECDSA P-384"),
    (&[0x2B, 0x65, 0x70], "Ed25519"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01], "RSA"),
];

impl Facts {
    /// Reads the fields of TBSCertificate in their order (RFC 5280 §4.1) until one is not what it should be.
    pub(in crate::verb) fn read(der: &[u8], spiffe_id: Option<model::SpiffeId>) -> Self {
        let sha256 = Digest::of(der);
        let mut facts = Self {
            spiffe_id,
            not_before: None,
            not_after: None,
            key: None,
            serial: None,
            issuer: None,
            issuer_sha256: None,
            sha256,
        };
        facts.fill(der);
        facts
    }

    fn fill(&mut self, der: &[u8]) -> Option<()> {
        let mut certificate = Tlvs(Tlvs(der).expect(SEQUENCE)?);
        let mut fields = Tlvs(certificate.expect(SEQUENCE)?);
        let (tag, mut serial) = fields.next()?;
        if tag == 0xA0 {
            // [0] version, absent in version 1.
            serial = fields.next()?.1;
        }
        self.serial = Some(serial.iter().map(|byte| format!("{byte:02x}")).collect());
        let _signature_algorithm = fields.next()?;
        let before = fields.0;
        self.issuer = Some(names(fields.expect(SEQUENCE)?));
        self.issuer_sha256 = Some(Digest::of(&before[..before.len() - fields.0.len()]));
        let mut validity = Tlvs(fields.expect(SEQUENCE)?);
        self.not_before = validity.next().and_then(|(tag, text)| moment(tag, text));
        self.not_after = validity.next().and_then(|(tag, text)| moment(tag, text));
        let _subject = fields.next()?;
        let algorithm = Tlvs(fields.expect(SEQUENCE)?).expect(SEQUENCE)?;
        let oids = Tlvs(algorithm).filter(|(tag, _)| *tag == OID).map(|(_, oid)| oid);
        // The curve, if there is one, stands after the algorithm and says more.
        self.key = oids.filter_map(|oid| KEYS.iter().find(|(known, _)| *known == oid)).last().map(|(_, word)| *word);
        Some(())
    }
}

/// The elements of a DER value, one after the other; ends at the first that does not fit.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let digits = rest.split_off(..usize::from(first & 0x7F)).filter(|digits| digits.len() <= 4)?;
            length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        }
        let content = rest.split_off(..length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// The values of a Name from its first to its last: SEQUENCE of SET of SEQUENCE { type, value }. Another issuer wrote them:
/// what a terminal would not print is replaced.
fn names(name: &[u8]) -> String {
    let attributes = Tlvs(name).flat_map(|(_, set)| Tlvs(set)).filter_map(|(_, attribute)| Tlvs(attribute).nth(1));
    let texts: Vec<_> = attributes.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
    texts.join(", ").chars().map(|it| if it.is_control() { '\u{FFFD}' } else { it }).collect()
}

/// UTCTime or GeneralizedTime in the one form that RFC 5280 §4.1.2.5 allows.
fn moment(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // Two digits of the year: from 50 on they belong to the last century.
        0x17 if text >= "5" => format!("19{text}"),
        0x17 => format!("20{text}"),
        _ => text.to_owned(),
    };
    let part = |from: usize, to: usize| text.get(from..to);
    Timestamp::parse(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let cases: &[(&str, u8, &str, Option<&str>)] = &[
            ("this century", 0x17, "261122160405Z", Some("2026-11-22T16:04:05.000Z")),
            ("last century", 0x17, "991231235959Z", Some("1999-12-31T23:59:59.000Z")),
            ("generalized", 0x18, "20501122160405Z", Some("2050-11-22T16:04:05.000Z")),
            ("cut off", 0x17, "2611", None),
            ("no digits", 0x18, "ABCDEFGHIJKLMNZ", None),
        ];
        for (name, tag, text, expected) in cases {
            assert_eq!(moment(*tag, text.as_bytes()).map(|it| it.to_string()).as_deref(), *expected, "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_give_a_digest_and_nothing_else() {
        let cases: [(&str, &[u8]); 5] = [
            ("empty", b""),
            ("text", b"hello"),
            ("a length beyond the end", &[0x30, 0x82, 0xFF, 0xFF, 0x30]),
            ("a length of nine bytes", &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
            ("an empty sequence", &[0x30, 0x00]),
        ];
        for (name, der) in cases {
            let facts = Facts::read(der, None);
            assert_eq!(
                (facts.serial, facts.key, facts.issuer, facts.issuer_sha256),
                (None, None, None, None),
                "{name}"
            );
            assert_eq!(facts.sha256, Digest::of(der), "{name}");
        }
    }

    #[test]
    fn an_issuer_cannot_move_the_cursor_of_a_terminal() {
        let attribute = [&[0x31, 11, 0x30, 9, 0x06, 3, 0x55, 4, 3, 0x0C, 2][..], b"\x1bA"].concat();
        assert_eq!(names(&attribute), "\u{FFFD}A");
    }
}
