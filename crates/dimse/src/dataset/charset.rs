//! Specific Character Set (0008,0005) and the code extensions of ISO 2022, PS3.3 §C.12.1.1.2 and PS3.5 §6.1.2.
//!
//! Decoding never fails: what cannot be decoded becomes U+FFFD, and the object keeps its bytes. An escape sequence is
//! honoured whether or not (0008,0005) announces its character set: senders forget.

use std::borrow::Cow;

use dicom_core::VR;
use encoding_rs::{
    EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6, ISO_8859_7,
    ISO_8859_8, ISO_8859_15, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};

const ESCAPE: u8 = 0x1B;

/// How text is written until the next (0008,0005).
#[derive(Clone, Copy)]
pub(super) enum CharacterSet {
    /// A multi-byte code without escape sequences: UTF-8, GB18030 or GBK.
    Whole(&'static Encoding),
    /// ISO 2022: G0 is ASCII, G1 as given, until an escape sequence says otherwise.
    Coded(G1),
}

/// What bytes above 0x7F mean.
#[derive(Clone, Copy)]
pub(super) enum G1 {
    Undefined,
    /// A code whose lower half is ASCII.
    Upper(&'static Encoding),
    /// JIS X 0201 half-width katakana.
    Katakana,
}

/// What bytes below 0x80 mean. JIS X 0201 romaji is taken for ASCII, as every viewer does: its yen sign is the
/// separator of values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum G0 {
    Ascii,
    /// Two bytes a character.
    Jis0208,
    /// Two bytes a character, the supplementary set.
    Jis0212,
}

impl CharacterSet {
    /// ISO-IR 6, where (0008,0005) is absent (PS3.3 §C.12.1.1.2).
    pub(super) const DEFAULT: Self = Self::Coded(G1::Undefined);

    /// From the value of (0008,0005): the first term is the initial state, the others only announce escape sequences.
    pub(super) fn of(value: &[u8]) -> Self {
        let first = value.split(|byte| *byte == b'\\').next().unwrap_or_default();
        let term: Vec<u8> =
            first.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
        // Punctuation is left out: `ISO IR 100` and `ISO_IR_100` are common mistakes.
        let number = term.strip_prefix(b"ISO2022IR").or(term.strip_prefix(b"ISOIR")).unwrap_or(&term);
        let upper = |encoding| Self::Coded(G1::Upper(encoding));
        match number {
            b"192" | b"UTF8" => Self::Whole(encoding_rs::UTF_8),
            b"GB18030" => Self::Whole(GB18030),
            b"GBK" | b"GB2312" => Self::Whole(GBK),
            b"100" => upper(WINDOWS_1252),
            b"101" => upper(ISO_8859_2),
            b"109" => upper(ISO_8859_3),
            b"110" => upper(ISO_8859_4),
            b"126" => upper(ISO_8859_7),
            b"127" => upper(ISO_8859_6),
            b"138" => upper(ISO_8859_8),
            b"144" => upper(ISO_8859_5),
            b"148" => upper(WINDOWS_1254),
            b"166" => upper(WINDOWS_874),
            b"203" => upper(ISO_8859_15),
            b"13" => Self::Coded(G1::Katakana),
            // Not allowed as a first term (PS3.3 Table C.12-4), but sent.
            b"149" => upper(EUC_KR),
            b"58" => upper(GBK),
            _ => Self::DEFAULT,
        }
    }

    /// Decodes one whole value, its separators still in it.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8], vr: VR) -> Cow<'a, str> {
        match (self, std::str::from_utf8(bytes)) {
            (_, Ok(text)) if bytes.is_ascii() && !bytes.contains(&ESCAPE) => Cow::Borrowed(text),
            (Self::Whole(encoding), _) => encoding.decode_without_bom_handling(bytes).0,
            (Self::Coded(g1), _) => Cow::Owned(Coded { g0: G0::Ascii, g1: *g1 }.decode(bytes, vr)),
        }
    }
}

/// The state of ISO 2022 decoding.
#[derive(Clone, Copy)]
struct Coded {
    g0: G0,
    g1: G1,
}

impl Coded {
    fn decode(self, mut bytes: &[u8], vr: VR) -> String {
        let mut text = String::with_capacity(bytes.len() * 2);
        let mut now = self;
        while let [first, rest @ ..] = bytes {
            if let Some((next, rest)) = now.designated(bytes) {
                (now, bytes) = (next, rest);
            } else if *first == ESCAPE {
                text.push(char::REPLACEMENT_CHARACTER);
                bytes = rest;
            } else if now.g0 == G0::Ascii && resets(vr, *first) {
                text.push(char::from(*first));
                (now, bytes) = (self, rest);
            } else {
                let run = now.run(bytes, vr);
                now.decode_run(&bytes[..run], &mut text);
                bytes = &bytes[run..];
            }
        }
        text
    }

