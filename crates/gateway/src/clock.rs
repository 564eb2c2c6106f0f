//! The house's clock: wall time that never goes back.
//!
//! Validity is a matter of the wall clock, and whoever can set that back could bring an expired certificate to life again.
//! So time goes on by the monotonic clock from the latest moment that the system has ever said since the process began: ahead
//! and back again does not bring it back either.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use model::Timestamp;

/// A step of the system's clock by less than this is what time synchronisation does.
const TOLERANCE: Duration = Duration::from_secs(60);

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock::beginning(SystemTime::now().into(), Instant::now()));

/// The two clocks when the process began, and what became of one of them.
struct Clock {
    wall: Timestamp,
    began: Instant,
    /// The most milliseconds by which the system's clock was ever ahead of what had passed.
    ahead: AtomicU64,
}

/// The time by which everything is judged. Rooms below this one are told it.
#[must_use]
pub fn now() -> Timestamp {
    CLOCK.at(CLOCK.began.elapsed(), SystemTime::now().into())
}

/// By how much the system's clock and the monotonic clock disagree since the process began, if by more than time
/// synchronisation explains.
#[must_use]
pub fn jump() -> Option<Jump> {
    CLOCK.jump(CLOCK.began.elapsed(), SystemTime::now().into())
}

/// The system's clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// Back by this much: we go on counting from where we were.
    Back(Duration),
    /// Ahead by this much: we follow, so that what has expired by either clock has expired.
    Ahead(Duration),
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Back(by) => write!(f, "the system's clock was set back by {} s; restart to accept it", by.as_secs()),
            Self::Ahead(by) => {
                write!(f, "the system's clock was set ahead by {} s; restart to accept it", by.as_secs())
            }
        }
    }
}

impl Clock {
    fn beginning(wall: Timestamp, began: Instant) -> Self {
        Self { wall, began, ahead: AtomicU64::new(0) }
    }

    fn at(&self, elapsed: Duration, system: Timestamp) -> Timestamp {
        let counted = self.wall.plus(elapsed);
        counted.plus(self.furthest_ahead(system.since(counted)))
    }

    /// The time by which we go and the system's: they differ from when it is set back on. And what we count and the time by
    /// which we go: they differ from when it was set ahead on.
    fn jump(&self, elapsed: Duration, system: Timestamp) -> Option<Jump> {
        let counted = self.wall.plus(elapsed);
        let ahead = self.furthest_ahead(system.since(counted));
        let back = counted.plus(ahead).since(system);
        match () {
            () if back > TOLERANCE => Some(Jump::Back(back)),
            () if ahead > TOLERANCE => Some(Jump::Ahead(ahead)),
            () => None,
        }
    }

    fn furthest_ahead(&self, now: Duration) -> Duration {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.ahead.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_is_set_back_does_not_bring_time_back() {
        let began = Timestamp::from_seconds(1_000_000);
        let cases: &[(&str, Timestamp, Timestamp, Option<Jump>)] = &[
            ("right", began.plus(HOUR), began.plus(HOUR), None),
            ("a second late", began.plus(HOUR - Duration::from_secs(1)), began.plus(HOUR), None),
            ("a day back", began.minus(HOUR * 23), began.plus(HOUR), Some(Jump::Back(HOUR * 24))),
            ("a day ahead", began.plus(HOUR * 25), began.plus(HOUR * 25), Some(Jump::Ahead(HOUR * 24))),
            ("1970", Timestamp::from_seconds(0), began.plus(HOUR), Some(Jump::Back(Duration::from_secs(1_003_600)))),
        ];
        for (name, system, expected, jump) in cases {
            let clock = Clock::beginning(began, Instant::now());
            assert_eq!(clock.at(HOUR, *system), *expected, "{name}");
            assert_eq!(clock.jump(HOUR, *system), *jump, "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_set_ahead_and_back_does_not_bring_time_back_either() {
        let began = Timestamp::from_seconds(1_000_000);
        let clock = Clock::beginning(began, Instant::now());
        assert_eq!(clock.at(HOUR, began.plus(HOUR * 25)), began.plus(HOUR * 25));
        for (name, system, back) in [("right again", began.plus(HOUR * 2), 24), ("and further", began, 26)] {
            assert_eq!(clock.at(HOUR * 2, system), began.plus(HOUR * 26), "{name}");
            assert_eq!(clock.jump(HOUR * 2, system), Some(Jump::Back(HOUR * back)), "{name}");
        }
        assert_eq!(clock.at(HOUR * 3, began.plus(HOUR * 30)), began.plus(HOUR * 30), "further ahead is followed");
    }
}
