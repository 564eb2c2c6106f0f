use std::io;
use std::slice;
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::Failure;

/// Writes that share one transaction and one fsync. A hundred rows commit in the time of a few; more would only make
/// the first of them wait.
const MAX_BATCH: usize = 100;
/// Writes that wait before callers do: some batches, so that the writer never runs dry. A row with its metadata takes
/// about 4 KB, so 1 to 2 MB.
const QUEUE: usize = 4 * MAX_BATCH;
/// How often a write is done again because what it depends on changed between the work and the commit, some microseconds
/// apart: twice in a row does not happen, and a writer that tries for ever would stop everybody.
const MAX_TRIES: usize = 8;

/// The only one who writes the index: a thread with the connection, reached through a bounded queue.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

/// One write: does its work in a transaction (perhaps again, when a neighbour spoilt the batch), says right before the commit
/// whether that still stands, and answers its caller once the transaction is durable or lost.
type Job = Box<dyn FnMut(Step<'_>) -> Result<(), Lost> + Send>;

enum Step<'a> {
    Apply(&'a Connection),
    Confirm,
    Answer(Result<(), Lost>),
}

/// Why a transaction was rolled back.
enum Lost {
    Sqlite(rusqlite::Error),
    /// What was written no longer stands: it has to be done again.
    Overtaken,
}

impl From<rusqlite::Error> for Lost {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Writer {
    /// Starts the thread. It ends when the last writer is dropped.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel(QUEUE);
        thread::Builder::new().name("index-writer".to_owned()).spawn(move || run(connection, queue))?;
        Ok(Self(sender))
    }

    /// Does `work` in a transaction that others share. When this returns `Ok`, it is durable. `work` may be called more
    /// than once and only its last result counts.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.write_if(doing, work, |_| true).await
    }

    /// As [`Writer::write`], but commits a result only if it `stands`, which is asked when all work of the transaction is
    /// done and nothing but the commit is left. One that does not is rolled back and done again.
    pub(super) async fn write_if<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
        stands: impl Fn(&T) -> bool + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let mut result = None;
        let job: Job = Box::new(move |step| {
            match step {
                Step::Apply(db) => result = Some(work(db)?),
                Step::Confirm if result.as_ref().is_some_and(&stands) => {}
                Step::Confirm => return Err(Lost::Overtaken),
                Step::Answer(outcome) => {
                    let outcome = outcome.map(|()| result.take().expect("a committed write was applied"));
                    // A caller that went away does not take back what is durable.
                    let _ = reply.take().expect("a write is answered once").send(outcome);
                }
            }
            Ok(())
        });
        let gone = || Failure::away(doing)("the index writer has stopped");
        self.0.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(|lost| match lost {
            Lost::Sqlite(error) => Failure::away(doing)(error),
            Lost::Overtaken => Failure::away(doing)("what it depends on changed at every try"),
        })
    }

    /// Writes that have been asked for and not begun.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        QUEUE - self.0.capacity()
    }
}

/// Group commit: takes a write and whatever else is waiting, and answers all after one commit. So the busier it is, the
/// more writes share an fsync, and a lonely write waits for nobody.
fn run(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        // One bad write must not fail its neighbours: a batch that fails is rolled back and each tried alone, with all that
        // it asks.
        if batch.len() > 1 && commit(&mut connection, &mut batch).is_ok() {
            batch.into_iter().for_each(|job| answer(job, Ok(())));
            continue;
        }
        for mut job in batch {
            let outcome = commit_alone(&mut connection, &mut job);
            answer(job, outcome);
        }
    }
}

fn commit_alone(connection: &mut Connection, job: &mut Job) -> Result<(), Lost> {
    for _ in 1..MAX_TRIES {
        match commit(connection, slice::from_mut(job)) {
            Err(Lost::Overtaken) => {}
            done => return done,
        }
    }
    commit(connection, slice::from_mut(job))
}

fn commit(connection: &mut Connection, jobs: &mut [Job]) -> Result<(), Lost> {
    // Dropped without a commit, the transaction rolls back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in &mut *jobs {
        job(Step::Apply(&transaction))?;
    }
    // The first of a batch has seen the work of all others go by: so all are asked when nothing but the commit is left.
    for job in jobs {
        job(Step::Confirm)?;
    }
    Ok(transaction.commit()?)
}

fn answer(mut job: Job, outcome: Result<(), Lost>) {
    // Only the other steps fail.
    let _ = job(Step::Answer(outcome));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let connection = Connection::open(dir.path().join("t.sqlite")).expect("a fresh file opens");
        connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT").expect("it is empty");
        (dir, Writer::start(connection).expect("a thread starts"))
    }

    fn insert(db: &Connection, n: i64) -> rusqlite::Result<i64> {
        db.execute("INSERT INTO t VALUES (?1)", [n])?;
        Ok(n)
    }

    async fn count(writer: &Writer) -> i64 {
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        writer.write("counting", count).await.expect("the table is there")
    }

    /// Keeps the writer busy until let go, so that what is sent meanwhile becomes one batch.
    async fn hold(writer: &Writer) -> std::sync::mpsc::Sender<()> {
        let (go, wait) = std::sync::mpsc::channel();
        let (entered, held) = oneshot::channel();
        let (wait, entered) = (std::sync::Mutex::new(wait), std::sync::Mutex::new(Some(entered)));
        let writer = writer.clone();
        tokio::spawn(async move {
            let work = move |_: &Connection| {
                if let Some(entered) = entered.lock().expect("no panic").take() {
                    entered.send(()).expect("the test waits");
                    wait.lock().expect("no panic").recv().expect("the test lets go");
                }
                Ok(())
            };
            writer.write("holding", work).await.expect("it does nothing");
        });
        held.await.expect("the writer runs");
        go
    }

    #[tokio::test]
    async fn a_bad_write_does_not_fail_its_neighbours() {
        let (_dir, writer) = writer();
        let go = hold(&writer).await;
        let numbers = [1, 2, 2, 3];
        let writes: Vec<_> = numbers
            .map(|n| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.write("inserting", move |db| insert(db, n)).await })
            })
            .into();
        while writer.0.capacity() > QUEUE - numbers.len() {
            tokio::task::yield_now().await;
        }
        go.send(()).expect("the writer waits");
        let mut failed = 0;
        for write in writes {
            failed += usize::from(write.await.expect("no panic").is_err());
        }
        assert_eq!((failed, count(&writer).await), (1, 3));
    }

    #[tokio::test]
    async fn writes_that_wait_together_share_a_transaction() {
        let (dir, writer) = writer();
        let path = dir.path().join("t.sqlite");
        let go = hold(&writer).await;
        let writes: Vec<_> = (0..50)
            .map(|n| {
                let (writer, path) = (writer.clone(), path.clone());
                // What another connection sees while this write is applied: only what has been committed before.
                let insert_and_look = move |db: &Connection| {
                    insert(db, n)?;
                    Connection::open(&path)?.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
                };
                tokio::spawn(async move { writer.write("inserting", insert_and_look).await })
            })
            .collect();
        while writer.0.capacity() > QUEUE - 50 {
            tokio::task::yield_now().await;
        }
        go.send(()).expect("the writer waits");
        for write in writes {
            assert_eq!(write.await.expect("no panic").expect("each is new"), 0);
        }
        assert_eq!(count(&writer).await, 50);
    }
}
