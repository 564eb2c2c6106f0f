//! One instance on its way into the index, and what a receipt says of it.

use std::sync::Arc;

use access::AuthorisedInstance;
use model::{
    AeTitle, Digest, InstanceName, OnConflict, OnDuplicate, OnPatientConflict, Phi, Promoted, SpiffeId, Tenant,
    Timestamp, TransferSyntax, Uid,
};
use study::Activity;

use crate::Outcome;

/// One instance on its way into the index.
#[derive(Clone)]
pub(crate) struct NewInstance {
    pub(crate) tenant: Tenant,
    pub(crate) name: InstanceName,
    pub(crate) digest: Digest,
    pub(crate) transfer_syntax: Uid<TransferSyntax>,
    pub(crate) size: u64,
    pub(crate) object: String,
    /// Set when `object` is under `quarantine/`.
    pub(crate) apart: Option<Apart>,
    pub(crate) sender: SpiffeId,
    pub(crate) called: AeTitle,
    pub(crate) calling: AeTitle,
    pub(crate) received_at: Timestamp,
    pub(crate) rules: RowRules,
    /// Whose instance it is, for rows that do not accept two patients in a study; see [`super::patient`].
    pub(crate) patient: Option<Digest>,
    pub(crate) promoted: Promoted,
    /// Whether the promoted issuer is the row's and not the data set's.
    pub(crate) issuer_assigned: bool,
    /// DICOM JSON, gzip.
    pub(crate) metadata: Phi<Vec<u8>>,
    pub(crate) metadata_complete: bool,
    pub(crate) receiver: String,
    /// The activity that this arrival alone would make.
    pub(crate) activity: Activity,
    pub(crate) still_cleared: StillCleared,
}

/// Whether the right to store an instance still stands, and by which revision of the table. Asked right before the object
/// gets its place, right before the row is written, and right before the row is committed.
pub(crate) type StillCleared = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What the row of the access table wants when something is held already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRules {
    pub(crate) binds_study: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) on_patient_conflict: OnPatientConflict,
    pub(crate) on_duplicate: OnDuplicate,
}

impl From<&AuthorisedInstance> for RowRules {
    fn from(instance: &AuthorisedInstance) -> Self {
        Self {
            binds_study: instance.binds_study(),
            on_conflict: instance.on_conflict(),
            on_patient_conflict: instance.on_patient_conflict(),
            on_duplicate: instance.on_duplicate(),
        }
    }
}

/// What is said in a receipt about an instance that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) outcome: Outcome,
    pub(crate) object: String,
    pub(crate) cross_tenant: bool,
    pub(crate) apart: Option<Apart>,
    /// Of the table by whose leave the row was written; none when nothing was.
    pub(crate) revision: Option<u64>,
}

/// Why an instance is kept apart, under `quarantine/`, where no manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Other bytes are held under its SOP Instance UID (`on_conflict`).
    OtherBytes,
    /// Its study holds another patient's instances (`conflict_patient_id`).
    OtherPatient,
}

impl Apart {
    /// The word for it in the index, in logs and for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherBytes => "other_bytes",
            Self::OtherPatient => "other_patient",
        }
    }

    /// The reason of this name.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        [Self::OtherBytes, Self::OtherPatient]
            .into_iter()
            .find(|apart| apart.as_str() == text)
            .ok_or("not a reason for quarantine")
    }
}
