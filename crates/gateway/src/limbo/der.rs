//! Just enough DER to write certificates, right ones and wrong ones (X.690). Nothing is read here.

use time::OffsetDateTime;

/// `[n]` in an implicit or explicit tagging, constructed.
pub(super) const CONTEXT: u8 = 0xA0;
/// `GeneralizedTime`.
const GENERALIZED_TIME: u8 = 0x18;

/// One element with a one-byte tag.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag], length(content.len()).as_slice(), content].concat()
}

/// The shortest form of a length, which is the only one that DER allows (X.690 §10.1).
fn length(length: usize) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    match length {
        0..0x80 => vec![bytes[bytes.len() - 1]],
        _ => {
            let digits = &bytes[(length.leading_zeros() / 8) as usize..];
            let count = u8::try_from(digits.len()).expect("a length has at most eight bytes");
            [&[0x80 | count], digits].concat()
        }
    }
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

pub(super) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x31, &parts.concat())
}

/// The content as it is: a leading zero where the number must stay positive is the caller's.
pub(super) fn integer(content: &[u8]) -> Vec<u8> {
    element(0x02, content)
}

pub(super) fn octets(content: &[u8]) -> Vec<u8> {
    element(0x04, content)
}

pub(super) fn utf8(text: &str) -> Vec<u8> {
    element(0x0C, text.as_bytes())
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[if value { 0xFF } else { 0 }])
}

/// Whole bytes, no unused bits.
pub(super) fn bits(content: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], content].concat())
}

/// An OBJECT IDENTIFIER (X.690 §8.19).
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let [first, second, rest @ ..] = arcs else { return element(0x06, &[]) };
    let mut content = vec![u8::try_from(first * 40 + second).expect("the roots that are used here are small")];
    for arc in rest {
        let digits = (0..10).rev().map(|at| (arc >> (7 * at)) & 0x7F).skip_while(|digit| *digit == 0);
        let mut digits: Vec<u8> = digits.map(|digit| 0x80 | u8::try_from(digit).expect("seven bits")).collect();
        match digits.last_mut() {
            Some(last) => *last &= 0x7F,
            None => digits.push(0),
        }
        content.extend(digits);
    }
    element(0x06, &content)
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
pub(super) fn moment(seconds: i64) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).expect("a year that a calendar has");
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let rest = format!("{:02}{day:02}{hour:02}{minute:02}{second:02}Z", u8::from(month));
    match year {
        1950..2050 => element(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        _ => element(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (count, head) in [
            (0, &[0x04, 0][..]),
            (127, &[0x04, 127]),
            (128, &[0x04, 0x81, 128]),
            (255, &[0x04, 0x81, 255]),
            (256, &[0x04, 0x82, 1, 0]),
            (70_000, &[0x04, 0x83, 1, 0x11, 0x70]),
        ] {
            assert!(octets(&vec![0; count]).starts_with(head), "{count}");
        }
    }

    #[test]
    fn arcs_are_written_in_base_128() {
        let cases: &[(&[u64], &[u8])] = &[
            (&[2, 5, 29, 17], &[6, 3, 0x55, 0x1D, 0x11]),
            (&[1, 2, 840, 10045, 4, 3, 2], &[6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]),
            (&[2, 5, 29, 37, 0], &[6, 4, 0x55, 0x1D, 0x25, 0]),
        ];
        for (arcs, expected) in cases {
            assert_eq!(oid(arcs), *expected);
        }
    }

    #[test]
    fn the_form_of_a_moment_changes_with_2050() {
        assert_eq!(moment(1_795_363_445), b"\x17\x0D261122160405Z");
        assert_eq!(moment(2_524_608_000), b"\x18\x0F20500101000000Z");
    }
}
