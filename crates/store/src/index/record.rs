//! One instance into the index: the rules for duplicates, the owner of a study, and its activity.

use std::time::Duration;

use model::{Attribute, OnConflict, Study, Tenant, Uid};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Result, Row, named_params, params, params_from_iter};
use study::Activity;

use super::read::time;
use super::schema::{COLUMNS, moment, promoted_columns};
use super::{Kept, NewInstance};
use crate::Outcome;

/// What the index already knows under an instance's UIDs.
pub(crate) enum Known {
    /// These very bytes.
    Same(Kept),
    /// Other bytes only.
    Other,
    Nothing,
}

/// What a put of an instance row came to.
pub(crate) enum Recorded {
    Kept(Kept),
    /// Other bytes are held, and the row wants something else than a revision. Nothing was written.
    OtherBytes,
    /// The right to store it was withdrawn meanwhile. Nothing was written.
    Withdrawn,
}

/// Looks without writing. The answer `Same` is final, because rows are never removed; the others may be overtaken.
pub(crate) fn look(db: &Connection, new: &NewInstance) -> Result<Known> {
    let mut same = db.prepare_cached(
        "SELECT object FROM instance WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest = ?5",
    )?;
    let object = same.query_row(params_from_iter(key(new)), |row| row.get(0)).optional()?;
    if let Some(object) = object {
        let cross_tenant = owned_by_another(db, new)?;
        return Ok(Known::Same(Kept { outcome: Outcome::AlreadyHeld, object, cross_tenant }));
    }
    let mut other = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM instance
                        WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest <> ?5)
             OR EXISTS (SELECT 1 FROM claim
                        WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest <> ?5)",
    )?;
    let other = other.query_row(params_from_iter(key(new)), |row| row.get(0))?;
    Ok(if other { Known::Other } else { Known::Nothing })
}

/// Puts the instance row with everything that belongs to it. Bytes that are already held change nothing, not even the
/// activity: sending a study again must not open a generation.
pub(super) fn record(db: &Connection, new: &NewInstance) -> Result<Recorded> {
    let outcome = match look(db, new)? {
        Known::Same(kept) => return Ok(Recorded::Kept(kept)),
        Known::Other if new.on_conflict != OnConflict::Revise => return Ok(Recorded::OtherBytes),
        Known::Other => Outcome::Revised,
        Known::Nothing => Outcome::Stored,
    };
    if !(new.still_cleared)() {
        return Ok(Recorded::Withdrawn);
    }
    insert(db, "instance", new)?;
    if new.on_conflict != OnConflict::Revise {
        db.prepare_cached("INSERT INTO claim VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
            .execute(params_from_iter(key(new)))?;
    }
    touch(db, &new.tenant, &new.name.study, &new.receiver, new.activity)?;
    let cross_tenant = own(db, new)?;
    Ok(Recorded::Kept(Kept { outcome, object: new.object.clone(), cross_tenant }))
}

/// Puts a quarantine row, or finds it. It is no part of the study: no activity, no manifest.
pub(super) fn quarantine(db: &Connection, new: &NewInstance) -> Result<Recorded> {
    if !(new.still_cleared)() {
        return Ok(Recorded::Withdrawn);
    }
    insert(db, "quarantine", new)?;
    let cross_tenant = own(db, new)?;
    Ok(Recorded::Kept(Kept { outcome: Outcome::Quarantined, object: new.object.clone(), cross_tenant }))
}

/// Notes an arrival.
pub(super) fn touch(
    db: &Connection,
    tenant: &Tenant,
    study: &Uid<Study>,
    receiver: &str,
    arrival: Activity,
) -> Result<()> {
    let before = db
        .prepare_cached(
            "SELECT first_arrival, last_arrival, quiet_ms, max_wait_ms FROM activity
             WHERE tenant = ?1 AND study = ?2 AND receiver = ?3",
        )?
        .query_row(params![tenant.as_str(), study.as_str(), receiver], activity)
        .optional()?;
    put_activity(db, tenant, study, receiver, before.map_or(arrival, |before| before.and_then(arrival)))
}

pub(super) fn put_activity(
    db: &Connection,
    tenant: &Tenant,
    study: &Uid<Study>,
    receiver: &str,
    activity: Activity,
) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT OR REPLACE INTO activity
           (tenant, study, receiver, first_arrival, last_arrival, quiet_ms, max_wait_ms, due)
         VALUES (:tenant, :study, :receiver, :first, :last, :quiet, :max_wait, :due)",
    )?;
    put.execute(named_params! {
        ":tenant": tenant.as_str(), ":study": study.as_str(), ":receiver": receiver,
        ":first": moment(activity.first_arrival), ":last": moment(activity.last_arrival),
        ":quiet": millis(activity.quiet), ":max_wait": millis(activity.max_wait), ":due": moment(activity.due()),
    })?;
    Ok(())
}

/// Reads `first_arrival, last_arrival, quiet_ms, max_wait_ms`.
pub(super) fn activity(row: &Row<'_>) -> Result<Activity> {
    let span = |column| row.get(column).map(|millis: i64| Duration::from_millis(millis.unsigned_abs()));
    Ok(Activity { first_arrival: time(row, 0)?, last_arrival: time(row, 1)?, quiet: span(2)?, max_wait: span(3)? })
}

/// A number of our own as SQLite keeps it: 63 bits, more than any size, count or revision has.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn key(new: &NewInstance) -> [String; 5] {
    let name = &new.name;
    [
        new.tenant.to_string(),
        name.study.to_string(),
        name.series.to_string(),
        name.instance.to_string(),
        new.digest.to_string(),
    ]
}

/// Put if absent: an instance row is never changed.
fn insert(db: &Connection, table: &str, new: &NewInstance) -> Result<()> {
    let columns: Vec<_> = COLUMNS.map(str::to_owned).into_iter().chain(promoted_columns()).collect();
    let marks = "?, ".repeat(columns.len());
    let text = format!(
        "INSERT INTO {table} ({}, metadata_complete, metadata) VALUES ({marks}?, ?)
         ON CONFLICT (tenant, study, series, instance, digest) DO NOTHING",
        columns.join(", ")
    );
    db.prepare_cached(&text)?.execute(params_from_iter(values(new)))?;
    Ok(())
}

/// The values in the order of [`COLUMNS`], the promoted columns, and the metadata.
fn values(new: &NewInstance) -> impl Iterator<Item = Value> {
    let rest = [
        Value::from(new.name.class.to_string()),
        new.transfer_syntax.to_string().into(),
        int(new.size).into(),
        new.object.clone().into(),
        new.sender.to_string().into(),
        new.called.to_string().into(),
        new.calling.to_string().into(),
        int(new.table_revision).into(),
        moment(new.received_at).into(),
    ];
    let promoted =
        Attribute::ALL.into_iter().map(|(attribute, ..)| new.promoted.get(attribute).map(str::to_owned).into());
    let metadata = [Value::from(new.metadata_complete), new.metadata.reveal().clone().into()];
    key(new).into_iter().map(Value::from).chain(rest).chain(promoted).chain(metadata)
}

/// Puts the study's owner if absent, and says whether it is another tenant.
fn own(db: &Connection, new: &NewInstance) -> Result<bool> {
    db.prepare_cached("INSERT INTO owner (study, tenant) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute([new.name.study.as_str(), new.tenant.as_str()])?;
    owned_by_another(db, new)
}

fn owned_by_another(db: &Connection, new: &NewInstance) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM owner WHERE study = ?1 AND tenant <> ?2)")?
        .query_row([new.name.study.as_str(), new.tenant.as_str()], |row| row.get(0))
}
