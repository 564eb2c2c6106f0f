//! What every association shares: configuration, table and certificates in force, archive, audit log, and who is in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use model::Timestamp;
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
    /// Every event as it is published; for those who watch from inside the process.
    pub stable: broadcast::Sender<study::Event>,
    /// Cancelled on SIGTERM: nobody new, and associations end at a message boundary.
    pub drain: CancellationToken,
    /// Cancelled when time is up: associations end where they are.
    pub halt: CancellationToken,
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
