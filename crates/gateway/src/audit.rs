//! The audit log: one JSON line for each verdict, no patient data.
//!
//! Lines are written in order by one thread behind a bounded queue: whoever decides waits when the disk cannot follow, so
//! no verdict is lost to pressure. Lines that cannot be written are an error in the log and a metric. A verdict is queued
//! before its answer is sent and written right after: a process killed in between loses the line and not the instance, whose
//! index row says who sent it, under which row's revision, and when.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::JoinHandle;

use access::{Denial, Grant, Origin, Rejection, VerifiedPeer};
use model::{AeTitle, Digest, InstanceClaim, InstanceName, SopClass, SpiffeId, Tenant, Timestamp, TransferSyntax, Uid};
use serde::Serialize;
use tokio::sync::mpsc;

/// Verdicts that may wait for the disk; about 2 MB. A full queue makes the decider wait.
const QUEUE: usize = 2048;

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The process started.
    Startup,
    /// The process ends.
    Shutdown,
    /// A TLS connection, before any DICOM.
    Connection,
    /// An association.
    Association,
    /// One instance.
    Instance,
    /// The access table or the certificates were loaded again.
    Policy,
    /// One identity, beyond a single association.
    Identity,
    /// A study became stable.
    Study,
}

/// The verdict itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Done as asked.
    Allow,
    /// Refused.
    Deny,
    /// Something live was ended.
    Terminate,
    /// Would have been refused.
    Observe,
    /// Something happened that an auditor wants to know.
    Note,
}

/// One line of the audit log. Fields that say nothing are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    ts: Timestamp,
    event: Subject,
    decision: Decision,
    /// A stable code: what `access`, `transport` and the session call it.
    reason: String,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    association: Option<u64>,
    #[serde(flatten)]
    facts: Facts,
}

/// Everything that a verdict may carry.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(default)]
struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<SpiffeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_peer: Option<SocketAddr>,
    /// The caller's own address, as the load balancer claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SocketAddr>,
    /// The VPC endpoint, as the load balancer claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    called_ae: Option<AeTitle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calling_ae: Option<AeTitle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sop_class: Option<Uid<SopClass>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_syntax: Option<Uid<TransferSyntax>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    study: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<&'static str>,
}

impl Verdict {
    /// A verdict with nothing but its kind and reason code.
    #[must_use]
    pub fn new(event: Subject, decision: Decision, reason: impl Into<String>) -> Self {
        let ts = crate::clock::now();
        Self { ts, event, decision, reason: reason.into(), detail: None, association: None, facts: Facts::default() }
    }

    /// A refusal or termination by the table.
    #[must_use]
    pub fn denial(event: Subject, decision: Decision, denial: &Denial) -> Self {
        let mut verdict = Self::new(event, decision, denial.code.as_str()).detail(denial.to_string());
        verdict.facts.row.clone_from(&denial.row);
        verdict
    }

    /// A certificate that broke a rule.
    #[must_use]
    pub fn rejection(rejection: &Rejection) -> Self {
        let verdict = Self::new(Subject::Connection, Decision::Deny, rejection.code.as_str());
        let mut verdict = verdict.detail(rejection.to_string());
        verdict.facts.rule = Some(rejection.code.rule());
        verdict.facts.spiffe_id.clone_from(&rejection.claimed);
        verdict.facts.leaf_sha256 = rejection.leaf;
        verdict.facts.serial.clone_from(&rejection.serial);
        verdict.facts.not_after = rejection.not_after;
        verdict
    }

    /// Whom it is about, when there is no connection.
    #[must_use]
    pub fn id(mut self, id: &SpiffeId) -> Self {
        self.facts.spiffe_id = Some(id.clone());
        self
    }

    /// An alert.
    #[must_use]
    pub fn alert(mut self, code: &'static str) -> Self {
        self.facts.alert = Some(code);
        self
    }

    /// Lag.
    #[must_use]
    pub fn lag(self, _lag: std::time::Duration) -> Self {
        self
    }

    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Adds a sentence for people. It must hold nothing that a peer wrote, unless that was parsed first.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds which association it was.
    #[must_use]
    pub fn association(mut self, id: u64) -> Self {
        self.association = Some(id);
        self
    }

    /// Adds where the connection came from: by its socket, and by what a load balancer claims.
    #[must_use]
    pub fn origin(mut self, origin: &Origin) -> Self {
        self.facts.socket_peer = Some(origin.socket);
        self.facts.source = origin.source;
        self.facts.vpce.clone_from(&origin.vpce);
        self
    }

    /// Adds who it was and how it proved it.
    #[must_use]
    pub fn peer(mut self, peer: &VerifiedPeer, origin: &Origin) -> Self {
        let svid = peer.svid();
        self.facts.spiffe_id = Some(svid.id().clone());
        self.facts.trust_domain = Some(svid.id().trust_domain().to_string());
        self.facts.leaf_sha256 = Some(svid.leaf_digest());
        self.facts.serial = Some(svid.serial().to_owned());
        self.facts.not_after = Some(svid.not_after());
        self.facts.tls_version = Some(peer.tls_version());
        self.facts.tls_suite = Some(peer.cipher_suite());
        self.origin(origin)
    }

    /// Adds the titles that the caller typed.
    #[must_use]
    pub fn titles(mut self, proposal: &model::Proposal) -> Self {
        self.facts.called_ae = Some(proposal.called.clone());
        self.facts.calling_ae = Some(proposal.calling.clone());
        self
    }

