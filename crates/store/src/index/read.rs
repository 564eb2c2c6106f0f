//! What the stabiliser and the reading side ask. Nothing here writes.

use std::fmt::Display;
use std::io::Read;

use flate2::read::GzDecoder;
use model::{AeTitle, Attribute, Digest, InstanceName, Phi, Promoted, SpiffeId, Study, Tenant, Timestamp, Uid};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params, params_from_iter};
use study::{Event, HeldInstance};

use super::schema::{COLUMNS, moment, promoted_columns};
use super::settle::{activity_of, generation};
use super::{Apart, DueStudy, Snapshot, StoredInstance, StudyState, StudySummary};

/// What a look at a study that was due a moment ago found.
pub(crate) enum Look {
    /// It has something new, and is due.
    New(Snapshot),
    /// It is due but every row is in the last manifest: what came was held already, or never committed.
    NothingNew(Snapshot),
    /// Something arrived meanwhile, or another stabiliser was here.
    NotDue,
}

/// Studies whose time has come, the longest waiting first.
pub(crate) fn due(db: &Connection, now: Timestamp, limit: usize) -> Result<Vec<DueStudy>> {
    let mut candidates = db.prepare_cached(
        "SELECT tenant, study FROM activity WHERE due <= ?1 GROUP BY tenant, study ORDER BY min(due), tenant, study",
    )?;
    let mut candidates = candidates.query([moment(now)])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = candidates.next()?
    {
        let (tenant, study) = (parsed(row, 0, Tenant::parse)?, parsed(row, 1, Uid::parse)?);
        // One receiver may still hear what another no longer does.
        let due = activity_of(db, &tenant, &study)?.map(|activity| activity.due()).filter(|due| *due <= now);
        found.extend(due.map(|due| DueStudy { tenant, study, due }));
    }
    Ok(found)
}

/// Everything about a study at one moment.
pub(crate) fn look(db: &Connection, tenant: &Tenant, study: &Uid<Study>, now: Timestamp) -> Result<Look> {
    // One read transaction: rows, activity and generation must be of the same moment.
    let db = db.unchecked_transaction()?;
    let Some(activity) = activity_of(&db, tenant, study)?.filter(|activity| activity.due() <= now) else {
        return Ok(Look::NotDue);
    };
    let in_manifest: i64 = db
        .prepare_cached("SELECT objects FROM study WHERE tenant = ?1 AND study = ?2")?
        .query_row([tenant.as_str(), study.as_str()], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let snapshot = Snapshot {
        tenant: tenant.clone(),
        study: study.clone(),
        generation: generation(&db, tenant, study)? + 1,
        activity,
        reason: activity.reason(now),
        taken_at: now,
        instances: held(&db, tenant, study)?,
    };
    let is_new = snapshot.instances.len() as u64 > in_manifest.unsigned_abs();
    Ok(if is_new { Look::New(snapshot) } else { Look::NothingNew(snapshot) })
}

/// Every object of one study.
pub(crate) fn held(db: &Connection, tenant: &Tenant, study: &Uid<Study>) -> Result<Vec<HeldInstance>> {
    let text = format!("SELECT {} FROM instance WHERE tenant = ?1 AND study = ?2", COLUMNS.join(", "));
    db.prepare_cached(&text)?.query_map([tenant.as_str(), study.as_str()], held_instance)?.collect()
}

/// Events that nobody has been told of, oldest first.
pub(crate) fn unpublished(db: &Connection, limit: i64) -> Result<Vec<Event>> {
    db.prepare_cached("SELECT event FROM outbox WHERE published_at IS NULL ORDER BY rowid LIMIT ?1")?
        .query_map([limit], |row| parsed(row, 0, |text| serde_json::from_str(text)))?
        .collect()
}

/// All studies, the latest arrival first.
pub(crate) fn studies(db: &Connection, tenant: Option<&Tenant>) -> Result<Vec<StudySummary>> {
    // With max() in the list, SQLite takes the bare columns from the row that has the maximum.
    let promoted: Vec<_> = promoted_columns().collect();
    let text = format!(
        "SELECT held.*, study.generation, study.manifest, study.objects,
                (SELECT count(*) FROM quarantine AS apart
                 WHERE apart.tenant = held.tenant AND apart.study = held.study)
         FROM (SELECT tenant, study, count(DISTINCT series || '/' || instance), count(*) AS objects, sum(size),
                      count(DISTINCT series), min(received_at), max(received_at) AS latest, {}
               FROM instance WHERE ?1 IS NULL OR tenant = ?1 GROUP BY tenant, study) AS held
         LEFT JOIN study USING (tenant, study) ORDER BY latest DESC, held.tenant, held.study",
        promoted.join(", ")
    );
    db.prepare_cached(&text)?.query_map(params![tenant.map(Tenant::as_str)], summary)?.collect()
}

/// Every object of a study, in the order of a manifest; of all tenants that have one of this UID, unless one is named.
pub(crate) fn study(db: &Connection, tenant: Option<&Tenant>, study: &Uid<Study>) -> Result<Vec<StoredInstance>> {
    of_table(db, ("instance", "NULL"), tenant, study)
}

/// As [`study`], but the objects that are kept apart.
pub(crate) fn quarantined(db: &Connection, tenant: Option<&Tenant>, study: &Uid<Study>) -> Result<Vec<StoredInstance>> {
    of_table(db, ("quarantine", "reason"), tenant, study)
}

fn of_table(
    db: &Connection,
    (table, reason): (&str, &str),
    tenant: Option<&Tenant>,
    study: &Uid<Study>,
) -> Result<Vec<StoredInstance>> {
    let promoted: Vec<_> = promoted_columns().collect();
    let text = format!(
        "SELECT {}, {}, metadata_complete, issuer_assigned, {reason} FROM {table} WHERE tenant = ?1 AND study = ?2
         ORDER BY series, instance, received_at, digest",
        COLUMNS.join(", "),
        promoted.join(", ")
    );
    let tenants = match tenant {
        Some(tenant) => vec![tenant.to_string()],
        None => tenants(db, table)?,
    };
    let mut found = Vec::new();
    for tenant in tenants {
        let mut statement = db.prepare_cached(&text)?;
        for stored in statement.query_map([tenant.as_str(), study.as_str()], stored)? {
            found.push(stored?);
        }
    }
    Ok(found)
}

/// The DICOM JSON of one object, kept apart or not: the same bytes have the same.
pub(crate) fn metadata(
    db: &Connection,
    tenant: &Tenant,
    name: &InstanceName,
    digest: &Digest,
) -> Result<Option<Phi<Vec<u8>>>> {
    let key = [tenant.as_str(), name.study.as_str(), name.series.as_str(), name.instance.as_str(), &digest.to_string()];
    let unpack = |row: &Row<'_>| {
        let mut json = Vec::new();
        GzDecoder::new(row.get_ref(0)?.as_blob()?)
            .read_to_end(&mut json)
            .map_err(|error| Error::FromSqlConversionFailure(0, Type::Blob, error.into()))?;
        Ok(Phi::new(json))
    };
    db.prepare_cached(
        "SELECT metadata FROM instance
         WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest = ?5
         UNION ALL
         SELECT metadata FROM quarantine
         WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest = ?5
         LIMIT 1",
    )?
    .query_row(params_from_iter(key), unpack)
    .optional()
}

