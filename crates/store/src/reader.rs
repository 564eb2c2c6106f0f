use std::path::Path;
use std::sync::Arc;

use model::{Digest, InstanceName, Phi, Study, Tenant, Uid};
use study::HeldInstance;

use crate::index::{Readers, read};
use crate::objects::{LocalObjects, Objects};
use crate::{Failure, OpenError, Soundness, StoredInstance, StudySummary};

/// The reading side of an archive. Works beside a running receiver and can change nothing.
#[derive(Clone)]
pub struct Reader {
    pub(crate) index: Arc<Readers>,
    pub(crate) objects: Objects,
}

impl Reader {
    /// Opens an archive directory for reading.
    ///
    /// # Errors
    /// When there is no archive, or its index is damaged, locked or of a newer release.
    pub async fn open_local(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        let path = dir.join(crate::archive::INDEX);
        let open = move || {
            let index = Readers::open(&dir.join(crate::archive::INDEX))?;
            Ok(Self { index, objects: Objects::Local(LocalObjects::at(&dir)) })
        };
        tokio::task::spawn_blocking(open)
            .await
            .unwrap_or_else(|gone| Err(OpenError::Index { path, source: gone.into() }))
    }

    /// All studies, or those of one tenant; the latest arrival first.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn studies(&self, tenant: Option<&Tenant>) -> Result<Vec<StudySummary>, Failure> {
        let tenant = tenant.cloned();
        self.index.read(move |db| read::studies(db, tenant.as_ref())).await
    }

    /// Every object of a study in the order of a manifest, of every tenant that has a study of this UID or of one.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn study(&self, tenant: Option<&Tenant>, study: &Uid<Study>) -> Result<Vec<StoredInstance>, Failure> {
        let (tenant, study) = (tenant.cloned(), study.clone());
        self.index.read(move |db| read::study(db, tenant.as_ref(), &study)).await
    }

    /// Every object of a study that is kept apart: its `apart` says why. Otherwise as [`Reader::study`].
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn quarantined(
        &self,
        tenant: Option<&Tenant>,
        study: &Uid<Study>,
    ) -> Result<Vec<StoredInstance>, Failure> {
        let (tenant, study) = (tenant.cloned(), study.clone());
        self.index.read(move |db| read::quarantined(db, tenant.as_ref(), &study)).await
    }

    /// What a manifest would list, in no particular order.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn held(&self, tenant: &Tenant, study: &Uid<Study>) -> Result<Vec<HeldInstance>, Failure> {
        let (tenant, study) = (tenant.clone(), study.clone());
        self.index.read(move |db| read::held(db, &tenant, &study)).await
    }

    /// The DICOM JSON of one object, also of one that is kept apart; none if it is not held.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the index cannot be read.
    pub async fn metadata(
        &self,
        tenant: &Tenant,
        name: &InstanceName,
        digest: &Digest,
    ) -> Result<Option<Phi<Vec<u8>>>, Failure> {
        let (tenant, name, digest) = (tenant.clone(), name.clone(), *digest);
        self.index.read(move |db| read::metadata(db, &tenant, &name, &digest)).await
    }

    /// Reads an object and compares the data set in it with what the index says.
    ///
    /// # Errors
    /// [`Failure::StoreAway`] when the object is there but cannot be read.
    pub async fn check(&self, held: &HeldInstance) -> Result<Soundness, Failure> {
        self.objects.check(held.object.clone(), held.size, held.digest).await
    }
}
