//! The line to one peer: its bytes, its clocks, and everything that can end an association while it waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Origin, VerifiedPeer};
use dimse::{Inbox, Limits};
use tokio::time::{Interval, MissedTickBehavior};
use transport::Connection;

use crate::answer::told;
use crate::audit::{AuditFailed, Decision, Subject, Verdict};
use crate::end::End;
use crate::house::{Guest, House};
use crate::life::{Phase, TICK};
use crate::live::Moment;
use crate::telemetry;
use crate::tenure::Tenure;

/// Bytes held of what a peer sent and was not looked at yet. P-DATA is handed on as it arrives, so a PDU need not fit.
const INBOX: usize = 64 * 1024;
/// What is on its way to a peer that goes away has this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woke {
    /// There are more bytes in the inbox.
    Bytes,
    /// In the middle of a message, nothing came for a tick.
    Tick,
}

pub(crate) struct Line {
    house: Arc<House>,
    connection: Connection,
    pub(crate) inbox: Inbox,
    pub(crate) guest: Guest,
    pub(crate) tenure: Tenure,
    tick: Interval,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
}

impl Line {
    /// The guest came in before the handshake: no change can fall between a decision and the watch.
    pub(crate) fn new(house: Arc<House>, connection: Connection, guest: Guest) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            tenure: Tenure::begin(guest.vouched.clone(), Instant::now()),
            tick,
            inbox: Inbox::with_capacity(INBOX),
            house,
            connection,
            guest,
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

    /// A verdict with what is known of the peer.
    fn signed(&self, verdict: Verdict) -> Verdict {
        verdict.association(self.guest.number).peer(self.peer(), self.origin())
    }

    pub(crate) async fn record(&self, verdict: Verdict) {
        self.house.audit.record(self.signed(verdict)).await;
    }

    /// As [`Line::record`], and waits until the record is durable.
    pub(crate) async fn record_durably(&self, verdict: Verdict) -> Result<(), AuditFailed> {
        self.house.audit.record_durably(self.signed(verdict)).await
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
        let moment = Moment::now();
        self.tenure.life.wait(phase, moment.at);
        if phase == Phase::Boundary {
            self.tenure.at_boundary(&self.house.live, &self.house.config.dicom, moment)?;
        }
        let woke = self.wait(phase).await;
        self.tenure.life.woke(Instant::now());
        woke
    }

    async fn wait(&mut self, phase: Phase) -> Result<Woke, End> {
        let house = self.house.clone();
        let (live, dicom) = (&house.live, &house.config.dicom);
        loop {
            tokio::select! {
                biased;
                () = house.halt.cancelled() => return Err(End::Shutdown),
                () = house.drain.cancelled(), if phase == Phase::Boundary => return Err(End::Shutdown),
                () = self.guest.changed.notified() => self.tenure.still_stands(live, dicom, phase, Moment::now())?,
                read = self.connection.read(self.inbox.space()) => {
                    let count = read.map_err(End::Broken)?;
                    if count == 0 {
                        return Err(End::PeerGone);
                    }
                    self.inbox.filled(count);
                    if self.tenure.life.heard(count, Instant::now()) {
                        self.tenure.look(live, dicom, phase, Moment::now())?;
                    }
                    return Ok(Woke::Bytes);
                }
                _ = self.tick.tick() => {
                    self.tenure.look(live, dicom, phase, Moment::now())?;
                    if phase == Phase::Message {
                        return Ok(Woke::Tick);
                    }
                }
            }
        }
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
        metrics::histogram!(telemetry::ASSOCIATION_AGE).record(self.tenure.life.age(Instant::now()));
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
        let verdict = match end.denial() {
            Some(denial) => verdict.row_of(denial).revision(self.house.live.table().revision()),
            None => verdict,
        };
        let verdict = match self.tenure.grant() {
            Some(grant) => verdict.grant(grant).titles(grant.proposal()),
            None => verdict,
        };
        let verdict = match self.tenure.lag() {
            Some(lag) => verdict.lag(lag),
            None => verdict,
        };
        self.record(verdict.counts(stored, refused)).await;
    }
}
