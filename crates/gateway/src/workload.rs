//! Our SVID and the trust bundles from a SPIFFE agent, over the Workload API, instead of from files.
//!
//! The agent's answers are complete: each replaces the one before (SPIFFE Workload API §4.4). An agent that is *away* changes
//! nothing: what it gave last stays in force and [`Workload::age`] grows. An agent that *says no* withdraws what it gave
//! (§5.2.1). What the material is worth is judged by `access`, as if it came from files.
//!
//! CRLs in an answer are not looked at: the `spiffe` crate drops them, and no agent in use sends any.
#![cfg_attr(not(feature = "workload-api"), allow(dead_code, reason = "a build without it only says so"))]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::TrustDomain;
use tokio::sync::watch;
use zeroize::Zeroizing;

#[cfg(feature = "workload-api")]
mod agent;
#[cfg(all(test, feature = "workload-api"))]
mod tests;
#[cfg(feature = "workload-api")]
mod trouble;
#[cfg(not(feature = "workload-api"))]
mod without;

/// How long the first answer is waited for: a container's agent may start after us.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The same for `receive --check`, where a person waits and the agent should be there.
pub(crate) const PATIENCE_OF_A_CHECK: Duration = Duration::from_secs(5);

/// Text of a problem for the person who starts the gateway.
pub(crate) type Problem = String;

/// What one answer of the agent holds: one SVID, and the bundle of each trust domain by itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS#8, DER; overwritten when dropped.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// Root certificates (DER) of the agent's own domain and of those it federates with, each domain once, by name. A domain
    /// without a root is one that nobody can be believed from (V-16).
    pub(crate) bundles: Vec<(TrustDomain, Vec<Vec<u8>>)>,
}

impl Material {
    /// The roots of a domain; none if the agent did not name it.
    pub(crate) fn bundle(&self, domain: &TrustDomain) -> Option<&[Vec<u8>]> {
        self.bundles.iter().find(|(named, _)| named == domain).map(|(_, roots)| roots.as_slice())
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundles = self.bundles.iter().map(|(domain, roots)| (domain.as_str(), roots.len()));
        f.debug_struct("Material")
            .field("chain", &self.chain.len())
            .field("bundles", &bundles.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What is in force: the last material, or nothing when the agent withdrew it and it must no longer be used.
pub(crate) type Given = Option<Arc<Material>>;

/// A SPIFFE agent that has answered once and is listened to from then on, by a task of its own that ends when nobody
/// listens any more. That its channel closes means that the task died, which must not look like "no change" (CV-10).
pub(crate) struct Workload {
    given: watch::Receiver<Given>,
    seen: Arc<Seen>,
}

impl Workload {
    /// What is in force now.
    pub(crate) fn material(&self) -> Given {
        self.given.borrow().clone()
    }

    /// Wakes when what is in force has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<Given> {
        self.given.clone()
    }

    /// How long ago the agent last answered. While it is well it is asked at least every minute.
    pub(crate) fn age(&self) -> Duration {
        self.seen.age()
    }
}

/// When the agent last answered; not by the wall clock, which may jump.
struct Seen {
    begun: Instant,
    millis: AtomicU64,
}

impl Seen {
    fn now() -> Self {
        Self { begun: Instant::now(), millis: AtomicU64::new(0) }
    }

    fn again(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.millis.load(Ordering::Relaxed)))
    }
}
