use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes gathered before they go to the disk. A CT slice of 512 × 512 pixels with a large head fits, so it waits in memory
/// and costs one hop to a blocking thread instead of four. An upload costs at most twice this (one chunk filling, one on
/// its way).
pub(crate) const CHUNK: usize = 576 * 1024;
/// A buffer grows by itself up to this many bytes; then a whole chunk is taken at once.
const SMALL: usize = 32 * 1024;
/// Chunks kept for the next upload: 9 MiB.
const MAX_SPARE: usize = 16;

/// Chunks that nobody uses. Allocating and freeing one for each instance, on different threads, would cost page faults and
/// have the allocator hold many times what is in use.
#[derive(Clone, Default)]
pub(super) struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer of at most one chunk; its memory goes back to the spares.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    spares: Spares,
}

impl Spares {
    /// An empty buffer, which has no memory yet.
    pub(super) fn chunk(&self) -> Chunk {
        Chunk { bytes: Vec::new(), spares: self.clone() }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.list().len()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // A list of empty buffers cannot be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    /// How many bytes it still takes.
    pub(super) fn room(&self) -> usize {
        CHUNK - self.bytes.len()
    }

    /// Adds bytes, at most [`Chunk::room`].
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() && wanted > SMALL {
            let mut whole = self.spares.list().pop().unwrap_or_else(|| Vec::with_capacity(CHUNK));
            whole.extend_from_slice(&self.bytes);
            self.bytes = whole;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the bytes and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut spares = self.spares.list();
        if self.bytes.capacity() >= CHUNK && spares.len() < MAX_SPARE {
            self.bytes.clear();
            spares.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_never_grows_past_its_size_and_is_used_again() {
        let spares = Spares::default();
        for _ in 0..3 {
            let mut chunk = spares.chunk();
            while chunk.room() > 0 {
                let some = chunk.room().min(60_000);
                chunk.fill(&vec![7; some]);
            }
            assert_eq!((chunk.len(), chunk.bytes.capacity()), (CHUNK, CHUNK));
        }
        assert_eq!(spares.list().len(), 1);
    }

    #[test]
    fn small_instances_do_not_take_a_whole_chunk() {
        let spares = Spares::default();
        let mut chunk = spares.chunk();
        chunk.fill(&[1; 1000]);
        assert!(chunk.bytes.capacity() < SMALL);
        drop(chunk);
        assert!(spares.list().is_empty());
    }

    #[test]
    fn spares_are_bounded() {
        let spares = Spares::default();
        let full = || {
            let mut chunk = spares.chunk();
            chunk.fill(&[1; CHUNK]);
            chunk
        };
        let many: Vec<_> = (0..2 * MAX_SPARE).map(|_| full()).collect();
        drop(many);
        assert_eq!(spares.list().len(), MAX_SPARE);
    }
}
