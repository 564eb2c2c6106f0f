//! How much a row and a tenant may do: at a time, in a second, in a day, in one instance; and who is denied too often.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dimse::Abort;
use gateway::telemetry::AUTO_SUSPENDED;
use testkit::house::House;
use testkit::peer::{Associated, Outcome, Peer, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use crate::support::archive::{incoming, rows};
use crate::support::clock::Clock;
use crate::support::furnish::{
    ID_A, asks, assert_log_is_sound, assert_others_are_served, assert_turned_away, count, furnished, let_in, metric,
    put, quick, quick_with, table_of, with_key, with_row,
};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, audited, credentials, issue, within};

/// PS3.8 §9.3.8: the receiver itself wants to end it.
const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });
const NOT_AUTHORISED: Outcome = Outcome::Status(0x0124);
/// Out of resources: send it again later (PS3.4 Table B.2-1).
const LATER: Outcome = Outcome::Status(0xA700);
/// Transient, by the provider, local limit exceeded (PS3.8 Table 9-21).
const FULL: Associated = Associated::Rejected(2, 3, 2);

fn store(peer: &mut Peer, instance: &Instance) -> Outcome {
    peer.store(&instance.claim(), &instance.data_set())
}

fn tenant(limits: &str) -> String {
    format!("[[tenant]]\nname = \"hospital-a\"\n{limits}")
}

#[test]
fn each_identity_below_a_prefix_has_so_many_associations_and_its_tenant_so_many_in_all() {
    let house = quick();
    let base = with_key(&table_of(&house), "allow_prefix = [\"hospital-a.invalid\"]");
    let base = with_key(&base, &tenant("max_associations = 3"));
    let below = "prefix = \"spiffe://hospital-a.invalid/ingest/\"\nmax_associations = 2";
    let base = base.replace(&format!("identity = \"{ID_A}\""), below);
    put(&house, &base);
    let ask = |name: &str| {
        let issued = issue(&house, &format!("spiffe://hospital-a.invalid/ingest/{name}"), Duration::from_secs(3600));
        let mut peer = Peer::connect(house.addr(), &credentials(&house, &issued)).expect("a good certificate");
        let answer = peer.associate(CALLED, A, sample_contexts());
        (peer, answer)
    };
    let open = |name: &str| {
        let (peer, answer) = ask(name);
        assert!(matches!(answer, Associated::Accepted(_)), "{name}: {answer:?}");
        peer
    };
    let (mut first, _second) = (open("ct1"), open("ct1"));
    assert_eq!(ask("ct1").1, FULL, "the identity's own");
    let id = "spiffe://hospital-a.invalid/ingest/ct1";
    let refused = [("decision", "deny"), ("reason", "associations"), ("row", "hospital-a"), ("spiffe_id", id)];
    audited(&house, &refused);
    let mut third = open("ct2");
    assert_eq!(ask("ct2").1, FULL, "the tenant's");
    audited(&house, &[("decision", "deny"), ("reason", "tenant_associations"), ("row", "hospital-a")]);
    assert_others_are_served(&house);
    assert_eq!((first.release(), third.echo()), (Outcome::Released, SUCCESS));
    within(Duration::from_secs(30), "the place is free again", || {
        (!matches!(ask("ct1").1, Associated::Rejected(..))).then_some(())
    });
    assert_log_is_sound(house);
}

#[test]
fn a_lowered_quota_ends_who_came_last_at_the_next_message() {
    let house = quick();
    let base = table_of(&house);
    let (mut first, mut second, mut last) = (let_in(&house, "1"), let_in(&house, "2"), let_in(&house, "3"));
    // The last is in the middle of an instance, which comes to its end.
    let instance = Instance::numbered(1).with_pixels(1 << 20, 1);
    let data_set = instance.data_set();
    let (begin, rest) = data_set.split_at(700_000);
    let context = last.begin_store(&instance.claim()).expect("the receiver listens");
    for piece in begin.chunks(60_000) {
        last.send_fragment(context, piece, false).expect("the receiver listens");
    }
    within(Duration::from_secs(30), "it is in the middle of an instance", || incoming(house.dir()).pop());
    put(&house, &with_row(&base, "hospital-a", "max_associations = 2"));
    last.send_data(context, rest).expect("the receiver listens");
    assert_eq!((last.outcome(), last.outcome()), (SUCCESS, ENDED));
    let line = audited(&house, &[("decision", "terminate"), ("reason", "policy_narrowed"), ("spiffe_id", ID_A)]);
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("max_associations")), "{line}");
    assert_eq!((first.echo(), second.echo()), (SUCCESS, SUCCESS), "who came before stays");
    assert_eq!(asks(&house, CALLED, A).1, FULL);
    put(&house, &with_key(&base, &tenant("max_associations = 1")));
    assert_eq!(second.outcome(), ENDED, "an idle one at once");
    assert_eq!(first.echo(), SUCCESS);
    assert_log_is_sound(house);
}

