//! The audit log: one JSON line for each verdict, in a chain, no patient data. docs/audit.md is its page for people.
//!
//! Lines are written in order by one thread behind a bounded queue (`writer`): whoever decides waits when the disk cannot
//! follow, so no verdict is lost to pressure. A disk that is away for a while loses nothing either: lines are kept and
//! written when it is back. A verdict that is only queued ([`AuditLog::record`]) is written right after: a process killed in
//! between loses the line and not the instance, whose index row says who sent it. One that must not be lost is waited for
//! ([`AuditLog::record_durably`]).

mod chain;
mod dicom;
mod file;
mod report;
mod syslog;
mod uids;
mod verdict;
mod verify;
mod writer;
mod xml;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

pub use chain::Head;
pub use file::OpenError;
pub use report::{Counts, Identity, Late, Moment, MomentError, Report};
pub use uids::Uids;
pub use verdict::{Decision, Subject, Verdict};
pub use verify::{Broken, Finding, Verified, verify};

use self::syslog::Forwarder;
use self::writer::{Entry, Writer};
use crate::config;
use crate::house::House;

/// Verdicts that may wait for the disk; about 2 MB. A full queue makes the decider wait.
const QUEUE: usize = 2048;

const GONE: &str = "the audit writer is gone; a verdict was not recorded";

/// The verdict is not durable: the log cannot be written now. It may still be written later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written; free space or mend the disk")]
pub struct AuditFailed;

/// The log. Clones write to the same file.
#[derive(Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<Entry>,
    healthy: Arc<AtomicBool>,
    uids: Arc<Uids>,
    repository: Option<syslog::Sender>,
}

/// The thread that writes, and what goes on beside it.
pub struct AuditWriter {
    thread: JoinHandle<()>,
    queue: mpsc::Sender<Entry>,
    forwarder: Option<Forwarder>,
}

/// What `[audit]` says beside the file, read and understood.
struct Settings {
    uids: Uids,
    repository: Option<syslog::Repository>,
}

impl Settings {
    fn read(config: &config::Audit) -> Result<Self, OpenError> {
        let uids = match (config.uids, &config.uid_key) {
            (config::UidForm::Clear, _) => Uids::Clear,
            (config::UidForm::Hmac, Some(key)) => {
                Uids::hidden(key).map_err(|problem| OpenError::Setting(format!("audit.uid_key: {problem}")))?
            }
            (config::UidForm::Hmac, None) => {
                return Err(OpenError::Setting("audit.uids is \"hmac\", which needs audit.uid_key".to_owned()));
            }
        };
        let repository = config.syslog.as_ref().map(syslog::Repository::read).transpose();
        let repository = repository.map_err(|problem| OpenError::Setting(format!("audit.syslog: {problem}")))?;
        Ok(Self { uids, repository })
    }
}

/// Whether everything that `[audit]` names can be used, also beside a process that uses it. Changes nothing.
///
/// # Errors
/// With what cannot be used.
pub(crate) fn check(config: &config::Audit) -> Result<(), OpenError> {
    Settings::read(config)?;
    file::LogFile::check(&config.file)
}

