//! What every association shares: configuration, what is in force, archive, audit log, quotas, and who is in.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::{DenialCode, Trust, VerifiedPeer};
use model::{SpiffeId, Study, Tenant, Uid};
use store::Archive;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditLog, Decision, Subject, Verdict};
use crate::config::Config;
use crate::crowd::{Callers, Refusals};
use crate::live::{Live, Moment, Ring};
use crate::quotas::Quotas;
use crate::{suspend, telemetry};

/// The shared state of one receiver.
pub struct House {
    /// As configured.
    pub config: Config,
    pub(crate) live: Live,
    /// Objects and index.
    pub archive: Arc<Archive>,
    pub(crate) audit: AuditLog,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) arrivals: Arrivals,
    pub(crate) endpoints: Endpoints,
    pub(crate) callers: Arc<Callers>,
    pub(crate) refusals: Refusals,
    /// Every event as it is published; for those who watch from inside the process.
    pub stable: broadcast::Sender<study::Event>,
    /// Cancelled on SIGTERM: nobody new, and associations end at a message boundary.
    pub drain: CancellationToken,
    /// Cancelled when time is up: associations end where they are.
    pub halt: CancellationToken,
}

/// Somebody who came in, from before the handshake to the end.
pub(crate) struct Guest {
    house: Arc<House>,
    /// Unique in this process.
    pub(crate) number: u64,
    /// Rings when something that is in force changed.
    pub(crate) changed: Arc<Notify>,
    /// The certificates that vouched for the peer last.
    pub(crate) vouched: Arc<Trust>,
}

impl House {
    /// Comes in. To be called before anything is decided, so that no change can fall between a decision and the watch.
    pub(crate) fn enter(self: &Arc<Self>) -> Guest {
        let changed = Arc::new(Notify::new());
        let (number, in_force) = self.live.registry.enter(Ring(changed.clone()));
        Guest { house: self.clone(), number, changed, vouched: in_force.trust.clone() }
    }

    /// Counts a denial against whoever caused it; one too many suspends the identity and ends its associations (C-5).
    pub(crate) async fn count_denial(&self, peer: &VerifiedPeer, code: DenialCode) {
        if !suspend::counts(code) {
            return;
        }
        let moment = Moment::now();
        let Some(ttl) = self.live.suspensions.denied(&self.live.table(), peer.id(), moment.at) else { return };
        self.live.registry.ring_all();
        metrics::counter!(telemetry::AUTO_SUSPENDED).increment(1);
        let detail = format!("denied too often, suspended for {} s; change its row to lift it", ttl.as_secs());
        tracing::warn!(peer = %peer.id(), "{detail}");
        let verdict = Verdict::new(Subject::Identity, Decision::Deny, "auto_suspended").detail(detail);
        self.audit.record(verdict.id(peer.id()).alert("auto_suspended")).await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.live.registry.leave(self.number);
    }
}

/// When a study was last said to be arriving. Saying it at most every quarter of the quiet time leaves three quarters of it in
/// hand, and spares a write for each instance.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<HashMap<(Tenant, Uid<Study>), Instant>>);

/// Studies remembered, about 200 bytes each; forgetting them costs a write for each.
const MAX_ARRIVALS: usize = 10_000;

impl Arrivals {
    /// Whether it has to be said again; if so it counts as said.
    pub(crate) fn are_news(&self, tenant: &Tenant, study: &Uid<Study>, every: Duration) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), study.clone());
        if said.get(&key).is_some_and(|last| last.elapsed() < every) {
            return false;
        }
        if said.len() >= MAX_ARRIVALS {
            said.clear();
        }
        said.insert(key, Instant::now());
        true
    }
}

/// The VPC endpoints that each identity was seen behind. One identity behind two of them may be one key in two places.
#[derive(Default)]
pub(crate) struct Endpoints(Mutex<HashMap<SpiffeId, BTreeSet<String>>>);

/// Identities remembered; forgetting them may raise an alert once more.
const MAX_IDENTITIES: usize = 10_000;
/// Endpoints remembered for each; a key that is seen behind more has been reported often enough.
const MAX_ENDPOINTS: usize = 16;

impl Endpoints {
    /// Whether the identity was seen before, and never behind this endpoint.
    pub(crate) fn is_new(&self, id: &SpiffeId, vpce: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_IDENTITIES {
            seen.clear();
        }
        let known = seen.entry(id.clone()).or_default();
        let others = !known.is_empty();
        known.len() < MAX_ENDPOINTS && known.insert(vpce.to_owned()) && others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_endpoint_of_one_identity_is_news_once() {
        let endpoints = Endpoints::default();
        let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
        let other = SpiffeId::parse("spiffe://hospital-a.invalid/ct2").expect("valid");
        let seen = [(&id, "vpce-1"), (&id, "vpce-1"), (&other, "vpce-2"), (&id, "vpce-2"), (&id, "vpce-2")];
        let news: Vec<_> = seen.into_iter().map(|(id, vpce)| endpoints.is_new(id, vpce)).collect();
        assert_eq!(news, [false, false, false, true, false]);
    }
}
