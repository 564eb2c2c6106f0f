//! The tables. They mirror the rows of design §4, one table for each kind, to be read with any SQLite shell.
//!
//! Times are RFC 3339 in UTC with milliseconds, always 24 characters, so text order is time order. Spans are milliseconds.
//! Digests are 64 lower-case hex digits. `metadata` is gzip of DICOM JSON; `issuer_assigned` is 1 where `issuer_of_patient_id`
//! is the row's and not the data set's.

use model::{Attribute, Timestamp};
use rusqlite::Connection;

/// What each version adds to the one before; version 1 is [`create`]'s own. A step that was released is never changed.
const STEPS: [&str; 1] = [PATIENTS_AND_REASONS];

/// Raised whenever a table changes; an index with a larger number is refused.
pub(super) const VERSION: i64 = 1 + STEPS.len() as i64;

/// `PORT`: tells our file from any other SQLite file.
pub(super) const APPLICATION_ID: i64 = 0x504F_5254;

/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write. Endless spans end here.
const LAST_MOMENT: Timestamp = Timestamp::from_millis(253_402_300_799_999);

/// A moment as a column holds it.
pub(super) fn moment(at: Timestamp) -> String {
    at.clamp(Timestamp::from_millis(0), LAST_MOMENT).to_string()
}

/// The columns that `instance` and `quarantine` have alike, in the order in which they are written and read.
pub(super) const COLUMNS: [&str; 14] = [
    "tenant",
    "study",
    "series",
    "instance",
    "digest",
    "class",
    "transfer_syntax",
    "size",
    "object",
    "sender",
    "called_ae",
    "calling_ae",
    "table_revision",
    "received_at",
];

/// The names of the promoted columns, quoted: `rows` is a word of SQL.
pub(super) fn promoted_columns() -> impl Iterator<Item = String> {
    Attribute::ALL.into_iter().map(|(_, _, name)| format!("\"{name}\""))
}

/// Makes all tables of an empty index.
pub(super) fn create(db: &Connection) -> rusqlite::Result<()> {
    create_first(db)?;
    bring_up_to_date(db, 1)
}

/// Makes an index of an older version one of ours. Rows stay as they are.
pub(super) fn bring_up_to_date(db: &Connection, from: i64) -> rusqlite::Result<()> {
    for (version, step) in (2..).zip(STEPS).filter(|(version, _)| *version > from) {
        db.execute_batch(step)?;
        db.pragma_update(None, "user_version", version)?;
    }
    Ok(())
}

/// Version 1.
pub(super) fn create_first(db: &Connection) -> rusqlite::Result<()> {
    for table in ["instance", "quarantine"] {
        db.execute_batch(&instances(table))?;
    }
    db.execute_batch(REST)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", 1)
}

fn instances(table: &str) -> String {
    let columns = COLUMNS.map(|name| match name {
        "size" | "table_revision" => format!("{name} INTEGER NOT NULL"),
        _ => format!("{name} TEXT NOT NULL"),
    });
    let promoted: Vec<_> = promoted_columns().map(|name| format!("{name} TEXT")).collect();
    format!(
        "CREATE TABLE {table} ({}, {}, metadata_complete INTEGER NOT NULL, metadata BLOB NOT NULL,
           PRIMARY KEY (tenant, study, series, instance, digest)) STRICT;
         CREATE INDEX {table}_by_sop ON {table} (instance);",
        columns.join(", "),
        promoted.join(", "),
    )
}

const REST: &str = "
CREATE TABLE claim (
  tenant TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL, instance TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (tenant, study, series, instance)) STRICT, WITHOUT ROWID;

CREATE TABLE activity (
  tenant TEXT NOT NULL, study TEXT NOT NULL, receiver TEXT NOT NULL,
  first_arrival TEXT NOT NULL, last_arrival TEXT NOT NULL,
  quiet_ms INTEGER NOT NULL, max_wait_ms INTEGER NOT NULL, due TEXT NOT NULL,
  PRIMARY KEY (tenant, study, receiver)) STRICT, WITHOUT ROWID;
CREATE INDEX activity_due ON activity (due);

CREATE TABLE study (
  tenant TEXT NOT NULL, study TEXT NOT NULL,
  state TEXT NOT NULL, generation INTEGER NOT NULL,
  instances INTEGER NOT NULL, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, series INTEGER NOT NULL,
  manifest TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, settled_at TEXT NOT NULL,
  PRIMARY KEY (tenant, study)) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
  tenant TEXT NOT NULL, study TEXT NOT NULL, generation INTEGER NOT NULL,
  event_id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, published_at TEXT,
  PRIMARY KEY (tenant, study, generation)) STRICT;
CREATE INDEX outbox_unpublished ON outbox (published_at) WHERE published_at IS NULL;

CREATE TABLE owner (study TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// `patient` is put only for rows with a rule about it, and is pseudonymous data: see `index/patient.rs`. Version 1 kept
/// apart for one reason only.
const PATIENTS_AND_REASONS: &str = "
CREATE TABLE patient (
  tenant TEXT NOT NULL, study TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (tenant, study)) STRICT, WITHOUT ROWID;
ALTER TABLE instance ADD COLUMN issuer_assigned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quarantine ADD COLUMN issuer_assigned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quarantine ADD COLUMN reason TEXT NOT NULL DEFAULT 'other_bytes';
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_order_is_text_order_even_at_the_ends() {
        let moments = [-5, 0, 1, 999, 1_795_363_445_123, i64::MAX].map(|at| moment(Timestamp::from_millis(at)));
        assert!(moments.is_sorted());
        assert!(moments.iter().all(|text| text.len() == 24 && Timestamp::parse(text).is_some()));
    }
}