impl AuditLog {
    /// Opens or creates the file (mode 0600), goes on with its chain, and begins to write. UIDs as they are, no repository.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<(Self, AuditWriter), OpenError> {
        Self::with(path, Settings { uids: Uids::Clear, repository: None })
    }

    /// As [`AuditLog::open`], with everything that `[audit]` says. Nothing goes to a repository before
    /// [`AuditWriter::attend`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn begin(config: &config::Audit) -> Result<(Self, AuditWriter), OpenError> {
        Self::with(&config.file, Settings::read(config)?)
    }

    fn with(path: &Path, Settings { uids, repository }: Settings) -> Result<(Self, AuditWriter), OpenError> {
        let (repository, forwarder) = repository.map(Forwarder::to).unzip();
        let healthy = Arc::new(AtomicBool::new(true));
        let writer = Writer::open(path.to_owned(), healthy.clone(), repository.clone())?;
        let (queue, entries) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(entries));
        let thread = thread.expect("the system gives threads");
        let log = Self { queue: queue.clone(), healthy, uids: Arc::new(uids), repository };
        Ok((log, AuditWriter { thread, queue, forwarder }))
    }

    /// Hands a verdict to the writer; waits while the queue is full.
    pub async fn record(&self, verdict: Verdict) {
        self.hand_over(Entry::Verdict(self.prepared(verdict))).await;
    }

    /// As [`AuditLog::record`], for who must not wait: while the queue is full a task of its own waits in its place. For what
    /// our own operator causes, never for what a peer can repeat.
    pub(crate) fn record_without_waiting(&self, verdict: Verdict) {
        let (log, entry) = (self.clone(), Entry::Verdict(self.prepared(verdict)));
        match self.queue.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(entry)) => drop(tokio::spawn(async move { log.hand_over(entry).await })),
            Err(TrySendError::Closed(_)) => tracing::error!("{GONE}"),
        }
    }

    async fn hand_over(&self, entry: Entry) {
        if self.queue.send(entry).await.is_err() {
            tracing::error!("{GONE}");
        }
    }

    /// A log whose disk hangs: it has room for one verdict, and nobody takes it.
    #[cfg(test)]
    pub(crate) fn stuck() -> (Self, impl Sized) {
        let (queue, entries) = mpsc::channel(1);
        (Self { queue, healthy: Arc::default(), uids: Arc::new(Uids::Clear), repository: None }, entries)
    }

    /// As [`AuditLog::record`], and returns when the line is in the file and durable.
    ///
    /// # Errors
    /// When it is not, now. The line is kept and may be in the log later: what was refused for this needs a verdict of its
    /// own.
    pub async fn record_durably(&self, verdict: Verdict) -> Result<(), AuditFailed> {
        let (done, outcome) = oneshot::channel();
        let entry = Entry::Durable(self.prepared(verdict), done);
        self.queue.send(entry).await.map_err(|_| AuditFailed)?;
        outcome.await.unwrap_or(Err(AuditFailed))
    }

    /// Whether the last write succeeded. Becomes true again by itself: a log that cannot be written is tried again and again.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// After the file was moved away (rotation): goes on in a new file of the old name. The chain goes on across both.
    ///
    /// # Errors
    /// When the new file cannot be written or has records of another chain. The log then stays with the old file.
    pub async fn reopen(&self) -> Result<(), OpenError> {
        let gone = || OpenError::Setting("the audit writer is gone".to_owned());
        let (done, outcome) = oneshot::channel();
        self.queue.send(Entry::Reopen(done)).await.map_err(|_| gone())?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    fn prepared(&self, verdict: Verdict) -> Box<Verdict> {
        let verdict = Box::new(verdict.showing(&self.uids));
        if let Some(repository) = &self.repository {
            repository.tell(&verdict);
        }
        verdict
    }
}

impl AuditWriter {
    /// Sends audit messages to the repository, if there is one, and reopens the file at SIGHUP. To be called once, inside
    /// the runtime.
    pub fn attend(&mut self, house: &Arc<House>) {
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.begin(house);
        }
        tokio::spawn(reopen_at_hangup(house.clone()));
    }

    /// Waits until everything recorded so far is on disk, and ends the log.
    pub async fn finish(self) {
        if self.queue.send(Entry::End).await.is_ok() {
            let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
        }
        if let Some(forwarder) = self.forwarder {
            forwarder.finish().await;
        }
    }
}

async fn reopen_at_hangup(house: Arc<House>) {
    let mut hang_up = signal(SignalKind::hangup()).expect("the runtime handles signals");
    loop {
        tokio::select! {
            () = house.halt.cancelled() => return,
            _ = hang_up.recv() => {}
        }
        if let Err(error) = house.audit.reopen().await {
            tracing::error!("the audit log goes on in the file that was moved away: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
