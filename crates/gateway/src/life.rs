//! The clocks of one association, without a clock: each is told the time.

use std::time::{Duration, Instant};

use crate::config::Dicom;
use crate::end::End;

/// All clocks are looked at this often: one timer instead of six.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// A sender in the middle of a message that stays below this for a minute is holding a place, not sending (CV-13).
const LEAST_BYTES_PER_MINUTE: u64 = 60 * 4 * 1024;
const MINUTE: Duration = Duration::from_secs(60);

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

/// What has been seen of the peer, and when.
#[derive(Debug)]
pub(crate) struct Life {
    begun: Instant,
    heard: Instant,
    /// When the clocks were last looked at.
    looked: Instant,
    /// When the last wait ended.
    left: Instant,
    /// Since when, and how many bytes came since: looked at while in the middle of a message.
    pace: (Instant, u64),
}

impl Life {
    pub(crate) fn begin(at: Instant) -> Self {
        Self { begun: at, heard: at, looked: at, left: at, pace: (at, 0) }
    }

    pub(crate) fn age(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }

    /// A wait for the peer begins. What we did since the last one is not charged to it.
    pub(crate) fn wait(&mut self, phase: Phase, at: Instant) {
        let away = at.saturating_duration_since(self.left);
        self.heard += away;
        self.pace.0 += away;
        if phase == Phase::Boundary {
            self.pace = (at, 0);
        }
    }

    /// The wait is over.
    pub(crate) fn woke(&mut self, at: Instant) {
        self.left = at;
    }

    /// So many bytes came. True when the clocks are due: a peer whose bytes are always there never lets a timer have its turn.
    pub(crate) fn heard(&mut self, count: usize, at: Instant) -> bool {
        self.heard = at;
        self.pace.1 += count as u64;
        at.saturating_duration_since(self.looked) > TICK
    }

    /// Looks at every clock that counts in this phase.
    pub(crate) fn look(&mut self, dicom: &Dicom, phase: Phase, at: Instant) -> Result<(), End> {
        self.looked = at;
        let silent = at.saturating_duration_since(self.heard);
        match phase {
            // The whole request has to come in time, not just its next byte.
            Phase::Request if self.age(at) > dicom.artim => Err(End::NoRequest(dicom.artim)),
            Phase::Request => Ok(()),
            Phase::Boundary if silent > dicom.idle => Err(End::Idle(dicom.idle)),
            Phase::Boundary => self.not_too_old(dicom, phase, at),
            Phase::Message if silent > dicom.stall => Err(End::Stalled(dicom.stall)),
            Phase::Message => {
                self.not_too_old(dicom, phase, at)?;
                self.keeps_pace(at)
            }
        }
    }

    /// CV-8: at its greatest age an association ends between two messages; an instance in flight has some grace.
    pub(crate) fn not_too_old(&self, dicom: &Dicom, phase: Phase, at: Instant) -> Result<(), End> {
        let age = dicom.max_association_age;
        let grace = if phase == Phase::Message { dicom.boundary_grace } else { Duration::ZERO };
        if self.age(at) >= age + grace { Err(End::TooOld(age)) } else { Ok(()) }
    }

    fn keeps_pace(&mut self, at: Instant) -> Result<(), End> {
        let (since, bytes) = self.pace;
        if at.saturating_duration_since(since) < MINUTE {
            return Ok(());
        }
        self.pace = (at, 0);
        if bytes < LEAST_BYTES_PER_MINUTE { Err(End::TooSlow) } else { Ok(()) }
    }
}
