use std::io::{self, Write};
use std::mem;

use model::{Digest, Hasher};
use tokio::task::{JoinHandle, spawn_blocking};

use super::chunk::Chunk;
use super::local::{LocalObjects, Temporary};

/// An object on its way in, seen by nobody. Dropping it removes what was written.
pub(crate) struct Incoming {
    objects: LocalObjects,
    header: Vec<u8>,
    filling: Chunk,
    /// Of the first chunk: hashed as it comes, for an object that stays in memory needs nobody else. The chunks after it
    /// are hashed by whoever writes them.
    hasher: Hasher,
    on_disk: OnDisk,
}

/// What became of the chunks before the one that is filling.
enum OnDisk {
    Nothing,
    /// The task gives back its buffer, so that two serve an upload of any size.
    Writing(JoinHandle<io::Result<(Written, Chunk)>>),
    /// A write failed, or its result has been taken: nothing more can be written.
    Over,
}

/// The part of an object that is in its temporary file.
struct Written {
    temporary: Temporary,
    hasher: Hasher,
    size: u64,
}

/// A complete object that nobody sees. Dropping it removes it.
pub(crate) struct Whole {
    objects: LocalObjects,
    body: Body,
    /// SHA-256 of what followed the header.
    pub(crate) digest: Digest,
    /// Bytes that followed the header.
    pub(crate) size: u64,
}

/// Where a whole object waits for its place.
enum Body {
    /// A small one is still in memory: bytes that turn out to be held already never cost a write.
    Memory { header: Vec<u8>, bytes: Chunk },
    /// A complete, synced file under a temporary name.
    File(Temporary),
}

impl Whole {
    /// Writes and syncs what is still in memory, under a temporary name. Blocks. What follows is quick.
    pub(crate) fn write_down(&mut self) -> io::Result<()> {
        self.on_disk().map(drop)
    }

    /// The synced file under its temporary name, which is made now if there is none yet. Blocks.
    pub(super) fn on_disk(&mut self) -> io::Result<&mut Temporary> {
        if let Body::Memory { header, bytes } = &self.body {
            let mut temporary = self.objects.temporary()?;
            temporary.file.write_all(header)?;
            temporary.file.write_all(bytes)?;
            temporary.file.sync_all()?;
            self.body = Body::File(temporary);
        }
        match &mut self.body {
            Body::File(temporary) => Ok(temporary),
            Body::Memory { .. } => unreachable!("it was written above"),
        }
    }
}

impl Incoming {
    pub(super) fn new(objects: LocalObjects, header: Vec<u8>) -> Self {
        let filling = objects.spares().chunk();
        Self { objects, header, filling, hasher: Hasher::new(), on_disk: OnDisk::Nothing }
    }

    /// Adds bytes. Waits only while the chunk before is still being written.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A full chunk goes out when more comes, not before: so one that ends here is still written in one hop.
            if self.filling.room() == 0 {
                self.spill().await?;
            }
            let (fits, rest) = bytes.split_at(bytes.len().min(self.filling.room()));
            self.fill(fits);
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the object. A large one is written to its end and synced; a small one waits in memory.
    pub(crate) async fn seal(mut self) -> io::Result<Whole> {
        let Some((mut written, _)) = self.take_written().await? else {
            let (digest, size) = (self.hasher.finish(), self.filling.len() as u64);
            let body = Body::Memory { header: self.header, bytes: self.filling };
            return Ok(Whole { objects: self.objects, body, digest, size });
        };
        let finish = move || {
            written.append(&self.filling)?;
            written.finish(self.objects)
        };
        spawn_blocking(finish).await.map_err(io::Error::other)?
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.filling.fill(bytes);
        if matches!(self.on_disk, OnDisk::Nothing) {
            self.hasher.update(bytes);
        }
    }

    /// Sends the full chunk to a blocking thread, which hashes and writes it while the next one fills.
    async fn spill(&mut self) -> io::Result<()> {
        let (written, spare) = match self.take_written().await? {
            Some((written, spare)) => (Some(written), spare),
            None => (None, self.objects.spares().chunk()),
        };
        let mut full = mem::replace(&mut self.filling, spare);
        let (objects, header, hasher) = (self.objects.clone(), mem::take(&mut self.header), self.hasher.clone());
        self.on_disk = OnDisk::Writing(spawn_blocking(move || {
            let written = match written {
                None => Written::begin(&objects, &header, &full, hasher)?,
                Some(mut written) => {
                    written.append(&full)?;
                    written
                }
            };
            full.clear();
            Ok((written, full))
        }));
        Ok(())
    }

