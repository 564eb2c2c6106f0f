//! The contract that every backend keeps, and what is said of the local one alone.

/// Promises as tests of every backend.
macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod on_the_local_backend {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let (_dir, archive) = super::fresh().await;
                super::$promise(archive).await;
            })*
        }
    };
}

mod contract;
mod door;
mod gate;
mod local;
mod rules;

use std::sync::Arc;

use model::{Attribute, Digest, InstanceName, Metadata, Phi, Promoted, Tenant, Timestamp};

use crate::{Archive, DueStudy, Failure, Receipt, Sealed, Settled};
use door::Row;

const HEADER: &[u8] = b"the Part 10 header";

fn tenant(row: Row) -> Tenant {
    Tenant::parse(row.tenant()).expect("valid")
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

/// Sends an instance of this patient: Patient ID and issuer.
async fn send_of(
    archive: &Archive,
    row: Row,
    name: &InstanceName,
    data: &[u8],
    patient: (Option<&str>, Option<&str>),
) -> Result<Receipt, Failure> {
    let sealed = sealed(archive, row, name, data).await?;
    let (cleared, again) = (door::cleared(&sealed.instance), door::ask_again(&sealed.instance));
    sealed.commit(cleared, again, metadata_of(patient), door::now()).await
}

fn metadata_of((id, issuer): (Option<&str>, Option<&str>)) -> Metadata {
    let values = [(Attribute::PatientId, id), (Attribute::IssuerOfPatientId, issuer)];
    let values = values.into_iter().filter_map(|(attribute, value)| Some((attribute, value?.to_owned())));
    Metadata { promoted: Promoted::new(values.collect()), ..metadata("DOE^JANE") }
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

/// For tests of properties, which know no async.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("threads");
    runtime.block_on(work)
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
