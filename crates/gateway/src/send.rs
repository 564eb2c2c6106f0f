//! A C-STORE sender over mutual TLS, for testers and migrations: what `portcullis send` does, without its face.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::{Identity, Rules, Trust, TrustBundles};
use anyhow::{Context as _, anyhow, bail};
use dimse::part10::{self, Part10Error, Start};
use dimse::{Answer, Inbox, Reply, Request, Requested, Requestor, status};
use model::{AeTitle, InstanceClaim, Phi, ProposedContext, SopClass, SpiffeId, TransferSyntax, Uid};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;
use transport::{Connection, DialError, dial};

use crate::clock::now;

/// Where to send, as whom, and how hard to try.
pub struct Sender {
    /// `HOST:PORT`.
    pub to: String,
    /// The AE title to reach.
    pub called: AeTitle,
    /// The AE title to show.
    pub calling: AeTitle,
    /// Our certificate and what we believe of the receiver's.
    pub trust: Trust,
    /// The receiver must be exactly this.
    pub receiver: SpiffeId,
    /// Associations side by side.
    pub jobs: usize,
    /// Further tries of an instance after a failure that may pass: connection lost, receiver busy, out of resources.
    pub retries: u32,
}

/// A file that can be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The Part 10 file.
    pub path: PathBuf,
    start: Start,
    size: u64,
    tries: u32,
}

/// A path that cannot be sent, and why.
pub type Odd = (PathBuf, String);

/// What became of one file.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The file.
    pub path: PathBuf,
    /// Bytes of its data set.
    pub bytes: u64,
    /// The status answered, or why there is none.
    pub outcome: Result<Status, String>,
}

/// A C-STORE status with the comment that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// (0000,0900)
    pub code: u16,
    /// (0000,0902)
    pub comment: Option<String>,
}

impl Status {
    /// Success or a warning: the receiver has it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.code == status::SUCCESS || self.code & 0xF000 == 0xB000
    }

    fn may_pass(&self) -> bool {
        self.code & 0xFF00 == status::OUT_OF_RESOURCES.code()
    }
}

/// Reads keys and certificates from PEM files. Without `receiver`, the ID is `/receiver` in the trust domain of the authority.
///
/// # Errors
/// With the file that is not in order.
pub fn trust_from_files(
    cert: &Path,
    key: &Path,
    ca: &Path,
    receiver: Option<SpiffeId>,
) -> anyhow::Result<(Trust, SpiffeId)> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bundle = read(ca)?;
    let receiver = match receiver {
        Some(receiver) => receiver,
        None => {
            let domain = access::authority_domain(&bundle).ok_or_else(|| {
                anyhow!("{} names no trust domain; say who the receiver is with --receiver spiffe://…", ca.display())
            })?;
            SpiffeId::parse(&format!("spiffe://{domain}/receiver"))?
        }
    };
    let identity = Identity::from_pem(&read(cert)?, &read(key)?)
        .with_context(|| format!("{} and {} cannot be used", cert.display(), key.display()))?;
    let bundles = TrustBundles::new([(receiver.trust_domain().clone(), bundle.as_slice())])
        .with_context(|| format!("{} cannot be used", ca.display()))?;
    Ok((Trust::new(identity, bundles, Rules::default())?, receiver))
}

/// Bytes of a file that are looked at for its file meta group.
const START: usize = 64 * 1024;
/// A DICOMDIR is an index of a medium, not an instance.
const MEDIA_DIRECTORY: &str = "1.2.840.10008.1.3.10";

/// Finds the DICOM files among files and, recursively, folders. The second list has what cannot be sent, and why;
/// in a folder, files that are not DICOM are passed over.
///
/// # Errors
/// When a path that was named does not exist.
pub fn gather(paths: &[PathBuf]) -> anyhow::Result<(Vec<Outgoing>, Vec<Odd>)> {
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    for path in paths {
        let kind = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_dir() {
            gather_folder(path, &mut found, &mut odd)?;
        } else if !kind.is_file() {
            odd.push((path.clone(), "neither a file nor a folder".to_owned()));
        } else {
            match look_at(path) {
                Ok(Some(file)) => found.push(file),
                Ok(None) => odd.push((path.clone(), "a DICOMDIR is not an instance".to_owned())),
                Err(error) => odd.push((path.clone(), error.to_string())),
            }
        }
    }
    Ok((found, odd))
}