    /// Waits for the chunk before. A caller that goes away while waiting loses nothing: the task stays where it is.
    async fn take_written(&mut self) -> io::Result<Option<(Written, Chunk)>> {
        let result = match &mut self.on_disk {
            OnDisk::Nothing => Ok(None),
            OnDisk::Writing(task) => task.await.map_err(io::Error::other).flatten().map(Some),
            OnDisk::Over => Err(io::Error::other("an earlier write of this object failed")),
        };
        self.on_disk = OnDisk::Over;
        result
    }
}

impl Written {
    fn begin(objects: &LocalObjects, header: &[u8], first: &[u8], hasher: Hasher) -> io::Result<Self> {
        let mut temporary = objects.temporary()?;
        temporary.file.write_all(header)?;
        temporary.file.write_all(first)?;
        Ok(Self { temporary, hasher, size: first.len() as u64 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.temporary.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn finish(self, objects: LocalObjects) -> io::Result<Whole> {
        self.temporary.file.sync_all()?;
        Ok(Whole { objects, body: Body::File(self.temporary), digest: self.hasher.finish(), size: self.size })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::chunk::CHUNK;
    use super::*;

    fn objects() -> (tempfile::TempDir, LocalObjects) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let objects = LocalObjects::open(dir.path()).expect("a fresh directory opens");
        (dir, objects)
    }

    #[tokio::test]
    async fn any_split_of_the_bytes_gives_the_same_file() {
        let (_dir, objects) = objects();
        for (name, length) in
            [("empty", 0), ("small", 5), ("a chunk", CHUNK), ("one more", CHUNK + 1), ("several", 3 * CHUNK + 77)]
        {
            let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            for piece in [1000, 16 * 1024, CHUNK, 5 * CHUNK] {
                let mut incoming = Incoming::new(objects.clone(), b"header".to_vec());
                for bytes in data.chunks(piece) {
                    incoming.write(bytes).await.expect(name);
                }
                let mut whole = incoming.seal().await.expect(name);
                assert_eq!((whole.size, whole.digest), (length as u64, Digest::of(&data)), "{name} by {piece}");
                let file = fs::read(whole.on_disk().expect(name).path()).expect(name);
                assert_eq!(file, [b"header", data.as_slice()].concat(), "{name} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn memory_is_two_chunks_whatever_the_size() {
        let (_dir, objects) = objects();
        let mut incoming = Incoming::new(objects.clone(), Vec::new());
        for _ in 0..200 {
            incoming.write(&[7; 60_000]).await.expect("the disk has room");
            assert!(incoming.filling.len() <= CHUNK);
        }
        drop(incoming.seal().await.expect("the disk has room"));
        assert_eq!(objects.spares().count(), 2);
    }

    #[tokio::test]
    async fn a_small_object_touches_no_disk_before_it_gets_its_place() {
        let (_dir, objects) = objects();
        let mut incoming = Incoming::new(objects.clone(), b"header".to_vec());
        incoming.write(&vec![1; CHUNK]).await.expect("it is in memory");
        let mut whole = incoming.seal().await.expect("nothing is written");
        assert_eq!(objects.incoming_names(), 0);
        whole.on_disk().expect("the disk has room");
        assert_eq!(objects.incoming_names(), 1);
        drop(whole);
        assert_eq!(objects.incoming_names(), 0);
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_nothing() {
        let (_dir, objects) = objects();
        let mut incoming = Incoming::new(objects.clone(), Vec::new());
        incoming.write(&vec![1; 3 * CHUNK]).await.expect("the disk has room");
        let OnDisk::Writing(task) = mem::replace(&mut incoming.on_disk, OnDisk::Over) else {
            panic!("chunks were written")
        };
        let written = task.await.expect("no panic").expect("no error");
        assert_eq!(objects.incoming_names(), 1);
        drop((incoming, written));
        assert_eq!(objects.incoming_names(), 0);
    }

    #[tokio::test]
    async fn after_a_failed_write_every_further_step_fails() {
        let (dir, objects) = objects();
        fs::remove_dir_all(dir.path().join("objects/.incoming")).expect("it is there");
        let mut incoming = Incoming::new(objects, Vec::new());
        incoming.write(&vec![1; 2 * CHUNK]).await.expect("the failure is not known yet");
        assert!(incoming.write(&vec![1; 2 * CHUNK]).await.is_err());
        assert!(incoming.write(&vec![1; 2 * CHUNK]).await.is_err());
        assert!(incoming.seal().await.is_err());
    }
}
