use std::time::Duration;

use model::Timestamp;

/// Without another word in the row a study is stable after this much silence: 60 s bridges the pause between two
/// series of one examination on slow modalities and still has the study ready within about a minute.
pub const DEFAULT_QUIET: Duration = Duration::from_secs(60);

/// Without another word in the row a generation is closed this long after its first instance, even when instances
/// still come: 1 h bounds how long a sender that trickles for ever can keep a study from its readers.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// What is known of the arrivals of one study since its last generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The first arrival since the last generation.
    pub first_arrival: Timestamp,
    /// The latest arrival.
    pub last_arrival: Timestamp,
    /// Silence after which the study is stable.
    pub quiet: Duration,
    /// The longest that a generation stays open, silence or not.
    pub max_wait: Duration,
}

/// Why a generation was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing came for the row's `quiet`.
    Quiet,
    /// Instances may still be coming, but `max_wait` has passed.
    MaxWait,
}

impl Activity {
    /// The activity that one arrival begins. Spans that the row does not give are the defaults.
    #[must_use]
    pub fn begin(now: Timestamp, quiet: Option<Duration>, max_wait: Option<Duration>) -> Self {
        Self {
            first_arrival: now,
            last_arrival: now,
            quiet: quiet.unwrap_or(DEFAULT_QUIET),
            max_wait: max_wait.unwrap_or(DEFAULT_MAX_WAIT),
        }
    }

    /// The activity after one more arrival. The row of the latest arrival decides the spans; a clock that stepped back
    /// does not take back an arrival.
    #[must_use]
    pub fn and_then(self, next: Self) -> Self {
        Self {
            first_arrival: self.first_arrival.min(next.first_arrival),
            last_arrival: self.last_arrival.max(next.last_arrival),
            ..next
        }
    }

    /// What several receivers saw of the same study: the whole span, the longest silence and the shortest wait that any
    /// of them asks for. None when nobody saw anything.
    #[must_use]
    pub fn together(seen: impl IntoIterator<Item = Self>) -> Option<Self> {
        seen.into_iter().reduce(|one, other| Self {
            first_arrival: one.first_arrival.min(other.first_arrival),
            last_arrival: one.last_arrival.max(other.last_arrival),
            quiet: one.quiet.max(other.quiet),
            max_wait: one.max_wait.min(other.max_wait),
        })
    }

    /// When the study is due: after `quiet` without an arrival, at the latest `max_wait` after the first one.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.last_arrival.plus(self.quiet).min(self.first_arrival.plus(self.max_wait))
    }

    /// Why a study that is due at `now` is due. Silence comes first: it is the better news for the reader.
    #[must_use]
    pub fn reason(&self, now: Timestamp) -> Reason {
        if self.last_arrival.plus(self.quiet) <= now { Reason::Quiet } else { Reason::MaxWait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn activity(first: i64, last: i64, quiet: u64, max_wait: u64) -> Activity {
        Activity {
            first_arrival: at(first),
            last_arrival: at(last),
            quiet: Duration::from_secs(quiet),
            max_wait: Duration::from_secs(max_wait),
        }
    }

    #[test]
    fn a_study_is_due_when_it_is_quiet_or_has_waited_long_enough() {
        for (name, activity, due, reason) in [
            ("one arrival", activity(100, 100, 60, 3600), 160, Reason::Quiet),
            ("silence counts from the last arrival", activity(100, 500, 60, 3600), 560, Reason::Quiet),
            ("a trickle ends at max_wait", activity(100, 3690, 60, 3600), 3700, Reason::MaxWait),
            ("both at once are silence", activity(100, 3640, 60, 3600), 3700, Reason::Quiet),
            ("max_wait shorter than quiet", activity(100, 100, 60, 10), 110, Reason::MaxWait),
        ] {
            assert_eq!(activity.due(), at(due), "{name}");
            assert_eq!(activity.reason(activity.due()), reason, "{name}");
        }
    }

    #[test]
    fn endless_spans_saturate_instead_of_being_due_at_once() {
        let endless = Activity { quiet: Duration::MAX, max_wait: Duration::MAX, ..activity(0, 0, 0, 0) };
        assert!(endless.due() > at(100_000_000_000));
    }

    #[test]
    fn a_further_arrival_moves_the_end_and_keeps_the_beginning() {
        let later = activity(100, 100, 60, 3600).and_then(activity(130, 130, 5, 600));
        assert_eq!(later, activity(100, 130, 5, 600));
        let clock_stepped_back = activity(100, 100, 60, 3600).and_then(activity(90, 90, 60, 3600));
        assert_eq!(clock_stepped_back, activity(90, 100, 60, 3600));
    }

    #[test]
    fn one_receiver_that_still_hears_something_keeps_the_study_open() {
        let together = Activity::together([activity(100, 110, 60, 3600), activity(90, 150, 30, 7200)]);
        assert_eq!(together, Some(activity(90, 150, 60, 3600)));
        assert_eq!(Activity::together([]), None);
    }
}
