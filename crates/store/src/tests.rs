//! The contract that every backend keeps, and what is said of the local one alone.

mod contract;
mod door;
mod local;

use std::sync::Arc;

use model::{Attribute, Digest, InstanceName, Metadata, Phi, Promoted, Tenant, Timestamp};

use crate::{Archive, DueStudy, Failure, Receipt, Sealed, Settled};
use door::Row;

const HEADER: &[u8] = b"the Part 10 header";

fn tenant(row: Row) -> Tenant {
    Tenant::parse(if row == Row::OtherTenant { "hospital-b" } else { "hospital-a" }).expect("valid")
}

fn metadata(patient: &str) -> Metadata {
    Metadata {
        json: Phi::new(format!(r#"{{"00100010":{{"vr":"PN","Value":[{{"Alphabetic":"{patient}"}}]}}}}"#).into_bytes()),
        complete: true,
        promoted: Promoted::new(vec![
            (Attribute::PatientName, patient.to_owned()),
            (Attribute::Rows, "512".to_owned()),
        ]),
    }
}

async fn sealed(archive: &Archive, row: Row, name: &InstanceName, data: &[u8]) -> Result<Sealed, Failure> {
    let mut upload = archive.begin(door::authorised(row, name), HEADER.to_vec()).await?;
    for bytes in data.chunks(16 * 1024) {
        upload.write(bytes).await?;
    }
    upload.seal().await
}

async fn send_at(
    archive: &Archive,
    row: Row,
    name: &InstanceName,
    data: &[u8],
    at: Timestamp,
) -> Result<Receipt, Failure> {
    let sealed = sealed(archive, row, name, data).await?;
    let (cleared, again) = (door::cleared(&sealed.instance), door::ask_again(&sealed.instance));
    sealed.commit(cleared, again, metadata("DOE^JANE"), at).await
}

async fn send(archive: &Archive, row: Row, name: &InstanceName, data: &[u8]) -> Result<Receipt, Failure> {
    send_at(archive, row, name, data, door::now()).await
}

/// Closes the generations that are due, as the gateway's loop does.
async fn stabilise(archive: &Archive, now: Timestamp) -> Vec<Settled> {
    let mut settled = Vec::new();
    for due in archive.due(now, 100).await.expect("the index is there") {
        settled.extend(close(archive, &due, now).await);
    }
    settled
}

async fn close(archive: &Archive, due: &DueStudy, now: Timestamp) -> Option<Settled> {
    let snapshot = archive.snapshot(due, now).await.expect("the index is there")?;
    let stable = snapshot.stable();
    assert_eq!(archive.put_manifest(&stable).await.expect("there is room"), stable.key());
    Some(archive.settle(snapshot, stable).await.expect("the index is there"))
}

/// What the archive holds of a study, and that each object has its bytes.
async fn sound_digests(archive: &Archive, row: Row, name: &InstanceName) -> Vec<Digest> {
    let stored = archive.study(Some(&tenant(row)), &name.study).await.expect("the index is there");
    for stored in &stored {
        assert_eq!(archive.check(&stored.held).await.expect("it is readable"), crate::Soundness::Sound);
    }
    stored.into_iter().map(|stored| stored.held.digest).collect()
}

async fn open(dir: &std::path::Path) -> Archive {
    Archive::open_local(dir, crate::LocalOptions::default()).await.expect("it opens")
}

/// A fresh archive, and what it lives in.
async fn fresh() -> (Arc<tempfile::TempDir>, Archive) {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let archive = open(dir.path()).await;
    (dir, archive)
}