    /// The state after an escape sequence, PS3.3 Tables C.12-3 and C.12-4.
    fn designated(self, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let g0 = |g0| Self { g0, ..self };
        let upper = |encoding| Self { g1: G1::Upper(encoding), ..self };
        let (next, length) = match bytes.strip_prefix(&[ESCAPE])? {
            [b'(', b'B' | b'J', ..] => (g0(G0::Ascii), 3),
            [b'$', b'B' | b'@', ..] => (g0(G0::Jis0208), 3),
            [b'$', b'(', b'D', ..] => (g0(G0::Jis0212), 4),
            [b')', b'I', ..] => (Self { g1: G1::Katakana, ..self }, 3),
            [b'$', b')', b'C', ..] => (upper(EUC_KR), 4),
            [b'$', b')', b'A', ..] => (upper(GBK), 4),
            [b'-', final_byte, ..] => (upper(single_byte(*final_byte)?), 3),
            _ => return None,
        };
        Some((next, &bytes[length..]))
    }

    /// Bytes, at least one, that one state holds for.
    fn run(self, bytes: &[u8], vr: VR) -> usize {
        let ends = |byte: &u8| *byte == ESCAPE || self.g0 == G0::Ascii && resets(vr, *byte);
        bytes.iter().position(ends).unwrap_or(bytes.len())
    }

    fn decode_run(self, bytes: &[u8], text: &mut String) {
        match (self.g0, self.g1) {
            (G0::Jis0208, _) => push_jis(bytes, &[], text),
            (G0::Jis0212, _) => push_jis(bytes, &[0x8F], text),
            (G0::Ascii, G1::Upper(encoding)) => text.push_str(&encoding.decode_without_bom_handling(bytes).0),
            (G0::Ascii, g1) => text.extend(bytes.iter().map(|byte| match (byte, g1) {
                (0..=0x7F, _) => char::from(*byte),
                (0xA1..=0xDF, G1::Katakana) => {
                    char::from_u32(0xFF61 + u32::from(byte - 0xA1)).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                _ => char::REPLACEMENT_CHARACTER,
            })),
        }
    }
}

/// ISO 8859 parts and TIS 620 by the final byte of their escape sequence.
fn single_byte(final_byte: u8) -> Option<&'static Encoding> {
    Some(match final_byte {
        b'A' => WINDOWS_1252,
        b'B' => ISO_8859_2,
        b'C' => ISO_8859_3,
        b'D' => ISO_8859_4,
        b'F' => ISO_8859_7,
        b'G' => ISO_8859_6,
        b'H' => ISO_8859_8,
        b'L' => ISO_8859_5,
        b'M' => WINDOWS_1254,
        b'T' => WINDOWS_874,
        b'b' => ISO_8859_15,
        _ => return None,
    })
}

/// PS3.5 §6.1.2.5.3: these characters bring back the initial state.
fn resets(vr: VR, byte: u8) -> bool {
    match byte {
        b'\t' | b'\n' | 0x0C | b'\r' => true,
        b'\\' => !matches!(vr, VR::LT | VR::ST | VR::UT),
        b'^' | b'=' => vr == VR::PN,
        _ => false,
    }
}

