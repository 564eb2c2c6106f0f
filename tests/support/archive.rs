//! What the archive holds, read from outside: the index through the store's reading side, objects as plain files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::{Digest, Tenant, Uid};
use store::{Reader, StoredInstance};

/// Every row of the index.
pub(crate) fn rows(dir: &Path) -> Vec<StoredInstance> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let reader = Reader::open_local(dir).await.expect("the index opens");
        let mut rows = Vec::new();
        for study in reader.studies(None).await.expect("the index can be read") {
            let tenant = Some(&study.tenant);
            rows.extend(reader.study(tenant, &study.study).await.expect("the index can be read"));
        }
        rows
    })
}

/// The rows of one study of one tenant.
pub(crate) fn study(dir: &Path, tenant: &str, uid: &str) -> Vec<StoredInstance> {
    let tenant = Tenant::parse(tenant).expect("a tenant");
    let uid = Uid::parse(uid).expect("a UID");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let reader = Reader::open_local(dir).await.expect("the index opens");
        reader.study(Some(&tenant), &uid).await.expect("the index can be read")
    })
}

/// Every file below a directory of the archive that a reader could see: `instances`, `quarantine` or `manifests`.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.join("objects").join(prefix)];
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The data set in a Part 10 file; its header must be ours.
pub(crate) fn data_set(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("the object can be read");
    assert!(bytes[..128].iter().all(|byte| *byte == 0), "{}: the preamble is zero", path.display());
    let start = dimse::part10::read_start(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes[usize::try_from(start.data_set).expect("files here fit")..].to_vec()
}

/// Every visible object is a whole Part 10 file whose data set has the digest that its name says. Gives their paths.
pub(crate) fn assert_objects_are_whole(dir: &Path) -> BTreeSet<PathBuf> {
    let objects: BTreeSet<_> = ["instances", "quarantine"].into_iter().flat_map(|prefix| files(dir, prefix)).collect();
    for path in &objects {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("our names are text");
        assert_eq!(Digest::of(&data_set(path)).short(), name, "{} is whole", path.display());
    }
    objects
}

/// Every row names an object that is there, with the digest and size of the row.
pub(crate) fn assert_rows_have_objects(dir: &Path, rows: &[StoredInstance]) {
    for row in rows {
        let path = dir.join("objects").join(&row.held.object);
        let bytes = data_set(&path);
        assert_eq!(Digest::of(&bytes), row.held.digest, "{}", path.display());
        assert_eq!(bytes.len() as u64, row.held.size, "{}", path.display());
    }
}

/// Uploads in progress or left behind.
pub(crate) fn incoming(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("objects/.incoming")).expect("the directory of uploads is there");
    entries.map(|entry| entry.expect("a readable directory").path()).collect()
}
