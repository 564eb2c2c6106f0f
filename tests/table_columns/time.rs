//! Rows whose time comes and goes while nobody touches the table.

use std::time::{Duration, SystemTime};

use model::Timestamp;
use testkit::house::eventually;
use testkit::peer::Outcome;

use super::{ENDED, NOT_AUTHORISED};
use crate::support::archive::{incoming, rows};
use crate::support::clock::Clock;
use crate::support::furnish::{
    assert_log_is_sound, assert_others_are_served, assert_turned_away, let_in, put, quick_with, table_of, with_row,
};
use crate::support::instance::Instance;
use crate::support::{SUCCESS, audited};

const MINUTE: i64 = 60;

/// The time by a clock that is so many seconds ahead.
fn by_clock(ahead: i64) -> Timestamp {
    Timestamp::from(SystemTime::now()).plus(Duration::from_secs(ahead.unsigned_abs()))
}

/// A window from an hour before that time to ten minutes after it, on any day.
fn window(now: Timestamp) -> String {
    let of_day = |at: Timestamp| at.to_string()[11..16].to_owned();
    let (begin, end) = (now.minus(Duration::from_secs(3600)), now.plus(Duration::from_secs(600)));
    format!("windows = [\"* {}-{}\"]", of_day(begin), of_day(end))
}

#[test]
fn an_association_ends_when_the_time_of_its_row_is_over_and_begins_when_it_has_come() {
    let clock = Clock::ahead(0);
    let house = quick_with(&clock.env());
    let base = table_of(&house);
    let mut ahead = 0;
    let soon = |ahead: i64| by_clock(ahead + 10 * MINUTE);
    let cases: [(&str, &dyn Fn(i64) -> String, &str, &str); 3] = [
        ("valid_until", &|ahead| format!("valid_until = {}", soon(ahead)), "window_closed", "row_expired"),
        ("windows", &|ahead| window(by_clock(ahead)), "window_closed", "outside_window"),
        ("posture_ok_until", &|ahead| format!("posture_ok_until = {}", soon(ahead)), "posture", "posture"),
    ];
    for (name, columns, ends, refuses) in cases {
        put(&house, &with_row(&base, "hospital-a", &columns(ahead)));
        let (mut idle, mut busy) = (let_in(&house, name), let_in(&house, name));
        let half = Instance::numbered(u64::try_from(ahead).expect("ahead") + 1).with_pixels(1 << 20, 1);
        let data_set = half.data_set();
        let context = busy.begin_store(&half.claim()).expect("the receiver listens");
        let (begin, rest) = data_set.split_at(700_000);
        for piece in begin.chunks(60_000) {
            busy.send_fragment(context, piece, false).expect("the receiver listens");
        }
        eventually("it is in the middle of an instance", || incoming(house.dir()).pop());
        ahead += 20 * MINUTE;
        clock.set(ahead);
        assert_eq!(idle.outcome(), ENDED, "{name}: without a word from the peer");
        let line = audited(&house, &[("decision", "terminate"), ("reason", ends)]);
        assert!(line["alert"].is_null(), "time alone is never late: {line}");
        busy.send_data(context, rest).expect("it may come to its end");
        assert_eq!(busy.outcome(), NOT_AUTHORISED, "{name}: what is not committed by then is refused");
        audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", ends), ("instance", &half.uid)]);
        assert!(matches!(busy.outcome(), ENDED | Outcome::Closed), "{name}: and no further message");
        assert_turned_away(&house, name);
        audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", refuses)]);
        assert_others_are_served(&house);
    }
    assert_eq!(rows(house.dir()).len(), 0);
    for (name, columns) in [
        ("until", format!("state = \"suspended\"\nuntil = {}", soon(ahead))),
        ("not_before", format!("not_before = {}", soon(ahead + 20 * MINUTE))),
    ] {
        put(&house, &with_row(&base, "hospital-a", &columns));
        assert_turned_away(&house, name);
        ahead += 20 * MINUTE;
        clock.set(ahead);
        assert_eq!(let_in(&house, name).echo(), SUCCESS, "{name}");
    }
    assert_log_is_sound(house);
}
