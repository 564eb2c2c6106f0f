//! One instance on its way in: corridor steps 10 to 14, fed piece by piece.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{AuthorisedInstance, Permit, Trust};
use dimse::Implementation;
use dimse::dataset::{Limits, Scan};
use dimse::part10::{self, FileMeta};
use model::{InstanceHead, InstanceName, Metadata, transfer_syntax};
use store::{AskAgain, Failure, Receipt, Upload};

use crate::answer::Refusal;
use crate::clock::now;
use crate::house::House;
use crate::live::Moment;
use crate::quotas::Ticket;

/// How far an instance has come.
pub(crate) enum Intake {
    /// Its bytes wait here until the data set has said what it is: bounded by the scan's head limit.
    Head { permit: Permit, ticket: Ticket, scan: Scan, held: Vec<u8> },
    /// Its bytes go to the store as they come.
    Body { begun: Begun, scan: Scan, seen: Instant },
    /// The rest of its bytes are read and dropped; the peer gets its answer at the end, as PS3.7 §9.3.1 has it.
    Refused { why: Refusal, name: Option<InstanceName> },
}

/// An instance whose bytes are being kept.
pub(crate) struct Begun {
    instance: Arc<AuthorisedInstance>,
    ticket: Ticket,
    upload: Upload,
    size: u64,
}

/// What became of it, and what it said it was.
pub(crate) struct Arrival {
    pub(crate) name: Option<InstanceName>,
    pub(crate) outcome: Result<Receipt, Refusal>,
    /// What it was allowed as, if it was.
    pub(crate) instance: Option<Arc<AuthorisedInstance>>,
}

