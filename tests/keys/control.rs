//! The control: the doors open to whoever has the right keys, so what fails beside this fails for the key's sake.
use std::sync::Arc;

use access::{AuthorisedInstance, Cleared, Contradiction, Permit};
use model::{InstanceHead, Metadata, Timestamp};
use store::{Archive, AskAgain, Failure, Receipt, Sealed};

fn confirm(permit: Permit, head: InstanceHead) -> Result<AuthorisedInstance, Contradiction> {
    permit.confirm(head)
}

async fn keep(archive: &Archive, instance: Arc<AuthorisedInstance>, header: Vec<u8>) -> Result<Sealed, Failure> {
    archive.begin(instance, header).await?.seal().await
}

async fn commit(
    sealed: Sealed,
    cleared: Cleared,
    again: AskAgain,
    metadata: Metadata,
    now: Timestamp,
) -> Result<Receipt, Failure> {
    sealed.commit(cleared, again, metadata, now).await
}

fn answer(association: &mut dimse::Association<Receipt>, request: dimse::StoreRequest, receipt: Receipt) -> Vec<u8> {
    association.stored(request, receipt)
}

pub(crate) fn main() {
    let _ = (confirm, keep, commit, answer);
}
