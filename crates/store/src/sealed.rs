use std::cell::RefCell;
use std::sync::Arc;

use access::{AuthorisedInstance, Cleared};
use flate2::{Compress, Compression, FlushCompress, Status};
use model::{Digest, Metadata, OnConflict, Phi, Timestamp, key};

use crate::Failure;
use crate::archive::Inner;
use crate::index::{Kept, Known, NewInstance, Recorded, StillCleared, look};
use crate::objects::{Objects, Whole, blocking};

/// A whole data set, waiting for the commit gate. Dropping it removes it.
pub struct Sealed {
    pub(crate) archive: Arc<Inner>,
    pub(crate) instance: Arc<AuthorisedInstance>,
    pub(crate) whole: Whole,
}

/// Asks the commit gate once more. Called on the index writer's thread right before the row is written, however long the
/// disk took: so it must be quick and block on nothing. None: not allowed any more.
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
    /// Other bytes are held under the same UID; these are kept apart.
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
    /// before the row could be written; [`Failure::Conflict`] when other bytes are held and the row says reject; [`Failure::StoreAway`], and [`Failure::Damaged`] when an object was tampered with.
    pub async fn commit(
        self,
        cleared: Cleared,
        ask_again: AskAgain,
        metadata: Metadata,
        received_at: Timestamp,
    ) -> Result<Receipt, Failure> {
        if !cleared.is_for(&self.instance) || received_at > cleared.expires() {
            return Err(Failure::NotCleared);
        }
        let Self { archive, instance, whole } = self;
        let (digest, size) = (whole.digest, whole.size);
        let asked = instance.clone();
        let still_cleared: StillCleared = Arc::new(move || ask_again().is_some_and(|cleared| cleared.is_for(&asked)));
        let new = new_instance(&archive, &instance, &whole, (cleared.revision(), still_cleared), metadata, received_at);
        let kept = keep(&archive, whole, new).await?;
        Ok(Receipt { kept, digest, size })
    }
}

fn new_instance(
    archive: &Inner,
    instance: &AuthorisedInstance,
    whole: &Whole,
    (table_revision, still_cleared): (u64, StillCleared),
    metadata: Metadata,
    received_at: Timestamp,
) -> NewInstance {
    NewInstance {
        tenant: instance.tenant().clone(),
        name: instance.name().clone(),
        digest: whole.digest,
        transfer_syntax: instance.transfer_syntax().clone(),
        size: whole.size,
        object: key::instance(instance.tenant(), instance.name(), &whole.digest),
        sender: instance.sender().clone(),
        called: instance.called().clone(),
        calling: instance.calling().clone(),
        table_revision,
        received_at,
        on_conflict: instance.on_conflict(),
        promoted: metadata.promoted,
        metadata: metadata.json,
        metadata_complete: metadata.complete,
        receiver: archive.options.receiver.clone(),
        activity: archive.activity(received_at, instance.quiet(), instance.max_wait()),
        still_cleared,
    }
}

/// Object first, row second. The look beforehand spares the work for bytes that are held and leaves no orphan when they
/// are refused; two that come at once both pass it, and the transaction decides between them.
async fn keep(archive: &Arc<Inner>, whole: Whole, new: NewInstance) -> Result<Kept, Failure> {
    let here = archive.clone();
    let (whole, new) = match blocking("putting an object in place", move || look_and_place(&here, whole, new)).await? {
        Placed::AlreadyHeld(kept) => return Ok(kept),
        Placed::Apart(new) => return quarantine(archive, new).await,
        Placed::Here(whole, new) => (whole, Arc::new(new)),
    };
    match archive.index.record(new.clone()).await? {
        Recorded::Kept(kept) => Ok(kept),
        // The loser of a race leaves an object that no row names; it cannot be removed here, for a third sender of the
        // same bytes may be about to name it.
        Recorded::OtherBytes if new.on_conflict == OnConflict::Quarantine => {
            let apart = quarantined((*new).clone());
            let here = archive.clone();
            let apart = blocking("putting an object in place", move || place_apart(&here, whole, apart)).await?;
            quarantine(archive, apart).await
        }
        Recorded::OtherBytes => Err(Failure::Conflict),
        Recorded::Withdrawn => Err(Failure::NotCleared),
    }
}

async fn quarantine(archive: &Inner, new: NewInstance) -> Result<Kept, Failure> {
    match archive.index.quarantine(Arc::new(new)).await? {
        Recorded::Kept(kept) => Ok(kept),
        Recorded::OtherBytes => Err(Failure::Conflict),
        Recorded::Withdrawn => Err(Failure::NotCleared),
    }
}

enum Placed {
    AlreadyHeld(Kept),
    /// In the archive proper, unless the transaction says otherwise.
    Here(Whole, NewInstance),
    /// Under `quarantine/`.
    Apart(NewInstance),
}

/// All that blocks before the row is written, in one hop.
fn look_and_place(archive: &Inner, mut whole: Whole, mut new: NewInstance) -> Result<Placed, Failure> {
    let known = archive.reader.index.read_now(|db| look(db, &new))?;
    let apart = match (known, new.on_conflict) {
        (Known::Same(kept), _) => return Ok(Placed::AlreadyHeld(kept)),
        (Known::Other, OnConflict::Reject) => return Err(Failure::Conflict),
        (Known::Other, OnConflict::Quarantine) => true,
        (Known::Other, OnConflict::Revise) | (Known::Nothing, _) => false,
    };
    // The writer has one thread for all, so what can be done before it is.
    new.metadata = compressed(&new.metadata);
    if apart {
        return place_apart(archive, whole, quarantined(new)).map(Placed::Apart);
    }
    place(archive, &mut whole, &new.object)?;
    Ok(Placed::Here(whole, new))
}

fn place_apart(archive: &Inner, mut whole: Whole, new: NewInstance) -> Result<NewInstance, Failure> {
    place(archive, &mut whole, &new.object)?;
    Ok(new)
}

fn place(archive: &Inner, whole: &mut Whole, object: &str) -> Result<(), Failure> {
    match &archive.reader.objects {
        Objects::Local(local) => Ok(local.place(whole, object)?),
    }
}

fn quarantined(new: NewInstance) -> NewInstance {
    NewInstance { object: key::quarantine(&new.tenant, &new.name, &new.digest), ..new }
}

/// The fastest level: this is on every sender's way to its answer, and JSON of a head is small anyway. The compressor is
/// kept by its thread, for making one clears some 300 KB of memory.
fn compressed(json: &Phi<Vec<u8>>) -> Phi<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: RefCell<Compress> = RefCell::new(Compress::new_gzip(Compression::fast(), GZIP_WINDOW));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        let json = json.reveal();
        let mut out = Vec::with_capacity(json.len() / 2 + GZIP_FRAME);
        loop {
            let read = usize::try_from(compressor.total_in()).expect("it was read from memory");
            let step = compressor.compress_vec(&json[read..], &mut out, FlushCompress::Finish);
            match step.expect("a stream that is whole in memory compresses") {
                Status::StreamEnd => return Phi::new(out),
                Status::Ok | Status::BufError => out.reserve(json.len() / 2 + GZIP_FRAME),
            }
        }
    })
}

/// 32 KiB, the most that gzip has (RFC 1952).
const GZIP_WINDOW: u8 = 15;
/// Header, trailer and what a short text may grow by.
const GZIP_FRAME: usize = 64;
