//! A row as it stands in the file, and how it becomes a [`Row`] or a [`DenyRow`].

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    AeTitle, OnConflict, OnDuplicate, OnPatientConflict, SopClass, SpiffeId, Tenant, Timestamp, TransferSyntax,
    TrustDomain, Uid,
};
use model::{sop_class, transfer_syntax};
use serde::Deserialize;
use toml::value::Datetime;

use crate::row::{Choice, Cidr, Columns, DenyRow, MinTls, Notes, Operation, Row, Standing, Subject};

/// Row ids are part of log lines and of commands that a person types.
const MAX_ROW_ID_LENGTH: usize = 64;
/// UIDs below this belong to the standard; one that we do not know is most likely a slip of the pen.
const DICOM_ROOT: &str = "1.2.840.10008.";

/// The columns that are enforced; serde refuses every other, so that none is believed to hold that does not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    id: String,
    rev: Option<u64>,
    pub(crate) effect: Effect,
    identity: Option<String>,
    prefix: Option<String>,
    tenant: Option<String>,
    called_aets: Option<Vec<String>>,
    calling_aets: Option<Vec<String>>,
    sop_classes: Option<Vec<String>>,
    transfer_syntaxes: Option<Vec<String>>,
    modalities: Option<Vec<String>>,
    operations: Option<Vec<Operation>>,
    source_vpce: Option<Vec<String>>,
    source_cidrs: Option<Vec<String>>,
    not_before: Option<Datetime>,
    valid_until: Option<Datetime>,
    min_tls: Option<MinTls>,
    max_svid_lifetime: Option<String>,
    state: Option<State>,
    reason: Option<String>,
    until: Option<Datetime>,
    on_conflict: Option<OnConflict>,
    study_binding: Option<StudyBinding>,
    conflict_patient_id: Option<OnPatientConflict>,
    duplicate: Option<OnDuplicate>,
    coerce_issuer: Option<String>,
    quiet: Option<String>,
    max_wait: Option<String>,
    max_associations: Option<u32>,
    max_instance_bytes: Option<u64>,
    owner: Option<String>,
    contact: Option<String>,
    ticket: Option<String>,
    created_by: Option<String>,
    approved_by: Option<String>,
    updated_at: Option<Datetime>,
    review_by: Option<Datetime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StudyBinding {
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Enabled,
    Suspended,
}

/// A column that does not hold, and what to do.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

fn fault<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field, problem: problem.into() })
}

impl Written {
    /// A row that allows.
    pub(crate) fn into_row(self, prefixes: &BTreeSet<TrustDomain>) -> Result<Row, Fault> {
        let Some(identity) = self.subject()? else {
            return fault("identity", "is missing: write the SPIFFE ID that this row is about");
        };
        if let Subject::Prefix(prefix) = &identity
            && !prefixes.iter().any(|domain| prefix.starts_with(&format!("spiffe://{domain}/")))
        {
            return fault("prefix", "is not allowed for this trust domain: list the domain in allow_prefix at the top");
        }
        let Some(tenant) = &self.tenant else {
            return fault("tenant", "is missing: a row that allows says whose archive it writes to");
        };
        let tenant = Tenant::parse(tenant).or_else(|error| fault("tenant", error.to_string()))?;
        if self.max_associations == Some(0) {
            return fault("max_associations", "is 0, which allows nothing: suspend the row instead");
        }
        if self.max_instance_bytes == Some(0) {
            return fault("max_instance_bytes", "is 0, which allows nothing: suspend the row instead");
        }
        let quiet = span("quiet", self.quiet.as_deref())?;
        let max_wait = span("max_wait", self.max_wait.as_deref())?;
        if quiet.zip(max_wait).is_some_and(|(quiet, max_wait)| max_wait < quiet) {
            return fault("max_wait", "is shorter than quiet");
        }
        let (not_before, valid_until) = self.window()?;
        Ok(Row {
            id: self.checked_id()?,
            rev: self.rev,
            identity,
            tenant,
            what: self.columns()?,
            standing: self.standing()?,
            not_before,
            valid_until,
            min_tls: self.min_tls,
            max_svid_lifetime: span("max_svid_lifetime", self.max_svid_lifetime.as_deref())?,
            on_conflict: self.on_conflict.unwrap_or_default(),
            binds_study: self.study_binding.is_some(),
            on_patient_conflict: self.conflict_patient_id.unwrap_or_default(),
            on_duplicate: self.duplicate.unwrap_or_default(),
            assigned_issuer: self.coerce_issuer.clone(),
            quiet,
            max_wait,
            max_associations: self.max_associations,
            max_instance_bytes: self.max_instance_bytes,
            notes: self.notes()?,
        })
    }

