//! A question as a person writes it down, on the command line or in a file of cases.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use access::{Caller, Content, Operation, Origin, Question};
use model::{AeTitle, SopClass, SpiffeId, Timestamp, TransferSyntax, Uid, sop_class, transfer_syntax};

/// How long an SVID of which nothing is known is taken to be valid, from the moment of the question on.
const ASSUMED_LIFE: Duration = Duration::from_secs(3600);

/// What is asked, apart from who asks.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) called: AeTitle,
    pub(super) calling: AeTitle,
    pub(super) operation: Operation,
    pub(super) class: Option<Uid<SopClass>>,
    pub(super) syntax: Option<Uid<TransferSyntax>>,
    pub(super) modality: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) institution: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) vpce: Option<String>,
    pub(super) source: Option<IpAddr>,
}

impl Asked {
    pub(super) fn question(&self, caller: Caller) -> Question {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let says_content = self.modality.is_some() || self.issuer.is_some() || self.institution.is_some();
        let content = || Content::new(self.modality.as_deref(), self.issuer.as_deref(), self.institution.as_deref());
        Question {
            caller,
            origin: Origin {
                // An address that no row lists, unless it lists everything.
                socket: SocketAddr::new(self.source.unwrap_or(nobody), 0),
                source: None,
                vpce: self.vpce.clone(),
            },
            called: self.called.clone(),
            calling: self.calling.clone(),
            operation: self.operation,
            class: self.class.clone(),
            syntax: self.syntax.clone(),
            content: says_content.then(content),
            size: self.size,
        }
    }
}

/// A caller of whom only the name is known: its SVID is taken to be short-lived and good.
pub(super) fn assumed(id: SpiffeId, tls: Tls, at: Timestamp) -> Caller {
    Caller { id, not_before: at, not_after: at.plus(ASSUMED_LIFE), tls13: tls == Tls::Tls13 }
}

/// The TLS version of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
pub(super) enum Tls {
    #[value(name = "1.2")]
    #[serde(rename = "1.2")]
    Tls12,
    #[default]
    #[value(name = "1.3")]
    #[serde(rename = "1.3")]
    Tls13,
}

/// What the connection is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Op {
    #[default]
    Store,
    Echo,
    Commit,
}

impl From<Op> for Operation {
    fn from(op: Op) -> Self {
        match op {
            Op::Store => Self::Store,
            Op::Echo => Self::Echo,
            Op::Commit => Self::Commit,
        }
    }
}

/// A SOP class by keyword or UID.
pub(super) fn class(word: &str) -> Result<Uid<SopClass>, String> {
    if let Some(uid) = sop_class::by_keyword(word) {
        return Ok(uid);
    }
    Uid::parse(word)
        .map_err(|_| format!("{word:?} is neither a UID nor the keyword of a storage SOP class (PS3.6 Table A-1)"))
}

/// A transfer syntax by keyword or UID.
pub(super) fn syntax(word: &str) -> Result<Uid<TransferSyntax>, String> {
    if let Some(uid) = transfer_syntax::by_keyword(word) {
        return Ok(uid);
    }
    Uid::parse(word)
        .map_err(|_| format!("{word:?} is neither a UID nor the keyword of a transfer syntax (PS3.6 Table A-1)"))
}

/// A VPC endpoint id, in the form in which a load balancer says it (P-6).
pub(super) fn endpoint(word: &str) -> Result<String, String> {
    let digits = word.strip_prefix("vpce-").unwrap_or_default();
    if (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(word.to_owned());
    }
    Err(format!("{word:?} is no VPC endpoint id: vpce- and 8 to 17 lower-case hex digits"))
}

/// RFC 3339.
pub(super) fn moment(word: &str) -> Result<Timestamp, String> {
    Timestamp::parse(word).ok_or_else(|| format!("{word:?} is no date and time such as 2027-01-31T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_in_each_of_their_forms() {
        let ct = "1.2.840.10008.5.1.4.1.1.2";
        assert_eq!(class("CTImageStorage").as_ref().map(Uid::as_str), Ok(ct));
        assert_eq!(class(ct).as_ref().map(Uid::as_str), Ok(ct));
        assert_eq!(syntax("JPEGBaseline8Bit").as_ref().map(Uid::as_str), Ok("1.2.840.10008.1.2.4.50"));
        assert_eq!(endpoint("vpce-0123456789abcdef0").as_deref(), Ok("vpce-0123456789abcdef0"));
        assert!(moment("2027-01-31T00:00:00+01:00").is_ok());
        let refused: [(&str, bool); 7] = [
            ("keyword of a class", class("CTImageStorge").is_err()),
            ("UID of a class", class("1..2").is_err()),
            ("syntax", syntax("JPEG").is_err()),
            ("endpoint too short", endpoint("vpce-01234").is_err()),
            ("endpoint in capitals", endpoint("vpce-0123456789ABCDEF0").is_err()),
            ("other endpoint", endpoint("eni-0123456789abcdef0").is_err()),
            ("day", moment("2027-01-31").is_err()),
        ];
        for (name, is_refused) in refused {
            assert!(is_refused, "{name}");
        }
    }
}
