//! What is said of files and SQLite alone: restarts, leftovers, broken directories and indexes.

use std::fs;
use std::path::Path;

use model::Digest;
use rusqlite::Connection;

use super::door::{Row, after, name, now};
use super::*;
use crate::{EventLog, LocalOptions, OpenError, Outcome, Reader, Soundness};

async fn refused(dir: &Path) -> OpenError {
    Archive::open_local(dir, LocalOptions::default()).await.err().expect("it must not open")
}

fn leftovers(dir: &Path) -> usize {
    fs::read_dir(dir.join("objects/.incoming")).expect("it is there").count()
}

#[tokio::test]
async fn the_object_is_the_header_and_then_the_bytes_as_sent() {
    let (dir, archive) = fresh().await;
    let receipt = send(&archive, Row::Revise, &name("1.2", "1"), b"pixels\0\xff").await.expect("it is new");
    let object = fs::read(dir.path().join("objects").join(receipt.object())).expect("it is there");
    assert_eq!(object, [HEADER, b"pixels\0\xff"].concat());
    assert_eq!(leftovers(dir.path()), 0);
}

#[tokio::test]
async fn a_restart_loses_nothing_that_was_acknowledged() {
    let (dir, archive) = fresh().await;
    let sent = name("1.2", "1");
    send_at(&archive, Row::Revise, &sent, b"one", after(0)).await.expect("it is new");
    send_at(&archive, Row::Revise, &name("1.3", "1"), b"two", after(100)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    let events = archive.unpublished().await.expect("the index is there");
    drop(archive);

    let archive = open(dir.path()).await;
    assert_eq!(sound_digests(&archive, Row::Revise, &sent).await, [Digest::of(b"one")]);
    assert_eq!(archive.unpublished().await.expect("the index is there"), events);
    let again = send_at(&archive, Row::Revise, &sent, b"one", after(101)).await.expect("it is held");
    assert_eq!(again.outcome(), Outcome::AlreadyHeld);
    assert_eq!(stabilise(&archive, after(160)).await, [Settled::Stable], "the other study is still due");
}

#[tokio::test]
async fn uploads_of_a_killed_process_are_removed_and_nothing_else_is() {
    let (dir, archive) = fresh().await;
    let sent = name("1.2", "1");
    send(&archive, Row::Revise, &sent, b"one").await.expect("it is new");
    // So large that it is on disk before the commit gate.
    let half = sealed(&archive, Row::Revise, &name("1.2", "2"), &[2; 1_000_000]).await.expect("there is room");
    assert_eq!(leftovers(dir.path()), 1);
    // As a killed process would: nobody runs the destructor.
    let Sealed { archive: inner, whole, .. } = half;
    std::mem::forget(whole);
    drop((inner, archive));

    let archive = open(dir.path()).await;
    assert_eq!(leftovers(dir.path()), 0);
    assert_eq!(sound_digests(&archive, Row::Revise, &sent).await, [Digest::of(b"one")]);
}

#[tokio::test]
async fn an_object_whose_row_was_not_written_is_found_again() {
    let (dir, archive) = fresh().await;
    let shell = Connection::open(dir.path().join("index.sqlite")).expect("it is there");
    shell.execute_batch("ALTER TABLE owner RENAME TO hidden").expect("nobody writes");
    let sent = name("1.2", "1");
    let failure = send(&archive, Row::Revise, &sent, b"one").await.expect_err("the row cannot be written");
    assert!(matches!(failure, Failure::StoreAway { .. }), "{failure:?}");
    assert!(sound_digests(&archive, Row::Revise, &sent).await.is_empty(), "all rows or none");

    shell.execute_batch("ALTER TABLE hidden RENAME TO owner").expect("nobody writes");
    let receipt = send(&archive, Row::Revise, &sent, b"one").await.expect("the object is in the way, rightly");
    assert_eq!(receipt.outcome(), Outcome::Stored);
    assert_eq!(sound_digests(&archive, Row::Revise, &sent).await, [Digest::of(b"one")]);
}

#[tokio::test]
async fn without_a_place_for_the_object_the_store_is_away_and_nothing_is_visible() {
    let (dir, archive) = fresh().await;
    let sent = name("1.2", "1");
    let in_the_way = dir.path().join("objects/instances/hospital-a");
    fs::write(&in_the_way, b"").expect("nothing is there yet");
    let failure = send(&archive, Row::Revise, &sent, b"one").await.expect_err("a file is in the way");
    assert!(matches!(failure, Failure::StoreAway { .. }), "{failure:?}");
    assert!(sound_digests(&archive, Row::Revise, &sent).await.is_empty());
    assert_eq!(leftovers(dir.path()), 0);

    fs::remove_file(in_the_way).expect("it is there");
    send(&archive, Row::Revise, &sent, b"one").await.expect("sending it again helps");
}

#[tokio::test]
async fn without_a_place_for_the_upload_the_store_is_away() {
    let (dir, archive) = fresh().await;
    fs::remove_dir(dir.path().join("objects/.incoming")).expect("it is empty");
    for size in [10, 2_000_000] {
        let failure = send(&archive, Row::Revise, &name("1.2", "1"), &vec![1; size]).await.expect_err("no directory");
        assert!(matches!(failure, Failure::StoreAway { .. }), "{failure:?}");
    }
}

#[tokio::test]
async fn an_object_that_was_tampered_with_is_told_and_not_overwritten() {
    let (dir, archive) = fresh().await;
    let sent = name("1.2", "1");
    let key = model::key::instance(&tenant(Row::Revise), &sent, &Digest::of(b"one"));
    let path = dir.path().join("objects").join(&key);
    fs::create_dir_all(path.parent().expect("it has one")).expect("a fresh directory");
    fs::write(&path, b"something else").expect("a fresh directory");
    let failure = send(&archive, Row::Revise, &sent, b"one").await.expect_err("the place is taken");
    assert!(matches!(&failure, Failure::Damaged { object } if *object == key), "{failure:?}");
    assert!(!failure.to_string().contains("1.2.1"), "no UID in the text");
    assert_eq!(fs::read(&path).expect("it is there"), b"something else");
}

#[tokio::test]
async fn a_check_tells_what_is_wrong_with_an_object() {
    let (dir, archive) = fresh().await;
    let receipt = send(&archive, Row::Revise, &name("1.2", "1"), b"pixels").await.expect("it is new");
    let held = archive.held(&tenant(Row::Revise), &name("1.2", "1").study).await.expect("the index is there").remove(0);
    let path = dir.path().join("objects").join(receipt.object());
    let content = fs::read(&path).expect("it is there");
    let changed = [&content[..content.len() - 1], b"X"].concat();
    for (case, content, expected) in [
        ("as it was", content.clone(), Soundness::Sound),
        ("a flipped byte", changed, Soundness::Damaged),
        ("cut off", content[..3].to_vec(), Soundness::Damaged),
    ] {
        fs::write(&path, content).expect("it is there");
        assert_eq!(archive.check(&held).await.expect("it is readable"), expected, "{case}");
    }
    fs::remove_file(&path).expect("it is there");
    assert_eq!(archive.check(&held).await.expect("it is readable"), Soundness::Missing);
}

#[tokio::test]
async fn a_directory_has_one_receiver_and_any_number_of_readers() {
    let (dir, archive) = fresh().await;
    assert!(matches!(refused(dir.path()).await, OpenError::InUse { .. }));
    let reader = Reader::open_local(dir.path()).await.expect("a reader needs no lock");
    send(&archive, Row::Revise, &name("1.2", "1"), b"one").await.expect("it is new");
    assert_eq!(reader.studies(None).await.expect("the index is there").len(), 1);
    drop(archive);
    open(dir.path()).await;
}

#[tokio::test]
async fn an_archive_is_made_where_nothing_was() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let deep = dir.path().join("var/lib/portcullis");
    let archive = open(&deep).await;
    send(&archive, Row::Revise, &name("1.2", "1"), b"one").await.expect("it is new");
    assert!(deep.join("index.sqlite").is_file());
}

