//! As much of XML 1.0 as an audit message needs: elements, attributes, text, all escaped.

/// A document as it is written.
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn document() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned())
    }

    pub(super) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0.push('>');
    }

    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0.push_str("/>");
    }

    pub(super) fn leaf(&mut self, name: &str, text: &str) {
        self.open(name, &[]);
        self.escaped(text);
        self.close(name);
    }

    pub(super) fn close(&mut self, name: &str) {
        self.0.extend(["</", name, ">"]);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn begin(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.extend(["<", name]);
        for (name, value) in attributes {
            self.0.extend([" ", name, "=\""]);
            self.escaped(value);
            self.0.push('"');
        }
    }

    /// Also what XML has no way to say: control characters, which a table of an operator might hold.
    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\u{FFFE}' | '\u{FFFF}' => self.0.push('\u{FFFD}'),
                // A line break would end the message for receivers that do not count octets.
                control if control.is_control() => self.0.push('\u{FFFD}'),
                other => self.0.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_can_become_markup() {
        let mut xml = Xml::document();
        xml.open("a", &[("b", "\"><x y='&")]);
        xml.leaf("c", "</c>\r\n\0");
        xml.empty("d", &[]);
        xml.close("a");
        let expected = "<a b=\"&quot;&gt;&lt;x y='&amp;\"><c>&lt;/c&gt;\u{FFFD}\u{FFFD}\u{FFFD}</c><d/></a>";
        assert_eq!(xml.into_text().strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"), Some(expected));
    }
}
