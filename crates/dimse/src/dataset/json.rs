//! DICOM JSON (PS3.18 Annex F), written while the data set arrives, valid at every size.

use dicom_core::VR;

/// `]` and `}` of a sequence, `}` of an item: what closing may still need.
const SEQUENCE_CLOSING: usize = 2;
const ITEM_CLOSING: usize = 1;
/// Bytes of JSON that most images need no more than; so much is reserved at once.
const USUAL_SIZE: usize = 4 << 10;

/// One JSON object within a limit. Once something did not fit, nothing more is taken in.
pub(super) struct Json {
    text: Vec<u8>,
    limit: usize,
    /// Bytes that closing all that is open will take.
    closing: usize,
    full: bool,
}

impl Json {
    pub(super) fn new(limit: usize) -> Self {
        let mut text = Vec::with_capacity(USUAL_SIZE);
        text.push(b'{');
        Self { text, limit, closing: 1, full: false }
    }

    pub(super) fn full(&self) -> bool {
        self.full
    }

    pub(super) fn close_for_good(&mut self) {
        self.full = true;
    }

    /// Writes one element; `value` adds its `Value`, if it has any. False when it did not fit.
    pub(super) fn element(&mut self, tag: u32, vr: VR, value: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.write(0, |text| {
            key(text, tag, vr);
            value(text);
            text.push(b'}');
        })
    }

    /// Opens a sequence, without a `Value` until its first item comes. False when it did not fit.
    pub(super) fn sequence(&mut self, tag: u32) -> bool {
        self.write(SEQUENCE_CLOSING, |text| key(text, tag, VR::SQ))
    }

    /// Closes the sequence opened last, which has items or not.
    pub(super) fn sequence_end(&mut self, items: bool) {
        self.text.extend_from_slice(if items { b"]}" } else { b"}" });
        self.closing -= SEQUENCE_CLOSING;
    }

    /// Opens the next item of the sequence opened last. False when it did not fit.
    pub(super) fn item(&mut self, first: bool) -> bool {
        self.write(ITEM_CLOSING, |text| text.extend_from_slice(if first { b",\"Value\":[{" } else { b",{" }))
    }

    /// Closes the item opened last.
    pub(super) fn item_end(&mut self) {
        self.text.push(b'}');
        self.closing -= ITEM_CLOSING;
    }

    /// The whole object.
    pub(super) fn finish(mut self) -> Vec<u8> {
        debug_assert_eq!(self.closing, 1, "everything was closed");
        self.text.push(b'}');
        self.text
    }

    fn write(&mut self, closing: usize, what: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.full {
            return false;
        }
        let before = self.text.len();
        what(&mut self.text);
        self.full = self.text.len() + self.closing + closing > self.limit;
        if self.full {
            self.text.truncate(before);
        } else {
            self.closing += closing;
        }
        !self.full
    }
}

/// `"00100010":{"vr":"PN"`, after a comma where one is due.
fn key(text: &mut Vec<u8>, tag: u32, vr: VR) {
    if text.last() != Some(&b'{') {
        text.push(b',');
    }
    text.push(b'"');
    hex(text, tag);
    text.extend_from_slice(b"\":{\"vr\":\"");
    text.extend_from_slice(&vr.to_bytes());
    text.push(b'"');
}

/// Eight upper-case hex digits.
pub(super) fn hex(text: &mut Vec<u8>, number: u32) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.extend((0..8).rev().map(|nibble| DIGITS[(number >> (4 * nibble) & 0xF) as usize]));
}

/// A JSON string (RFC 8259 §7). Control characters and those that turn or break lines are escaped, so that neither a
/// terminal nor a script sees them.
pub(super) fn string(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')) {
        // Nearly every value.
        text.extend_from_slice(value.as_bytes());
    } else {
        escape(text, value);
    }
    text.push(b'"');
}

fn escape(text: &mut Vec<u8>, value: &str) {
    let mut written = 0;
    for (at, character) in value.char_indices().filter(|(_, character)| escaped(*character)) {
        text.extend_from_slice(&value.as_bytes()[written..at]);
        match character {
            '"' => text.extend_from_slice(b"\\\""),
            '\\' => text.extend_from_slice(b"\\\\"),
            // All of them are below U+10000.
            _ => text.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes()),
        }
        written = at + character.len_utf8();
    }
    text.extend_from_slice(&value.as_bytes()[written..]);
}

fn escaped(character: char) -> bool {
    match character {
        '"' | '\\' => true,
        ' '..='~' => false,
        '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: Json) -> String {
        String::from_utf8(json.finish()).expect("UTF-8")
    }

    #[test]
    fn nothing_in_a_string_can_reach_a_terminal_or_break_out() {
        let mut out = Vec::new();
        string(&mut out, "é\"\\\n\u{1B}[31m\u{7F}\u{9B}\u{2028}\u{202E}\0😀");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#""é\"\\\u000a\u001b[31m\u007f\u009b\u2028\u202e\u0000😀""#
        );
    }

    #[test]
    fn sequences_nest_and_empty_ones_have_no_value() {
        let mut json = Json::new(1000);
        assert!(json.element(0x0008_0005, VR::CS, |_| {}));
        assert!(json.sequence(0x0008_1140));
        assert!(json.item(true));
        json.item_end();
        assert!(json.item(false));
        assert!(json.sequence(0x0040_A730));
        json.sequence_end(false);
        json.item_end();
        json.sequence_end(true);
        assert_eq!(
            text(json),
            r#"{"00080005":{"vr":"CS"},"00081140":{"vr":"SQ","Value":[{},{"0040A730":{"vr":"SQ"}}]}}"#
        );
    }

    #[test]
    fn at_every_limit_the_object_is_whole_and_within_it() {
        let whole = r#"{"00081140":{"vr":"SQ","Value":[{"00100010":{"vr":"PN"}}]},"00100020":{"vr":"LO"}}"#;
        for limit in 2..=whole.len() {
            let mut json = Json::new(limit);
            if json.sequence(0x0008_1140) {
                let item = json.item(true);
                if item {
                    json.element(0x0010_0010, VR::PN, |_| {});
                    json.item_end();
                }
                json.sequence_end(item);
            }
            json.element(0x0010_0020, VR::LO, |_| {});
            let full = json.full();
            let text = text(json);
            assert!(text.len() <= limit, "{limit}");
            assert_eq!(text == whole, !full, "{limit}");
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{limit}");
            assert_eq!(text.matches('[').count(), text.matches(']').count(), "{limit}");
        }
    }
}