#[tokio::test]
async fn a_reader_makes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = Reader::open_local(dir.path()).await.err().expect("there is no archive");
    assert!(matches!(error, OpenError::Absent { .. }), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 0);
}

#[tokio::test]
async fn what_is_not_our_index_does_not_open() {
    type Case = (&'static str, fn(&Path), fn(&OpenError) -> bool);
    let cases: [Case; 4] = [
        (
            "not SQLite",
            |path| fs::write(path, vec![b'x'; 8192]).expect("it is writable"),
            |error| matches!(error, OpenError::NotAnIndex { .. }),
        ),
        (
            "somebody else's",
            |path| shell(path, "CREATE TABLE t (n); PRAGMA user_version = 1"),
            |error| matches!(error, OpenError::NotAnIndex { .. }),
        ),
        (
            "of a newer release",
            |path| shell(path, "PRAGMA application_id = 1347375700; PRAGMA user_version = 3; CREATE TABLE t (n)"),
            |error| matches!(error, OpenError::IndexNewer { found: 3, known: 2, .. }),
        ),
        (
            "a directory",
            |path| fs::create_dir(path).expect("nothing is there"),
            |error| matches!(error, OpenError::Directory { .. }),
        ),
    ];
    for (case, spoil, expected) in cases {
        let dir = tempfile::tempdir().expect("a temporary directory");
        spoil(&dir.path().join("index.sqlite"));
        let error = refused(dir.path()).await;
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.to_string().contains("index.sqlite"), "{case}: {error}");
    }
}

