//! What is in force, and every decision that is made by it: D1 to D3 and D5 of the corridor, each by the table, the
//! certificates and the suspensions of this moment.
//!
//! Nothing here reads a file or a clock: `reload.rs` publishes what it has read, and each decision is told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::{
    AuthorisedInstance, Cleared, Denial, DenialCode, Grant, Origin, Permit, Rejection, RejectionCode, Table, Trust,
    VerifiedPeer,
};
use model::{InstanceClaim, Proposal, Timestamp};
use tokio::sync::Notify;

use crate::answer::Refusal;
use crate::clock;
use crate::config::Staleness;
use crate::registry::{Bell, Registry};
use crate::suspend::Suspensions;

/// One moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For validity: certificates, rows, windows.
    pub(crate) wall: Timestamp,
    /// For spans: ages, timeouts, staleness.
    pub(crate) at: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall: clock::now(), at: Instant::now() }
    }
}

/// One consistent set: never half of an old one and half of a new one.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) table: Arc<Table>,
    pub(crate) trust: Arc<Trust>,
    /// A table that decides nothing: what it would have decided otherwise is written down.
    pub(crate) shadow: Option<Arc<Table>>,
    /// When it came into force.
    pub(crate) since: Instant,
}

/// What was in force when somebody came in, and how changes reach them.
pub(crate) struct Ring(pub(crate) Arc<Notify>);

impl Bell for Ring {
    fn ring(&self) {
        // A permit is kept for who is not waiting just now.
        self.0.notify_one();
    }
}

/// A live association does not stand any more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fallen {
    Withdrawn(Denial),
    Distrusted(Rejection),
}

impl Fallen {
    /// Whether what is in flight may go on until the commit gate asks about it.
    pub(crate) fn can_wait(&self) -> bool {
        match self {
            Self::Withdrawn(denial) => denial.can_wait(),
            Self::Distrusted(rejection) => rejection.code == RejectionCode::Expired,
        }
    }
}

/// What is in force now.
pub(crate) struct Live {
    pub(crate) registry: Registry<InForce, Ring>,
    pub(crate) suspensions: Suspensions,
    freshness: Freshness,
}

impl Live {
    pub(crate) fn new(in_force: InForce, freshness: Freshness, suspensions: Suspensions) -> Self {
        Self { registry: Registry::new(in_force), suspensions, freshness }
    }

    /// Today's table.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.registry.in_force().table.clone()
    }

    /// Today's certificates.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.registry.in_force().trust.clone()
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// D1: before a byte of DICOM is read.
    ///
    /// # Errors
    /// Why this identity gets nothing.
    pub(crate) fn admit(
        &self,
        peer: &VerifiedPeer,
        origin: &Origin,
        moment: Moment,
    ) -> Result<(), (Denial, Arc<Table>)> {
        let table = self.table();
        let admitted = self.not_suspended(&table, peer, moment);
        admitted.and_then(|()| table.admit(peer, origin, moment.wall)).map_err(|denial| (denial, table))
    }

    /// D2, by the table of this moment: the request may have been a while in coming.
    ///
    /// # Errors
    /// Why not, and the table that says so.
    pub(crate) fn grant(
        &self,
        peer: &Arc<VerifiedPeer>,
        origin: &Origin,
        proposal: &Proposal,
        moment: Moment,
    ) -> Result<Grant, (Denial, Arc<Table>)> {
        let table = self.table();
        let granted = self
            .not_suspended(&table, peer, moment)
            .and_then(|()| table.admit(peer, origin, moment.wall))
            .and_then(|()| self.freshness.still_fresh(moment.at))
            .and_then(|()| table.grant(peer.clone(), origin.clone(), proposal.clone(), moment.wall));
        granted.map_err(|denial| (denial, table))
    }

    /// Whether the certificates in force still vouch for a peer; asked in full only when they are not those that did last.
    ///
    /// # Errors
    /// The rule that is broken by now.
    pub(crate) fn vouch(
        &self,
        peer: &VerifiedPeer,
        vouched: &mut Arc<Trust>,
        wall: Timestamp,
    ) -> Result<(), Rejection> {
        still_vouches(&self.trust(), peer, vouched, wall)
    }

    /// Whether a live association would still be granted (CV-2, CV-4 to CV-7, CV-12).
    ///
    /// # Errors
    /// What it lacks.
    pub(crate) fn stands(&self, grant: &Grant, vouched: &mut Arc<Trust>, moment: Moment) -> Result<(), Fallen> {
        let InForce { table, trust, .. } = &*self.registry.in_force();
        still_vouches(trust, grant.peer(), vouched, moment.wall).map_err(Fallen::Distrusted)?;
        self.not_suspended(table, grant.peer(), moment)
            .and_then(|()| table.still_grants(grant, moment.wall))
            .map_err(Fallen::Withdrawn)
    }

    /// D3, for each C-STORE-RQ, before a byte is kept.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn permit(
        &self,
        grant: &Arc<Grant>,
        claim: InstanceClaim,
        vouched: &mut Arc<Trust>,
        moment: Moment,
    ) -> Result<Permit, Refusal> {
        let table = self.decides(grant, vouched, moment)?;
        table.permit(grant, claim, moment.wall).map_err(Refusal::Denied)
    }

    /// D5, the commit gate.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn clear(
        &self,
        instance: &AuthorisedInstance,
        vouched: &mut Arc<Trust>,
        moment: Moment,
    ) -> Result<Cleared, Refusal> {
        let table = self.decides(instance.grant(), vouched, moment)?;
        instance.clear(&table, moment.wall).map_err(Refusal::Denied)
    }

    /// The table that decides about an instance, once everything beside it allows the sender.
    fn decides(&self, grant: &Grant, vouched: &mut Arc<Trust>, moment: Moment) -> Result<Arc<Table>, Refusal> {
        let in_force = self.registry.in_force();
        still_vouches(&in_force.trust, grant.peer(), vouched, moment.wall).map_err(Refusal::Distrusted)?;
        let table = in_force.table.clone();
        self.freshness.still_fresh(moment.at).map_err(Refusal::Denied)?;
        self.not_suspended(&table, grant.peer(), moment).map_err(Refusal::Denied)?;
        Ok(table)
    }

    fn not_suspended(&self, table: &Table, peer: &VerifiedPeer, moment: Moment) -> Result<(), Denial> {
        self.suspensions.check(table, peer.id(), moment.at)
    }
}

