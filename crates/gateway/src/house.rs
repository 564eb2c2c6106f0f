//! What every association shares: configuration, table and certificates in force, archive, audit log, and who is in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use model::{Study, Tenant, Timestamp, Uid};
use store::Archive;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::config::Config;
use crate::live::Live;
use crate::telemetry;

/// The wall clock. Rooms below this one are told the time.
#[must_use]
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The shared state of one receiver.
pub struct House {
    /// As configured.
    pub config: Config,
    pub(crate) live: Live,
    /// Objects and index.
    pub archive: Arc<Archive>,
    pub(crate) audit: AuditLog,
    pub(crate) guests: Guests,
    pub(crate) arrivals: Arrivals,
    /// Every event as it is published; for those who watch from inside the process.
    pub stable: broadcast::Sender<study::Event>,
    /// Cancelled on SIGTERM: nobody new, and associations end at a message boundary.
    pub drain: CancellationToken,
    /// Cancelled when time is up: associations end where they are.
    pub halt: CancellationToken,
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

/// Associations that are in, by row.
#[derive(Default)]
pub(crate) struct Guests {
    by_row: Mutex<HashMap<String, usize>>,
    numbers: AtomicU64,
}

/// A place taken; given back when dropped.
pub(crate) struct Place {
    house: Arc<House>,
    row: String,
}

impl Guests {
    /// A number for an association, unique in this process.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl House {
    /// Takes a place for an association under this row. None when the receiver or the row has as many as it may.
    pub(crate) fn seat(self: &Arc<Self>, row: &access::Row) -> Option<Place> {
        let mut by_row = self.guests.by_row.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = by_row.values().sum();
        let mine = by_row.get(row.id()).copied().unwrap_or(0);
        let most = row.max_associations().map_or(usize::MAX, |most| most as usize);
        if total >= self.config.receiver.max_associations || mine >= most {
            return None;
        }
        by_row.insert(row.id().to_owned(), mine + 1);
        metrics::gauge!(telemetry::ASSOCIATIONS_OPEN).increment(1.0);
        Some(Place { house: self.clone(), row: row.id().to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_row = self.house.guests.by_row.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_row.get_mut(&self.row) {
            *count -= 1;
            if *count == 0 {
                by_row.remove(&self.row);
            }
        }
        metrics::gauge!(telemetry::ASSOCIATIONS_OPEN).decrement(1.0);
    }
}
