//! The line to one peer: its bytes, its clocks, and everything that can end an association while it waits.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Denial, Grant, Origin, Trust, VerifiedPeer};
use dimse::{Abort, Inbox, Limits, Violation};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use transport::Connection;

use crate::answer::told;
use crate::audit::{Decision, Subject, Verdict};
use crate::house::{House, now};
use crate::telemetry;

/// Bytes held of what a peer sent and was not looked at yet. P-DATA is handed on as it arrives, so a PDU need not fit.
const INBOX: usize = 64 * 1024;
/// All clocks of an association are looked at this often: one timer instead of six.
const TICK: Duration = Duration::from_millis(250);
/// What is on its way to a peer that goes away has this long.
const FAREWELL: Duration = Duration::from_secs(1);
/// A sender in the middle of a message that stays below this for a minute is holding a place, not sending (CV-13).
const LEAST_BYTES_PER_MINUTE: u64 = 60 * 4 * 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woke {
    /// There are more bytes in the inbox.
    Bytes,
    /// In the middle of a message, nothing came for a tick.
    Tick,
}

/// What the association waits for; says which clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Sta2: the association request (ARTIM).
    Request,
    /// Sta6, between messages.
    Boundary,
    /// Sta6, in the middle of a message.
    Message,
}

/// How an association ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("released")]
    Released,
    #[error("rejected")]
    Rejected,
    #[error("the peer aborted")]
    PeerAborted(Abort),
    #[error("the peer closed the connection without a release")]
    PeerGone,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("{0}")]
    Violated(Violation),
    #[error("no association request within {} s", .0.as_secs())]
    NoRequest(Duration),
    #[error("nothing said for {} s between two messages", .0.as_secs())]
    Idle(Duration),
    #[error("nothing said for {} s in the middle of a message", .0.as_secs())]
    Stalled(Duration),
    #[error("less than 4 KiB/s for a minute in the middle of a message")]
    TooSlow,
    #[error("the right was withdrawn: {0}")]
    Withdrawn(Denial),
    #[error("the caller's certificate is no longer accepted: {0}")]
    Distrusted(access::Rejection),
    #[error("more refusals than an association may collect")]
    TooManyDenials,
    #[error("the association is older than {} s; the sender may open a new one", .0.as_secs())]
    TooOld(Duration),
    #[error("the receiver is shutting down")]
    Shutdown,
}

impl End {
    /// The reason code for the audit log and metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::PeerAborted(_) => "peer_aborted",
            Self::PeerGone | Self::Broken(_) => "connection_lost",
            Self::Violated(_) => "protocol_violation",
            Self::NoRequest(_) => "artim",
            Self::Idle(_) => "idle",
            Self::Stalled(_) => "stalled",
            Self::TooSlow => "slow",
            Self::Withdrawn(denial) => denial.code.as_str(),
            Self::Distrusted(rejection) => rejection.code.as_str(),
            Self::TooManyDenials => "too_many_denials",
            Self::TooOld(_) => "max_age",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the peer is told: nothing when it is gone or knows already. A broken protocol is the provider's to abort
    /// (PS3.8 §9.3.8), everything else is ours, the user's.
    fn abort(&self) -> Option<Abort> {
        match self {
            Self::Released | Self::Rejected | Self::PeerAborted(_) | Self::PeerGone | Self::Broken(_) => None,
            // Sta2, Evt18: the connection is just closed (PS3.8 Table 9-10, AA-2).
            Self::NoRequest(_) => None,
            Self::Violated(violation) => Some(violation.abort()),
            _ => Some(Abort::user()),
        }
    }

    fn decision(&self) -> Decision {
        match self {
            Self::Released | Self::Rejected | Self::PeerAborted(_) | Self::PeerGone | Self::Broken(_) => Decision::Note,
            _ => Decision::Terminate,
        }
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation)
    }
}

pub(crate) struct Line {
    house: Arc<House>,
    connection: Connection,
    pub(crate) inbox: Inbox,
    number: u64,
    grant: Option<Arc<Grant>>,
    policy: watch::Receiver<u64>,
    /// The certificates that vouched for the peer last.
    pub(crate) vouched: Arc<Trust>,
    tick: Interval,
    begun: Instant,
    heard: Instant,
    /// When the clocks were last looked at.
    looked: Instant,
    /// When the last wait ended. What we do between two waits is not charged to the peer.
    left: Instant,
    /// Since when, and how many bytes came since: looked at while in the middle of a message.
    pace: (Instant, u64),
    pub(crate) stored: u64,
    pub(crate) refused: u64,
}

