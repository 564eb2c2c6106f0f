use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use model::{Digest, SpiffeId, Tenant, TrustDomain};
use serde::Deserialize;
use toml::Spanned;

use crate::quota::Limits;
use crate::row::{Choice, DenyRow, Effect, Row, Subject};
use crate::written::{Fault, Mode, Written, WrittenTenant};

/// The access table: one immutable snapshot. A changed table is a new one.
#[derive(Debug)]
pub struct Table {
    revision: u64,
    digest: Digest,
    kill_switch: bool,
    tenants: BTreeMap<Tenant, Limits>,
    rows: Vec<Arc<Row>>,
    deny_rows: Vec<Arc<DenyRow>>,
    exact: HashMap<SpiffeId, Vec<Arc<Row>>>,
    /// Longest first, so that the most specific rows are found first.
    prefixes: Vec<Arc<Row>>,
}

/// The text is no access table: our own operator is at fault. The whole table is refused, and the one before it stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TableError {
    /// The line in the text, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The row, if it is about one that has an id.
    pub row: Option<String>,
    /// The column, if it is about one.
    pub field: Option<&'static str>,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the access table is refused: ")?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(row) = &self.row {
            write!(f, "row {row:?}: ")?;
        }
        if let Some(field) = self.field {
            write!(f, "{field} ")?;
        }
        f.write_str(&self.problem)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    revision: u64,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    kill_switch: bool,
    #[serde(default)]
    allow_prefix: Vec<String>,
    #[serde(default)]
    tenant: Vec<Spanned<toml::Table>>,
    #[serde(default)]
    row: Vec<Spanned<toml::Table>>,
}

/// Where in the text a row stands, for messages.
struct Place<'a> {
    text: &'a str,
    span: Range<usize>,
    id: Option<String>,
}

impl Place<'_> {
    fn error(&self, field: Option<&'static str>, problem: impl Into<String>) -> TableError {
        let line = Some(line_of(self.text, self.span.start));
        TableError { line, row: self.id.clone(), field, problem: problem.into() }
    }

    fn fault(&self, Fault { field, problem }: Fault) -> TableError {
        self.error(Some(field), problem)
    }
}

impl Table {
    /// Reads `access.toml`. A table without rows is legal: it denies everything.
    ///
    /// # Errors
    /// Anything that is not understood refuses the whole table: an unknown column, a value that does not parse, an unknown
    /// keyword or UID, a row id that comes twice, a prefix that is not allowed, or two rows that allow the same identity the
    /// same pair of AE titles.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let whole = |problem: String| TableError { line: None, row: None, field: None, problem };
        let file: File = toml::from_str(text).map_err(|error| TableError {
            line: error.span().map(|span| line_of(text, span.start)),
            ..whole(error.message().trim().replace('\n', ", "))
        })?;
        let prefixes: BTreeSet<TrustDomain> =
            file.allow_prefix.iter().map(|name| TrustDomain::parse(name)).collect::<Result<_, _>>().map_err(
                |error| TableError {
                    field: Some("allow_prefix"),
                    ..whole(format!("is not a list of trust domains: {error}"))
                },
            )?;

