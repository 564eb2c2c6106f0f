//! The commit gate, to the last moment: no row is committed by leave of a table that is no longer in force.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use access::{AuthorisedInstance, Cleared, Table};
use proptest::prelude::*;
use rusqlite::Connection;
use tokio::task::JoinHandle;

use super::door::{Row, name, now, revision};
use super::*;
use crate::AskAgain;

/// What the store asks of one instance: its object's place, its row, its commit; and again what is done again.
type Answers = dyn Fn(usize, &AuthorisedInstance) -> Option<Cleared> + Send + Sync;

/// Commits one instance whose n-th question, from 1, is answered so.
async fn commit(archive: &Archive, instance: &str, answers: Arc<Answers>) -> JoinHandle<Result<Receipt, Failure>> {
    let sealed = sealed(archive, Row::Revise, &name("1.2", instance), b"bytes").await.expect("there is room");
    let (of, count) = (sealed.instance.clone(), AtomicUsize::new(0));
    let again: AskAgain = Arc::new(move || answers(1 + count.fetch_add(1, Ordering::SeqCst), &of));
    let cleared = door::cleared(&sealed.instance);
    tokio::spawn(sealed.commit(cleared, again, metadata("x"), now()))
}

fn by(number: u64) -> impl Fn(&AuthorisedInstance) -> Option<Cleared> {
    let table = revision(number, "enabled");
    move |instance| instance.clear(&table, now()).ok()
}

/// The instances that have a row, and by leave of which revision.
async fn rows(archive: &Archive) -> Vec<(String, u64)> {
    let stored = archive.study(None, &name("1.2", "1").study).await.expect("the index is there");
    let row = |stored: crate::StoredInstance| (stored.held.name.instance.to_string(), stored.held.table_revision);
    stored.into_iter().map(row).collect()
}

#[tokio::test]
async fn a_right_withdrawn_at_any_question_leaves_no_row() {
    for last in 0..=2 {
        let (dir, archive) = fresh().await;
        let leave = by(7);
        let answers = move |question, instance: &_| if question <= last { leave(instance) } else { None };
        let refused = commit(&archive, "1", Arc::new(answers)).await.await.expect("no panic");
        assert!(matches!(refused, Err(Failure::NotCleared)), "{last} answers: {refused:?}");
        assert_eq!(rows(&archive).await, [], "{last} answers");
        let tenants = std::fs::read_dir(dir.path().join("objects/instances"));
        let objects = tenants.expect("it is there").count();
        assert_eq!(objects, usize::from(last > 0), "{last} answers: without leave no object either");
    }
}

#[tokio::test]
async fn a_row_names_the_table_in_force_when_it_was_committed() {
    for (changed_at, expected) in [(1, 8), (2, 8), (3, 8), (4, 7)] {
        let (_dir, archive) = fresh().await;
        let (before, after) = (by(7), by(8));
        let answers =
            move |question, instance: &_| if question < changed_at { before(instance) } else { after(instance) };
        commit(&archive, "1", Arc::new(answers)).await.await.expect("no panic").expect("both tables allow it");
        assert_eq!(rows(&archive).await, [("1.2.1.1".to_owned(), expected)], "changed at question {changed_at}");
    }
}

#[tokio::test]
async fn a_table_that_never_rests_stops_one_write_and_not_the_writer() {
    let (_dir, archive) = fresh().await;
    let (odd, even) = (by(7), by(8));
    let answers =
        move |question: usize, instance: &_| if question.is_multiple_of(2) { even(instance) } else { odd(instance) };
    let failure = commit(&archive, "1", Arc::new(answers)).await.await.expect("no panic");
    assert!(matches!(failure, Err(Failure::StoreAway { .. })), "{failure:?}");
    assert_eq!(rows(&archive).await, []);
    send(&archive, Row::Revise, &name("1.2", "1"), b"bytes").await.expect("the writer goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_batch_that_was_rolled_back_is_asked_again() {
    let (dir, archive) = fresh().await;
    spoil(&dir, "1.2.1.9");
    let (go, wait) = mpsc::channel::<()>();
    let (enter, mut entered) = tokio::sync::mpsc::unbounded_channel();
    let (wait, leave) = (Mutex::new(wait), by(7));
    // The first holds the writer, between its object and its row, until the others wait in one batch.
    let holding = move |question, instance: &_| {
        if question == 2 {
            enter.send(()).expect("the test listens");
            wait.lock().expect("no panic").recv().expect("the test lets go");
        }
        leave(instance)
    };
    let inner = sealed(&archive, Row::Revise, &name("1.2", "1"), b"x").await.expect("there is room").archive;
    let mut commits = vec![commit(&archive, "1", Arc::new(holding)).await];
    entered.recv().await.expect("the writer runs");
    let log = Arc::new(Mutex::new(Vec::new()));
    for (waiting, instance) in ["2", "9", "3"].into_iter().enumerate() {
        // Its object's place, its row in the batch: then withdrawn from the second.
        let (leave, log, withdrawn) = (by(7), log.clone(), instance == "2");
        let answers = move |question, of: &AuthorisedInstance| {
            locked(&log).push((instance, question));
            if withdrawn && question > 2 { None } else { leave(of) }
        };
        commits.push(commit(&archive, instance, Arc::new(answers)).await);
        while inner.index.waiting() <= waiting {
            tokio::task::yield_now().await;
        }
    }
    go.send(()).expect("the writer waits");
    let mut results = Vec::new();
    for commit in commits {
        results.push(commit.await.expect("no panic"));
    }
    assert!(results[0].is_ok() && results[3].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(Failure::NotCleared)), "it was in the batch, and no more alone: {results:?}");
    assert!(matches!(results[2], Err(Failure::StoreAway { .. })), "{results:?}");
    let held: Vec<_> = rows(&archive).await.into_iter().map(|(instance, _)| instance).collect();
    assert_eq!(held, ["1.2.1.1", "1.2.1.3"]);
    let on_the_writer: Vec<_> = locked(&log).iter().filter(|(_, question)| *question > 1).copied().collect();
    let expected = [("2", 2), ("9", 2), ("2", 3), ("9", 3), ("3", 2), ("3", 3)];
    assert_eq!(on_the_writer, expected, "the batch up to its bad write, and then each alone");
}