impl Intake {
    pub(crate) fn new(house: &House, permit: Permit, ticket: Ticket) -> Self {
        let dicom = &house.config.dicom;
        let limits = Limits { head: dicom.max_head, metadata: dicom.max_metadata, ..Limits::default() };
        let encoding = transfer_syntax::encoding(&permit.claim().transfer_syntax);
        Self::Head { permit, ticket, scan: Scan::new(encoding, limits), held: Vec::new() }
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

    /// Nothing came for a while: the study it belongs to is still arriving.
    pub(crate) async fn keep_open(&mut self, house: &House) {
        if let Self::Body { begun, seen, .. } = self
            && let Err(why) = still_arriving(house, &begun.instance, seen).await
        {
            *self = Self::refused_named(why, &begun.instance.name().clone());
        }
    }

    async fn try_take(&mut self, house: &House, piece: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Refused { .. } => {}
            Self::Body { begun, scan, seen } => {
                scan.feed(piece).map_err(Refusal::NotUnderstood)?;
                begun.write(piece).await?;
                still_arriving(house, &begun.instance, seen).await?;
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
        let Self::Head { permit, ticket, scan, held } = std::mem::replace(self, Self::refused(Refusal::Draining))
        else {
            unreachable!("only a head is confirmed");
        };
        let head = scan.head().expect("the caller saw it").clone();
        *self = Self::refused_named(Refusal::Draining, &head.name);
        let begun = begin(house, permit, ticket, head, &held).await?;
        *self = Self::Body { begun, scan, seen: Instant::now() };
        Ok(())
    }

    /// The data set has ended: steps 12 to 14.
    pub(crate) async fn finish(self, house: &Arc<House>, vouched: &mut Arc<Trust>) -> Arrival {
        let mut name = self.name();
        let whole = match self {
            Self::Refused { why, .. } => Err(why),
            Self::Body { begun, scan, .. } => {
                scan.finish().map_err(Refusal::NotUnderstood).map(|(_, metadata)| (begun, metadata))
            }
            // So short that its head ended with it.
            Self::Head { permit, ticket, scan, held } => match scan.finish() {
                Err(error) => Err(Refusal::NotUnderstood(error)),
                Ok((head, metadata)) => {
                    name = Some(head.name.clone());
                    begin(house, permit, ticket, head, &held).await.map(|begun| (begun, metadata))
                }
            },
        };
        match whole {
            Err(why) => Arrival { name, outcome: Err(why), instance: None },
            Ok((begun, metadata)) => {
                let instance = Some(begun.instance.clone());
                Arrival { name, outcome: begun.commit(house, metadata, vouched).await, instance }
            }
        }
    }

    fn name(&self) -> Option<InstanceName> {
        match self {
            Self::Head { scan, .. } => scan.head().map(|head| head.name.clone()),
            Self::Body { begun, .. } => Some(begun.instance.name().clone()),
            Self::Refused { name, .. } => name.clone(),
        }
    }
}

/// Steps 11 and 12.
async fn begin(
    house: &House,
    permit: Permit,
    mut ticket: Ticket,
    head: InstanceHead,
    held: &[u8],
) -> Result<Begun, Refusal> {
    let instance = Arc::new(permit.confirm(head).map_err(Refusal::Contradicted)?);
    fits(&instance, &mut ticket, held.len() as u64)?;
    // Before the first byte is kept: from now on the study is arriving, and the stabiliser's transaction sees it.
    if house.arrivals.are_news(instance.tenant(), &instance.name().study, beat(house, &instance)) {
        touch(house, &instance).await?;
    }
    let header = file_header(&instance);
    let upload = house.archive.begin(instance.clone(), header).await.map_err(Refusal::Store)?;
    let mut begun = Begun { instance, ticket, upload, size: 0 };
    begun.write(held).await?;
    Ok(begun)
}

impl Begun {
    async fn write(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.size += piece.len() as u64;
        fits(&self.instance, &mut self.ticket, self.size)?;
        self.upload.write(piece).await.map_err(Refusal::Store)
    }

    /// Steps 12 to 14: all bytes on disk under a temporary name, the commit gate, then visible and in the index.
    async fn commit(
        self,
        house: &Arc<House>,
        metadata: Metadata,
        vouched: &mut Arc<Trust>,
    ) -> Result<Receipt, Refusal> {
        let Self { instance, ticket, upload, size } = self;
        let sealing = async { upload.seal().await.map_err(Refusal::Store) };
        let sealed = while_open(house, &instance, sealing).await?;
        let cleared = house.live.clear(&instance, vouched, Moment::now())?;
        // The disk may take its time: the index writer asks again, right before the row.
        let again: AskAgain = Arc::new({
            let (house, instance, vouched) = (house.clone(), instance.clone(), vouched.clone());
            move || house.live.clear(&instance, &mut vouched.clone(), Moment::now()).ok()
        });
        let committing = async { sealed.commit(cleared, again, metadata, now()).await.map_err(Refusal::Store) };
        let committed = while_open(house, &instance, committing).await;
        if let Err(Refusal::Store(Failure::NotCleared)) = committed {
            // Withdrawn meanwhile: the gate has the reason.
            house.live.clear(&instance, vouched, Moment::now())?;
        }
        let receipt = committed?;
        ticket.keep(size);
        Ok(receipt)
    }
}

fn fits(instance: &AuthorisedInstance, ticket: &mut Ticket, size: u64) -> Result<(), Refusal> {
    instance.allows_size(size).and_then(|()| ticket.fits(size)).map_err(Refusal::Denied)
}

/// How often a study with an instance in flight is said to be still arriving.
fn beat(house: &House, instance: &AuthorisedInstance) -> Duration {
    instance.quiet().unwrap_or(house.config.stabiliser.quiet) / 4
}

/// A study with an instance in flight is still arriving, however long that instance takes, and however slow our disk is.
async fn while_open<T>(
    house: &House,
    instance: &AuthorisedInstance,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(beat(house, instance), &mut work).await {
            Ok(done) => return done,
            Err(_) => touch(house, instance).await?,
        }
    }
}

async fn still_arriving(house: &House, instance: &AuthorisedInstance, seen: &mut Instant) -> Result<(), Refusal> {
    if seen.elapsed() < beat(house, instance) {
        return Ok(());
    }
    *seen = Instant::now();
    touch(house, instance).await
}

async fn touch(house: &House, instance: &AuthorisedInstance) -> Result<(), Refusal> {
    let (tenant, study, receiver) = (instance.tenant(), &instance.name().study, &house.config.receiver.name);
    let touched = house.archive.touch(tenant, study, receiver, instance.quiet(), instance.max_wait(), now());
    touched.await.map_err(Refusal::Store)
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
