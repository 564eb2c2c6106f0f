use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("audit.jsonl");
    Place { _dir: dir, path }
}

fn note(reason: &str) -> Verdict {
    Verdict::new(Subject::Startup, Decision::Note, reason)
}

async fn write(path: &Path, reasons: &[&str]) {
    let (log, writer) = AuditLog::open(path).expect("it is writable");
    for reason in reasons {
        log.record(note(reason)).await;
    }
    writer.finish().await;
}

fn reasons(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("it is there");
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.map(|record| record["reason"].as_str().expect("text").to_owned()).collect()
}

fn whole(files: &[&Path]) -> Verified {
    let files: Vec<_> = files.iter().map(|path| (*path).to_owned()).collect();
    verify(&files, Head::start()).expect("the chain is whole")
}

#[tokio::test]
async fn the_chain_goes_on_when_the_process_starts_again() {
    let Place { path, _dir } = place();
    write(&path, &["one", "two"]).await;
    write(&path, &["three"]).await;
    let all = whole(&[&path]);
    assert_eq!((all.head.seq, all.recovered), (3, 0));
}

#[tokio::test]
async fn a_line_torn_by_a_kill_does_not_spoil_the_next_one() {
    let Place { path, _dir } = place();
    write(&path, &["one", "two"]).await;
    let text = fs::read(&path).expect("it is there");
    // Wherever it was torn, also before its first byte and before its newline.
    let second = text.iter().position(|byte| *byte == b'\n').expect("two lines") + 1;
    for cut in second..=text.len() {
        fs::write(&path, &text[..cut]).expect("ours");
        write(&path, &["three"]).await;
        let all = whole(&[&path]);
        let torn = cut > second && cut < text.len() - 1;
        assert_eq!(all.recovered, u64::from(torn), "cut at {cut} of {}", text.len());
        let expected: &[&str] = match (torn, cut == second) {
            (true, _) => &["one", "log_recovered", "three"],
            (_, true) => &["one", "three"],
            _ => &["one", "two", "three"],
        };
        assert_eq!(reasons(&path), expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_log_moved_away_goes_on_in_a_new_file() {
    let Place { path, _dir } = place();
    let old = path.with_extension("old");
    let (log, writer) = AuditLog::open(&path).expect("it is writable");
    log.record(note("one")).await;
    log.reopen().await.expect("nothing was moved");
    fs::rename(&path, &old).expect("ours");
    log.record(note("two")).await;
    log.reopen().await.expect("a new file can be made");
    log.record_durably(note("three")).await.expect("there is room");
    assert_eq!((reasons(&old), reasons(&path)), (vec!["one".into(), "two".into()], vec!["three".to_owned()]));
    writer.finish().await;
    assert_eq!(whole(&[&old, &path]).head.seq, 3);
    assert!(verify(&[path, old], Head::start()).is_err(), "not in this order");
}

#[tokio::test]
async fn a_log_of_another_chain_is_not_gone_on_with() {
    let Place { path, _dir } = place();
    let old = path.with_extension("old");
    let (log, writer) = AuditLog::open(&path).expect("it is writable");
    log.record_durably(note("one")).await.expect("there is room");
    fs::rename(&path, &old).expect("ours");
    fs::copy(&old, &path).expect("ours");
    assert!(matches!(log.reopen().await, Err(OpenError::NoChain { .. })));
    log.record_durably(note("two")).await.expect("the old file is still there");
    writer.finish().await;
    assert_eq!(whole(&[&old]).head.seq, 2);
}

#[tokio::test]
async fn a_log_that_no_chain_can_go_on_from_is_refused() {
    let Place { path, _dir } = place();
    fs::write(&path, "{\"ts\":\"2026-11-01T00:00:00.000Z\"}\n").expect("ours");
    assert!(matches!(AuditLog::open(&path).map(drop), Err(OpenError::NoChain { .. })));
}

#[tokio::test]
async fn a_durable_verdict_is_in_the_file_when_the_wait_is_over() {
    let Place { path, _dir } = place();
    let (log, writer) = AuditLog::open(&path).expect("it is writable");
    let together = (0..50).map(|number| {
        let log = log.clone();
        tokio::spawn(async move { log.record_durably(note(&format!("number_{number}"))).await })
    });
    for one in together.collect::<Vec<_>>() {
        one.await.expect("no panic").expect("there is room");
    }
    assert_eq!(reasons(&path).len(), 50);
    assert!(log.healthy());
    writer.finish().await;
    assert_eq!(log.record_durably(note("late")).await, Err(AuditFailed), "nobody writes it any more");
}

#[tokio::test]
async fn a_disk_that_is_never_there_is_said_and_ends_in_time() {
    let (log, writer) = AuditLog::open(Path::new("/dev/full")).expect("it can be opened");
    assert_eq!(log.record_durably(note("one")).await, Err(AuditFailed));
    assert!(!log.healthy());
    // Much more than is kept, and nobody is held up by it.
    for _ in 0..40_000 {
        log.record(note("more")).await;
    }
    writer.finish().await;
}
