//! Every column of the access table where the wire shows it: what a sender is answered with it, and what the audit log says.

mod deny_rows;
mod door;
mod instances;
mod prefixes;
mod time;

use dimse::Abort;
use testkit::peer::Outcome;

/// PS3.8 §9.3.8: the receiver itself wants to end it.
const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });
const NOT_AUTHORISED: Outcome = Outcome::Status(0x0124);
/// PS3.7 Annex C: SOP class not supported.
const NO_ECHO: Outcome = Outcome::Status(0x0122);

/// A weekday as `windows` writes it, so many days from today (UTC).
fn weekday(from_today: u64) -> &'static str {
    // The first of January 1970 was a Thursday.
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    DAYS[usize::try_from((seconds / 86_400 + from_today) % 7).expect("below seven")]
}

/// A window that is closed now, also when midnight comes meanwhile.
fn closed() -> String {
    format!("windows = [\"{} 00:00-24:00\"]", weekday(3))
}

/// A window that is open now, also when midnight comes meanwhile.
fn open() -> String {
    format!("windows = [\"{},{} 00:00-24:00\"]", weekday(0), weekday(1))
}