        let mut table = Self {
            revision: file.revision,
            digest: Digest::of(text.as_bytes()),
            kill_switch: file.kill_switch,
            tenants: BTreeMap::new(),
            rows: Vec::new(),
            deny_rows: Vec::new(),
            exact: HashMap::new(),
            prefixes: Vec::new(),
        };
        for tenant in file.tenant {
            let place = Place { text, span: tenant.span(), id: None };
            table.limit(tenant.into_inner(), &place)?;
        }
        let mut ids = BTreeSet::new();
        for row in file.row {
            let span = row.span();
            let row = row.into_inner();
            let id = row.get("id").and_then(|id| id.as_str()).map(str::to_owned);
            let place = Place { text, span, id };
            if let Some(id) = &place.id
                && !ids.insert(id.clone())
            {
                return Err(place.error(Some("id"), "is there twice: every row needs its own"));
            }
            table.add(row, &prefixes, file.mode, &place)?;
        }
        table.prefixes.sort_by_key(|row| std::cmp::Reverse(row.identity.to_string().len()));
        Ok(table)
    }

    fn limit(&mut self, tenant: toml::Table, place: &Place<'_>) -> Result<(), TableError> {
        let written: WrittenTenant = tenant.try_into().map_err(|error| unreadable(&error, place))?;
        let (name, limits) = written.into_limits().map_err(|fault| place.fault(fault))?;
        if self.tenants.contains_key(&name) {
            return Err(place.error(Some("name"), format!("{:?} is there twice: keep one", name.as_str())));
        }
        self.tenants.insert(name, limits);
        Ok(())
    }

    fn add(
        &mut self,
        row: toml::Table,
        domains: &BTreeSet<TrustDomain>,
        mode: Mode,
        place: &Place<'_>,
    ) -> Result<(), TableError> {
        let written: Written = row.try_into().map_err(|error: toml::de::Error| unreadable(&error, place))?;
        if written.effect == Effect::Deny {
            let row = written.into_deny_row().map_err(|fault| place.fault(fault))?;
            self.deny_rows.push(Arc::new(row));
            return Ok(());
        }
        let row = Arc::new(written.into_row(domains, mode).map_err(|fault| place.fault(fault))?);
        if let Some(other) = self.rows.iter().find(|other| overlap(other, &row)) {
            let problem = format!(
                "and row {:?} allow the same identity the same AE titles, so it would be unclear which one decides: \
                 merge them, or make their called_aets or calling_aets differ",
                other.id
            );
            return Err(place.error(None, problem));
        }
        match &row.identity {
            Subject::Exact(id) => self.exact.entry(id.clone()).or_default().push(Arc::clone(&row)),
            Subject::Prefix(_) => self.prefixes.push(Arc::clone(&row)),
        }
        self.rows.push(row);
        Ok(())
    }

    /// The table's own number, which only grows.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rows that allow, in the order of the text.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// The rows that deny, in the order of the text.
    #[must_use]
    pub fn deny_rows(&self) -> &[Arc<DenyRow>] {
        &self.deny_rows
    }

    /// Whether it denies everything to everybody (`kill_switch = true`).
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.kill_switch
    }

    /// What all rows of a tenant may do together: for the gateway, which counts. `None`: nothing is limited.
    #[must_use]
    pub fn tenant_limits(&self, tenant: &Tenant) -> Option<&Limits> {
        self.tenants.get(tenant)
    }

    /// The tenants with limits, by name.
    pub fn limited_tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.keys()
    }

    /// The rows that speak for this identity, in the order in which they are asked.
    #[must_use]
    pub fn rows_of(&self, id: &SpiffeId) -> Vec<Arc<Row>> {
        self.candidates(id).into_iter().cloned().collect()
    }

    /// The rows that speak for this identity: those that name it exactly; if there is none, those with the longest prefix
    /// that covers it. So suspending an exact row is not undone by a prefix.
    pub(crate) fn candidates(&self, id: &SpiffeId) -> Vec<&Arc<Row>> {
        if let Some(exact) = self.exact.get(id) {
            return exact.iter().collect();
        }
        let Some(longest) = self.prefixes.iter().find(|row| row.identity.covers(id)) else { return Vec::new() };
        self.prefixes.iter().filter(|row| row.identity == longest.identity).collect()
    }
}

/// A row that serde does not take, in words that help.
fn unreadable(error: &toml::de::Error, place: &Place<'_>) -> TableError {
    let message = error.to_string().trim().replace('\n', ", ");
    let advice = if message.contains("unknown field") {
        "; a column that is not in this list is not enforced by this version, so it is not accepted"
    } else {
        ""
    };
    place.error(None, format!("{message}{advice}"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn overlap(one: &Row, other: &Row) -> bool {
    fn both<T: Ord>(one: Option<&Choice<T>>, other: Option<&Choice<T>>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one.overlaps(other))
    }
    one.identity == other.identity
        && both(one.what.called.as_ref(), other.what.called.as_ref())
        && both(one.what.calling.as_ref(), other.what.calling.as_ref())
}