impl Line {
    /// `policy` was watched, and `vouched` taken, before the handshake: no change can fall between a decision and the watch.
    pub(crate) fn new(
        house: Arc<House>,
        connection: Connection,
        number: u64,
        (policy, vouched): (watch::Receiver<u64>, Arc<Trust>),
    ) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let begun = Instant::now();
        Self {
            policy,
            vouched,
            inbox: Inbox::with_capacity(INBOX),
            house,
            connection,
            number,
            grant: None,
            tick,
            begun,
            heard: begun,
            looked: begun,
            left: begun,
            pace: (begun, 0),
            stored: 0,
            refused: 0,
        }
    }

    pub(crate) fn peer(&self) -> &Arc<VerifiedPeer> {
        self.connection.peer()
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.connection.origin()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { max_pdu_length: self.house.config.dicom.max_pdu_length, ..Limits::default() }
    }

    /// From here on the association lives by this grant.
    pub(crate) fn grant(&mut self, grant: Arc<Grant>) {
        self.grant = Some(grant);
    }

    pub(crate) async fn record(&self, verdict: Verdict) {
        self.house.audit.record(verdict.association(self.number).peer(self.peer(), self.origin())).await;
    }

    /// Writes down a refusal of the association.
    pub(crate) async fn deny(&self, verdict: Verdict) {
        metrics::counter!(telemetry::AUTHZ_DENY, "reason" => verdict.reason().to_owned()).increment(1);
        self.record(verdict).await;
    }

    /// One write, flushed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stall = self.house.config.dicom.stall;
        tokio::select! {
            biased;
            () = self.house.halt.cancelled() => Err(End::Shutdown),
            written = tokio::time::timeout(stall, self.connection.write(bytes)) => match written {
                Ok(written) => written.map_err(End::Broken),
                // A peer that does not read its answers.
                Err(_) => Err(End::Stalled(stall)),
            },
        }
    }

    /// Waits for more bytes, or for a reason to end. What ends comes first. Safe to cancel.
    pub(crate) async fn more(&mut self, phase: Phase) -> Result<Woke, End> {
        let away = self.left.elapsed();
        self.heard += away;
        self.pace.0 += away;
        if phase == Phase::Boundary {
            self.at_boundary()?;
        }
        let woke = self.wait(phase).await;
        self.left = Instant::now();
        woke
    }

    async fn wait(&mut self, phase: Phase) -> Result<Woke, End> {
        loop {
            tokio::select! {
                biased;
                () = self.house.halt.cancelled() => return Err(End::Shutdown),
                () = self.house.drain.cancelled(), if phase == Phase::Boundary => return Err(End::Shutdown),
                _ = self.policy.changed() => self.still_granted(phase)?,
                read = self.connection.read(self.inbox.space()) => {
                    let count = read.map_err(End::Broken)?;
                    if count == 0 {
                        return Err(End::PeerGone);
                    }
                    self.inbox.filled(count);
                    self.heard = Instant::now();
                    self.pace.1 += count as u64;
                    // A peer whose bytes are always there never lets the tick have its turn.
                    if self.looked.elapsed() > TICK {
                        self.look_at_the_clock(phase)?;
                    }
                    return Ok(Woke::Bytes);
                }
                _ = self.tick.tick() => {
                    self.look_at_the_clock(phase)?;
                    if phase == Phase::Message {
                        return Ok(Woke::Tick);
                    }
                }
            }
        }
    }

    /// Reasons that wait for a message to be over.
    fn at_boundary(&mut self) -> Result<(), End> {
        self.pace = (Instant::now(), 0);
        if self.house.drain.is_cancelled() {
            return Err(End::Shutdown);
        }
        self.not_older_than(Duration::ZERO)
    }

    /// The ends of an association: its greatest age, its certificate's and its row's (CV-2, CV-8, CV-12). In the middle of a
    /// message there is some grace; the commit gate decides about the instance.
    fn not_older_than(&mut self, grace: Duration) -> Result<(), End> {
        let age = self.house.config.dicom.max_association_age;
        if self.begun.elapsed() >= age + grace {
            return Err(End::TooOld(age));
        }
        match &self.grant {
            Some(grant) if now() >= grant.expires().plus(grace) => self.still_granted(Phase::Boundary),
            _ => Ok(()),
        }
    }

    /// Table or certificates changed, or time ran out: does what was granted still stand? A right that was narrowed is
    /// asked for again at each instance and at its commit; one that is gone ends the association where it is (CV-4, CV-5).
    ///
    /// Before there is a grant this decides nothing: table and certificates are asked when the request has come.
    fn still_granted(&mut self, phase: Phase) -> Result<(), End> {
        let Some(grant) = &self.grant else { return Ok(()) };
        self.house.live.still_trusts(grant.peer(), &mut self.vouched).map_err(End::Distrusted)?;
        match self.house.live.table().still_grants(grant, now()) {
            Err(denial) if phase == Phase::Boundary || !denial.can_wait() => Err(End::Withdrawn(denial)),
            _ => Ok(()),
        }
    }

    fn look_at_the_clock(&mut self, phase: Phase) -> Result<(), End> {
        self.looked = Instant::now();
        let dicom = &self.house.config.dicom;
        let silent = self.heard.elapsed();
        match phase {
            // The whole request has to come in time, not just its next byte.
            Phase::Request if self.begun.elapsed() > dicom.artim => Err(End::NoRequest(dicom.artim)),
            Phase::Boundary if silent > dicom.idle => Err(End::Idle(dicom.idle)),
            Phase::Message if silent > dicom.stall => Err(End::Stalled(dicom.stall)),
            Phase::Request => Ok(()),
            Phase::Boundary => self.at_boundary(),
            Phase::Message => {
                let grace = dicom.boundary_grace;
                self.not_older_than(grace)?;
                self.look_at_the_pace()
            }
        }
    }

    fn look_at_the_pace(&mut self) -> Result<(), End> {
        let (since, bytes) = self.pace;
        if since.elapsed() < MINUTE {
            return Ok(());
        }
        self.pace = (Instant::now(), 0);
        if bytes < LEAST_BYTES_PER_MINUTE { Err(End::TooSlow) } else { Ok(()) }
    }

    /// Tells the peer if it must be told, writes down how it ended, and waits for it to close (Sta13).
    pub(crate) async fn hang_up(mut self, end: End) {
        self.write_down(&end).await;
        if let Some(abort) = end.abort() {
            // The peer may be gone or not reading: that it could not be told changes nothing.
            let _ = tokio::time::timeout(FAREWELL, self.connection.write(&abort.bytes())).await;
        }
        match end {
            End::PeerGone | End::Broken(_) | End::PeerAborted(_) | End::NoRequest(_) => {}
            _ => self.await_close().await,
        }
        let _ = tokio::time::timeout(FAREWELL, self.connection.close()).await;
    }

    /// Sta13 (PS3.8 §9.2): the peer closes, or ARTIM runs out. Closing first, with bytes unread, would have the kernel reset
    /// the connection and the peer lose what it was told.
    async fn await_close(&mut self) {
        let closed = async {
            let mut rest = [0; 4096];
            while self.connection.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        };
        tokio::select! {
            () = self.house.halt.cancelled() => {}
            _ = tokio::time::timeout(self.house.config.dicom.artim, closed) => {}
        }
    }

    async fn write_down(&self, end: &End) {
        let (code, stored, refused) = (end.code(), self.stored, self.refused);
        tracing::Span::current().record("stored", stored).record("refused", refused);
        metrics::counter!(telemetry::ASSOCIATIONS_ENDED, "reason" => code).increment(1);
        if end.decision() == Decision::Terminate {
            metrics::counter!(telemetry::AUTHZ_TERMINATE, "reason" => code).increment(1);
        }
        match end {
            End::Released => tracing::info!(stored, refused, "association released"),
            End::Rejected => tracing::warn!("association rejected; the audit log has the reason"),
            _ => tracing::warn!(stored, refused, reason = code, "association ended: {}", told(end)),
        }
        let verdict = Verdict::new(Subject::Association, end.decision(), code).detail(told(end));
        let verdict = match &self.grant {
            Some(grant) => verdict.grant(grant).titles(grant.proposal()),
            None => verdict,
        };
        self.record(verdict.counts(stored, refused)).await;
    }
}
