//! The audit log as questions: what was decided in the past, in a form in which it can be asked again.
//!
//! Read line by line, leniently: fields that are not known are passed over. What is taken from a line is parsed into its type,
//! so nothing of a log goes anywhere as it stands.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use access::{Caller, DenialCode, Operation, Origin, Question};
use anyhow::Context as _;
use model::{AeTitle, SopClass, SpiffeId, Timestamp, TransferSyntax, Uid};
use serde::Deserialize;

use super::asked::endpoint;

/// A line, as far as it is needed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    ts: String,
    event: String,
    pub(super) decision: String,
    pub(super) reason: String,
    association: Option<u64>,
    pub(super) row: Option<String>,
    spiffe_id: Option<String>,
    not_after: Option<String>,
    tls_version: Option<String>,
    socket_peer: Option<String>,
    source: Option<String>,
    vpce: Option<String>,
    called_ae: Option<String>,
    calling_ae: Option<String>,
    sop_class: Option<String>,
    transfer_syntax: Option<String>,
    bytes: Option<u64>,
}

/// A decision of the past.
#[derive(Debug, Clone)]
pub(super) struct Decided {
    pub(super) at: Timestamp,
    pub(super) about: About,
    pub(super) record: Record,
}

impl Decided {
    /// Whether it is only what a row in observe mode would have refused; the decision itself has a record of its own.
    pub(super) fn is_observed(&self) -> bool {
        self.record.decision == "observe"
    }
}

/// What it was about.
#[derive(Debug, Clone)]
pub(super) enum About {
    /// Whether a caller is heard: its association request was not read.
    Door { caller: Caller, origin: Origin },
    /// An association.
    Association(Question),
    /// An instance. What its data set said is not in the log, on purpose.
    Instance(Question),
}

impl About {
    pub(super) fn caller(&self) -> &Caller {
        match self {
            Self::Door { caller, .. } => caller,
            Self::Association(question) | Self::Instance(question) => &question.caller,
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        match self {
            Self::Door { origin, .. } => origin,
            Self::Association(question) | Self::Instance(question) => &question.origin,
        }
    }

    pub(super) fn question(&self) -> Option<&Question> {
        match self {
            Self::Door { .. } => None,
            Self::Association(question) | Self::Instance(question) => Some(question),
        }
    }
}

/// Why a record cannot be asked again.
pub(super) type Unasked = &'static str;

const NO_RECORD: Unasked = "not a record: no JSON object of the audit log";
const NO_TIME: Unasked = "its time cannot be read";
const NO_IDENTITY: Unasked = "its SPIFFE ID cannot be read";
const NO_ORIGIN: Unasked = "it does not say where the connection came from";
const NO_BEGINNING: Unasked = "the beginning of its association, with the AE titles, is not in the files";
const NO_CLASS: Unasked = "it does not name a SOP class and a transfer syntax";
const OTHER_DOOR: Unasked = "refused before its AE titles were known, and not by the table";

/// Reads files in this order and hands on each decision about an association or an instance, one at a time: the files may be
/// larger than memory. What was only observed is handed on too ([`Decided::is_observed`]). Lines about something else are passed over.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn read(files: &[PathBuf], mut each: impl FnMut(Result<Decided, Unasked>)) -> anyhow::Result<()> {
    let mut open = Open::default();
    for path in files {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        of_file(BufReader::new(file), path, &mut open, &mut each)?;
    }
    Ok(())
}

fn of_file(
    mut lines: impl BufRead,
    path: &Path,
    open: &mut Open,
    each: &mut impl FnMut(Result<Decided, Unasked>),
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(());
        }
        // The last line of a log that is being written may be there in part.
        if line.ends_with(b"\n") && !line.trim_ascii().is_empty() {
            match serde_json::from_slice(&line) {
                Ok(record) => open.take(record).into_iter().for_each(&mut *each),
                Err(_) => each(Err(NO_RECORD)),
            }
        }
    }
}

/// The AE titles of associations that are open at this place of the log: an instance's line does not have them. Numbers begin
/// again with each start of the gateway.
#[derive(Default)]
struct Open(HashMap<u64, (SpiffeId, AeTitle, AeTitle)>);

