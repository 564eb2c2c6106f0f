//! The thread that writes: lines in order, one sync for everybody who waits, and nothing forgotten while the disk is away.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::AuditFailed;
use super::chain::Head;
use super::file::{LogFile, OpenError, Tail};
use super::syslog;
use super::verdict::Verdict;
use crate::telemetry;

/// Bytes of lines that are kept while they cannot be written: some ten thousand verdicts. What comes after them is counted.
const MOST_PENDING: usize = 4 << 20;
/// A batch is written when it has so many bytes, however many verdicts are waiting.
const BATCH: usize = 256 << 10;
/// How often a log that cannot be written is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What is handed to the writer.
pub(super) enum Entry {
    Verdict(Box<Verdict>),
    /// The sender waits until it is durable.
    Durable(Box<Verdict>, oneshot::Sender<Result<(), AuditFailed>>),
    /// The file may have been moved away: go on in the one that has its name now.
    Reopen(oneshot::Sender<Result<(), OpenError>>),
    /// The last one: whoever still has a log writes into the void.
    End,
}

pub(super) struct Writer {
    path: PathBuf,
    file: LogFile,
    head: Head,
    /// Lines that are not written yet, or only their beginning.
    pending: Vec<u8>,
    /// How much of `pending` is in the file.
    written: usize,
    waiting: Vec<oneshot::Sender<Result<(), AuditFailed>>>,
    /// Something was written that is not known to be durable.
    unsynced: bool,
    /// Verdicts that found no room in `pending`.
    lost: u64,
    healthy: Arc<AtomicBool>,
    /// Hears when the log falls silent: the log itself cannot say it.
    repository: Option<syslog::Sender>,
}

impl Writer {
    /// Goes on where the file ends.
    pub(super) fn open(
        path: PathBuf,
        healthy: Arc<AtomicBool>,
        repository: Option<syslog::Sender>,
    ) -> Result<Self, OpenError> {
        let (file, Tail { head, torn, ended }) = LogFile::open(&path)?;
        let mut writer = Self {
            path,
            file,
            head,
            pending: Vec::new(),
            written: 0,
            waiting: Vec::new(),
            unsynced: false,
            lost: 0,
            healthy,
            repository,
        };
        // What comes next must not be glued to what a killed process left behind.
        if !ended {
            writer.pending.push(b'\n');
        }
        if let Some(torn) = torn {
            writer.append(&Verdict::recovered(torn.bytes, torn.digest));
        }
        writer.flush();
        Ok(writer)
    }

    /// Writes until the last entry.
    pub(super) fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let clock = clock.expect("the system gives a timer");
        loop {
            let next = clock.block_on(self.next(&mut entries));
            let last = self.take_all(next, &mut entries);
            self.flush();
            if last {
                break;
            }
        }
        if self.file.sync().is_err() || !self.pending.is_empty() {
            tracing::error!(bytes = self.pending.len(), lost = self.lost, "the audit log ends without its last lines");
        }
    }

    /// The next entry; none when it is time to try again.
    async fn next(&self, entries: &mut mpsc::Receiver<Entry>) -> Option<Entry> {
        if self.is_healthy() {
            // Without a sender there is nobody who could ever send the end.
            return Some(entries.recv().await.unwrap_or(Entry::End));
        }
        tokio::time::timeout(RETRY, entries.recv()).await.ok().map(|entry| entry.unwrap_or(Entry::End))
    }

    /// Takes this entry and whatever else is waiting. True after the last one.
    fn take_all(&mut self, mut next: Option<Entry>, entries: &mut mpsc::Receiver<Entry>) -> bool {
        while let Some(entry) = next {
            match entry {
                Entry::Verdict(verdict) => {
                    // That there was no room for it is counted.
                    let _ = self.keep(&verdict);
                }
                Entry::Durable(verdict, done) => match self.keep(&verdict) {
                    Ok(()) => self.waiting.push(done),
                    Err(failed) => {
                        let _ = done.send(Err(failed));
                    }
                },
                Entry::Reopen(done) => {
                    let _ = done.send(self.reopen());
                }
                Entry::End => return true,
            }
            next = if self.pending.len() < BATCH { entries.try_recv().ok() } else { None };
        }
        false
    }

    fn keep(&mut self, verdict: &Verdict) -> Result<(), AuditFailed> {
        if self.pending.len() >= MOST_PENDING {
            self.lost += 1;
            metrics::counter!(telemetry::AUDIT_LOST).increment(1);
            return Err(AuditFailed);
        }
        self.append(verdict);
        Ok(())
    }

    fn append(&mut self, verdict: &Verdict) {
        self.head.append(verdict, &mut self.pending);
    }

    /// Writes what is pending, and syncs it if somebody waits for that. Who waits is told, good or bad.
    fn flush(&mut self) {
        let outcome = self.write_pending();
        let told = if outcome.is_ok() { Ok(()) } else { Err(AuditFailed) };
        for done in self.waiting.drain(..) {
            // Who does not wait any more needs no answer.
            let _ = done.send(told);
        }
        match outcome {
            Ok(()) if !self.is_healthy() => self.recover(),
            Ok(()) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// After an error the rest of a line that is half written comes first: the chain is never broken.
    fn write_pending(&mut self) -> io::Result<()> {
        if self.written < self.pending.len() {
            let (count, outcome) = self.file.write(&self.pending[self.written..]);
            self.written += count;
            self.unsynced |= count > 0;
            outcome?;
            self.pending.clear();
            self.written = 0;
        }
        if self.unsynced && (!self.waiting.is_empty() || !self.is_healthy()) {
            self.file.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    fn fail(&self, error: &io::Error) {
        metrics::counter!(telemetry::AUDIT_FAILURES).increment(1);
        if self.healthy.swap(false, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::error!(%error, "the audit log {path} cannot be written; free space or mend the disk");
            self.tell(&Verdict::unwritable());
        }
    }

    fn recover(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        tracing::info!(lost, "the audit log is written again");
        self.healthy.store(true, Ordering::Release);
        let restored = Verdict::restored(lost);
        self.tell(&restored);
        self.append(&restored);
        self.flush();
    }

    fn tell(&self, verdict: &Verdict) {
        if let Some(repository) = &self.repository {
            repository.tell(verdict);
        }
    }

    /// Goes on in the file that has the name now. The chain goes on as well.
    fn reopen(&mut self) -> Result<(), OpenError> {
        self.flush();
        if self.file.is_at(&self.path) {
            return Ok(());
        }
        let (file, tail) = LogFile::open(&self.path)?;
        if tail.head != Head::start() || tail.torn.is_some() {
            // Another chain, or what is left of one: not the new file that a rotation makes.
            return Err(OpenError::NoChain { path: self.path.clone() });
        }
        self.leave()?;
        tracing::info!(path = %self.path.display(), seq = self.head.seq, "the audit log goes on in a new file");
        self.file = file;
        Ok(())
    }

    /// Leaves the old file with whole lines only; what could not be written goes to the new one.
    fn leave(&mut self) -> Result<(), OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: self.path.clone(), source };
        let whole = self.pending[..self.written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.file.take_back(self.written - whole).map_err(unwritable)?;
        // A file that cannot be synced is what we are leaving: its lines were promised to nobody.
        if let Err(error) = self.file.sync() {
            tracing::error!(%error, "the audit log that was moved away may lack its last lines");
        }
        self.pending.drain(..whole);
        self.written = 0;
        Ok(())
    }
}