fn still_vouches(
    trust: &Arc<Trust>,
    peer: &VerifiedPeer,
    vouched: &mut Arc<Trust>,
    wall: Timestamp,
) -> Result<(), Rejection> {
    if !Arc::ptr_eq(trust, vouched) {
        trust.recheck(peer, wall)?;
        *vouched = trust.clone();
    }
    vouched.revocation_current(peer, wall)
}

/// How long table and certificates may go without being read again (CV-9). "Could not be read" and "could not be used" count
/// alike, and so does a watcher that hangs.
pub(crate) struct Freshness {
    staleness: Staleness,
    most: Duration,
    began: Instant,
    /// Milliseconds after `began` at which each was last read and found good.
    seen: [AtomicU64; 2],
    /// Why nothing may be decided, whatever was read: the clock was set under the strict profile.
    barred: Mutex<Option<String>>,
}

/// What is read again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Table,
    Certificates,
}

impl Source {
    pub(crate) const ALL: [Self; 2] = [Self::Table, Self::Certificates];

    /// For logs, metrics and audit records.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Table => "access table",
            Self::Certificates => "certificates",
        }
    }
}

impl Freshness {
    pub(crate) fn new(staleness: Staleness, most: Duration, began: Instant) -> Self {
        Self { staleness, most, began, seen: Default::default(), barred: Mutex::default() }
    }

    /// It was read and is good.
    pub(crate) fn seen(&self, source: Source, at: Instant) {
        let after = u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        self.seen[source as usize].store(after, Ordering::Relaxed);
    }

    /// Since it was last read and found good.
    pub(crate) fn age(&self, source: Source, at: Instant) -> Duration {
        let seen = Duration::from_millis(self.seen[source as usize].load(Ordering::Relaxed));
        at.saturating_duration_since(self.began + seen)
    }

    /// Nothing may be decided from now on.
    pub(crate) fn bar(&self, why: String) {
        *self.barred.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// # Errors
    /// `policy_stale`: what is in force may be out of date, and nothing new is decided by it.
    pub(crate) fn still_fresh(&self, at: Instant) -> Result<(), Denial> {
        let stale = |detail: String| Err(Denial::of(DenialCode::PolicyStale, None, detail));
        if let Some(why) = self.barred.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return stale(why);
        }
        if self.staleness == Staleness::BestEffort {
            return Ok(());
        }
        let old = Source::ALL.into_iter().find(|source| self.age(*source, at) > self.most);
        old.map_or(Ok(()), |source| {
            stale(format!("{} could not be read for more than {} s", source.as_str(), self.most.as_secs()))
        })
    }
}