impl Open {
    fn take(&mut self, record: Record) -> Option<Result<Decided, Unasked>> {
        if record.event == "startup" {
            self.0.clear();
        }
        let about = match record.event.as_str() {
            "association" => Self::association,
            "instance" => Self::instance,
            _ => return None,
        };
        match record.decision.as_str() {
            "allow" | "deny" => Some(self.decided(record, about)),
            // It has the AE titles itself; without them it is about a shadow table.
            "observe" if record.titles().is_some() => self.decided(record, Self::association).ok().map(Ok),
            // How the association ended.
            "note" | "terminate" => {
                record.association.map(|number| self.0.remove(&number));
                None
            }
            _ => None,
        }
    }

    fn decided(
        &mut self,
        record: Record,
        about: impl Fn(&mut Self, &Record, Caller, Origin) -> Result<About, Unasked>,
    ) -> Result<Decided, Unasked> {
        let at = Timestamp::parse(&record.ts).ok_or(NO_TIME)?;
        let (caller, origin) = (record.caller(at)?, record.origin()?);
        let about = about(self, &record, caller, origin)?;
        Ok(Decided { at, about, record })
    }

    fn association(&mut self, record: &Record, caller: Caller, origin: Origin) -> Result<About, Unasked> {
        let Some((called, calling)) = record.titles() else {
            let by_table = DenialCode::ALL.iter().any(|code| code.as_str() == record.reason);
            return if by_table { Ok(About::Door { caller, origin }) } else { Err(OTHER_DOOR) };
        };
        if let (Some(number), "allow") = (record.association, record.decision.as_str()) {
            self.0.insert(number, (caller.id.clone(), called.clone(), calling.clone()));
        }
        Ok(About::Association(question(caller, origin, called, calling)))
    }

    fn instance(&mut self, record: &Record, caller: Caller, origin: Origin) -> Result<About, Unasked> {
        let open = record.association.and_then(|number| self.0.get(&number)).filter(|(id, ..)| *id == caller.id);
        let (_, called, calling) = open.cloned().ok_or(NO_BEGINNING)?;
        let (class, syntax) = record.class().zip(record.syntax()).ok_or(NO_CLASS)?;
        let size = record.bytes;
        let question = question(caller, origin, called, calling);
        Ok(About::Instance(Question { class: Some(class), syntax: Some(syntax), size, ..question }))
    }
}

fn question(caller: Caller, origin: Origin, called: AeTitle, calling: AeTitle) -> Question {
    let operation = Operation::Store;
    Question { caller, origin, called, calling, operation, class: None, syntax: None, content: None, size: None }
}

impl Record {
    /// The log does not say when the SVID began, so it is taken to begin with the record: `max_svid_lifetime` is asked about
    /// what was left of it.
    fn caller(&self, at: Timestamp) -> Result<Caller, Unasked> {
        let id = self.spiffe_id.as_deref().and_then(|id| SpiffeId::parse(id).ok()).ok_or(NO_IDENTITY)?;
        let not_after = self.not_after.as_deref().and_then(Timestamp::parse).ok_or(NO_IDENTITY)?;
        Ok(Caller { id, not_before: at, not_after, tls13: self.tls_version.as_deref() == Some("TLSv1.3") })
    }

    fn origin(&self) -> Result<Origin, Unasked> {
        let socket = self.socket_peer.as_deref().and_then(|peer| peer.parse().ok()).ok_or(NO_ORIGIN)?;
        let source = self.source.as_deref().map(|source| source.parse().map_err(|_| NO_ORIGIN)).transpose()?;
        let vpce = self.vpce.as_deref().map(|vpce| endpoint(vpce).map_err(|_| NO_ORIGIN)).transpose()?;
        Ok(Origin { socket, source, vpce })
    }

    fn titles(&self) -> Option<(AeTitle, AeTitle)> {
        let title = |text: &Option<String>| AeTitle::parse(text.as_deref()?).ok();
        title(&self.called_ae).zip(title(&self.calling_ae))
    }

    fn class(&self) -> Option<Uid<SopClass>> {
        Uid::parse(self.sop_class.as_deref()?).ok()
    }

