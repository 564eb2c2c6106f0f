//! What one caller, or somebody who never says who they are, may take from everybody else: connections, and lines of the audit log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::SpiffeId;

/// Connections of each identity, from the handshake to the end.
#[derive(Default)]
pub(crate) struct Callers(Mutex<HashMap<SpiffeId, usize>>);

/// A connection of an identity; given back when dropped.
pub(crate) struct Held {
    callers: Arc<Callers>,
    id: SpiffeId,
}

impl Callers {
    /// One more connection of this identity; none when it has `most`.
    pub(crate) fn hold(self: &Arc<Self>, id: &SpiffeId, most: usize) -> Option<Held> {
        let mut held = self.lock();
        let count = held.entry(id.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { callers: self.clone(), id: id.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.callers.lock();
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}

/// Refusals of connections that showed no certificate and are written one by one in a second; more are counted. Whoever
/// can open a TCP connection could fill the disk otherwise.
const WRITTEN: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Refusals that cost their sender nothing.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Option<Window>>);

struct Window {
    since: Instant,
    seen: u32,
    folded: u64,
}

/// What to do about one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Write it; so many before it were not written.
    Written { folded: u64 },
    /// Only count it.
    Folded,
}

impl Refusals {
    /// One more.
    pub(crate) fn one_more(&self, at: Instant) -> Line {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert(Window { since: at, seen: 0, folded: 0 });
        if at.saturating_duration_since(window.since) >= SECOND {
            (window.since, window.seen) = (at, 0);
        }
        window.seen = window.seen.saturating_add(1);
        if window.seen > WRITTEN {
            window.folded += 1;
            return Line::Folded;
        }
        Line::Written { folded: std::mem::take(&mut window.folded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_holds_so_many_connections_and_no_more() {
        let callers = Arc::new(Callers::default());
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://hospital-a.invalid/{name}")).expect("valid");
        let first = callers.hold(&id("ct1"), 2).expect("one");
        let _second = callers.hold(&id("ct1"), 2).expect("two");
        assert!(callers.hold(&id("ct1"), 2).is_none());
        let other = callers.hold(&id("ct2"), 2).expect("another identity has its own");
        drop(first);
        callers.hold(&id("ct1"), 2).expect("one was given back");
        drop(other);
        assert_eq!(callers.lock().len(), 1, "who has gone is forgotten");
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written_line_by_line() {
        let refusals = Refusals::default();
        let begin = Instant::now();
        let lines: Vec<_> = (0..WRITTEN + 30).map(|_| refusals.one_more(begin)).collect();
        assert_eq!(lines.iter().filter(|line| **line == Line::Folded).count(), 30);
        assert_eq!(refusals.one_more(begin + SECOND), Line::Written { folded: 30 }, "and the count is told");
        assert_eq!(refusals.one_more(begin + SECOND), Line::Written { folded: 0 });
    }
}