/// Pairs of seven-bit bytes; EUC-JP is the same code with the high bits set. Anything else in between is taken as ASCII.
fn push_jis(mut bytes: &[u8], shift: &[u8], text: &mut String) {
    let mut euc = Vec::with_capacity(bytes.len() * 2);
    while let [first, rest @ ..] = bytes {
        bytes = match rest {
            [second, rest @ ..] if matches!((first, second), (0x21..=0x7E, 0x21..=0x7E)) => {
                euc.extend_from_slice(shift);
                euc.extend([first | 0x80, second | 0x80]);
                rest
            }
            _ => {
                euc.push(*first);
                rest
            }
        };
    }
    text.push_str(&EUC_JP.decode_without_bom_handling(&euc).0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(charset: &[u8], value: &[u8], vr: VR) -> String {
        CharacterSet::of(charset).decode(value, vr).into_owned()
    }

    #[test]
    fn the_names_of_ps3_5_annexes_h_i_j_and_k_decode() {
        let cases: &[(&str, &[u8], &[u8], &str)] = &[
            (
                "Japanese, H.3.1",
                b"\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "Japanese, H.3.2",
                b"ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J=\x1B$B$d$^$@\x1B(J^\x1B$B$?$m$&\x1B(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            ),
            (
                "Korean, I.2",
                b"\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            (
                "Chinese in UTF-8, J.1",
                b"ISO_IR 192",
                b"Wang^XiaoDong=\xE7\x8E\x8B^\xE5\xB0\x8F\xE6\x9D\xB1=",
                "Wang^XiaoDong=王^小東=",
            ),
            ("Chinese in GB18030, J.3", b"GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="),
            (
                "Chinese with code extensions, K.2",
                b"\\ISO 2022 IR 58",
                b"Zhang^XiaoDong=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB=",
                "Zhang^XiaoDong=张^小东=",
            ),
            ("Arabic", b"ISO_IR 127", b"\xE2\xC8\xC7\xE6\xEA^\xE4\xE6\xD2\xC7\xD1", "قباني^لنزار"),
            ("French", b"ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
            ("German", b"ISO_IR 100", b"\xC4neas^R\xFCdiger", "Äneas^Rüdiger"),
            ("Greek", b"ISO_IR 126", b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"),
            (
                "Russian",
                b"ISO_IR 144",
                b"\xBB\xEE\xDA\x63\x65\xDC\xD1yp\xD3",
                "Люкceмбypг",
            ),
            ("Hebrew", b"ISO_IR 138", b"\xF9\xF8\xE5\xEF^\xE3\xE1\xE5\xF8\xE4", "שרון^דבורה"),
            ("Polish", b"ISO_IR 101", b"Wa\xB3\xEAsa", "Wałęsa"),
            ("Esperanto", b"ISO_IR 109", b"Ka\xE6jo", "Kaĉjo"),
            ("Baltic", b"ISO_IR 110", b"B\xEBrzi\xF1\xB9", "Bërziņš"),
            ("Turkish", b"ISO_IR 148", b"\xC7a\xF0r\xFD", "Çağrı"),
            ("Thai", b"ISO_IR 166", b"\xB9\xD2\xC2", "นาย"),
            ("Latin-9", b"ISO_IR 203", b"\xA4 \xBC", "€ Œ"),
            ("katakana alone", b"ISO_IR 13", b"\xD4\xCF\xC0\xDE", "ﾔﾏﾀﾞ"),
        ];
        for (name, charset, value, expected) in cases {
            assert_eq!(decoded(charset, value, VR::PN), *expected, "{name}");
        }
    }

    #[test]
    fn code_extensions_follow_the_state_of_iso_2022() {
        type Case = (&'static str, &'static [u8], &'static [u8], VR, &'static str);
        let cases: &[Case] = &[
            ("supplementary JIS", b"\\ISO 2022 IR 159", b"\x1B$(D\x30\x21\x1B(B.", VR::LO, "丂."),
            ("Latin to Greek", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\xE9 \x1B-F\xE9", VR::LO, "é ι"),
            ("backslash resets", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1B-F\xE9\\\xE9", VR::LO, "ι\\é"),
            ("line feed resets", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1B-F\xE9\r\n\xE9", VR::LT, "ι\r\né"),
            ("backslash in text does not", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1B-F\xE9\\\xE9", VR::LT, "ι\\ι"),
            ("caret resets in a name", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1B-F\xE9^\xE9", VR::PN, "ι^é"),
            ("and only there", b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1B-F\xE9^\xE9", VR::LO, "ι^ι"),
            (
                "separator bytes in a JIS pair",
                b"\\ISO 2022 IR 87",
                b"\x1B$B\x30\x5C\x30\x3D\x30\x5E\x1B(B",
                VR::PN,
                "移綾緯",
            ),
            ("unknown escape", b"\\ISO 2022 IR 87", b"a\x1B%Gb", VR::LO, "a\u{FFFD}%Gb"),
            ("escape at the end", b"\\ISO 2022 IR 87", b"a\x1B", VR::LO, "a\u{FFFD}"),
            ("half a pair", b"\\ISO 2022 IR 87", b"\x1B$B;", VR::LO, ";"),
        ];
        for (name, charset, value, vr, expected) in cases {
            assert_eq!(decoded(charset, value, *vr), *expected, "{name}");
        }
    }

    #[test]
    fn a_trail_byte_0x5c_stays_within_its_character() {
        assert_eq!(decoded(b"GBK", b"\x81\x5C\\", VR::LO), "乗\\");
        assert_eq!(decoded(b"GB18030", b"\x81\x5C\\", VR::LO), "乗\\");
    }

    #[test]
    fn what_cannot_be_decoded_is_replaced() {
        let cases: &[(&str, &[u8], &[u8], &str)] = &[
            ("no character set", b"", b"M\xFCller", "M\u{FFFD}ller"),
            ("unknown character set", b"ISO_IR 999", b"M\xFCller", "M\u{FFFD}ller"),
            ("broken UTF-8", b"ISO_IR 192", b"M\xFCller", "M\u{FFFD}ller"),
            ("half a GBK character", b"GBK", b"a\x81", "a\u{FFFD}"),
        ];
        for (name, charset, value, expected) in cases {
            assert_eq!(decoded(charset, value, VR::PN), *expected, "{name}");
        }
    }

    #[test]
    fn common_misspellings_are_understood() {
        for charset in ["ISO_IR 100", "ISO IR 100", "ISO-IR 100", "ISO_IR_100", "iso_ir 100 ", "ISO 2022 IR 100"] {
            assert_eq!(decoded(charset.as_bytes(), b"\xE9", VR::LO), "é", "{charset}");
        }
    }
}