    fn syntax(&self) -> Option<Uid<TransferSyntax>> {
        Uid::parse(self.transfer_syntax.as_deref()?).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const PEER: &str = r#""ts":"2026-11-22T12:00:00.000Z","association":1,"spiffe_id":"spiffe://hospital-a.invalid/ct1","not_after":"2026-11-22T20:00:00.000Z","tls_version":"TLSv1.3","socket_peer":"192.0.2.7:4711","from_tomorrow":{"on":1}"#;

    /// A line about ct1, with these fields beside those of every line.
    pub(in crate::verb::access) fn line(fields: &str) -> String {
        format!("{{{PEER},{fields}}}\n")
    }

    pub(in crate::verb::access) const GRANTED: &str = r#""event":"association","decision":"allow","reason":"granted","row":"ct1","called_ae":"ARCHIVE","calling_ae":"CT1""#;
    pub(in crate::verb::access) const STORED: &str = r#""event":"instance","decision":"allow","reason":"stored","row":"ct1","sop_class":"1.2.840.10008.5.1.4.1.1.2","transfer_syntax":"1.2.840.10008.1.2.1","bytes":10"#;
    const RELEASED: &str =
        r#""event":"association","decision":"note","reason":"released","called_ae":"ARCHIVE","calling_ae":"CT1""#;

    /// All decisions in a text.
    pub(in crate::verb::access) fn decisions(text: &str) -> Vec<Result<Decided, Unasked>> {
        let mut all = Vec::new();
        of_file(text.as_bytes(), Path::new("test"), &mut Open::default(), &mut |one| all.push(one)).expect("text");
        all
    }

    #[test]
    fn an_instance_is_asked_with_the_titles_of_its_own_association() {
        let other = line(STORED).replace("\"association\":1", "\"association\":2");
        let startup = line(r#""event":"startup","decision":"note""#);
        let impostor = line(STORED).replace("/ct1", "/ct2");
        let observed = line(r#""event":"association","decision":"observe","reason":"called_aet""#);
        let cases: [(&str, Vec<String>, Vec<Option<Unasked>>); 6] = [
            ("its own", vec![line(GRANTED), observed, line(STORED)], vec![None, None]),
            ("after its end", vec![line(GRANTED), line(RELEASED), line(STORED)], vec![None, Some(NO_BEGINNING)]),
            ("of another", vec![line(GRANTED), other], vec![None, Some(NO_BEGINNING)]),
            ("of another process", vec![line(GRANTED), startup, line(STORED)], vec![None, Some(NO_BEGINNING)]),
            ("of another caller", vec![line(GRANTED), impostor], vec![None, Some(NO_BEGINNING)]),
            ("cut off", vec![line(GRANTED), line(STORED).trim_end().to_owned()], vec![None]),
        ];
        for (name, lines, expected) in cases {
            let found: Vec<_> = decisions(&lines.concat()).into_iter().map(Result::err).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_asked_again_says_why() {
        let stranger = r#""event":"association","decision":"deny","reason":"no_row""#;
        let garbled = r#""event":"association","decision":"deny","reason":"congestion""#;
        let cases: [(&str, String, Option<Unasked>); 8] = [
            ("a stranger", line(stranger), None),
            ("refused by the protocol", line(garbled), Some(OTHER_DOOR)),
            ("text", "hello\n".to_owned(), Some(NO_RECORD)),
            ("JSON, but no object", "7\n".to_owned(), Some(NO_RECORD)),
            ("no time", line(stranger).replace("2026-11-22T12", "long ago"), Some(NO_TIME)),
            ("no SPIFFE ID", line(stranger).replace("spiffe://", "https://"), Some(NO_IDENTITY)),
            ("no peer", line(stranger).replace("192.0.2.7:", "somewhere "), Some(NO_ORIGIN)),
            ("no class", line(GRANTED) + &line(STORED).replace("1.2.840.10008.5", "CT"), Some(NO_CLASS)),
        ];
        for (name, text, expected) in cases {
            let last = decisions(&text).pop().expect("a decision");
            assert_eq!(last.map(drop).err(), expected, "{name}");
        }
        assert!(decisions(&line(r#""event":"connection","decision":"deny","reason":"expired""#)).is_empty());
    }
}
