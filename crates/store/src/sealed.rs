use std::sync::Arc;

use access::{AuthorisedInstance, Cleared};
use model::{Attribute, Digest, Metadata, OnPatientConflict, Promoted, Timestamp, key};

use crate::archive::Inner;
use crate::index::{Kept, NewInstance, RowRules, StillCleared, patient, significant};
use crate::keep::keep;
use crate::objects::Whole;
use crate::{Apart, Failure};

/// A whole data set, waiting for the commit gate. Dropping it removes it.
pub struct Sealed {
    pub(crate) archive: Arc<Inner>,
    pub(crate) instance: Arc<AuthorisedInstance>,
    pub(crate) whole: Whole,
}

/// Asks the commit gate once more, however long the disk took: right before the object gets its place, right before the row
/// is written, and right before the row is committed, the last two on the index writer's thread. A transaction that is done
/// again asks again. So it must be quick and block on nothing. None: not allowed any more.
///
/// A row is committed only if the last answer was given by the table of the revision that stands in the row: between that
/// answer and the commit there is one sync of the log and nothing else.
pub type AskAgain = Arc<dyn Fn() -> Option<Cleared> + Send + Sync>;

/// How an instance came to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// New.
    Stored,
    /// The same bytes were held: nothing was written.
    AlreadyHeld,
    /// Other bytes are held under the same UID; these are now the current ones.
    Revised,
    /// Kept apart: other bytes are held under the same UID, or the study is another patient's.
    Quarantined,
}

impl Outcome {
    /// One word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::AlreadyHeld => "already_held",
            Self::Revised => "revised",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Bytes and index row are both durable. The key to saying Success (PS3.7 §9.1.1.1.9): made in [`Sealed::commit`] only.
#[derive(Debug)]
pub struct Receipt {
    kept: Kept,
    digest: Digest,
    size: u64,
}

impl Receipt {
    /// How it came to be kept.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.kept.outcome
    }

    /// SHA-256 of the data set.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes of the data set.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The object's key.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.kept.object
    }

    /// Why it is kept apart, if it is.
    #[must_use]
    pub fn apart(&self) -> Option<Apart> {
        self.kept.apart
    }

    /// The revision of the table by whose leave it was kept; none when it was held already and nothing was written.
    #[must_use]
    pub fn table_revision(&self) -> Option<u64> {
        self.kept.revision
    }

    /// Whether another tenant was first to write this Study Instance UID. The studies are kept apart.
    #[must_use]
    pub fn cross_tenant(&self) -> bool {
        self.kept.cross_tenant
    }
}

impl Sealed {
    /// SHA-256 of the data set.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.whole.digest
    }

    /// Bytes of the data set.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.whole.size
    }

    /// Steps 12 to 14 of the corridor, after the commit gate: puts the object in its place if absent, then the index
    /// rows. Gives the receipt when all of it is durable.
    ///
    /// Kill-safe by its order: an object without a row is harmless and found again by the same bytes, a row without an
    /// object cannot be. Whoever drops this future gets no receipt, and sending again finds what was kept.
    ///
    /// # Errors
    /// [`Failure::NotCleared`] for a clearance that is another instance's or has expired, or when the right was withdrawn
    /// before the row was committed. When the row of the table is against it: [`Failure::ForeignStudy`],
    /// [`Failure::PatientConflict`], [`Failure::Conflict`], [`Failure::AlreadyHeld`]. [`Failure::StoreAway`], and
    /// [`Failure::Damaged`] when an object was tampered with.
    pub async fn commit(
        self,
        cleared: Cleared,
        ask_again: AskAgain,
        metadata: Metadata,
        received_at: Timestamp,
    ) -> Result<Receipt, Failure> {
        let Self { archive, instance, whole } = self;
        leave(&cleared, &instance, received_at).ok_or(Failure::NotCleared)?;
        let (digest, size) = (whole.digest, whole.size);
        let still_cleared: StillCleared = Arc::new({
            let instance = instance.clone();
            move || ask_again().and_then(|cleared| leave(&cleared, &instance, received_at))
        });
        let new = new_instance(&archive, &instance, &whole, still_cleared, metadata, received_at);
        let kept = keep(&archive, whole, new).await?;
        Ok(Receipt { kept, digest, size })
    }
}

/// The revision by whose leave an instance may be kept: if the clearance is its own and in time.
fn leave(cleared: &Cleared, instance: &AuthorisedInstance, received_at: Timestamp) -> Option<u64> {
    (cleared.is_for(instance) && received_at <= cleared.expires()).then(|| cleared.revision())
}

fn new_instance(
    archive: &Inner,
    instance: &AuthorisedInstance,
    whole: &Whole,
    still_cleared: StillCleared,
    metadata: Metadata,
    received_at: Timestamp,
) -> NewInstance {
    let rules = RowRules::from(instance);
    let (promoted, issuer_assigned) = with_issuer(metadata.promoted, instance.assigned_issuer());
    let compares = rules.on_patient_conflict != OnPatientConflict::Accept;
    NewInstance {
        tenant: instance.tenant().clone(),
        name: instance.name().clone(),
        digest: whole.digest,
        transfer_syntax: instance.transfer_syntax().clone(),
        size: whole.size,
        object: key::instance(instance.tenant(), instance.name(), &whole.digest),
        apart: None,
        sender: instance.sender().clone(),
        called: instance.called().clone(),
        calling: instance.calling().clone(),
        received_at,
        rules,
        patient: compares.then(|| patient(instance.tenant(), &instance.name().study, &promoted)),
        promoted,
        issuer_assigned,
        metadata: metadata.json,
        metadata_complete: metadata.complete,
        receiver: archive.options.receiver.clone(),
        activity: archive.activity(received_at, instance.quiet(), instance.max_wait()),
        still_cleared,
    }
}

/// The row's issuer where the data set has none, and whether that was so. Object and DICOM JSON stay as sent.
fn with_issuer(promoted: Promoted, assigned: Option<&str>) -> (Promoted, bool) {
    let own = promoted.get(Attribute::IssuerOfPatientId).map_or("", significant);
    match assigned {
        Some(issuer) if own.is_empty() => (promoted.with(Attribute::IssuerOfPatientId, issuer.to_owned()), true),
        _ => (promoted, false),
    }
}