    /// Adds the row that granted, and the revision of its table.
    #[must_use]
    pub fn grant(mut self, grant: &Grant) -> Self {
        self.facts.row = Some(grant.row().id().to_owned());
        self.facts.policy_revision = Some(grant.table_revision());
        self.facts.tenant = Some(grant.tenant().clone());
        self
    }

    /// Adds the table in force.
    #[must_use]
    pub fn policy(mut self, table: &access::Table) -> Self {
        self.facts.policy_revision = Some(table.revision());
        self.facts.policy_sha256 = Some(table.digest());
        self
    }

    /// Adds what the command said was coming.
    #[must_use]
    pub fn claim(mut self, claim: &InstanceClaim) -> Self {
        self.facts.sop_class = Some(claim.class.clone());
        self.facts.transfer_syntax = Some(claim.transfer_syntax.clone());
        self.facts.instance = Some(claim.instance.to_string());
        self
    }

    /// Adds what the data set said it was.
    #[must_use]
    pub fn name(mut self, name: &InstanceName) -> Self {
        self.facts.study = Some(name.study.to_string());
        self.facts.series = Some(name.series.to_string());
        self
    }

    /// Adds what was stored where.
    #[must_use]
    pub fn receipt(mut self, receipt: &store::Receipt) -> Self {
        self.facts.sha256 = Some(receipt.digest());
        self.facts.bytes = Some(receipt.size());
        self.facts.object = Some(receipt.object().to_owned());
        if receipt.cross_tenant() {
            self.facts.alert = Some("cross_tenant_uid");
        }
        self
    }

    /// Adds the status answered.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.facts.status = Some(format!("{status:04X}"));
        self
    }

    /// Adds how an association went.
    #[must_use]
    pub fn counts(mut self, stored: u64, refused: u64) -> Self {
        self.facts.stored = Some(stored);
        self.facts.refused = Some(refused);
        self
    }

    /// Adds the event of a stable study.
    #[must_use]
    pub fn stable(mut self, event: &study::Event) -> Self {
        self.facts.tenant = Some(event.tenant.clone());
        self.facts.study = Some(event.study.to_string());
        self.facts.generation = Some(event.generation);
        self.facts.object = Some(event.manifest.clone());
        self
    }
}

/// shim
#[derive(Debug)]
pub struct AuditFailed;

/// The log. Clones write to the same file.
#[derive(Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<Entry>,
}

/// What is handed to the writer.
enum Entry {
    Verdict(Box<Verdict>),
    /// The last one: whoever still has a log writes into the void.
    End,
}

/// The thread that writes.
pub struct AuditWriter {
    thread: JoinHandle<()>,
    queue: mpsc::Sender<Entry>,
}

impl AuditWriter {
    /// Waits until everything recorded so far is on disk, and ends the log.
    pub async fn finish(self) {
        if self.queue.send(Entry::End).await.is_ok() {
            let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
        }
    }
}

impl AuditLog {
    /// Opens or creates the file (mode 0600) and begins to write.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn open(path: &Path) -> io::Result<(Self, AuditWriter)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        end_torn_line(&mut file)?;
        let (queue, entries) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(file, entries))?;
        Ok((Self { queue: queue.clone() }, AuditWriter { thread, queue }))
    }

    /// shim
    pub async fn record_durably(&self, verdict: Verdict) -> Result<(), AuditFailed> {
        self.record(verdict).await;
        Ok(())
    }

    /// shim
    pub async fn reopen(&self) {}

    /// shim
    pub fn healthy(&self) -> bool {
        true
    }

    /// Hands a verdict to the writer; waits while the queue is full.
    pub async fn record(&self, verdict: Verdict) {
        if self.queue.send(Entry::Verdict(Box::new(verdict))).await.is_err() {
            tracing::error!("the audit writer is gone; a verdict was not recorded");
        }
    }
}

/// A process that was killed may have left half a line: the next one must not be glued to it.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn write_all(mut file: File, mut entries: mpsc::Receiver<Entry>) {
    let mut lines = Vec::new();
    let mut torn = false;
    let mut next = entries.blocking_recv();
    while let Some(Entry::Verdict(first)) = next {
        lines.clear();
        if std::mem::take(&mut torn) {
            lines.push(b'\n');
        }
        append(&mut lines, &first);
        // Whatever else is waiting goes with it.
        let last = loop {
            match entries.try_recv() {
                Ok(Entry::Verdict(verdict)) => append(&mut lines, &verdict),
                Ok(Entry::End) => break Some(Entry::End),
                Err(_) => break None,
            }
        };
        if let Err(error) = file.write_all(&lines) {
            // Part of it may be there.
            torn = true;
            metrics::counter!(crate::telemetry::AUDIT_FAILURES).increment(1);
            tracing::error!(%error, "the audit log cannot be written; free space or mend the disk");
        }
        next = last.or_else(|| entries.blocking_recv());
    }
    let _ = file.sync_all();
}

fn append(lines: &mut Vec<u8>, verdict: &Verdict) {
    serde_json::to_writer(&mut *lines, verdict).expect("a verdict is plain data");
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_torn_by_a_kill_does_not_spoil_the_next_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, b"{\"ts\":\"2026").expect("a fresh directory");
        let (log, writer) = AuditLog::open(&path).expect("it is writable");
        log.record(Verdict::new(Subject::Startup, Decision::Note, "startup")).await;
        writer.finish().await;
        let text = std::fs::read_to_string(&path).expect("it is there");
        let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("whole");
        assert_eq!(last["reason"], "startup");
    }
}
