use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::AuthorisedInstance;
use model::{Study, Tenant, Timestamp, Uid};
use study::{Activity, Event, StableStudy};

use crate::index::{Index, LocalIndex, read};
use crate::objects::{LocalObjects, Objects, create_directory, private_file, sync};
use crate::{DueStudy, EventLog, Failure, OpenError, Reader, Settled, Snapshot, Upload};

/// The index's file name in the archive directory.
pub(crate) const INDEX: &str = "index.sqlite";
/// Locked by the process that receives into the directory.
const LOCK: &str = "lock";
/// Events read from the outbox at a time, about 500 bytes each.
const MAX_UNPUBLISHED: i64 = 1000;

/// Everything that is kept. Clones are the same archive.
///
/// It can do whatever its [`Reader`] can.
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) reader: Reader,
    pub(crate) index: Index,
    pub(crate) options: LocalOptions,
    /// Held as long as somebody can have an upload here; the system lets go of it when the process dies.
    _lock: File,
}

/// How a local archive is opened.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The name under which this receiver notes arrivals.
    pub receiver: String,
    /// The quiet time of studies whose row has none of its own.
    pub quiet: Duration,
    /// The longest wait of studies whose row has none of its own.
    pub max_wait: Duration,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { receiver: "local".to_owned(), quiet: study::DEFAULT_QUIET, max_wait: study::DEFAULT_MAX_WAIT }
    }
}

impl Inner {
    /// An arrival, with the house's own spans where the row gives none.
    pub(crate) fn activity(&self, now: Timestamp, quiet: Option<Duration>, max_wait: Option<Duration>) -> Activity {
        let (quiet, max_wait) = (quiet.unwrap_or(self.options.quiet), max_wait.unwrap_or(self.options.max_wait));
        Activity::begin(now, Some(quiet), Some(max_wait))
    }
}

impl Deref for Archive {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.0.reader
    }
}

impl Archive {
    /// Opens the archive in `dir`, or makes one: objects under `dir/objects`, the index at `dir/index.sqlite`. Removes
    /// what uploads of a killed process left behind.
    ///
    /// # Errors
    /// When the directory cannot be written or has another receiver, or the index does not open.
    pub async fn open_local(dir: &Path, options: LocalOptions) -> Result<Self, OpenError> {
        let (owned, path) = (dir.to_owned(), dir.to_owned());
        tokio::task::spawn_blocking(move || Self::open_local_now(&owned, options))
            .await
            .unwrap_or_else(|gone| Err(OpenError::Index { path, source: gone.into() }))
    }

    fn open_local_now(dir: &Path, options: LocalOptions) -> Result<Self, OpenError> {
        let refuse = |source| OpenError::Directory { path: dir.to_owned(), source };
        make_durably(dir).map_err(refuse)?;
        let lock = lock(dir)?;
        let objects = Objects::Local(LocalObjects::open(dir)?);
        let index = LocalIndex::open(&dir.join(INDEX))?;
        // The index's own name must survive a power cut like the rows in it.
        sync(dir).map_err(refuse)?;
        let reader = Reader { index: index.readers.clone(), objects };
        let inner = Inner { reader, index: Index::Local(index), options, _lock: lock };
        Ok(Self(Arc::new(inner)))
    }

    /// The reading side alone.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self
    }

    /// Step 12 of the corridor: begins an object. `header` is the Part 10 header, preamble and file meta group; it is
    /// written first and is no part of the digest or the size.
    ///
    /// # Errors
    /// None with the local backend; a store that has to be asked first may be away.
    #[expect(clippy::unused_async, reason = "a remote store is asked here")]
    pub async fn begin(&self, instance: Arc<AuthorisedInstance>, header: Vec<u8>) -> Result<Upload, Failure> {
        Ok(Upload { incoming: self.objects.begin(header), archive: self.0.clone(), instance })
    }

    /// Keeps a study with an instance in flight from becoming stable. Spans that the row does not give are the defaults.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be written.
    pub async fn touch(
        &self,
        tenant: &Tenant,
        study: &Uid<Study>,
        receiver: &str,
        quiet: Option<Duration>,
        max_wait: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let activity = self.0.activity(now, quiet, max_wait);
        self.0.index.touch(tenant.clone(), study.clone(), receiver.to_owned(), activity).await
    }

    /// Studies that are due at `now`, at most `limit`, the longest waiting first.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueStudy>, Failure> {
        self.0.reader.index.read(move |db| read::due(db, now, limit)).await
    }

    /// A due study as it is at this moment: the first step of closing a generation. None when it is no longer due, or
    /// when every row is in the last manifest already; the study is then no longer listed as due.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read or written.
    pub async fn snapshot(&self, due: &DueStudy, now: Timestamp) -> Result<Option<Snapshot>, Failure> {
        let (tenant, study) = (due.tenant.clone(), due.study.clone());
        match self.0.reader.index.read(move |db| read::look(db, &tenant, &study, now)).await? {
            read::Look::New(snapshot) => Ok(Some(snapshot)),
            read::Look::NothingNew(snapshot) => self.0.index.rest(snapshot).await.map(|()| None),
            read::Look::NotDue => Ok(None),
        }
    }

    /// Puts a manifest and gives its key. Durable when it returns. One that is never settled is named by nothing.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when it cannot be written.
    pub async fn put_manifest(&self, stable: &StableStudy) -> Result<String, Failure> {
        let key = stable.key();
        self.objects.put(key.clone(), stable.bytes().to_vec()).await?;
        Ok(key)
    }

    /// Closes the generation of the snapshot: the study row and the event, both or neither, if nothing came in between.
    /// The manifest must have been put before.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be written.
    pub async fn settle(&self, snapshot: Snapshot, stable: StableStudy) -> Result<Settled, Failure> {
        self.0.index.settle(snapshot, stable).await
    }

    /// Events that are not marked as published, the oldest first; at most a thousand at a time.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn unpublished(&self) -> Result<Vec<Event>, Failure> {
        self.0.reader.index.read(|db| read::unpublished(db, MAX_UNPUBLISHED)).await
    }

    /// Marks an event as published. Unknown ids and repetitions change nothing.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be written.
    pub async fn mark_published(&self, id: &str, now: Timestamp) -> Result<(), Failure> {
        self.0.index.mark_published(vec![id.to_owned()], now).await
    }

    /// Appends the unpublished events to the log and then marks them: at least once, with the same id when repeated.
    /// Gives them; when there are some there may be more.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the log or the index is; the events stay in the outbox.
    pub async fn publish_to(&self, log: &mut EventLog, now: Timestamp) -> Result<Vec<Event>, Failure> {
        let events = self.unpublished().await?;
        if events.is_empty() {
            return Ok(events);
        }
        log.append(&events).await?;
        self.0.index.mark_published(events.iter().map(|event| event.id.clone()).collect(), now).await?;
        Ok(events)
    }
}

/// One receiver for one directory: opening removes leftovers, which must not be somebody else's uploads.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let refuse = |source| OpenError::Directory { path: path.clone(), source };
    let file = private_file().append(true).open(&path).map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(refuse(source)),
    }
}

/// Makes the archive directory, and syncs the name of every directory that was not there before.
fn make_durably(dir: &Path) -> io::Result<()> {
    let is_missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
    let missing = dir.ancestors().take_while(is_missing).count();
    create_directory(dir)?;
    dir.canonicalize()?.ancestors().skip(1).take(missing).try_for_each(sync)
}
