use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Digest, Hasher, key};

use super::chunk::Spares;
use super::{Soundness, Whole};
use crate::{Failure, OpenError};

/// Uploads in progress. A dot keeps it apart from every key prefix; it is on the same file system as the objects,
/// because a hard link must be.
const INCOMING: &str = ".incoming";
/// Images are patient data: nobody but the gateway's user reads them.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Directories remembered as durable, about 200 bytes each: 2 MB. Past it the memory starts anew and costs an fsync.
const MAX_DURABLE: usize = 10_000;
/// Bytes read at a time when an object is compared with its digest.
const READ_CHUNK: usize = 256 * 1024;

/// Objects as files under `{dir}/objects/{key}`.
#[derive(Clone)]
pub(crate) struct LocalObjects(Arc<Root>);

struct Root {
    objects: PathBuf,
    incoming: PathBuf,
    /// Directories whose own names are known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    next: AtomicU64,
    spares: Spares,
}

/// A file under a name that nobody looks at; the name goes when this is dropped.
pub(crate) struct Temporary {
    pub(super) file: File,
    path: PathBuf,
    /// Once the object has a place the path is that one, and it stays.
    placed: bool,
}

/// Why an object did not get its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("other bytes stand under the object's name")]
    Damaged(String),
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Io(source) => Self::away("putting an object in place")(source),
            PlaceError::Damaged(object) => Self::Damaged { object },
        }
    }
}

