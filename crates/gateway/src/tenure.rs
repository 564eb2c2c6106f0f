//! How long an association may go on: everything that can end it but the peer itself (CV-2 to CV-8, CV-12, CV-13).
//!
//! It is told the time and touches no socket, so every way to end is tested with a clock of the test's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Denial, Grant, Trust};
use model::Timestamp;

use crate::config::Dicom;
use crate::end::End;
use crate::life::{Life, Phase};
use crate::live::{Fallen, Live, Moment};
use crate::quotas::Place;

/// One association's clocks and rights.
pub(crate) struct Tenure {
    pub(crate) life: Life,
    granted: Option<Granted>,
    /// The certificates that vouched for the peer last.
    pub(crate) vouched: Arc<Trust>,
    /// When it was last found to stand.
    stood: Instant,
    /// Since when the association only lives until its next boundary.
    fallen: Option<Instant>,
    /// How long after a change came into force it ended this association.
    lag: Option<Duration>,
}

/// What a live association lives by.
struct Granted {
    grant: Arc<Grant>,
    place: Place,
}

impl Tenure {
    /// Of a connection that `vouched` let in.
    pub(crate) fn begin(vouched: Arc<Trust>, at: Instant) -> Self {
        Self { life: Life::begin(at), granted: None, vouched, stood: at, fallen: None, lag: None }
    }

    /// From here on the association lives by this grant, in this place.
    pub(crate) fn grant_with(&mut self, grant: Arc<Grant>, place: Place) {
        self.granted = Some(Granted { grant, place });
    }

    pub(crate) fn grant(&self) -> Option<&Arc<Grant>> {
        self.granted.as_ref().map(|granted| &granted.grant)
    }

    pub(crate) fn lag(&self) -> Option<Duration> {
        self.lag
    }

    /// A message is over and the next has not begun.
    pub(crate) fn at_boundary(&mut self, live: &Live, dicom: &Dicom, moment: Moment) -> Result<(), End> {
        self.life.not_too_old(dicom, Phase::Boundary, moment.at)?;
        self.still_stands(live, dicom, Phase::Boundary, moment)
    }

    /// Looks at every clock, and at the rights: time alone can end them, as it ends a certificate, a row and its window.
    pub(crate) fn look(&mut self, live: &Live, dicom: &Dicom, phase: Phase, moment: Moment) -> Result<(), End> {
        self.life.look(dicom, phase, moment.at)?;
        self.still_stands(live, dicom, phase, moment)
    }

    /// Table, certificates or suspensions changed, or time passed: does what was granted still stand?
    ///
    /// A right that is gone ends the association where it is (CV-4). One that was narrowed or whose time is up is asked for
    /// again at each instance and at its commit, and ends the association at the next boundary, or when it does not come to
    /// one within the grace (CV-5, CV-12).
    ///
    /// Before there is a grant this decides nothing: everything is asked when the request has come.
    pub(crate) fn still_stands(&mut self, live: &Live, dicom: &Dicom, phase: Phase, moment: Moment) -> Result<(), End> {
        let Some(Granted { grant, place }) = &self.granted else { return Ok(()) };
        let since = live.registry.in_force().since;
        let stands = live.stands(grant, &mut self.vouched, moment);
        match stands.and_then(|()| has_its_place(live, grant, place).map_err(Fallen::Withdrawn)) {
            Err(fallen) if phase == Phase::Message && fallen.can_wait() => {
                let since = *self.fallen.get_or_insert(moment.at);
                let patient = moment.at.saturating_duration_since(since) < dicom.boundary_grace;
                if patient { Ok(()) } else { Err(fallen.into()) }
            }
            Err(fallen) => {
                // A change that came since it last stood, and that does not wait for a boundary, is what ends it.
                let by_change = since >= self.stood && !fallen.can_wait();
                self.lag = by_change.then(|| moment.at.saturating_duration_since(since));
                Err(fallen.into())
            }
            Ok(()) if phase == Phase::Boundary && moment.wall >= rotation(grant, dicom.rotate_hint) => {
                Err(End::Expiring(grant.peer().svid().not_after()))
            }
            Ok(()) => {
                self.stood = moment.at;
                self.fallen = None;
                Ok(())
            }
        }
    }
}

/// CV-3: when a sender is sent away to come back with its new certificate. A certificate that had little left when it came is
/// given most of it, so that nobody is turned away for ever.
fn rotation(grant: &Grant, hint: Duration) -> Timestamp {
    let (peer, end) = (grant.peer(), grant.peer().svid().not_after());
    end.minus(hint.min(end.since(peer.established()) / 4))
}

fn has_its_place(live: &Live, grant: &Grant, place: &Place) -> Result<(), Denial> {
    let table = live.table();
    let row = table.rows().iter().find(|row| row.id() == grant.row().id());
    row.map_or(Ok(()), |row| place.still_there(&table, row))
}

#[cfg(test)]
mod tests;
