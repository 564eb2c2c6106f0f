//! What DER forbids and the certificate parser lets pass (V-3).

/// RFC 5280 §4.1.2.2: the longest serial number, in octets, beside the one that keeps it positive.
const MAX_SERIAL: usize = 20;
const TAG_BOOLEAN: u8 = 0x01;
const TAG_SEQUENCE: u8 = 0x30;
/// `[3]`, constructed: the extensions of a TBSCertificate.
const TAG_EXTENSIONS: u8 = 0xA3;

/// Whether these are the octets of a serial number: at least one, none of them needless (X.690 §8.3), and no more than
/// RFC 5280 allows. Zero and negative ones are to be handled gracefully, it says.
pub(crate) fn is_serial(octets: &[u8]) -> bool {
    let needless = match octets {
        [0, next, ..] => *next < 0x80,
        [0xFF, next, ..] => *next >= 0x80,
        _ => octets.is_empty(),
    };
    let sign = usize::from(octets.first() == Some(&0));
    !needless && octets.len() - sign <= MAX_SERIAL
}

/// Whether the criticality of every extension is written as DER wants it: TRUE is 0xFF (X.690 §11.1), and FALSE, the
/// default, is not written (§11.5). For a certificate that the parser has taken.
pub(crate) fn criticality_is_der(certificate: &[u8]) -> bool {
    extensions(certificate).is_none_or(|extensions| {
        Elements(extensions).all(|(_, extension)| {
            Elements(extension).filter(|(tag, _)| *tag == TAG_BOOLEAN).all(|(_, content)| content == [0xFF])
        })
    })
}

/// The content of the SEQUENCE of extensions, if there is one.
fn extensions(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate) = Elements(certificate).next()?;
    let (_, to_be_signed) = Elements(certificate).next()?;
    let (_, tagged) = Elements(to_be_signed).find(|(tag, _)| *tag == TAG_EXTENSIONS)?;
    Elements(tagged).find(|(tag, _)| *tag == TAG_SEQUENCE).map(|(_, content)| content)
}

/// The elements of a DER value one after the other: tag and content. Ends at the first that does not fit; the parser has
/// looked already whether they do.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            _ => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F)).filter(|it| it.0.len() <= 4)?;
                (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_has_the_fewest_octets_and_at_most_twenty() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("one", &[1], true),
            ("zero", &[0], true),
            ("negative", &[0x80], true),
            ("a zero that keeps it positive", &[0, 0x80], true),
            ("twenty", &[0x7F; 20], true),
            ("twenty and the sign", &[&[0][..], &[0x80; 20]].concat(), true),
            ("none", &[], false),
            ("a needless zero", &[0, 0x7F], false),
            ("a needless FF", &[0xFF, 0x80], false),
            ("twenty-one", &[0x7F; 21], false),
        ];
        for (name, octets, good) in cases {
            assert_eq!(is_serial(octets), *good, "{name}");
        }
    }

    #[test]
    fn a_boolean_that_is_neither_ff_nor_left_out_is_seen() {
        let with = |boolean: &[u8]| {
            let extension = [&[0x30, boolean.len() as u8 + 5, 0x06, 1, 0x2A][..], boolean, &[0x04, 0]].concat();
            let list = [&[0x30, extension.len() as u8], extension.as_slice()].concat();
            let tagged = [&[0xA3, list.len() as u8], list.as_slice()].concat();
            let to_be_signed = [&[0x30, tagged.len() as u8], tagged.as_slice()].concat();
            [&[0x30, to_be_signed.len() as u8], to_be_signed.as_slice()].concat()
        };
        for (name, boolean, good) in [
            ("left out", &[][..], true),
            ("true", &[1, 1, 0xFF], true),
            ("false", &[1, 1, 0], false),
            ("one", &[1, 1, 1], false),
            ("empty", &[1, 0], false),
        ] {
            assert_eq!(criticality_is_der(&with(boolean)), good, "{name}");
        }
        assert!(criticality_is_der(&[0x30, 0]), "no extensions at all");
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let digits: Vec<u8> = content.len().to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
        let length = match content.len() {
            0..0x80 => digits,
            _ => [&[0x80 | u8::try_from(digits.len()).expect("short")], digits.as_slice()].concat(),
        };
        [&[tag], length.as_slice(), content].concat()
    }

    /// Each with one extension that is written as it must be, then one that is critical by a 1.
    #[test]
    fn a_wrong_boolean_is_seen_however_long_everything_around_it_is() {
        let extension = |boolean: &[u8], value: &[u8]| {
            element(TAG_SEQUENCE, &[&element(0x06, &[0x2A]), boolean, &element(0x04, value)].concat())
        };
        for size in [0x7E, 0x7F, 0x80, 0xFF, 0x100, 0x1234, 0xFFFF, 0x1_0000, 0x12_3456, 0x100_0000] {
            let value = vec![1; size];
            for (boolean, good) in [([1, 1, 0xFF], true), ([1, 1, 1], false)] {
                let list = [extension(&[], &value), extension(&boolean, &value)].concat();
                let tagged = element(TAG_EXTENSIONS, &element(TAG_SEQUENCE, &list));
                let to_be_signed = [element(0xA0, &[2, 1, 2]), element(0x02, &value), tagged].concat();
                let signed = [element(TAG_SEQUENCE, &to_be_signed), element(0x03, &[0, 1])].concat();
                assert_eq!(criticality_is_der(&element(TAG_SEQUENCE, &signed)), good, "{size} {boolean:?}");
            }
        }
    }
}
