use std::error::Error;
use std::path::PathBuf;

/// Why something was not stored, by whose doing. The gateway turns it into a status (design §6).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The sender's: the row says `on_conflict = "reject"` and other bytes are held. Sending it again does not help.
    #[error("other bytes are already held under this SOP Instance UID, and the row says reject")]
    Conflict,
    /// The sender's: these very bytes are held, and the row says `duplicate = "reject"`. Sending them again is needless.
    #[error("these bytes are already held, and the row says that they may not come again; there is nothing to send")]
    AlreadyHeld,
    /// The sender's: its study holds another patient's instances (another Patient ID or issuer of it), and the row says
    /// `conflict_patient_id = "reject"`. To be corrected at the sender.
    #[error(
        "the study holds instances of another Patient ID or issuer; correct the instance at its sender and send it again"
    )]
    PatientConflict,
    /// The sender's: another tenant was first to write the study, and the row says `study_binding = "own"`.
    #[error(
        "the study is another tenant's, and the row may only add to its own; ask who gave two hospitals one Study Instance UID"
    )]
    ForeignStudy,
    /// The clearance shown at the commit gate belongs to another instance or has expired, or the right to store was
    /// withdrawn before the row was committed.
    #[error("the clearance was given for another instance or has expired")]
    NotCleared,
    /// Nobody's: the disk is full, read-only or gone, or the index cannot be written. Sending it again later may help.
    #[error("the store is away: failed {doing}")]
    StoreAway {
        /// What was being done, as the end of a sentence.
        doing: &'static str,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Somebody changed an object behind our back: its bytes are not those that its name promises.
    #[error("an object in the archive does not have the bytes that its name promises; compare objects and index")]
    Damaged {
        /// The object's key: it has UIDs, so it is not part of the text.
        object: String,
    },
}

impl Failure {
    /// For `map_err`: the store is away.
    pub(crate) fn away<E: Into<Box<dyn Error + Send + Sync>>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::StoreAway { doing, source: source.into() }
    }
}

/// Why the archive does not open. Each text says what a person can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No directory, no right to write it, or a file stands where a directory should be.
    #[error("{} cannot be created or written; choose another archive directory or give this user the right to write it", path.display())]
    Directory {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file system cannot put an object in place only if absent.
    #[error("{} is on a file system without hard links, which the archive needs; choose a local file system", path.display())]
    HardLinks {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process receives into this directory.
    #[error("{} is in use by another process; an archive directory has one receiver", path.display())]
    InUse {
        /// Which path.
        path: PathBuf,
    },
    /// Somebody holds a lock on the index, for example a shell in a transaction.
    #[error("{} is locked by another program; close it and start again", path.display())]
    IndexLocked {
        /// The index file.
        path: PathBuf,
    },
    /// The file is not an index, or is damaged.
    #[error("{} is not an index of this program or is damaged; restore it from a backup, or move it away and rebuild it from the objects", path.display())]
    NotAnIndex {
        /// The index file.
        path: PathBuf,
    },
    /// A newer release has written the index.
    #[error("{} has schema {found}, this release knows {known}; use the newer release", path.display())]
    IndexNewer {
        /// The index file.
        path: PathBuf,
        /// The schema number found.
        found: i64,
        /// The newest schema number that this release knows.
        known: i64,
    },
    /// An older release has written the index, and a reader changes nothing.
    #[error("{} was written by an older release; start this release's receiver on it once, which brings it up to date", path.display())]
    IndexOlder {
        /// The index file.
        path: PathBuf,
    },
    /// There is no archive to read.
    #[error("there is no archive at {}", path.display())]
    Absent {
        /// The index file that was looked for.
        path: PathBuf,
    },
    /// The index does not open for another reason.
    #[error("{} cannot be opened", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What the index engine said.
        source: Box<dyn Error + Send + Sync>,
    },
}
