//! When a row allows: weekly times in UTC, such as `Mon-Fri 07:00-19:00`, `Sat,Sun 08:00-12:00` and `* 22:00-02:00`.

use model::Timestamp;

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const MINUTE_MS: i64 = 60_000;
/// Monday first, as ISO 8601 counts.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// 1970-01-01 was a Thursday: the first Monday came this many minutes later.
const FIRST_MONDAY: i64 = 4 * DAY as i64;

/// The weekly times of a row, as one: those that touch or overlap are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Minutes of the week from Monday 00:00 UTC, begin and first minute after it; sorted, apart from each other.
    spans: Vec<(u32, u32)>,
}

impl Windows {
    /// Reads one or more texts: days (`*`, a day, a range that may pass Sunday, or several with commas), a space, and two
    /// times of day in UTC. The second may be `24:00`; when it is earlier than the first, the window ends on the next day.
    ///
    /// # Errors
    /// With what is wrong, for the person who wrote it.
    pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut spans = Vec::new();
        for text in texts {
            spans.extend(window(text).ok_or_else(|| {
                format!("has {text:?}: a window is written as \"Mon-Fri 07:00-19:00\", \"Sat,Sun 08:00-12:00\" or \"* 22:00-02:00\" (UTC)")
            })?);
        }
        Ok(Self { spans: joined(spans) })
    }

    /// Whether `now` lies in one of them. The first minute belongs to a window, the last does not.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.around(now).is_some()
    }

    /// The last moment (to the millisecond) of the time that `now` lies in; `None` when it lies in none, or when there is
    /// never an end.
    #[must_use]
    pub fn closes_after(&self, now: Timestamp) -> Option<Timestamp> {
        let (_, mut end) = self.around(now)?;
        if end == WEEK
            && let Some((0, next)) = self.spans.first()
        {
            end += next;
        }
        if end == 2 * WEEK {
            return None;
        }
        let week = now.as_millis() - into_week(now);
        Some(Timestamp::from_millis(week.saturating_add(i64::from(end) * MINUTE_MS - 1)))
    }

    fn around(&self, now: Timestamp) -> Option<(u32, u32)> {
        let minute = u32::try_from(into_week(now) / MINUTE_MS).unwrap_or(WEEK);
        self.spans.iter().copied().find(|(begin, end)| (*begin..*end).contains(&minute))
    }
}

/// Milliseconds since Monday 00:00 UTC.
fn into_week(now: Timestamp) -> i64 {
    now.as_millis().saturating_sub(FIRST_MONDAY * MINUTE_MS).rem_euclid(i64::from(WEEK) * MINUTE_MS)
}

/// The spans of one text, each within the week.
fn window(text: &str) -> Option<Vec<(u32, u32)>> {
    let (days, times) = text.split_once(' ')?;
    let (begin, end) = times.split_once('-')?;
    let (begin, end) = (time_of_day(begin)?, time_of_day(end)?);
    // The same time twice could mean a day or nothing; 24:00 cannot begin anything.
    if begin == end || begin == DAY {
        return None;
    }
    let length = if begin < end { end - begin } else { DAY - begin + end };
    let of_day = |day: u32| {
        let begin = day * DAY + begin;
        let end = begin + length;
        if end <= WEEK { vec![(begin, end)] } else { vec![(begin, WEEK), (0, end - WEEK)] }
    };
    Some(days_of(days)?.into_iter().flat_map(of_day).collect())
}

fn days_of(text: &str) -> Option<Vec<u32>> {
    if text == "*" {
        return Some((0..7).collect());
    }
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => days.push(day(part)?),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                if first == last {
                    return None;
                }
                days.extend((0..=(last + 7 - first) % 7).map(|step| (first + step) % 7));
            }
        }
    }
    Some(days)
}

fn day(text: &str) -> Option<u32> {
    DAYS.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok())
}

/// Exactly `HH:MM`, up to `24:00`, in minutes.
fn time_of_day(text: &str) -> Option<u32> {
    let [h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(10);
    let (hours, minutes) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY).then_some(time)
}

