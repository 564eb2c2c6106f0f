//! A row as it stands in the file, and how it becomes a [`Row`] or a [`DenyRow`].

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};

use model::{OnConflict, OnDuplicate, OnPatientConflict, SpiffeId, Tenant, Timestamp, TrustDomain};
use serde::Deserialize;
use toml::value::Datetime;

use crate::quota::Limits;
use crate::row::{Columns, DenyRow, Effect, MinTls, Notes, Operation, Row, Standing, Subject};
use crate::words::{
    choice, class, day_or_moment, endpoint, long_string, modality, moment, narrowing, network, prefix_of, rate, span,
    syntax, title, windows,
};

/// Row ids are part of log lines and of commands that a person types.
const MAX_ROW_ID_LENGTH: usize = 64;

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
    require_vpce: Option<bool>,
    patient_issuers: Option<Vec<String>>,
    coerce_issuer: Option<String>,
    institutions: Option<Vec<String>>,
    study_binding: Option<StudyBinding>,
    not_before: Option<Datetime>,
    valid_until: Option<Datetime>,
    windows: Option<Vec<String>>,
    posture_ok_until: Option<Datetime>,
    min_tls: Option<MinTls>,
    max_svid_lifetime: Option<String>,
    mode: Option<Mode>,
    state: Option<State>,
    reason: Option<String>,
    until: Option<Datetime>,
    on_conflict: Option<OnConflict>,
    conflict_patient_id: Option<OnPatientConflict>,
    duplicate: Option<OnDuplicate>,
    quiet: Option<String>,
    max_wait: Option<String>,
    max_associations: Option<u32>,
    max_rate: Option<String>,
    max_instances_day: Option<u64>,
    max_bytes_day: Option<u64>,
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
enum State {
    Enabled,
    Suspended,
}

/// The one binding there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StudyBinding {
    Own,
}

/// Whether constraints refuse, of one row or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Enforce,
    Observe,
}

/// A tenant as it stands in the file: what all of its rows may do together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenTenant {
    name: String,
    max_associations: Option<u32>,
    max_rate: Option<String>,
    max_instances_day: Option<u64>,
    max_bytes_day: Option<u64>,
}

impl WrittenTenant {
    pub(crate) fn into_limits(self) -> Result<(Tenant, Limits), Fault> {
        let name = Tenant::parse(&self.name).or_else(|error| fault("name", error.to_string()))?;
        let quotas = (self.max_associations, self.max_rate.as_deref(), self.max_instances_day, self.max_bytes_day);
        let limits = limits(quotas, "is 0, which allows nothing: suspend the tenant's rows instead")?;
        if limits.is_empty() {
            return fault("name", "has no quota beside it: add one, or remove the tenant");
        }
        Ok((name, limits))
    }
}

/// A column that does not hold, and what to do.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

pub(crate) fn fault<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field, problem: problem.into() })
}