fn shell(path: &Path, text: &str) {
    Connection::open(path).and_then(|db| db.execute_batch(text)).expect("a shell can do that");
}

#[tokio::test]
async fn a_file_in_the_place_of_the_directory_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("a fresh directory");
    for path in [file.clone(), file.join("archive")] {
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
        assert!(error.to_string().contains("file"), "{error}");
    }
}

#[tokio::test]
async fn only_our_user_reads_the_index_and_the_events() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, archive) = fresh().await;
    send(&archive, Row::Revise, &name("1.2", "1"), b"one").await.expect("it is new");
    EventLog::open(&dir.path().join("events.jsonl")).expect("it opens");
    for file in ["index.sqlite", "index.sqlite-wal", "events.jsonl", "lock"] {
        let mode = fs::metadata(dir.path().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn an_event_is_told_at_least_once_with_one_id() {
    let (dir, archive) = fresh().await;
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"one", after(0)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    let path = dir.path().join("events.jsonl");

    // Killed between the line and the mark, and a power cut within the next line.
    let events = archive.unpublished().await.expect("the index is there");
    EventLog::open(&path).expect("it opens").append(&events).await.expect("there is room");
    let torn = [fs::read(&path).expect("it is there"), b"{\"id\":\"evt-to".to_vec()].concat();
    fs::write(&path, torn).expect("it is there");

    let mut log = EventLog::open(&path).expect("it opens");
    assert_eq!(archive.publish_to(&mut log, after(61)).await.expect("both are there").len(), 1);
    assert_eq!(archive.publish_to(&mut log, after(62)).await.expect("both are there").len(), 0);
    let text = fs::read_to_string(&path).expect("it is there");
    let told: Vec<study::Event> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(told, [events[0].clone(), events[0].clone()]);
    assert_eq!(text.lines().count(), 3);
}

#[tokio::test]
async fn a_manifest_is_a_file_under_its_key() {
    let (dir, archive) = fresh().await;
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"one", after(0)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    let event = archive.unpublished().await.expect("the index is there").remove(0);
    let bytes = fs::read(dir.path().join("objects").join(&event.manifest)).expect("it is there");
    assert_eq!(Digest::of(&bytes), event.manifest_sha256);
    let manifest: study::Manifest = serde_json::from_slice(&bytes).expect("it is a manifest");
    assert_eq!(manifest.instances[0].sha256, Digest::of(b"one"));
    assert_eq!(manifest.created_at, after(60));
}

#[tokio::test]
async fn the_index_reads_well_in_a_shell() {
    let (dir, archive) = fresh().await;
    send_at(&archive, Row::Reject, &name("1.2", "1"), b"one", now()).await.expect("it is new");
    let shell = Connection::open(dir.path().join("index.sqlite")).expect("it is there");
    let row = shell.query_row(
        "SELECT patient_name, rows, received_at, digest, (SELECT digest FROM claim), (SELECT tenant FROM owner),
                (SELECT due FROM activity)
         FROM instance",
        [],
        |row| (0..7).map(|column| row.get::<_, String>(column)).collect::<rusqlite::Result<Vec<_>>>(),
    );
    let digest = Digest::of(b"one").to_string();
    let (at, due) = (now().to_string(), after(60).to_string());
    assert_eq!(row.expect("one row"), ["DOE^JANE", "512", &at, &digest, &digest, "hospital-a", &due]);
}

#[tokio::test]
async fn what_a_rule_refuses_leaves_no_object() {
    let (dir, archive) = fresh().await;
    let jane = (Some("4711"), None);
    send_of(&archive, Row::OnePatient, &name("1.2", "1"), b"one", jane).await.expect("it is new");
    let objects = || objects_below(&dir.path().join("objects"));
    assert_eq!(objects(), 1);
    let large = vec![7; 2_000_000];
    for (case, row, instance, data) in [
        ("foreign", Row::OtherBound, "2", b"two".as_slice()),
        ("foreign and large", Row::OtherBound, "2", large.as_slice()),
        ("another patient", Row::OnePatient, "2", b"two"),
        ("held already", Row::Once, "1", b"one"),
        ("other bytes", Row::Reject, "1", b"two"),
    ] {
        let refused = send_of(&archive, row, &name("1.2", instance), data, (Some("4712"), None)).await;
        assert!(refused.is_err(), "{case}: {refused:?}");
        assert_eq!((objects(), leftovers(dir.path())), (1, 0), "{case}");
    }
}

fn objects_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it is readable").path());
    entries.map(|path| if path.is_dir() { objects_below(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn the_index_knows_the_patient_of_a_study_by_a_digest_only() {
    let (dir, archive) = fresh().await;
    send_of(&archive, Row::OnePatient, &name("1.2", "1"), b"x", (Some("4711"), None)).await.expect("it is new");
    send_of(&archive, Row::Revise, &name("1.3", "1"), b"x", (Some("4711"), None)).await.expect("it is new");
    let shell = Connection::open(dir.path().join("index.sqlite")).expect("it is there");
    let rows: Vec<(String, String)> = shell
        .prepare("SELECT study, digest FROM patient")
        .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("it is readable");
    let [(study, digest)] = rows.as_slice() else { panic!("a row that accepts notes nothing: {rows:?}") };
    assert_eq!(study, "1.2");
    Digest::parse(digest).expect("64 hex digits and nothing else");
}

#[tokio::test]
async fn an_index_of_the_older_release_is_brought_up_to_date_and_keeps_its_rows() {
    let (dir, archive) = fresh().await;
    let sent = name("1.2", "1");
    send(&archive, Row::Revise, &sent, b"one").await.expect("it is new");
    send(&archive, Row::Quarantine, &sent, b"two").await.expect("it is kept apart");
    drop(archive);
    // As version 1 had it.
    shell(
        &dir.path().join("index.sqlite"),
        "DROP TABLE patient; ALTER TABLE instance DROP COLUMN issuer_assigned;
         ALTER TABLE quarantine DROP COLUMN issuer_assigned; ALTER TABLE quarantine DROP COLUMN reason;
         PRAGMA user_version = 1",
    );
    let error = Reader::open_local(dir.path()).await.err().expect("a reader changes nothing");
    assert!(matches!(error, OpenError::IndexOlder { .. }), "{error:?}");

    let archive = open(dir.path()).await;
    assert_eq!(sound_digests(&archive, Row::Revise, &sent).await, [Digest::of(b"one")]);
    let apart = archive.quarantined(None, &sent.study).await.expect("the index is there");
    assert_eq!(apart[0].apart, Some(crate::Apart::OtherBytes));
    let issuer = (Some("4711"), None);
    send_of(&archive, Row::IssuerOnePatient, &name("1.2", "2"), b"x", issuer).await.expect("it is new");
    assert!(Reader::open_local(dir.path()).await.is_ok());
}