#[test]
fn who_sends_faster_than_the_rate_is_told_to_come_later_and_may() {
    for (reason, of_row, of_tenant) in [("rate", "max_rate = \"30/m\"", ""), ("tenant_rate", "", "max_rate = \"30/m\"")]
    {
        let house = quick();
        let table = with_row(&table_of(&house), "hospital-a", of_row);
        put(&house, &if of_tenant.is_empty() { table } else { with_key(&table, &tenant(of_tenant)) });
        let mut peer = let_in(&house, reason);
        let mut sent = 0;
        let refused = within(Duration::from_secs(60), "more than thirty within two seconds each", || {
            sent += 1;
            let instance = Instance::numbered(sent);
            (store(&mut peer, &instance) != SUCCESS).then_some(instance)
        });
        assert!(sent > 30, "thirty at once are allowed: {sent}");
        let line = audited(&house, &[("event", "instance"), ("reason", reason), ("instance", &refused.uid)]);
        assert_eq!((&line["status"], &line["decision"]), (&"A700".into(), &"deny".into()), "{line}");
        assert_others_are_served(&house);
        within(Duration::from_secs(30), "the same again, later", || {
            let outcome = store(&mut peer, &refused);
            assert!(matches!(outcome, SUCCESS | LATER), "{outcome:?}");
            (outcome == SUCCESS).then_some(())
        });
        assert_log_is_sound(house);
    }
}

#[test]
fn what_does_not_fit_into_a_day_is_told_to_come_later_and_nothing_of_it_is_kept() {
    let small = |number| Instance::numbered(number).with_pixels(4_000, number);
    for (reason, columns, of_tenant, most) in [
        ("instances_day", "max_instances_day = 3", false, 3),
        ("tenant_instances_day", "max_instances_day = 3", true, 3),
        ("bytes_day", "max_bytes_day = 10000", false, 2),
        ("tenant_bytes_day", "max_bytes_day = 10000", true, 2),
    ] {
        let house = quick();
        let base = table_of(&house);
        let table = if of_tenant { with_key(&base, &tenant(columns)) } else { with_row(&base, "hospital-a", columns) };
        let table = with_row(&table, "hospital-a", "modalities = [\"CT\"]");
        put(&house, &table);
        let mut peer = let_in(&house, reason);
        // What is refused for another reason does not count.
        let ultrasound = small(100).with(0x0008_0060, b"CS", b"US");
        assert_eq!(store(&mut peer, &ultrasound), NOT_AUTHORISED, "{reason}");
        for number in 1..=most {
            assert_eq!(store(&mut peer, &small(number)), SUCCESS, "{reason}: {number}");
        }
        let over = small(most + 1);
        assert_eq!(store(&mut peer, &over), LATER, "{reason}");
        let line = audited(&house, &[("event", "instance"), ("reason", reason), ("instance", &over.uid)]);
        assert_eq!((&line["status"], &line["row"]), (&"A700".into(), &"hospital-a".into()), "{line}");
        assert_eq!(asks(&house, CALLED, A).1, Associated::Accepted(3), "associations are another quota");
        assert_others_are_served(&house);
        assert_eq!(rows(house.dir()).len() as u64, most);
        // A wider table is in force for the next instance.
        put(&house, &table.replace("= 3", "= 4").replace("= 10000", "= 20000"));
        assert_eq!(store(&mut peer, &over), SUCCESS, "{reason}: raised");
        assert_log_is_sound(house);
    }
}

