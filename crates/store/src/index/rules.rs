//! What the rules of a row make of an instance, by what the index holds: asked before the object gets its place, and again
//! in the transaction, which alone decides.
//!
//! No rule needs the old value of a row, only whether a condition holds: so a backend that may put and not read can keep
//! them as conditions of one transaction (`owner` and `patient`: absent or the same; `claim`: absent or the same; the
//! instance row: absent).

use model::{OnConflict, OnDuplicate, OnPatientConflict};
use rusqlite::{Connection, OptionalExtension, Result, params_from_iter};

use super::read::parsed;
use super::record::key;
use super::{Apart, Kept, NewInstance};
use crate::{Failure, Outcome};

/// What is to be done with an instance.
pub(crate) enum Ruling {
    /// These very bytes are held: nothing is written.
    Held(Kept),
    /// It becomes part of its study.
    Keep(Outcome),
    /// It is kept, and is no part of its study.
    Apart(Apart),
    /// Nothing of it is kept.
    Refuse(Failure),
}

/// Asks without writing. Rows are never removed, so whatever is held, foreign or in conflict stays so; only "nothing is in
/// the way" may be overtaken.
///
/// The study comes before the instance, and of two conflicts the harder answer is given.
pub(crate) fn rule(db: &Connection, new: &NewInstance) -> Result<Ruling> {
    if new.rules.binds_study && owned_by_another(db, new)? {
        return Ok(Ruling::Refuse(Failure::ForeignStudy));
    }
    if let Some(ruling) = held(db, new)? {
        return Ok(ruling);
    }
    let patient = is_another_patient(db, new)?.then_some(new.rules.on_patient_conflict);
    let bytes = has_other_bytes(db, new)?.then_some(new.rules.on_conflict);
    match (patient, bytes) {
        (Some(OnPatientConflict::Reject), _) => Ok(Ruling::Refuse(Failure::PatientConflict)),
        (_, Some(OnConflict::Reject)) => Ok(Ruling::Refuse(Failure::Conflict)),
        (Some(OnPatientConflict::Quarantine), _) => apart(db, new, Apart::OtherPatient),
        (_, Some(OnConflict::Quarantine)) => apart(db, new, Apart::OtherBytes),
        (_, Some(OnConflict::Revise)) => Ok(Ruling::Keep(Outcome::Revised)),
        (_, None) => Ok(Ruling::Keep(Outcome::Stored)),
    }
}

/// Whether the first to write the study was another tenant.
pub(super) fn owned_by_another(db: &Connection, new: &NewInstance) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM owner WHERE study = ?1 AND tenant <> ?2)")?
        .query_row([new.name.study.as_str(), new.tenant.as_str()], |row| row.get(0))
}

fn held(db: &Connection, new: &NewInstance) -> Result<Option<Ruling>> {
    let object = db
        .prepare_cached(
            "SELECT object FROM instance
             WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest = ?5",
        )?
        .query_row(params_from_iter(key(new)), |row| row.get(0))
        .optional()?;
    object.map(|object| again(db, new, Outcome::AlreadyHeld, object, None)).transpose()
}

/// To be kept apart, unless it is already.
fn apart(db: &Connection, new: &NewInstance, why: Apart) -> Result<Ruling> {
    let known = db
        .prepare_cached(
            "SELECT object, reason FROM quarantine
             WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest = ?5",
        )?
        .query_row(params_from_iter(key(new)), |row| Ok((row.get(0)?, parsed(row, 1, Apart::parse)?)))
        .optional()?;
    match known {
        Some((object, since)) => again(db, new, Outcome::Quarantined, object, Some(since)),
        None => Ok(Ruling::Apart(why)),
    }
}

/// The same bytes once more.
fn again(db: &Connection, new: &NewInstance, outcome: Outcome, object: String, apart: Option<Apart>) -> Result<Ruling> {
    Ok(match new.rules.on_duplicate {
        OnDuplicate::Reject => Ruling::Refuse(Failure::AlreadyHeld),
        OnDuplicate::Idempotent => {
            let cross_tenant = owned_by_another(db, new)?;
            Ruling::Held(Kept { outcome, object, cross_tenant, apart, revision: None })
        }
    })
}

fn is_another_patient(db: &Connection, new: &NewInstance) -> Result<bool> {
    let Some(patient) = &new.patient else { return Ok(false) };
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM patient WHERE tenant = ?1 AND study = ?2 AND digest <> ?3)")?
        .query_row([new.tenant.as_str(), new.name.study.as_str(), &patient.to_string()], |row| row.get(0))
}

fn has_other_bytes(db: &Connection, new: &NewInstance) -> Result<bool> {
    let mut other = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM instance
                        WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest <> ?5)
             OR EXISTS (SELECT 1 FROM claim
                        WHERE tenant = ?1 AND study = ?2 AND series = ?3 AND instance = ?4 AND digest <> ?5)",
    )?;
    other.query_row(params_from_iter(key(new)), |row| row.get(0))
}