    /// A row that denies: it may be wider than one that allows, and has no column that grants something.
    pub(crate) fn into_deny_row(self) -> Result<DenyRow, Fault> {
        let grants = [
            ("tenant", self.tenant.is_some()),
            ("min_tls", self.min_tls.is_some()),
            ("max_svid_lifetime", self.max_svid_lifetime.is_some()),
            ("on_conflict", self.on_conflict.is_some()),
            ("quiet", self.quiet.is_some()),
            ("max_wait", self.max_wait.is_some()),
            ("max_associations", self.max_associations.is_some()),
            ("max_instance_bytes", self.max_instance_bytes.is_some()),
        ];
        if let Some((field, _)) = grants.iter().find(|(_, populated)| *populated) {
            return fault(field, "says nothing in a row that denies: remove it");
        }
        let lists = [
            ("called_aets", is_empty(self.called_aets.as_ref())),
            ("calling_aets", is_empty(self.calling_aets.as_ref())),
            ("sop_classes", is_empty(self.sop_classes.as_ref())),
            ("transfer_syntaxes", is_empty(self.transfer_syntaxes.as_ref())),
            ("operations", is_empty(self.operations.as_ref())),
        ];
        if let Some((field, _)) = lists.iter().find(|(_, empty)| *empty) {
            return fault(field, "is an empty list, which denies nothing: leave it out, or list what is denied");
        }
        let (not_before, valid_until) = self.window()?;
        Ok(DenyRow {
            id: self.checked_id()?,
            identity: self.subject()?,
            what: self.columns()?,
            standing: self.standing()?,
            not_before,
            valid_until,
            notes: self.notes()?,
        })
    }

    fn checked_id(&self) -> Result<String, Fault> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if (1..=MAX_ROW_ID_LENGTH).contains(&self.id.len()) && self.id.bytes().all(legal) {
            return Ok(self.id.clone());
        }
        fault("id", "must have 1 to 64 letters, digits, dots, hyphens and underscores")
    }

    fn subject(&self) -> Result<Option<Subject>, Fault> {
        match (&self.identity, &self.prefix) {
            (Some(_), Some(_)) => fault("prefix", "and identity are both there: keep one"),
            (Some(id), None) => match SpiffeId::parse(id) {
                Ok(id) => Ok(Some(Subject::Exact(id))),
                Err(error) => fault("identity", format!("is not a SPIFFE ID: {error}")),
            },
            (None, Some(prefix)) => prefix_of(prefix).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn columns(&self) -> Result<Columns, Fault> {
        Ok(Columns {
            called: choice("called_aets", self.called_aets.as_deref(), title)?,
            calling: choice("calling_aets", self.calling_aets.as_deref(), title)?,
            classes: choice("sop_classes", self.sop_classes.as_deref(), class)?,
            syntaxes: choice("transfer_syntaxes", self.transfer_syntaxes.as_deref(), syntax)?,
            modalities: narrowing("modalities", self.modalities.as_deref(), modality)?.map(BTreeSet::from_iter),
            operations: self.operations.as_ref().map(|operations| operations.iter().copied().collect()),
            vpces: narrowing("source_vpce", self.source_vpce.as_deref(), endpoint)?.map(BTreeSet::from_iter),
            cidrs: narrowing("source_cidrs", self.source_cidrs.as_deref(), network)?,
        })
    }

    fn standing(&self) -> Result<Standing, Fault> {
        if self.state == Some(State::Suspended) {
            let until = self.until.as_ref().map(|until| moment("until", until)).transpose()?;
            return Ok(Standing::Suspended { reason: self.reason.clone(), until });
        }
        for (field, populated) in [("until", self.until.is_some()), ("reason", self.reason.is_some())] {
            if populated {
                return fault(field, "says nothing unless state = \"suspended\": remove it, or suspend the row");
            }
        }
        Ok(Standing::Enabled)
    }

    fn window(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), Fault> {
        let not_before = self.not_before.as_ref().map(|begin| moment("not_before", begin)).transpose()?;
        let valid_until = self.valid_until.as_ref().map(|end| moment("valid_until", end)).transpose()?;
        if not_before.zip(valid_until).is_some_and(|(begin, end)| end < begin) {
            return fault("valid_until", "is before not_before");
        }
        Ok((not_before, valid_until))
    }

    fn notes(&self) -> Result<Notes, Fault> {
        Ok(Notes {
            owner: self.owner.clone(),
            contact: self.contact.clone(),
            ticket: self.ticket.clone(),
            created_by: self.created_by.clone(),
            approved_by: self.approved_by.clone(),
            updated_at: self.updated_at.as_ref().map(|at| day_or_moment("updated_at", at)).transpose()?,
            review_by: self.review_by.as_ref().map(|at| day_or_moment("review_by", at)).transpose()?,
        })
    }
}

fn is_empty<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(Vec::is_empty)
}

