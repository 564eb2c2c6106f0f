//! The index: what is held, what is arriving, what became stable, and what has still to be told.

mod instance;
mod local;
mod patient;
pub(crate) mod read;
mod record;
mod rules;
mod schema;
mod settle;
mod writer;

use std::sync::Arc;

use model::{AeTitle, Promoted, Study, Tenant, Timestamp, Uid};
use study::{Activity, HeldInstance, Manifest, Reason, StableStudy};

pub use instance::Apart;
pub(crate) use instance::{Kept, NewInstance, RowRules, StillCleared};
pub(crate) use local::{LocalIndex, Readers};
pub(crate) use patient::{patient, significant};
pub(crate) use record::Recorded;
pub(crate) use rules::{Ruling, rule};

use crate::Failure;

/// Where the index is kept. DynamoDB joins here.
pub(crate) enum Index {
    Local(LocalIndex),
}

/// A study that has been quiet, or has waited, for long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueStudy {
    /// Who owns it.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study: Uid<Study>,
    /// Since when it is due.
    pub due: Timestamp,
}

/// A due study as the index showed it at one moment. [`crate::Archive::settle`] compares it with the index again.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) tenant: Tenant,
    pub(crate) study: Uid<Study>,
    pub(crate) generation: u64,
    pub(crate) activity: Activity,
    pub(crate) reason: Reason,
    pub(crate) taken_at: Timestamp,
    pub(crate) instances: Vec<HeldInstance>,
}

impl Snapshot {
    /// The generation that would be closed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Why it would be closed.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Every object of the study.
    #[must_use]
    pub fn instances(&self) -> &[HeldInstance] {
        &self.instances
    }

    /// The generation's manifest, closed at the moment of the snapshot.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let instances = self.instances.clone();
        study::manifest(&self.tenant, &self.study, self.generation, instances, self.reason, self.taken_at)
    }

    /// The generation with its manifest in final bytes.
    #[must_use]
    pub fn stable(&self) -> StableStudy {
        StableStudy::new(self.manifest())
    }
}

/// What became of closing a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The generation is closed and its event waits in the outbox.
    Stable,
    /// Something arrived since the snapshot: the study becomes due again later.
    StillArriving,
    /// Another stabiliser closed this generation first.
    Overtaken,
}

/// Whether a study is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StudyState {
    /// Instances came since the last generation, or there is none.
    Arriving,
    /// Everything held is in the manifest.
    Stable,
}

/// One study for a list. The promoted attributes are patient data.
#[derive(Debug, Clone)]
pub struct StudySummary {
    /// Who owns it.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study: Uid<Study>,
    /// Open or closed.
    pub state: StudyState,
    /// The last closed generation; 0 when there is none.
    pub generation: u64,
    /// SOP instances, each counted once.
    pub instances: u64,
    /// Objects, all revisions.
    pub objects: u64,
    /// Data set bytes, all revisions.
    pub bytes: u64,
    /// Objects kept apart, which are in none of the other numbers.
    pub quarantined: u64,
    /// Series.
    pub series: u64,
    /// When the first instance was committed.
    pub first_received: Timestamp,
    /// When the latest instance was committed.
    pub last_received: Timestamp,
    /// The key of the latest manifest.
    pub manifest: Option<String>,
    /// Attributes of the instance that came last.
    pub promoted: Promoted,
}

/// One object as the index tells it. The promoted attributes are patient data.
#[derive(Debug, Clone)]
pub struct StoredInstance {
    /// Who owns it.
    pub tenant: Tenant,
    /// What a manifest says of it.
    pub held: HeldInstance,
    /// The AE title that was called.
    pub called: AeTitle,
    /// The AE title that the sender gave itself.
    pub calling: AeTitle,
    /// Attributes that people search by.
    pub promoted: Promoted,
    /// False when the metadata lack an element because a limit was reached.
    pub metadata_complete: bool,
    /// True when the issuer of the Patient ID is the row's (`coerce_issuer`): the data set has none.
    pub issuer_assigned: bool,
    /// Why it is kept apart, if it is: no manifest names it then.
    pub apart: Option<Apart>,
}

impl Index {
    /// Writes that have been asked for and not begun.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        match self {
            Self::Local(local) => local.writer.waiting(),
        }
    }

    /// Puts an instance row or a quarantine row, unless a rule or the gate is against it.
    pub(crate) async fn record(&self, new: Arc<NewInstance>) -> Result<Recorded, Failure> {
        match self {
            Self::Local(local) => {
                let same = new.clone();
                let record = move |db: &_| record::record(db, &new);
                let stands = move |recorded: &_| record::stands(recorded, &same);
                local.writer.write_if("writing an index row", record, stands).await
            }
        }
    }

    pub(crate) async fn touch(
        &self,
        tenant: Tenant,
        study: Uid<Study>,
        receiver: String,
        activity: Activity,
    ) -> Result<(), Failure> {
        match self {
            Self::Local(local) => {
                let touch = move |db: &_| record::touch(db, &tenant, &study, &receiver, activity);
                local.writer.write("noting an arrival", touch).await
            }
        }
    }

    pub(crate) async fn settle(&self, snapshot: Snapshot, stable: StableStudy) -> Result<Settled, Failure> {
        match self {
            Self::Local(local) => {
                local.writer.write("closing a generation", move |db| settle::settle(db, &snapshot, &stable)).await
            }
        }
    }

    pub(crate) async fn rest(&self, snapshot: Snapshot) -> Result<(), Failure> {
        match self {
            Self::Local(local) => {
                local.writer.write("closing an activity", move |db| settle::rest(db, &snapshot)).await
            }
        }
    }

    pub(crate) async fn mark_published(&self, ids: Vec<String>, now: Timestamp) -> Result<(), Failure> {
        match self {
            Self::Local(local) => {
                local.writer.write("marking events", move |db| settle::mark_published(db, &ids, now)).await
            }
        }
    }
}