impl Written {
    /// A row that allows. `mode` is that of the whole table.
    pub(crate) fn into_row(self, prefixes: &BTreeSet<TrustDomain>, mode: Mode) -> Result<Row, Fault> {
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
        if self.max_instance_bytes == Some(0) {
            return fault("max_instance_bytes", ZERO_ALLOWS_NOTHING);
        }
        let quotas = (self.max_associations, self.max_rate.as_deref(), self.max_instances_day, self.max_bytes_day);
        let quiet = span("quiet", self.quiet.as_deref())?;
        let max_wait = span("max_wait", self.max_wait.as_deref())?;
        if quiet.zip(max_wait).is_some_and(|(quiet, max_wait)| max_wait < quiet) {
            return fault("max_wait", "is shorter than quiet");
        }
        let (not_before, valid_until) = self.validity()?;
        Ok(Row {
            id: self.checked_id()?,
            rev: self.rev,
            identity,
            tenant,
            what: self.columns()?,
            standing: self.standing()?,
            not_before,
            valid_until,
            windows: windows("windows", self.windows.as_deref())?,
            posture_ok_until: self.posture_ok_until.as_ref().map(|at| moment("posture_ok_until", at)).transpose()?,
            min_tls: self.min_tls,
            max_svid_lifetime: span("max_svid_lifetime", self.max_svid_lifetime.as_deref())?,
            require_vpce: self.require_vpce.unwrap_or_default(),
            observes: mode == Mode::Observe || self.mode == Some(Mode::Observe),
            coerce_issuer: self.coerced_issuer()?,
            binds_study: self.study_binding.is_some(),
            on_conflict: self.on_conflict.unwrap_or_default(),
            on_patient_conflict: self.conflict_patient_id.unwrap_or_default(),
            on_duplicate: self.duplicate.unwrap_or_default(),
            quiet,
            max_wait,
            limits: limits(quotas, ZERO_ALLOWS_NOTHING)?,
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
            ("require_vpce", self.require_vpce.is_some()),
            ("posture_ok_until", self.posture_ok_until.is_some()),
            ("mode", self.mode.is_some()),
            ("coerce_issuer", self.coerce_issuer.is_some()),
            ("study_binding", self.study_binding.is_some()),
            ("on_conflict", self.on_conflict.is_some()),
            ("conflict_patient_id", self.conflict_patient_id.is_some()),
            ("duplicate", self.duplicate.is_some()),
            ("quiet", self.quiet.is_some()),
            ("max_wait", self.max_wait.is_some()),
            ("max_associations", self.max_associations.is_some()),
            ("max_rate", self.max_rate.is_some()),
            ("max_instances_day", self.max_instances_day.is_some()),
            ("max_bytes_day", self.max_bytes_day.is_some()),
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
        let (not_before, valid_until) = self.validity()?;
        Ok(DenyRow {
            id: self.checked_id()?,
            identity: self.subject()?,
            what: self.columns()?,
            standing: self.standing()?,
            not_before,
            valid_until,
            windows: windows("windows", self.windows.as_deref())?,
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
            issuers: narrowing("patient_issuers", self.patient_issuers.as_deref(), long_string)?
                .map(BTreeSet::from_iter),
            institutions: narrowing("institutions", self.institutions.as_deref(), long_string)?
                .map(BTreeSet::from_iter),
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

    fn coerced_issuer(&self) -> Result<Option<String>, Fault> {
        let Some(issuer) = &self.coerce_issuer else { return Ok(None) };
        if self.patient_issuers.as_ref().is_some_and(|listed| !listed.contains(issuer)) {
            return fault("coerce_issuer", "is not among patient_issuers, so it would be assigned and then refused");
        }
        long_string(issuer).map(Some).or_else(|problem| fault("coerce_issuer", problem))
    }

    fn validity(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), Fault> {
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

const ZERO_ALLOWS_NOTHING: &str = "is 0, which allows nothing: suspend the row instead";

/// `max_associations`, `max_rate`, `max_instances_day` and `max_bytes_day`.
type Quotas<'w> = (Option<u32>, Option<&'w str>, Option<u64>, Option<u64>);

fn limits((associations, per_span, instances, bytes): Quotas<'_>, zero: &'static str) -> Result<Limits, Fault> {
    fn some<N, Z>(
        field: &'static str,
        written: Option<N>,
        of: impl Fn(N) -> Option<Z>,
        zero: &str,
    ) -> Result<Option<Z>, Fault> {
        let Some(number) = written else { return Ok(None) };
        of(number).map_or_else(|| fault(field, zero), |number| Ok(Some(number)))
    }
    Ok(Limits {
        max_associations: some("max_associations", associations, NonZeroU32::new, zero)?,
        max_rate: rate("max_rate", per_span)?,
        max_instances_day: some("max_instances_day", instances, NonZeroU64::new, zero)?,
        max_bytes_day: some("max_bytes_day", bytes, NonZeroU64::new, zero)?,
    })
}
