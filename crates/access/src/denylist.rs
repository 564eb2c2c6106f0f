use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use model::{Digest, SpiffeId};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use toml::Spanned;
use webpki::EndEntityCert;

/// The certificates and identities that are refused here whatever their issuer says (V-32), in all trust domains.
#[derive(Debug, Clone, Default)]
pub struct DenyList {
    entries: HashMap<Target, Arc<DenyNote>>,
}

/// Whom an entry refuses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Leaf(Digest),
    /// SHA-256 of the issuer's name in DER, and the serial number without leading zeros.
    Serial(Digest, Vec<u8>),
    Id(SpiffeId),
}

/// Why somebody is on the deny-list, in the words of our own operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyNote {
    /// The reason, if the entry has one.
    pub reason: Option<String>,
    /// Where it was decided, if the entry says so.
    pub ticket: Option<String>,
}

/// The text is no deny-list: our own operator is at fault. The whole list is refused, and the one before it stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the deny-list is refused: {}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct DenyListError {
    /// The line in the text, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    deny: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    leaf_sha256: Option<String>,
    issuer_sha256: Option<String>,
    serial: Option<String>,
    spiffe_id: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
}

impl DenyList {
    /// Reads TOML: any number of `[[deny]]` tables, each with `leaf_sha256`, or `issuer_sha256` and `serial`, or
    /// `spiffe_id`, and if one likes `reason` and `ticket`. Digests and serial numbers are hex as `portcullis certs show`
    /// prints them; upper case and colons, as OpenSSL writes them, are read as well. A text without entries denies nothing.
    ///
    /// # Errors
    /// An unknown key, a value that does not parse, an entry of no kind or of two, or one that comes twice refuses the list.
    pub fn parse(text: &str) -> Result<Self, DenyListError> {
        let line = |offset: usize| Some(text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1);
        let file: File = toml::from_str(text).map_err(|error| DenyListError {
            line: error.span().and_then(|span| line(span.start)),
            problem: error.message().trim().replace('\n', ", "),
        })?;
        let mut entries = HashMap::new();
        for entry in file.deny {
            let refuse = |problem| DenyListError { line: line(entry.span().start), problem };
            let (target, note) = entry.get_ref().read().map_err(refuse)?;
            if entries.insert(target, Arc::new(note)).is_some() {
                return Err(refuse("this entry comes twice: remove one".into()));
            }
        }
        Ok(Self { entries })
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it denies nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why this chain (DER, leaf first) of this identity is denied, if it is. Every certificate that is shown counts, whether
    /// or not the path to a root needs it.
    pub(crate) fn denies(&self, chain: &[&[u8]], id: &SpiffeId) -> Option<Arc<DenyNote>> {
        if self.entries.is_empty() {
            return None;
        }
        let leaf = chain.first().map(|der| Target::Leaf(Digest::of(der)));
        let serials = chain.iter().filter_map(|der| {
            let der = CertificateDer::from(*der);
            let certificate = EndEntityCert::try_from(&der).ok()?;
            Some(Target::Serial(Digest::of(&sequence(certificate.issuer())), significant(certificate.serial())))
        });
        let mut targets = [Some(Target::Id(id.clone())), leaf].into_iter().flatten().chain(serials);
        targets.find_map(|target| self.entries.get(&target)).cloned()
    }
}

impl fmt::Display for DenyNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the local deny-list has it: {}", self.reason.as_deref().unwrap_or("no reason is given"))?;
        self.ticket.as_ref().map_or(Ok(()), |ticket| write!(f, " ({ticket})"))
    }
}

impl Entry {
    fn read(&self) -> Result<(Target, DenyNote), String> {
        let target = match (&self.leaf_sha256, &self.issuer_sha256, &self.serial, &self.spiffe_id) {
            (Some(leaf), None, None, None) => Target::Leaf(digest("leaf_sha256", leaf)?),
            (None, Some(issuer), Some(serial), None) => {
                let serial = hex(serial).ok_or("serial is not an even number of hex digits")?;
                Target::Serial(digest("issuer_sha256", issuer)?, significant(&serial))
            }
            (None, None, None, Some(id)) => Target::Id(id.parse().map_err(|error| format!("spiffe_id: {error}"))?),
            _ => {
                let kinds = "leaf_sha256, or issuer_sha256 and serial, or spiffe_id";
                return Err(format!("an entry has exactly one of: {kinds}"));
            }
        };
        Ok((target, DenyNote { reason: self.reason.clone(), ticket: self.ticket.clone() }))
    }
}

fn digest(key: &str, text: &str) -> Result<Digest, String> {
    Digest::parse(&digits(text)).map_err(|_| format!("{key} is not a SHA-256 digest, which has 64 hex digits"))
}

fn digits(text: &str) -> String {
    text.replace(':', "").to_ascii_lowercase()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = digits(text);
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_bytes().as_chunks() else { return None };
    let bytes = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
    bytes.collect::<Option<Vec<_>>>().filter(|bytes| !bytes.is_empty())
}

/// A serial number without the octet that keeps it positive, which some tools print and others do not.
fn significant(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// A SEQUENCE around a name, from which webpki has taken it off (X.690 §8.1.3).
fn sequence(body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let count = u8::try_from(length.len()).expect("a length has at most eight octets");
    match body.len() {
        0..=0x7F => [&[0x30, u8::try_from(body.len()).expect("below 0x80")], body].concat(),
        _ => [&[0x30, 0x80 | count], length.as_slice(), body].concat(),
    }
}