fn gather_folder(folder: &Path, found: &mut Vec<Outgoing>, odd: &mut Vec<Odd>) -> anyhow::Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry?;
            paths.push((entry.path(), entry.file_type()?));
        }
        paths.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in paths {
            if kind.is_dir() {
                waiting.push(path);
                continue;
            }
            // A link to a file is a file; a link to a folder may lead back up, and a pipe may never end.
            if !(kind.is_file() || kind.is_symlink() && path.is_file()) {
                continue;
            }
            match look_at(&path) {
                Ok(Some(file)) => found.push(file),
                Ok(None) | Err(LookError::NotDicom(Part10Error::NotPart10)) => {}
                Err(error) => odd.push((path, error.to_string())),
            }
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{0}")]
    NotDicom(Part10Error),
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
}

fn look_at(path: &Path) -> Result<Option<Outgoing>, LookError> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(LookError::Unreadable)?;
    let size = file.metadata().map_err(LookError::Unreadable)?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(START as u64).read_to_end(&mut bytes).map_err(LookError::Unreadable)?;
    let start = part10::read_start(&bytes).map_err(LookError::NotDicom)?;
    if start.class.as_str() == MEDIA_DIRECTORY {
        return Ok(None);
    }
    let size = size - start.data_set;
    Ok(Some(Outgoing { path: path.to_owned(), start, size, tries: 0 }))
}

/// Sends everything; a [`Sent`] for each file goes to `reports` as soon as its fate is known.
pub async fn send_all(sender: Arc<Sender>, files: Vec<Outgoing>, reports: mpsc::UnboundedSender<Sent>) {
    for batch in batches(files) {
        let jobs = sender.jobs.clamp(1, batch.len().max(1));
        let contexts = Arc::new(contexts_for(&batch));
        let queue = Arc::new(Mutex::new(VecDeque::from(batch)));
        let alive = Arc::new(AtomicUsize::new(jobs));
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                let worker = Worker {
                    sender: sender.clone(),
                    contexts: contexts.clone(),
                    queue: queue.clone(),
                    reports: reports.clone(),
                    alive: alive.clone(),
                };
                tokio::spawn(worker.work())
            })
            .collect();
        for worker in workers {
            let _ = worker.await;
        }
    }
}

type Pair = (Uid<SopClass>, Uid<TransferSyntax>);

fn pair(file: &Outgoing) -> Pair {
    (file.start.class.clone(), file.start.transfer_syntax.clone())
}

/// An association has at most 128 presentation contexts: files are cut into runs that need no more.
fn batches(files: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut pairs = BTreeSet::new();
    for file in files {
        let new = pairs.insert(pair(&file));
        if batches.is_empty() || (new && pairs.len() > dimse::limits::MAX_CONTEXTS) {
            pairs = BTreeSet::from([pair(&file)]);
            batches.push(Vec::new());
        }
        batches.last_mut().expect("one was pushed").push(file);
    }
    batches
}

/// One context for each pair of class and syntax, so that each file can go as it is.
fn contexts_for(files: &[Outgoing]) -> Vec<ProposedContext> {
    let pairs: BTreeSet<Pair> = files.iter().map(pair).collect();
    let ids = (1..=255).step_by(2);
    pairs
        .into_iter()
        .zip(ids)
        .map(|((abstract_syntax, syntax), id)| ProposedContext { id, abstract_syntax, transfer_syntaxes: vec![syntax] })
        .collect()
}

struct Worker {
    sender: Arc<Sender>,
    contexts: Arc<Vec<ProposedContext>>,
    queue: Arc<Mutex<VecDeque<Outgoing>>>,
    reports: mpsc::UnboundedSender<Sent>,
    /// Workers that have not given up.
    alive: Arc<AtomicUsize>,
}

/// Why an association could not go on.
enum Broken {
    /// Trying again may help.
    ForNow(String),
    /// Trying again will not.
    ForGood(String),
}

/// The first pause before a further try; doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_PAUSE)
}

