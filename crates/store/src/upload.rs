use std::sync::Arc;

use access::AuthorisedInstance;

use crate::archive::Inner;
use crate::objects::Incoming;
use crate::{Failure, Sealed};

/// One object on its way in, seen by nobody. Dropping it removes what was written.
pub struct Upload {
    pub(crate) archive: Arc<Inner>,
    pub(crate) instance: Arc<AuthorisedInstance>,
    pub(crate) incoming: Incoming,
}

impl Upload {
    /// Adds bytes of the data set. Takes at most two chunks of 576 KiB of memory however long the instance is.
    ///
    /// # Errors
    /// [`Failure::StoreAway`], also for bytes of an earlier call; the upload is of no more use then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.incoming.write(bytes).await.map_err(Failure::away("writing an object"))
    }

    /// Ends the data set: its digest and size are known and nobody sees it yet. A large one is on disk and synced under a
    /// temporary name; a small one waits in memory.
    ///
    /// # Errors
    /// [`Failure::StoreAway`].
    pub async fn seal(self) -> Result<Sealed, Failure> {
        let whole = self.incoming.seal().await.map_err(Failure::away("writing an object"))?;
        Ok(Sealed { archive: self.archive, instance: self.instance, whole })
    }
}