fn joined(mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    spans.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (begin, end) in spans {
        match joined.last_mut() {
            Some((_, last)) if begin <= *last => *last = end.max(*last),
            _ => joined.push((begin, end)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(texts: &[&str]) -> Windows {
        Windows::parse(texts.iter().copied()).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("RFC 3339")
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_to_the_last_moment_before_its_end() {
        // 2026-11-23 is a Monday.
        let cases: &[(&str, &[&str], &str, bool)] = &[
            ("before it", &["Mon-Fri 07:00-19:00"], "2026-11-23T06:59:59.999Z", false),
            ("its first moment", &["Mon-Fri 07:00-19:00"], "2026-11-23T07:00:00Z", true),
            ("its last moment", &["Mon-Fri 07:00-19:00"], "2026-11-27T18:59:59.999Z", true),
            ("its end", &["Mon-Fri 07:00-19:00"], "2026-11-27T19:00:00Z", false),
            ("another day", &["Mon-Fri 07:00-19:00"], "2026-11-28T12:00:00Z", false),
            ("one of two windows", &["Mon-Fri 07:00-19:00", "Sat,Sun 08:00-12:00"], "2026-11-28T08:00:00Z", true),
            ("before midnight", &["* 22:00-02:00"], "2026-11-25T23:59:59Z", true),
            ("after midnight", &["* 22:00-02:00"], "2026-11-26T01:59:59Z", true),
            ("the end after midnight", &["* 22:00-02:00"], "2026-11-26T02:00:00Z", false),
            ("the night after the one listed", &["Fri 22:00-02:00"], "2026-11-28T01:00:00Z", true),
            ("the morning of the day listed", &["Fri 22:00-02:00"], "2026-11-27T01:00:00Z", false),
            ("from Sunday into Monday", &["Sun 22:00-02:00"], "2026-11-23T01:00:00Z", true),
            ("a range past Sunday", &["Sat-Mon 10:00-11:00"], "2026-11-23T10:30:00Z", true),
            ("not within that range", &["Sat-Mon 10:00-11:00"], "2026-11-24T10:30:00Z", false),
            ("a whole day", &["Tue 00:00-24:00"], "2026-11-24T23:59:59.999Z", true),
            ("until midnight", &["Tue 12:00-00:00"], "2026-11-24T23:59:00Z", true),
            ("from midnight on it is over", &["Tue 12:00-00:00"], "2026-11-25T00:00:00Z", false),
            ("before 1970", &["Wed 00:00-24:00"], "1969-12-31T23:00:00Z", true),
            ("in another zone's words", &["Mon 07:00-19:00"], "2026-11-23T07:30:00+01:00", false),
        ];
        for (name, texts, moment, open) in cases {
            assert_eq!(windows(texts).contains(at(moment)), *open, "{name}");
        }
    }

    #[test]
    fn it_is_known_when_a_window_closes() {
        let cases: &[(&str, &[&str], &str, Option<&str>)] = &[
            ("the same day", &["Mon-Fri 07:00-19:00"], "2026-11-23T12:00:00Z", Some("2026-11-23T18:59:59.999Z")),
            ("closed", &["Mon-Fri 07:00-19:00"], "2026-11-23T20:00:00Z", None),
            ("the next day", &["* 22:00-02:00"], "2026-11-25T23:00:00Z", Some("2026-11-26T01:59:59.999Z")),
            ("the next week", &["Sun 22:00-02:00"], "2026-11-29T23:00:00Z", Some("2026-11-30T01:59:59.999Z")),
            (
                "joined",
                &["Mon 07:00-12:00", "Mon 12:00-13:00"],
                "2026-11-23T08:00:00Z",
                Some("2026-11-23T12:59:59.999Z"),
            ),
            ("never", &["* 00:00-24:00"], "2026-11-23T08:00:00Z", None),
            ("days in a row", &["Mon-Tue 00:00-24:00"], "2026-11-23T08:00:00Z", Some("2026-11-24T23:59:59.999Z")),
            ("all but an hour", &["* 01:00-00:00"], "2026-11-23T08:00:00Z", Some("2026-11-23T23:59:59.999Z")),
        ];
        for (name, texts, moment, end) in cases {
            let closes = windows(texts).closes_after(at(moment));
            assert_eq!(closes, end.map(at), "{name}");
        }
    }

    #[test]
    fn only_exactly_this_form_is_a_window() {
        for text in [
            "",
            "*",
            "07:00-19:00",
            "Mon",
            "mon 07:00-19:00",
            "Monday 07:00-19:00",
            "Mon  07:00-19:00",
            " Mon 07:00-19:00",
            "Mon 07:00-19:00 ",
            "Mon 7:00-19:00",
            "Mon 07:00 - 19:00",
            "Mon 07:00",
            "Mon 07:60-19:00",
            "Mon 07:00-24:01",
            "Mon 24:00-02:00",
            "Mon 25:00-26:00",
            "Mon 07:00-07:00",
            "Mon 0\u{661}:00-07:00",
            "Mon +7:00-19:00",
            "Mon-Mon 07:00-19:00",
            "Mon-Tue-Wed 07:00-19:00",
            "Mon, 07:00-19:00",
            "Mon,* 07:00-19:00",
            "0 7 * * 1-5",
        ] {
            assert!(Windows::parse([text]).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_moment_of_closing_is_open_and_the_next_is_not(
            day in 0usize..7, begin in 0u32..1440, end in 0u32..=1440, seconds in 0i64..4_000_000_000,
        ) {
            prop_assume!(begin != end);
            let text = format!("{} {:02}:{:02}-{:02}:{:02}", DAYS[day], begin / 60, begin % 60, end / 60, end % 60);
            let (windows, now) = (windows(&[&text]), Timestamp::from_seconds(seconds));
            match windows.closes_after(now) {
                None => prop_assert!(!windows.contains(now)),
                Some(last) => {
                    prop_assert!(last >= now && windows.contains(last));
                    prop_assert!(!windows.contains(Timestamp::from_millis(last.as_millis() + 1)));
                }
            }
        }
    }
}