impl Worker {
    async fn work(self) {
        let mut failures = 0;
        while !self.queue().is_empty() {
            match self.association(&mut failures).await {
                Ok(()) => {}
                Err(Broken::ForGood(why)) => return self.give_up(&why),
                Err(Broken::ForNow(why)) if failures >= self.sender.retries => return self.give_up(&why),
                Err(Broken::ForNow(_)) => {
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Outgoing>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, file: &Outgoing, outcome: Result<Status, String>) {
        let _ = self.reports.send(Sent { path: file.path.clone(), bytes: file.size, outcome });
    }

    /// The others go on with the queue; when this is the last one, what is left fails for the same reason.
    fn give_up(&self, why: &str) {
        if self.alive.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let rest = std::mem::take(&mut *self.queue());
        for file in rest {
            self.report(&file, Err(why.to_owned()));
        }
    }

    /// One association, until the queue is empty or the association is.
    async fn association(&self, failures: &mut u32) -> Result<(), Broken> {
        let mut line = Outline::open(&self.sender, &self.contexts).await?;
        loop {
            let Some(mut file) = self.queue().pop_front() else { break };
            match line.store(&file).await {
                Ok(status) if status.may_pass() && file.tries < self.sender.retries => {
                    tokio::time::sleep(pause(file.tries)).await;
                    file.tries += 1;
                    self.queue().push_back(file);
                }
                Ok(status) => {
                    *failures = 0;
                    self.report(&file, Ok(status));
                }
                Err(Trouble::File(why)) => self.report(&file, Err(why)),
                Err(Trouble::Line(why)) if file.tries < self.sender.retries => {
                    file.tries += 1;
                    self.queue().push_back(file);
                    return Err(Broken::ForNow(why));
                }
                Err(Trouble::Line(why)) => {
                    self.report(&file, Err(why.clone()));
                    return Err(Broken::ForNow(why));
                }
            }
        }
        line.release().await;
        Ok(())
    }
}

/// What went wrong with one instance.
enum Trouble {
    /// The file's own trouble: the association goes on.
    File(String),
    /// The association is lost.
    Line(String),
}

/// An association that we opened.
struct Outline {
    connection: Connection,
    inbox: Inbox,
    requested: Requested,
    message_id: u16,
}

const INBOX: usize = 16 * 1024;
/// P-DATA-TF header and one PDV header (PS3.8 §9.3.5).
const PDU_HEADER: usize = 12;
/// A receiver that makes a study durable answers in milliseconds; one that says nothing this long is gone.
const PATIENCE: Duration = Duration::from_secs(120);

impl Outline {
    async fn open(sender: &Sender, contexts: &[ProposedContext]) -> Result<Self, Broken> {
        let connecting = dial(&sender.to, sender.trust.call(sender.receiver.clone(), now()));
        let mut connection = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error @ DialError::NotTheReceiver(_))) => return Err(Broken::ForGood(told(&error))),
            Ok(Err(error)) => return Err(Broken::ForNow(told(&error))),
            Err(_) => return Err(Broken::ForNow(format!("{} did not answer", sender.to))),
        };
        let request = Request {
            called: sender.called.clone(),
            calling: sender.calling.clone(),
            contexts: contexts.to_vec(),
            max_pdu_length: dimse::limits::MAX_PDU_LENGTH,
        };
        connection.write(&request.bytes()).await.map_err(|error| Broken::ForNow(lost(&error)))?;
        let mut inbox = Inbox::with_capacity(INBOX);
        let mut requestor = Requestor::new(request);
        let answer = loop {
            match requestor.next(&mut inbox) {
                Ok(Some(answer)) => break answer,
                Ok(None) => fill(&mut connection, &mut inbox).await.map_err(Broken::ForNow)?,
                Err(violation) => return Err(Broken::ForGood(format!("the receiver broke the protocol: {violation}"))),
            }
        };
        match answer {
            Answer::Accepted(requested) => Ok(Self { connection, inbox, requested, message_id: 0 }),
            Answer::Rejected { result: 1, source, reason } => Err(Broken::ForGood(rejected(1, source, reason))),
            Answer::Rejected { result, source, reason } => Err(Broken::ForNow(rejected(result, source, reason))),
            Answer::Aborted(_) => Err(Broken::ForNow("the receiver aborted the association request".to_owned())),
        }
    }

    async fn store(&mut self, file: &Outgoing) -> Result<Status, Trouble> {
        let unreadable = |error: std::io::Error| Trouble::File(format!("cannot be read: {error}"));
        let (class, syntax) = pair(file);
        let Some(context) = self.requested.accepted(&class, &syntax) else {
            return Err(Trouble::File(not_accepted(&class, &syntax)));
        };
        let mut data_set = File::open(&file.path).await.map_err(unreadable)?;
        data_set.seek(SeekFrom::Start(file.start.data_set)).await.map_err(unreadable)?;
        self.message_id = self.message_id.wrapping_add(1);
        let claim = InstanceClaim { class, instance: file.start.instance.clone(), transfer_syntax: syntax };
        let command = self.requested.store_command(context, self.message_id, &claim);
        self.write_more(&command).await?;
        self.data_set(context, data_set, file.size).await?;
        loop {
            match self.requested.next(&mut self.inbox) {
                Ok(Some(Reply::Response { status, comment, .. })) => {
                    let comment = comment.map(Phi::into_revealed);
                    return Ok(Status { code: status, comment });
                }
                Ok(Some(_)) => return Err(Trouble::Line("the receiver ended the association".to_owned())),
                Ok(None) => fill(&mut self.connection, &mut self.inbox).await.map_err(Trouble::Line)?,
                Err(violation) => return Err(Trouble::Line(format!("the receiver broke the protocol: {violation}"))),
            }
        }
    }

