//! One instance into the index, with what belongs to it: claim, patient and owner, and the activity of its study.

use std::time::Duration;

use model::{Attribute, OnConflict, Study, Tenant, Uid};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Result, Row, named_params, params, params_from_iter};
use study::Activity;

use super::read::time;
use super::rules::{Ruling, owned_by_another, rule};
use super::schema::{COLUMNS, moment, promoted_columns};
use super::{Apart, Kept, NewInstance};
use crate::{Failure, Outcome};

/// What a put of an instance row came to.
pub(crate) enum Recorded {
    /// Written, by leave of the table of this revision.
    Written(Kept, u64),
    /// Nothing was written, for it is held.
    Held(Kept),
    /// Nothing was written: it has to be kept apart, and its object is not under `quarantine/` yet.
    Apart(Apart),
    /// Nothing was written.
    Refused(Failure),
}

/// Puts the instance row, or the quarantine row, with everything that belongs to it. Bytes that are already held change
/// nothing, not even the activity: sending a study again must not open a generation.
pub(super) fn record(db: &Connection, new: &NewInstance) -> Result<Recorded> {
    let outcome = match rule(db, new)? {
        Ruling::Held(kept) => return Ok(Recorded::Held(kept)),
        Ruling::Refuse(failure) => return Ok(Recorded::Refused(failure)),
        Ruling::Apart(why) if new.apart.is_none() => return Ok(Recorded::Apart(why)),
        Ruling::Apart(_) => Outcome::Quarantined,
        Ruling::Keep(_) if new.apart.is_some() => Outcome::Quarantined,
        Ruling::Keep(outcome) => outcome,
    };
    let Some(revision) = (new.still_cleared)() else { return Ok(Recorded::Refused(Failure::NotCleared)) };
    match new.apart {
        Some(why) => put_apart(db, new, revision, why)?,
        None => put(db, new, revision)?,
    }
    let cross_tenant = own(db, new)?;
    let kept = Kept { outcome, object: new.object.clone(), cross_tenant, apart: new.apart, revision: Some(revision) };
    Ok(Recorded::Written(kept, revision))
}

/// Whether what was written may still be committed: the table that allowed it is in force, and still does.
pub(super) fn stands(recorded: &Recorded, new: &NewInstance) -> bool {
    match recorded {
        Recorded::Written(_, revision) => (new.still_cleared)() == Some(*revision),
        Recorded::Held(_) | Recorded::Apart(_) | Recorded::Refused(_) => true,
    }
}

fn put(db: &Connection, new: &NewInstance, revision: u64) -> Result<()> {
    insert(db, "instance", new, revision, &[])?;
    if new.rules.on_conflict != OnConflict::Revise {
        db.prepare_cached("INSERT INTO claim VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
            .execute(params_from_iter(key(new)))?;
    }
    if let Some(patient) = &new.patient {
        db.prepare_cached("INSERT INTO patient (tenant, study, digest) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute([new.tenant.as_str(), new.name.study.as_str(), &patient.to_string()])?;
    }
    touch(db, &new.tenant, &new.name.study, &new.receiver, new.activity)
}

/// A quarantine row is no part of the study: no activity, no manifest, no patient.
fn put_apart(db: &Connection, new: &NewInstance, revision: u64, why: Apart) -> Result<()> {
    insert(db, "quarantine", new, revision, &[("reason", why.as_str())])
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

/// Tenant, study, series, instance and digest: the primary key.
pub(super) fn key(new: &NewInstance) -> [String; 5] {
    let name = &new.name;
    [
        new.tenant.to_string(),
        name.study.to_string(),
        name.series.to_string(),
        name.instance.to_string(),
        new.digest.to_string(),
    ]
}

/// Put if absent: a row is never changed. `more` are columns that the other table has not.
fn insert(
    db: &Connection,
    table: &str,
    new: &NewInstance,
    revision: u64,
    more: &[(&'static str, &'static str)],
) -> Result<()> {
    let own = ["metadata_complete", "metadata", "issuer_assigned"];
    let columns: Vec<_> = COLUMNS.into_iter().map(str::to_owned).chain(promoted_columns()).collect();
    let columns: Vec<_> =
        columns.iter().map(String::as_str).chain(own).chain(more.iter().map(|(name, _)| *name)).collect();
    let text = format!(
        "INSERT INTO {table} ({}) VALUES (?{}) ON CONFLICT (tenant, study, series, instance, digest) DO NOTHING",
        columns.join(", "),
        ", ?".repeat(columns.len() - 1),
    );
    let more = more.iter().map(|(_, value)| Value::from((*value).to_owned()));
    db.prepare_cached(&text)?.execute(params_from_iter(values(new, revision).chain(more)))?;
    Ok(())
}

/// The values in the order of [`COLUMNS`], the promoted columns, the metadata, and whether the issuer is the row's.
fn values(new: &NewInstance, revision: u64) -> impl Iterator<Item = Value> {
    let rest = [
        Value::from(new.name.class.to_string()),
        new.transfer_syntax.to_string().into(),
        int(new.size).into(),
        new.object.clone().into(),
        new.sender.to_string().into(),
        new.called.to_string().into(),
        new.calling.to_string().into(),
        int(revision).into(),
        moment(new.received_at).into(),
    ];
    let promoted =
        Attribute::ALL.into_iter().map(|(attribute, ..)| new.promoted.get(attribute).map(str::to_owned).into());
    let last = [Value::from(new.metadata_complete), new.metadata.reveal().clone().into(), new.issuer_assigned.into()];
    key(new).into_iter().map(Value::from).chain(rest).chain(promoted).chain(last)
}

/// Puts the study's owner if absent, and says whether it is another tenant.
fn own(db: &Connection, new: &NewInstance) -> Result<bool> {
    db.prepare_cached("INSERT INTO owner (study, tenant) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute([new.name.study.as_str(), new.tenant.as_str()])?;
    owned_by_another(db, new)
}
