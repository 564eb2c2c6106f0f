//! The index: what is held, what is arriving, what became stable, and what has still to be told.

mod local;
pub(crate) mod read;
mod record;
mod schema;
mod settle;
mod writer;

use model::{
    AeTitle, Digest, InstanceName, OnConflict, Phi, Promoted, SpiffeId, Study, Tenant, Timestamp, TransferSyntax, Uid,
};
use study::{Activity, HeldInstance, Manifest, Reason, StableStudy};

pub(crate) use local::{LocalIndex, Readers};
pub(crate) use record::{Known, Recorded, look};

use crate::{Failure, Outcome};

/// Where the index is kept. DynamoDB joins here.
pub(crate) enum Index {
    Local(LocalIndex),
}

/// One instance on its way into the index.
#[derive(Clone)]
pub(crate) struct NewInstance {
    pub(crate) tenant: Tenant,
    pub(crate) name: InstanceName,
    pub(crate) digest: Digest,
    pub(crate) transfer_syntax: Uid<TransferSyntax>,
    pub(crate) size: u64,
    pub(crate) object: String,
    pub(crate) sender: SpiffeId,
    pub(crate) called: AeTitle,
    pub(crate) calling: AeTitle,
    pub(crate) table_revision: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) on_conflict: OnConflict,
    pub(crate) promoted: Promoted,
    /// DICOM JSON, gzip.
    pub(crate) metadata: Phi<Vec<u8>>,
    pub(crate) metadata_complete: bool,
    pub(crate) receiver: String,
    /// The activity that this arrival alone would make.
    pub(crate) activity: Activity,
    /// Asked right before the row is written.
    pub(crate) still_cleared: StillCleared,
}

/// Whether the right to store an instance still stands.
pub(crate) type StillCleared = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;

/// What is said in a receipt about an instance that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) outcome: Outcome,
    pub(crate) object: String,
    pub(crate) cross_tenant: bool,
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
}

impl Index {
    pub(crate) async fn record(&self, new: std::sync::Arc<NewInstance>) -> Result<Recorded, Failure> {
        match self {
            Self::Local(local) => local.writer.write("writing an index row", move |db| record::record(db, &new)).await,
        }
    }

    pub(crate) async fn quarantine(&self, new: std::sync::Arc<NewInstance>) -> Result<Recorded, Failure> {
        match self {
            Self::Local(local) => {
                let quarantine = move |db: &_| record::quarantine(db, &new);
                local.writer.write("writing a quarantine row", quarantine).await
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