    /// One PDV to a PDU, as large as the receiver takes.
    async fn data_set(&mut self, context: u8, mut file: File, size: u64) -> Result<(), Trouble> {
        let most = self.requested.max_fragment().min(dimse::limits::MAX_PDU_LENGTH as usize - PDU_HEADER);
        let mut pdu = vec![0; PDU_HEADER + most];
        let mut left = size;
        loop {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(most);
            let (header, payload) = pdu.split_at_mut(PDU_HEADER);
            let cut = |error| Trouble::Line(format!("a file became shorter while it was sent: {error}"));
            file.read_exact(&mut payload[..count]).await.map_err(cut)?;
            left -= count as u64;
            header.copy_from_slice(&self.requested.data_header(context, count, left == 0));
            let whole = PDU_HEADER + count;
            if left == 0 {
                return self.connection.write(&pdu[..whole]).await.map_err(|error| Trouble::Line(lost(&error)));
            }
            self.write_more(&pdu[..whole]).await?;
        }
    }

    async fn write_more(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.connection.write_more(bytes).await.map_err(|error| Trouble::Line(lost(&error)))
    }

    /// Releases in good order; everything was answered, so trouble here is no loss.
    async fn release(mut self) {
        if self.connection.write(&self.requested.release()).await.is_err() {
            return;
        }
        while let Ok(None) = self.requested.next(&mut self.inbox) {
            if fill(&mut self.connection, &mut self.inbox).await.is_err() {
                return;
            }
        }
        self.connection.close().await;
    }
}

async fn fill(connection: &mut Connection, inbox: &mut Inbox) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, connection.read(inbox.space())).await {
        Ok(Ok(0)) => Err("the receiver closed the connection; its audit log has the reason".to_owned()),
        Ok(Ok(count)) => {
            inbox.filled(count);
            Ok(())
        }
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(format!("the receiver said nothing for {} s", PATIENCE.as_secs())),
    }
}

fn lost(error: &std::io::Error) -> String {
    format!("the connection was lost: {error}; if it is refused each time, ask the receiver's audit log for the reason")
}

fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn not_accepted(class: &Uid<SopClass>, syntax: &Uid<TransferSyntax>) -> String {
    let class = model::sop_class::keyword(class).unwrap_or(class.as_str()).to_owned();
    let syntax = model::transfer_syntax::keyword(syntax).unwrap_or(syntax.as_str());
    format!("the receiver does not take {class} in {syntax} from this identity")
}

/// PS3.8 Table 9-21, in words that say what to do.
fn rejected(result: u8, source: u8, reason: u8) -> String {
    let why = match (result, source, reason) {
        (1, 1, 1) => "no reason given: this identity has no row that is in force in the receiver's access table",
        (1, 1, 2) => "application context not supported",
        (1, 1, 3) => "this identity may not use this calling AE title; see --calling",
        (1, 1, 7) => "the receiver does not answer to this called AE title; see --called",
        (1, 2, 2) => "protocol version not supported",
        (2, 3, 1) => "the receiver is draining or busy; try again later",
        (2, 3, 2) => "the receiver has as many associations as it may; try again later or lower --jobs",
        _ => "unusual reason",
    };
    format!("association rejected {result}/{source}/{reason}: {why}")
}

/// Reads the parts of [`Sender`] that a file may give.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderFile {
    /// PEM file: our certificate.
    pub cert: Option<PathBuf>,
    /// PEM file: our private key.
    pub key: Option<PathBuf>,
    /// PEM file: the authority of the receiver's trust domain.
    pub ca: Option<PathBuf>,
    /// The receiver's SPIFFE ID.
    pub receiver: Option<SpiffeId>,
    /// `HOST:PORT`.
    pub to: Option<String>,
    /// Called AE title.
    pub called: Option<AeTitle>,
    /// Calling AE title.
    pub calling: Option<AeTitle>,
}

impl SenderFile {
    /// Reads a TOML file; its paths are relative to it.
    ///
    /// # Errors
    /// When it cannot be read or has an unknown key.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut file: Self = match toml::from_str(&text) {
            Ok(file) => file,
            Err(error) => bail!("{}: {error}", path.display()),
        };
        let base = path.parent().unwrap_or(Path::new("."));
        for path in [&mut file.cert, &mut file.key, &mut file.ca].into_iter().flatten() {
            *path = base.join(&*path);
        }
        Ok(file)
    }
}
