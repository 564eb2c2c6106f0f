//! The words of a column: text that becomes a value, or a problem that says what to write instead.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{AeTitle, SopClass, SpiffeId, Timestamp, TransferSyntax, Uid, sop_class, transfer_syntax};
use toml::value::Datetime;

use crate::quota::Rate;
use crate::row::{Choice, Cidr, Subject};
use crate::window::Windows;
use crate::written::{Fault, fault};

/// UIDs below this belong to the standard; one that we do not know is most likely a slip of the pen.
const DICOM_ROOT: &str = "1.2.840.10008.";
/// PS3.5 §6.2: characters of an LO.
const MAX_LO_LENGTH: usize = 64;

/// A prefix has at least one whole segment: never a bare trust domain, never part of one.
pub(crate) fn prefix_of(prefix: &str) -> Result<Subject, Fault> {
    let Some(stem) = prefix.strip_suffix('/') else {
        return fault("prefix", "does not end with /: without it, it would also cover names that merely begin alike");
    };
    match SpiffeId::parse(stem) {
        Ok(_) => Ok(Subject::Prefix(prefix.into())),
        Err(error) => fault("prefix", format!("is not the beginning of a SPIFFE ID: {error}")),
    }
}

/// A list of words of which each stands for one or more values, or for all (`*`).
pub(crate) fn choice<T: Ord>(
    field: &'static str,
    words: Option<&[String]>,
    parse: impl Fn(&str) -> Result<Vec<T>, String>,
) -> Result<Option<Choice<T>>, Fault> {
    let Some(words) = words else { return Ok(None) };
    let mut choice = Choice { any: false, of: BTreeSet::new() };
    for word in words {
        if word == "*" {
            choice.any = true;
        } else {
            choice.of.extend(parse(word).or_else(|problem| fault(field, problem))?);
        }
    }
    Ok(Some(choice))
}

/// A list that narrows where it is there. An empty one could mean nothing or everything, so it is refused.
pub(crate) fn narrowing<T>(
    field: &'static str,
    words: Option<&[String]>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, Fault> {
    match words {
        None => Ok(None),
        Some([]) => fault(field, "is an empty list: leave it out if it shall not narrow, or suspend the row"),
        Some(words) => {
            let values: Result<_, String> = words.iter().map(|word| parse(word)).collect();
            values.map(Some).or_else(|problem| fault(field, problem))
        }
    }
}

pub(crate) fn title(word: &str) -> Result<Vec<AeTitle>, String> {
    AeTitle::parse(word).map(|title| vec![title]).map_err(|error| format!("has {word:?}: {error}"))
}

pub(crate) fn class(word: &str) -> Result<Vec<Uid<SopClass>>, String> {
    if word == "all-storage" {
        return Ok(sop_class::all_storage().collect());
    }
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return sop_class::by_keyword(word)
            .map(|uid| vec![uid])
            .ok_or_else(|| format!("has {word:?}, which is no keyword of a storage SOP class: see PS3.6 Table A-1"));
    }
    let uid = Uid::<SopClass>::parse(word).map_err(|error| format!("has {word:?}: {error}"))?;
    if uid.as_str() == sop_class::VERIFICATION {
        return Err("has the verification class: write operations = [\"echo\", …] instead".into());
    }
    if uid.as_str().starts_with(DICOM_ROOT) && sop_class::keyword(&uid).is_none() {
        return Err(format!("has {word:?}, which is no storage SOP class of the standard"));
    }
    Ok(vec![uid])
}

pub(crate) fn syntax(word: &str) -> Result<Vec<Uid<TransferSyntax>>, String> {
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return transfer_syntax::by_keyword(word)
            .map(|uid| vec![uid])
            .ok_or_else(|| format!("has {word:?}, which is no keyword of a transfer syntax: see PS3.6 Table A-1"));
    }
    let uid = Uid::<TransferSyntax>::parse(word).map_err(|error| format!("has {word:?}: {error}"))?;
    if uid.as_str().starts_with(DICOM_ROOT) && transfer_syntax::keyword(&uid).is_none() {
        return Err(format!("has {word:?}, which is no transfer syntax of the standard"));
    }
    Ok(vec![uid])
}

/// PS3.5 §6.2, CS.
pub(crate) fn modality(word: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=16).contains(&word.len()) && word.bytes().all(legal) {
        return Ok(word.into());
    }
    Err(format!("has {word:?}: a modality has 1 to 16 upper-case letters, digits and underscores"))
}

/// The form in which a load balancer writes it: see identity.md, P rule 6.
pub(crate) fn endpoint(word: &str) -> Result<String, String> {
    let digits = word.strip_prefix("vpce-").unwrap_or_default();
    let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if (8..=17).contains(&digits.len()) && digits.bytes().all(legal) {
        return Ok(word.into());
    }
    Err(format!("has {word:?}: a VPC endpoint id is vpce- and 8 to 17 lower-case hex digits"))
}

/// A value of an LO attribute as a data set has it: compared exactly, so spaces around it would never match.
pub(crate) fn long_string(word: &str) -> Result<String, String> {
    let legal = |character: char| !character.is_control() && character != '\\';
    if !word.is_empty() && word.trim() == word && word.chars().count() <= MAX_LO_LENGTH && word.chars().all(legal) {
        return Ok(word.into());
    }
    Err(format!("has {word:?}: a value has 1 to 64 characters, no backslash and no spaces around it"))
}

pub(crate) fn network(word: &str) -> Result<Cidr, String> {
    Cidr::parse(word).ok_or_else(|| {
        format!("has {word:?}: a network is written as 192.0.2.0/24 or 2001:db8::/32, with zeros behind the prefix")
    })
}

/// A span that is more than nothing.
pub(crate) fn span(field: &'static str, text: Option<&str>) -> Result<Option<Duration>, Fault> {
    match text.map(model::span::parse) {
        None => Ok(None),
        Some(Ok(span)) if !span.is_zero() => Ok(Some(span)),
        Some(_) => fault(field, "is not a span such as 500ms, 60s, 10m or 24h"),
    }
}

/// Weekly times: an empty list could mean never or always, so it is refused.
pub(crate) fn windows(field: &'static str, texts: Option<&[String]>) -> Result<Option<Windows>, Fault> {
    match texts {
        None => Ok(None),
        Some([]) => fault(field, "is an empty list: leave it out if it shall not narrow, or suspend the row"),
        Some(texts) => {
            Windows::parse(texts.iter().map(String::as_str)).map(Some).or_else(|problem| fault(field, problem))
        }
    }
}

pub(crate) fn rate(field: &'static str, text: Option<&str>) -> Result<Option<Rate>, Fault> {
    let Some(text) = text else { return Ok(None) };
    match Rate::parse(text) {
        Some(rate) => Ok(Some(rate)),
        None => fault(field, "is not a rate such as 20/s, 600/m or 10000/h"),
    }
}

pub(crate) fn moment(field: &'static str, written: &Datetime) -> Result<Timestamp, Fault> {
    match Timestamp::parse(&written.to_string()) {
        Some(moment) => Ok(moment),
        None => fault(field, "must be a date and time with its offset, such as 2027-01-31T00:00:00Z"),
    }
}

/// For columns that people only read, a day will do.
pub(crate) fn day_or_moment(field: &'static str, written: &Datetime) -> Result<Timestamp, Fault> {
    let day = (written.time.is_none()).then(|| Timestamp::parse(&format!("{written}T00:00:00Z"))).flatten();
    day.map_or_else(|| moment(field, written), Ok)
}