/// No row of this instance can be written.
fn spoil(dir: &tempfile::TempDir, instance: &str) {
    let shell = Connection::open(dir.path().join("index.sqlite")).expect("it is there");
    let trigger = format!(
        "CREATE TRIGGER spoil BEFORE INSERT ON instance WHEN NEW.instance = '{instance}'
         BEGIN SELECT RAISE(ABORT, 'spoilt'); END"
    );
    shell.execute_batch(&trigger).expect("nobody writes");
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A table that changes while instances are committed: revision 8 allows what 7 did, 9 allows nothing.
struct Changing {
    tables: [Table; 3],
    /// Which table is in force, how often it was asked, and what it answered last to whom.
    state: Mutex<(usize, usize, Vec<Option<u64>>)>,
    /// Before which questions, counted over all instances, the tables change.
    changes: [usize; 2],
}

impl Changing {
    fn ask(&self, number: usize, instance: &AuthorisedInstance) -> Option<Cleared> {
        let mut state = locked(&self.state);
        let (in_force, asked, answers) = &mut *state;
        *asked += 1;
        *in_force = self.changes.iter().filter(|at| *at <= asked).count();
        let cleared = instance.clear(&self.tables[*in_force], now()).ok();
        answers[number] = cleared.as_ref().map(Cleared::revision);
        cleared
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// CV: "no instance has metadata committed with decision revision < revocation revision".
    #[test]
    fn no_row_is_committed_whose_last_question_came_after_the_revocation(
        instances in 1..24_usize,
        first in 0..80_usize,
        second in 0..80_usize,
        spoilt in prop::option::of(0..24_usize),
    ) {
        run(async {
            let (dir, archive) = fresh().await;
            if let Some(spoilt) = spoilt {
                spoil(&dir, &format!("1.2.1.{spoilt}"));
            }
            let changing = Arc::new(Changing {
                tables: [revision(7, "enabled"), revision(8, "enabled"), revision(9, "suspended")],
                state: Mutex::new((0, 0, vec![None; instances])),
                changes: [first.min(second), first.max(second)],
            });
            let mut commits = Vec::new();
            for number in 0..instances {
                let changing = changing.clone();
                let answers: Arc<Answers> = Arc::new(move |_, instance| changing.ask(number, instance));
                commits.push(commit(&archive, &number.to_string(), answers).await);
            }
            let mut acknowledged = BTreeSet::new();
            for (number, commit) in commits.into_iter().enumerate() {
                match commit.await.expect("no panic") {
                    Ok(_) => { acknowledged.insert(number); }
                    Err(Failure::NotCleared) => prop_assert_eq!(locked(&changing.state).2[number], None),
                    Err(Failure::StoreAway { .. }) => prop_assert_eq!(Some(number), spoilt),
                    Err(other) => prop_assert!(false, "{:?}", other),
                }
            }
            let answers = locked(&changing.state).2.clone();
            let rows = rows(&archive).await;
            prop_assert_eq!(rows.len(), acknowledged.len());
            for (instance, revision) in rows {
                let number: usize = instance["1.2.1.".len()..].parse().expect("a number");
                prop_assert!(acknowledged.contains(&number));
                prop_assert_eq!(answers[number], Some(revision), "the last answer, by the table in the row");
                prop_assert!(revision < 9);
            }
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_committed_once_the_writer_has_passed_the_revocation() {
    for round in 0..10 {
        let (_dir, archive) = fresh().await;
        let table = Arc::new(Mutex::new(Arc::new(revision(7, "enabled"))));
        let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (archive, table, sent) = (archive.clone(), table.clone(), sent.clone());
                tokio::spawn(async move {
                    // Each goes on until it is refused.
                    for instance in 0.. {
                        let table = table.clone();
                        let answers: Arc<Answers> = Arc::new(move |_, instance| {
                            let table = locked(&table).clone();
                            instance.clear(&table, now()).ok()
                        });
                        let done = commit(&archive, &format!("{sender}.{instance}"), answers).await;
                        if done.await.expect("no panic").is_err() {
                            return;
                        }
                        sent.send(()).expect("the test listens");
                    }
                })
            })
            .collect();
        for _ in 0..=round {
            seen.recv().await.expect("they send");
        }
        *locked(&table) = Arc::new(revision(8, "suspended"));
        // Behind everything that was written, or waited to be, at the moment of the change.
        let study = name("1.2", "1").study;
        archive.touch(&tenant(Row::Revise), &study, "test", None, None, now()).await.expect("the index is there");
        let at_the_change = rows(&archive).await;
        for sender in senders {
            sender.await.expect("no panic");
        }
        assert_eq!(rows(&archive).await, at_the_change);
    }
}
