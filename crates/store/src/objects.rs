//! Objects: put if absent, under keys that `model::key` writes.

mod chunk;
mod incoming;
mod local;

pub(crate) use incoming::{Incoming, Whole};
pub(crate) use local::{LocalObjects, create_directory, private_file, sync};

use model::Digest;

use crate::Failure;

/// Where objects are kept. S3 joins here.
#[derive(Clone)]
pub(crate) enum Objects {
    Local(LocalObjects),
}

/// What a look at an object found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soundness {
    /// It ends with exactly the data set that the index names.
    Sound,
    /// There is no such object.
    Missing,
    /// It is too short or has other bytes.
    Damaged,
}

impl Objects {
    /// Begins an object: the header comes first, and is not part of digest and size.
    pub(crate) fn begin(&self, header: Vec<u8>) -> Incoming {
        match self {
            Self::Local(local) => Incoming::new(local.clone(), header),
        }
    }

    /// Puts a whole object if absent. Durable when it returns.
    pub(crate) async fn put(&self, key: String, bytes: Vec<u8>) -> Result<(), Failure> {
        let mut incoming = self.begin(Vec::new());
        incoming.write(&bytes).await.map_err(Failure::away("writing an object"))?;
        let mut whole = incoming.seal().await.map_err(Failure::away("writing an object"))?;
        match self {
            Self::Local(local) => {
                let local = local.clone();
                blocking("putting an object in place", move || Ok(local.place(&mut whole, &key)?)).await
            }
        }
    }

    /// Reads an object and compares the data set at its end with size and digest.
    pub(crate) async fn check(&self, key: String, size: u64, digest: Digest) -> Result<Soundness, Failure> {
        match self {
            Self::Local(local) => {
                let local = local.clone();
                let look = move || local.check(&key, size, &digest).map_err(Failure::away("reading an object"));
                blocking("reading an object", look).await
            }
        }
    }
}

/// Runs what touches the disk where it holds up nobody else.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|gone| Err(Failure::away(doing)(gone)))
}