impl LocalObjects {
    /// Makes the directories, removes what a killed process left behind, and tries a hard link. The caller holds the
    /// lock on `dir`: nobody else has uploads here.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let this = Self::at(dir);
        let Root { objects, incoming, .. } = &*this.0;
        let refuse = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Directory { path, source }
        };
        create_directory(objects).map_err(refuse(objects))?;
        create_directory(incoming).map_err(refuse(incoming))?;
        // Made at once, though a file may be long in coming: people and scripts look for them.
        for prefix in [key::INSTANCES, key::QUARANTINE, key::MANIFESTS] {
            create_directory(&objects.join(prefix)).map_err(refuse(objects))?;
        }
        empty(incoming).map_err(refuse(incoming))?;
        let probe = this.temporary().map_err(refuse(incoming))?;
        let link = incoming.join("probe");
        fs::hard_link(probe.path(), &link)
            .and_then(|()| fs::remove_file(&link))
            .map_err(|source| OpenError::HardLinks { path: objects.clone(), source })?;
        [objects.as_path(), dir].into_iter().try_for_each(sync).map_err(refuse(objects))?;
        Ok(this)
    }

    /// The objects below `dir`, for looking only.
    pub(crate) fn at(dir: &Path) -> Self {
        let objects = dir.join("objects");
        let incoming = objects.join(INCOMING);
        Self(Arc::new(Root {
            objects,
            incoming,
            durable: Mutex::default(),
            next: AtomicU64::new(0),
            spares: Spares::default(),
        }))
    }

    /// Buffers for uploads.
    pub(super) fn spares(&self) -> &Spares {
        &self.0.spares
    }

    /// A new file in the incoming directory. The process id keeps a name apart from those of an earlier process.
    pub(super) fn temporary(&self) -> io::Result<Temporary> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.incoming.join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok(Temporary { file, path, placed: false })
    }

    /// Links a whole object into its place, only if absent, and makes the place durable. Blocks.
    ///
    /// Order is what makes it kill-safe. The file is synced before it gets its name: whatever is under
    /// that name is complete. The directories are synced before this returns, so before an index row can name it.
    /// Killed in between, it leaves an object that no row names, which the same bytes will find and take over.
    pub(crate) fn place(&self, whole: &mut Whole, key: &str) -> Result<(), PlaceError> {
        whole.on_disk()?;
        let target = self.0.objects.join(key);
        let parent = target.parent().expect("a key has a directory");
        let grandparent = parent.parent().expect("the objects directory is above every key");
        self.keep_directory(grandparent)?;
        // An instance's own directory is rarely seen twice, so it is not worth remembering.
        self.create(parent)?;
        match fs::hard_link(whole.on_disk()?.path(), &target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // The name is the digest, so these should be the same bytes under another sender's header.
                if self.check(key, whole.size, &whole.digest)? != Soundness::Sound {
                    return Err(PlaceError::Damaged(key.to_owned()));
                }
            }
            Err(error) => return Err(error.into()),
        }
        sync(parent)?;
        sync(grandparent)?;
        whole.on_disk()?.placed(target);
        Ok(())
    }

    /// Whether the object ends with this data set. What stands before it is the header, whose length depends on the
    /// sender that was first. Blocks.
    pub(crate) fn check(&self, key: &str, size: u64, digest: &Digest) -> io::Result<Soundness> {
        let mut file = match File::open(self.0.objects.join(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Soundness::Missing),
            Err(error) => return Err(error),
        };
        let Some(header) = file.metadata()?.len().checked_sub(size) else { return Ok(Soundness::Damaged) };
        file.seek(SeekFrom::Start(header))?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ_CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        Ok(if hasher.finish() == *digest { Soundness::Sound } else { Soundness::Damaged })
    }

    /// Makes a directory and everything above it, durably. That it exists is not enough: another upload may have made
    /// it this moment and not have synced it yet.
    fn keep_directory(&self, directory: &Path) -> io::Result<()> {
        if directory == self.0.objects || self.durable().contains(directory) {
            return Ok(());
        }
        let parent = directory.parent().expect("the objects directory is above every key");
        self.keep_directory(parent)?;
        self.create(directory)?;
        sync(parent)?;
        let mut durable = self.durable();
        if durable.len() >= MAX_DURABLE {
            durable.clear();
        }
        durable.insert(directory.to_owned());
        Ok(())
    }

    /// Makes one directory if absent. If the one above is gone, somebody tidied up: then nothing remembered holds.
    fn create(&self, directory: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => {
                self.durable().clear();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        // A set of names cannot be half changed, so a panic elsewhere does not spoil it.
        self.0.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn incoming_names(&self) -> usize {
        fs::read_dir(&self.0.incoming).expect("it is there").count()
    }
}

impl Temporary {
    /// Where the bytes are: the temporary name, then the object's.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn placed(&mut self, object: PathBuf) {
        self.remove();
        self.path = object;
        self.placed = true;
    }

    fn remove(&self) {
        if self.placed {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            // It is emptied at the next start, so this is a waste of space and nothing worse.
            tracing::warn!(%error, "a temporary file could not be removed");
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes a directory and those above it, for our user only.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Opens or makes a file for our user only.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(FILE_MODE);
    options
}

/// Removes the files in a directory. There are no directories in it, and one that somebody made stops the start.
fn empty(directory: &Path) -> io::Result<()> {
    fs::read_dir(directory)?.try_for_each(|entry| fs::remove_file(entry?.path()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::objects::Incoming;

    async fn whole(objects: &LocalObjects, header: &[u8], data: &[u8]) -> Whole {
        let mut incoming = Incoming::new(objects.clone(), header.to_vec());
        incoming.write(data).await.expect("the disk has room");
        incoming.seal().await.expect("the disk has room")
    }

    fn opened() -> (tempfile::TempDir, LocalObjects) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let objects = LocalObjects::open(dir.path()).expect("a fresh directory opens");
        (dir, objects)
    }

    const KEY: &str = "instances/a/1.2/1.3/1.4/ba7816bf8f01cfea414140de5dae2223.dcm";

    #[tokio::test]
    async fn nothing_is_overwritten_and_the_first_header_stays() {
        let (dir, objects) = opened();
        objects.place(&mut whole(&objects, b"one", b"abc").await, KEY).expect("the place is free");
        objects.place(&mut whole(&objects, b"another", b"abc").await, KEY).expect("the same bytes are there");
        assert_eq!(fs::read(dir.path().join("objects").join(KEY)).expect("it is there"), b"oneabc");
        assert_eq!(objects.incoming_names(), 0);
    }

    #[tokio::test]
    async fn an_object_that_was_tampered_with_is_not_taken_for_the_bytes_sent() {
        for (name, content) in [("cut off", &b"ab"[..]), ("changed", b"headerabX"), ("longer", b"headerabcX")] {
            let (dir, objects) = opened();
            let path = dir.path().join("objects").join(KEY);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a fresh directory");
            fs::write(&path, content).expect("a fresh directory");
            let refused = objects.place(&mut whole(&objects, b"header", b"abc").await, KEY);
            assert!(matches!(refused, Err(PlaceError::Damaged(key)) if key == KEY), "{name}");
            assert_eq!(fs::read(&path).expect("it is there"), content, "{name}");
        }
    }

    #[tokio::test]
    async fn only_our_user_reads_what_is_kept() {
        let (dir, objects) = opened();
        objects.place(&mut whole(&objects, b"", b"abc").await, KEY).expect("the place is free");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let path = dir.path().join("objects").join(KEY);
        assert_eq!(mode(&path), 0o600);
        let below = path.ancestors().skip(1).take_while(|above| *above != dir.path());
        assert!(below.into_iter().all(|above| mode(above) == 0o700));
    }

    #[test]
    fn leftovers_of_a_killed_process_go_and_nothing_else_does() {
        let (dir, _) = opened();
        let kept = dir.path().join("objects/instances/kept.dcm");
        fs::write(&kept, b"x").expect("a fresh directory");
        fs::write(dir.path().join("objects/.incoming/123-4"), b"half an inst").expect("it is there");
        let objects = LocalObjects::open(dir.path()).expect("it opens again");
        assert_eq!(objects.incoming_names(), 0);
        assert!(kept.exists());
    }

    #[tokio::test]
    async fn directories_that_somebody_removed_are_made_again() {
        let (dir, objects) = opened();
        objects.place(&mut whole(&objects, b"", b"abc").await, KEY).expect("the place is free");
        fs::remove_dir_all(dir.path().join("objects/instances")).expect("it is there");
        let mut again = whole(&objects, b"", b"abc").await;
        assert!(objects.place(&mut again, KEY).is_err(), "what is remembered no longer holds");
        objects.place(&mut again, KEY).expect("so it was forgotten");
        assert_eq!(objects.check(KEY, 3, &Digest::of(b"abc")).expect("it is readable"), Soundness::Sound);
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("objects"), b"").expect("a fresh directory");
        let error = LocalObjects::open(dir.path()).err().expect("it is no directory");
        assert!(error.to_string().contains("objects"), "{error}");
    }
}
