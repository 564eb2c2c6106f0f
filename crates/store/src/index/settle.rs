//! The stabiliser's writes: each is one condition and what follows from it, in one transaction.

use model::{Study, Tenant, Timestamp, Uid};
use rusqlite::{Connection, OptionalExtension, Result, named_params, params};
use study::{Activity, Reason, StableStudy};

use super::record::{activity, int, put_activity};
use super::schema::moment;
use super::{Settled, Snapshot};

/// Closes a generation if the index still is what the snapshot saw: the study row and its event, both or neither.
///
/// Silence must still be silence. At `max_wait` instances may have come meanwhile: the generation is closed with those of
/// the snapshot, or a sender that never pauses would keep it open for ever, and the later ones open the next.
pub(super) fn settle(db: &Connection, snapshot: &Snapshot, stable: &StableStudy) -> Result<Settled> {
    let (tenant, study) = (&snapshot.tenant, &snapshot.study);
    if generation(db, tenant, study)? + 1 != snapshot.generation {
        return Ok(Settled::Overtaken);
    }
    let unchanged = is_unchanged(db, snapshot)?;
    if !unchanged && snapshot.reason == Reason::Quiet {
        return Ok(Settled::StillArriving);
    }
    put_study(db, stable)?;
    put_event(db, stable)?;
    if unchanged {
        clear_activity(db, tenant, study)?;
    } else {
        reopen_activity(db, snapshot)?;
    }
    Ok(Settled::Stable)
}

/// Forgets the activity of a study that has nothing new, if it still has nothing new.
pub(super) fn rest(db: &Connection, snapshot: &Snapshot) -> Result<()> {
    if is_unchanged(db, snapshot)? {
        clear_activity(db, &snapshot.tenant, &snapshot.study)?;
    }
    Ok(())
}

/// Marks events as told. One that is marked already keeps its time.
pub(super) fn mark_published(db: &Connection, ids: &[String], now: Timestamp) -> Result<()> {
    let mut mark =
        db.prepare_cached("UPDATE outbox SET published_at = ?2 WHERE event_id = ?1 AND published_at IS NULL")?;
    ids.iter().try_for_each(|id| mark.execute([id, &moment(now)]).map(drop))
}

/// The last closed generation; 0 when there is none.
pub(super) fn generation(db: &Connection, tenant: &Tenant, study: &Uid<Study>) -> Result<u64> {
    let generation = db
        .prepare_cached("SELECT generation FROM study WHERE tenant = ?1 AND study = ?2")?
        .query_row([tenant.as_str(), study.as_str()], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(generation.unwrap_or(0).unsigned_abs())
}

/// What all receivers saw of a study.
pub(super) fn activity_of(db: &Connection, tenant: &Tenant, study: &Uid<Study>) -> Result<Option<Activity>> {
    let mut all = db.prepare_cached(
        "SELECT first_arrival, last_arrival, quiet_ms, max_wait_ms FROM activity WHERE tenant = ?1 AND study = ?2",
    )?;
    let all: Vec<_> = all.query_map([tenant.as_str(), study.as_str()], activity)?.collect::<Result<_>>()?;
    Ok(Activity::together(all))
}

/// Rows are only ever added, so the same number of rows is the same rows.
fn is_unchanged(db: &Connection, snapshot: &Snapshot) -> Result<bool> {
    let (tenant, study) = (&snapshot.tenant, &snapshot.study);
    let rows: i64 = db
        .prepare_cached("SELECT count(*) FROM instance WHERE tenant = ?1 AND study = ?2")?
        .query_row([tenant.as_str(), study.as_str()], |row| row.get(0))?;
    Ok(rows == int(snapshot.instances.len() as u64) && activity_of(db, tenant, study)? == Some(snapshot.activity))
}

fn put_study(db: &Connection, stable: &StableStudy) -> Result<()> {
    let manifest = stable.manifest();
    let mut put = db.prepare_cached(
        "INSERT OR REPLACE INTO study
           (tenant, study, state, generation, instances, objects, bytes, series, manifest, manifest_sha256, settled_at)
         VALUES (:tenant, :study, 'stable', :generation, :instances, :objects, :bytes, :series, :manifest, :sha256, :at)",
    )?;
    put.execute(named_params! {
        ":tenant": manifest.tenant.as_str(), ":study": manifest.study.as_str(),
        ":generation": int(manifest.generation),
        ":instances": int(manifest.counts.instances), ":objects": int(manifest.counts.objects),
        ":bytes": int(manifest.counts.bytes), ":series": int(manifest.counts.series),
        ":manifest": stable.key(), ":sha256": stable.digest().to_string(), ":at": moment(manifest.created_at),
    })?;
    Ok(())
}

fn put_event(db: &Connection, stable: &StableStudy) -> Result<()> {
    let event = stable.event();
    let text = serde_json::to_string(&event).expect("an event has only text and numbers");
    db.prepare_cached("INSERT INTO outbox (tenant, study, generation, event_id, event) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![event.tenant.as_str(), event.study.as_str(), int(event.generation), event.id, text])?;
    Ok(())
}

fn clear_activity(db: &Connection, tenant: &Tenant, study: &Uid<Study>) -> Result<()> {
    db.prepare_cached("DELETE FROM activity WHERE tenant = ?1 AND study = ?2")?
        .execute([tenant.as_str(), study.as_str()])
        .map(drop)
}

/// What came since the snapshot begins the next generation, so its wait begins at the snapshot.
fn reopen_activity(db: &Connection, snapshot: &Snapshot) -> Result<()> {
    let (tenant, study) = (&snapshot.tenant, &snapshot.study);
    let mut all = db.prepare_cached(
        "SELECT first_arrival, last_arrival, quiet_ms, max_wait_ms, receiver FROM activity
         WHERE tenant = ?1 AND study = ?2",
    )?;
    let all: Vec<(Activity, String)> = all
        .query_map([tenant.as_str(), study.as_str()], |row| Ok((activity(row)?, row.get(4)?)))?
        .collect::<Result<_>>()?;
    for (activity, receiver) in all {
        let reopened = Activity { first_arrival: snapshot.taken_at, ..activity };
        put_activity(db, tenant, study, &receiver, reopened)?;
    }
    Ok(())
}
