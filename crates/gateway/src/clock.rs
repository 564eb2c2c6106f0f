//! The house's clock: wall time that never goes back.
//!
//! Validity is a matter of the wall clock, and whoever can set that back could bring an expired certificate to life again.
//! So time is the later of what the system says and what has passed since the process began, counted by the monotonic clock.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use model::Timestamp;

/// A step of the system's clock by less than this is what time synchronisation does.
const TOLERANCE: Duration = Duration::from_secs(60);

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock { wall: SystemTime::now().into(), began: Instant::now() });

/// The two clocks when the process began.
struct Clock {
    wall: Timestamp,
    began: Instant,
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
    fn at(&self, elapsed: Duration, system: Timestamp) -> Timestamp {
        self.wall.plus(elapsed).max(system)
    }

    fn jump(&self, elapsed: Duration, system: Timestamp) -> Option<Jump> {
        let counted = self.wall.plus(elapsed);
        let (back, ahead) = (counted.since(system), system.since(counted));
        match () {
            () if back > TOLERANCE => Some(Jump::Back(back)),
            () if ahead > TOLERANCE => Some(Jump::Ahead(ahead)),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_bring_time_back() {
        let began = Timestamp::from_seconds(1_000_000);
        let clock = Clock { wall: began, began: Instant::now() };
        let hour = Duration::from_secs(3600);
        let cases: &[(&str, Timestamp, Timestamp, Option<Jump>)] = &[
            ("right", began.plus(hour), began.plus(hour), None),
            ("a second late", began.plus(hour - Duration::from_secs(1)), began.plus(hour), None),
            ("a day back", began.minus(hour * 23), began.plus(hour), Some(Jump::Back(hour * 24))),
            ("a day ahead", began.plus(hour * 25), began.plus(hour * 25), Some(Jump::Ahead(hour * 24))),
            ("1970", Timestamp::from_seconds(0), began.plus(hour), Some(Jump::Back(Duration::from_secs(1_003_600)))),
        ];
        for (name, system, expected, jump) in cases {
            assert_eq!(clock.at(hour, *system), *expected, "{name}");
            assert_eq!(clock.jump(hour, *system), *jump, "{name}");
        }
    }
}