#[test]
fn a_new_day_begins_at_midnight_utc() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let five_minutes_to_midnight = 86_400 - 300 - i64::try_from(now % 86_400).expect("below a day");
    let clock = Clock::ahead(five_minutes_to_midnight);
    let house = quick_with(&clock.env());
    put(&house, &with_row(&table_of(&house), "hospital-a", "max_instances_day = 1"));
    // To everybody else the certificates of that house are not valid yet, or not any more.
    let pem = |name: &str| std::fs::read_to_string(house.dir().join("certs").join(name)).expect("dev has made it");
    let chain = gateway::pki::certificates(&pem("hospital-a.pem"));
    let stranger = Stranger::new(&chain, Some(&pem("hospital-a.key")), Tls::V13);
    let mut peer = Peer::connect_as(house.addr(), &stranger).expect("a good certificate");
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(3));
    assert_eq!(store(&mut peer, &Instance::numbered(1)), SUCCESS);
    assert_eq!(store(&mut peer, &Instance::numbered(2)), LATER);
    clock.set(five_minutes_to_midnight + 600);
    assert_eq!(store(&mut peer, &Instance::numbered(2)), SUCCESS);
    assert_eq!(store(&mut peer, &Instance::numbered(3)), LATER);
    clock.set(five_minutes_to_midnight);
    assert_eq!(store(&mut peer, &Instance::numbered(3)), LATER, "yesterday does not come again");
}

/// A house that suspends after three denials.
fn impatient() -> House {
    let section = "[access.auto_suspend]\ndenials = 3\nwindow = \"10m\"\nttl = \"1h\"\n\n[archive]\n";
    furnished(|config| config.replacen("[archive]\n", section, 1), |table| table)
}

#[test]
fn who_is_denied_again_and_again_is_shut_out_until_an_operator_has_looked() {
    let house = impatient();
    let base = table_of(&house);
    let (mut live, mut busy) = (let_in(&house, "idle"), let_in(&house, "in the middle of an instance"));
    let half = Instance::numbered(1).with_pixels(50_000, 1);
    let context = busy.begin_store(&half.claim()).expect("the receiver listens");
    busy.send_fragment(context, &half.data_set()[..20_000], false).expect("the receiver listens");
    for _ in 0..2 {
        assert_eq!(asks(&house, "ELSEWHERE", A).1, Associated::Rejected(1, 1, 7));
    }
    assert_eq!(live.echo(), SUCCESS, "twice is not too often");
    assert_eq!(asks(&house, CALLED, "SOMEBODY").1, Associated::Rejected(1, 1, 3));
    assert_eq!((live.outcome(), busy.outcome()), (ENDED, ENDED));
    let told = [("event", "identity"), ("decision", "deny"), ("reason", "auto_suspended"), ("alert", "auto_suspended")];
    assert_eq!(audited(&house, &told)["spiffe_id"], ID_A);
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "auto_suspended")]);
    assert_turned_away(&house, "suspended");
    assert_eq!(asks(&house, "ELSEWHERE", A).1, Associated::Rejected(1, 1, 1), "no help for who is suspended");
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "auto_suspended")]);
    assert_others_are_served(&house);
    assert_eq!(count(&house, &told), 1, "said once");
    assert!((metric(&house, AUTO_SUSPENDED, "") - 1.0).abs() < 0.5);
    put(&house, &with_row(&base, "hospital-b", "ticket = \"CHG-1\""));
    assert_turned_away(&house, "another row was changed");
    put(&house, &with_row(&base, "hospital-a", "ticket = \"CHG-2\""));
    assert_eq!(let_in(&house, "its row was changed").echo(), SUCCESS);
    assert_eq!(rows(house.dir()).len(), 0);
    assert_log_is_sound(house);
}

#[test]
fn instances_that_are_denied_count_and_what_we_took_away_does_not() {
    let house = impatient();
    let base = table_of(&house);
    let refused = |peer: &mut Peer, number| store(peer, &Instance::numbered(number));
    let mut peer = let_in(&house, "before the change");
    put(&house, &with_row(&base, "hospital-a", "modalities = [\"MR\"]"));
    for number in 1..=6 {
        assert_eq!(refused(&mut peer, number), NOT_AUTHORISED, "what was allowed when it came");
    }
    assert_eq!(peer.echo(), SUCCESS);
    // Quotas are nobody's misdeed either.
    put(&house, &with_row(&base, "hospital-a", "max_instances_day = 1"));
    let mut peer = let_in(&house, "under a quota");
    assert_eq!(refused(&mut peer, 7), SUCCESS);
    for number in 8..=12 {
        assert_eq!(refused(&mut peer, number), LATER);
    }
    put(&house, &with_row(&base, "hospital-a", "modalities = [\"MR\"]\nticket = \"CHG-3\""));
    let mut peer = let_in(&house, "after the change");
    for number in 13..=15 {
        assert_eq!(refused(&mut peer, number), NOT_AUTHORISED);
    }
    assert_eq!(peer.outcome(), ENDED);
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "auto_suspended")]);
    assert_turned_away(&house, "suspended");
    assert_log_is_sound(house);
}