/// A prefix has at least one whole segment: never a bare trust domain, never part of one.
fn prefix_of(prefix: &str) -> Result<Subject, Fault> {
    let Some(stem) = prefix.strip_suffix('/') else {
        return fault("prefix", "does not end with /: without it, it would also cover names that merely begin alike");
    };
    match SpiffeId::parse(stem) {
        Ok(_) => Ok(Subject::Prefix(prefix.into())),
        Err(error) => fault("prefix", format!("is not the beginning of a SPIFFE ID: {error}")),
    }
}

/// A list of words of which each stands for one or more values, or for all (`*`).
fn choice<T: Ord>(
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
fn narrowing<T>(
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

fn title(word: &str) -> Result<Vec<AeTitle>, String> {
    AeTitle::parse(word).map(|title| vec![title]).map_err(|error| format!("has {word:?}: {error}"))
}

fn class(word: &str) -> Result<Vec<Uid<SopClass>>, String> {
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

fn syntax(word: &str) -> Result<Vec<Uid<TransferSyntax>>, String> {
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
fn modality(word: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=16).contains(&word.len()) && word.bytes().all(legal) {
        return Ok(word.into());
    }
    Err(format!("has {word:?}: a modality has 1 to 16 upper-case letters, digits and underscores"))
}

/// The form in which a load balancer writes it: see identity.md, P rule 6.
fn endpoint(word: &str) -> Result<String, String> {
    let digits = word.strip_prefix("vpce-").unwrap_or_default();
    let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if (8..=17).contains(&digits.len()) && digits.bytes().all(legal) {
        return Ok(word.into());
    }
    Err(format!("has {word:?}: a VPC endpoint id is vpce- and 8 to 17 lower-case hex digits"))
}

fn network(word: &str) -> Result<Cidr, String> {
    Cidr::parse(word).ok_or_else(|| {
        format!("has {word:?}: a network is written as 192.0.2.0/24 or 2001:db8::/32, with zeros behind the prefix")
    })
}

/// A span that is more than nothing.
fn span(field: &'static str, text: Option<&str>) -> Result<Option<Duration>, Fault> {
    match text.map(model::span::parse) {
        None => Ok(None),
        Some(Ok(span)) if !span.is_zero() => Ok(Some(span)),
        Some(_) => fault(field, "is not a span such as 500ms, 60s, 10m or 24h"),
    }
}

fn moment(field: &'static str, written: &Datetime) -> Result<Timestamp, Fault> {
    match Timestamp::parse(&written.to_string()) {
        Some(moment) => Ok(moment),
        None => fault(field, "must be a date and time with its offset, such as 2027-01-31T00:00:00Z"),
    }
}

/// For columns that people only read, a day will do.
fn day_or_moment(field: &'static str, written: &Datetime) -> Result<Timestamp, Fault> {
    let day = (written.time.is_none()).then(|| Timestamp::parse(&format!("{written}T00:00:00Z"))).flatten();
    day.map_or_else(|| moment(field, written), Ok)
}
