//! One instance on its way in: corridor steps 10 to 14, fed piece by piece.

use std::sync::Arc;
use std::time::Instant;

use access::{AuthorisedInstance, Permit};
use dimse::Implementation;
use dimse::dataset::{Limits, Scan};
use dimse::part10::{self, FileMeta};
use model::{InstanceHead, InstanceName, Metadata, transfer_syntax};
use store::{Receipt, Upload};

use crate::answer::Refusal;
use crate::house::{House, now};

/// How far an instance has come.
pub(crate) enum Intake {
    /// Its bytes wait here until the data set has said what it is: bounded by the scan's head limit.
    Head { permit: Permit, scan: Scan, held: Vec<u8> },
    /// Its bytes go to the store as they come.
    Body { instance: Arc<AuthorisedInstance>, scan: Scan, upload: Upload, size: u64, seen: Instant },
    /// The rest of its bytes are read and dropped; the peer gets its answer at the end, as PS3.7 §9.3.1 has it.
    Refused { why: Refusal, name: Option<InstanceName> },
}

/// What became of it, and what it said it was.
pub(crate) struct Arrival {
    pub(crate) name: Option<InstanceName>,
    pub(crate) outcome: Result<Receipt, Refusal>,
}

impl Intake {
    pub(crate) fn new(house: &House, permit: Permit) -> Self {
        let dicom = &house.config.dicom;
        let limits = Limits { head: dicom.max_head, metadata: dicom.max_metadata, ..Limits::default() };
        let encoding = transfer_syntax::encoding(&permit.claim().transfer_syntax);
        Self::Head { permit, scan: Scan::new(encoding, limits), held: Vec::new() }
    }

    pub(crate) fn refused(why: Refusal) -> Self {
        Self::Refused { why, name: None }
    }

    fn refused_named(why: Refusal, name: &InstanceName) -> Self {
        Self::Refused { why, name: Some(name.clone()) }
    }

    /// Takes the next piece of the data set.
    pub(crate) async fn take(&mut self, house: &House, piece: &[u8]) {
        if let Err(why) = self.try_take(house, piece).await {
            let name = self.name();
            // Dropping the upload removes what was written of it.
            *self = Self::Refused { why, name };
        }
    }

    async fn try_take(&mut self, house: &House, piece: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Refused { .. } => {}
            Self::Body { instance, scan, upload, size, seen } => {
                scan.feed(piece).map_err(Refusal::NotUnderstood)?;
                *size += piece.len() as u64;
                fits(instance, *size)?;
                upload.write(piece).await.map_err(Refusal::Store)?;
                if seen.elapsed() > quiet(house, instance) / 4 {
                    *seen = Instant::now();
                    still_arriving(house, instance).await?;
                }
            }
            Self::Head { scan, held, .. } => {
                scan.feed(piece).map_err(Refusal::NotUnderstood)?;
                held.extend_from_slice(piece);
                if scan.head().is_some() {
                    self.confirm(house).await?;
                }
            }
        }
        Ok(())
    }

    /// Steps 11 and 12: the data set has said what it is; from here on its bytes may be kept.
    async fn confirm(&mut self, house: &House) -> Result<(), Refusal> {
        let Self::Head { permit, scan, held } = std::mem::replace(self, Self::refused(Refusal::Draining)) else {
            unreachable!("only a head is confirmed");
        };
        let head = scan.head().expect("the caller saw it").clone();
        *self = Self::refused_named(Refusal::Draining, &head.name);
        let (instance, upload) = begin(house, permit, head, &held).await?;
        *self = Self::Body { instance, scan, upload, size: held.len() as u64, seen: Instant::now() };
        Ok(())
    }

    /// The data set has ended: steps 12 to 14.
    pub(crate) async fn finish(self, house: &House) -> Arrival {
        let name = self.name();
        match self {
            Self::Refused { why, .. } => Arrival { name, outcome: Err(why) },
            Self::Body { instance, scan, upload, .. } => {
                let outcome = async {
                    let (_, metadata) = scan.finish().map_err(Refusal::NotUnderstood)?;
                    commit(house, &instance, upload, metadata).await
                };
                Arrival { name, outcome: outcome.await }
            }
            // So short that its head ended with it.
            Self::Head { permit, scan, held } => match scan.finish().map_err(Refusal::NotUnderstood) {
                Err(why) => Arrival { name, outcome: Err(why) },
                Ok((head, metadata)) => {
                    let name = Some(head.name.clone());
                    let outcome = async {
                        let (instance, upload) = begin(house, permit, head, &held).await?;
                        commit(house, &instance, upload, metadata).await
                    };
                    Arrival { name, outcome: outcome.await }
                }
            },
        }
    }

    fn name(&self) -> Option<InstanceName> {
        match self {
            Self::Head { scan, .. } => scan.head().map(|head| head.name.clone()),
            Self::Body { instance, .. } => Some(instance.name().clone()),
            Self::Refused { name, .. } => name.clone(),
        }
    }
}

/// Steps 11 and 12.
async fn begin(
    house: &House,
    permit: Permit,
    head: InstanceHead,
    held: &[u8],
) -> Result<(Arc<AuthorisedInstance>, Upload), Refusal> {
    let instance = Arc::new(permit.confirm(head).map_err(Refusal::Contradicted)?);
    fits(&instance, held.len() as u64)?;
    let header = file_header(&instance);
    let mut upload = house.archive.begin(instance.clone(), header).await.map_err(Refusal::Store)?;
    upload.write(held).await.map_err(Refusal::Store)?;
    Ok((instance, upload))
}

/// Steps 12 to 14: all bytes on disk under a temporary name, the commit gate, then visible and in the index.
async fn commit(
    house: &House,
    instance: &AuthorisedInstance,
    upload: Upload,
    metadata: Metadata,
) -> Result<Receipt, Refusal> {
    let sealed = upload.seal().await.map_err(Refusal::Store)?;
    let cleared = instance.clear(&house.live.table(), now()).map_err(Refusal::Denied)?;
    sealed.commit(cleared, metadata, now()).await.map_err(Refusal::Store)
}

fn fits(instance: &AuthorisedInstance, size: u64) -> Result<(), Refusal> {
    instance.allows_size(size).map_err(Refusal::Denied)
}

/// A study with an instance in flight is still arriving, however long that instance takes.
async fn still_arriving(house: &House, instance: &AuthorisedInstance) -> Result<(), Refusal> {
    let (tenant, study, receiver) = (instance.tenant(), &instance.name().study, &house.config.receiver.name);
    let touched = house.archive.touch(tenant, study, receiver, instance.quiet(), instance.max_wait(), now());
    touched.await.map_err(Refusal::Store)
}

fn quiet(house: &House, instance: &AuthorisedInstance) -> std::time::Duration {
    instance.quiet().unwrap_or(house.config.stabiliser.quiet)
}

fn file_header(instance: &AuthorisedInstance) -> Vec<u8> {
    part10::header(&FileMeta {
        class: instance.name().class.clone(),
        instance: instance.name().instance.clone(),
        transfer_syntax: instance.transfer_syntax().clone(),
        implementation_class: Implementation::PORTCULLIS.class_uid,
        implementation_version: Implementation::PORTCULLIS.version,
        sending_ae: instance.calling().clone(),
        receiving_ae: instance.called().clone(),
    })
}