/// Reads a moment.
pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    parsed(row, column, |text| Timestamp::parse(text).ok_or("not an RFC 3339 timestamp"))
}

/// Text of the index becomes a type again as it comes in. The error has the column and not the text.
pub(super) fn parsed<T, E: Display>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Result<T, E>) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, error.to_string().into()))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

/// Steps from tenant to tenant along the primary key instead of reading every row.
fn tenants(db: &Connection, table: &str) -> Result<Vec<String>> {
    let mut next = db.prepare_cached(&format!("SELECT min(tenant) FROM {table} WHERE tenant > ?1"))?;
    let mut found: Vec<String> = Vec::new();
    while let Some(tenant) = next.query_row([found.last().map_or("", String::as_str)], |row| row.get(0))? {
        found.push(tenant);
    }
    Ok(found)
}

/// Reads [`COLUMNS`].
fn held_instance(row: &Row<'_>) -> Result<HeldInstance> {
    Ok(HeldInstance {
        name: InstanceName {
            study: parsed(row, 1, Uid::parse)?,
            series: parsed(row, 2, Uid::parse)?,
            instance: parsed(row, 3, Uid::parse)?,
            class: parsed(row, 5, Uid::parse)?,
        },
        digest: parsed(row, 4, Digest::parse)?,
        transfer_syntax: parsed(row, 6, Uid::parse)?,
        size: count(row, 7)?,
        object: row.get(8)?,
        sender: parsed(row, 9, SpiffeId::parse)?,
        table_revision: count(row, 12)?,
        received_at: time(row, 13)?,
    })
}

fn stored(row: &Row<'_>) -> Result<StoredInstance> {
    let after = COLUMNS.len() + Attribute::ALL.len();
    let is_apart = row.get_ref(after + 2)? != ValueRef::Null;
    Ok(StoredInstance {
        tenant: parsed(row, 0, Tenant::parse)?,
        held: held_instance(row)?,
        called: parsed(row, 10, str::parse::<AeTitle>)?,
        calling: parsed(row, 11, str::parse::<AeTitle>)?,
        promoted: promoted(row, COLUMNS.len())?,
        metadata_complete: row.get(after)?,
        issuer_assigned: row.get(after + 1)?,
        apart: is_apart.then(|| parsed(row, after + 2, Apart::parse)).transpose()?,
    })
}

fn promoted(row: &Row<'_>, first: usize) -> Result<Promoted> {
    let mut values = Vec::new();
    for ((attribute, ..), column) in Attribute::ALL.into_iter().zip(first..) {
        values.extend(row.get::<_, Option<String>>(column)?.map(|value| (attribute, value)));
    }
    Ok(Promoted::new(values))
}

fn summary(row: &Row<'_>) -> Result<StudySummary> {
    let after = 8 + Attribute::ALL.len();
    let objects = count(row, 3)?;
    let in_manifest = row.get::<_, Option<i64>>(after + 2)?.unwrap_or(0).unsigned_abs();
    Ok(StudySummary {
        tenant: parsed(row, 0, Tenant::parse)?,
        study: parsed(row, 1, Uid::parse)?,
        state: if objects > in_manifest { StudyState::Arriving } else { StudyState::Stable },
        generation: row.get::<_, Option<i64>>(after)?.unwrap_or(0).unsigned_abs(),
        instances: count(row, 2)?,
        objects,
        bytes: count(row, 4)?,
        quarantined: count(row, after + 3)?,
        series: count(row, 5)?,
        first_received: time(row, 6)?,
        last_received: time(row, 7)?,
        manifest: row.get(after + 1)?,
        promoted: promoted(row, 8)?,
    })
}
