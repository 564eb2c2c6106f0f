//! What every backend promises. Each takes an archive, so that another backend runs the same list.

use std::time::Duration;

use model::{Attribute, Digest};
use study::Reason;

use std::sync::Arc;

use super::door::{Row, after, ask_again, authorised, cleared, name, now, too_late};
use super::*;
use crate::{Outcome, Snapshot, StudyState};

contract![
    a_receipt_says_what_was_kept,
    same_name_and_bytes_follow_the_rule_of_the_row,
    two_that_come_at_once_under_one_name_do_not_both_win,
    nothing_is_visible_before_the_commit,
    a_clearance_opens_the_gate_for_its_own_instance_and_in_time,
    a_right_withdrawn_while_the_disk_was_slow_writes_no_row,
    tenants_stay_apart_even_with_the_same_uids,
    many_associations_commit_together_and_none_is_lost,
    large_instances_are_kept_whole,
    readers_see_studies_instances_and_metadata,
    a_quiet_study_becomes_stable_once,
    late_instances_open_the_next_generation,
    what_is_sent_again_opens_no_generation,
    an_instance_in_flight_keeps_the_study_open,
    an_instance_in_flight_that_never_comes_opens_no_generation,
    an_arrival_after_the_snapshot_keeps_the_study_open,
    a_sender_that_never_pauses_does_not_keep_a_study_open_for_ever,
    of_two_stabilisers_one_wins,
    one_receiver_that_still_hears_keeps_the_study_open,
    due_studies_come_longest_waiting_first_and_no_more_than_asked_for,
    an_event_waits_until_it_is_marked,
];

async fn a_receipt_says_what_was_kept(archive: Archive) {
    let receipt = send(&archive, Row::Revise, &name("1.2", "1"), b"pixels").await.expect("it is new");
    assert_eq!(receipt.outcome(), Outcome::Stored);
    assert_eq!((receipt.size(), receipt.digest()), (6, Digest::of(b"pixels")));
    let short = Digest::of(b"pixels").short();
    assert_eq!(receipt.object(), format!("instances/hospital-a/1.2/1.2.1/1.2.1.1/{short}.dcm"));
    assert!(!receipt.cross_tenant());
}

async fn same_name_and_bytes_follow_the_rule_of_the_row(archive: Archive) {
    use Outcome::{AlreadyHeld, Quarantined, Revised, Stored};
    use Row::{Quarantine, Reject, Revise};
    type Step = (Row, &'static str, Option<Outcome>);
    // Each step: the row, the bytes, and what comes of it; none is a conflict. Then what the study holds.
    let cases: &[(&str, &[Step], &[&str])] = &[
        ("same bytes", &[(Revise, "a", Some(Stored)), (Revise, "a", Some(AlreadyHeld))], &["a"]),
        ("revise keeps both", &[(Revise, "a", Some(Stored)), (Revise, "b", Some(Revised))], &["a", "b"]),
        (
            "back to the first bytes",
            &[(Revise, "a", Some(Stored)), (Revise, "b", Some(Revised)), (Revise, "a", Some(AlreadyHeld))],
            &["a", "b"],
        ),
        ("reject", &[(Reject, "a", Some(Stored)), (Reject, "b", None), (Reject, "a", Some(AlreadyHeld))], &["a"]),
        ("reject what another row stored", &[(Revise, "a", Some(Stored)), (Reject, "b", None)], &["a"]),
        ("revise what a reject row stored", &[(Reject, "a", Some(Stored)), (Revise, "b", Some(Revised))], &["a", "b"]),
        (
            "reject takes any revision that is held",
            &[(Revise, "a", Some(Stored)), (Revise, "b", Some(Revised)), (Reject, "b", Some(AlreadyHeld))],
            &["a", "b"],
        ),
        ("quarantine", &[(Quarantine, "a", Some(Stored)), (Quarantine, "b", Some(Quarantined))], &["a"]),
        (
            "quarantine twice",
            &[(Revise, "a", Some(Stored)), (Quarantine, "b", Some(Quarantined)), (Quarantine, "b", Some(Quarantined))],
            &["a"],
        ),
        (
            "the claim holds after a quarantine",
            &[(Quarantine, "a", Some(Stored)), (Quarantine, "b", Some(Quarantined)), (Reject, "b", None)],
            &["a"],
        ),
    ];
    for (number, (case, steps, held)) in cases.iter().enumerate() {
        let name = name("1.2", &number.to_string());
        for (at, (row, data, expected)) in steps.iter().enumerate() {
            match (send(&archive, *row, &name, data.as_bytes()).await, expected) {
                (Ok(receipt), Some(expected)) => {
                    assert_eq!(receipt.outcome(), *expected, "{case}, step {at}");
                    let apart = *expected == Quarantined;
                    assert_eq!(receipt.object().starts_with("quarantine/"), apart, "{case}, step {at}");
                }
                (Err(Failure::Conflict), None) => {}
                (other, _) => panic!("{case}, step {at}: {other:?}"),
            }
        }
        let of_this = |held: &study::HeldInstance| held.name == name;
        let all = archive.held(&tenant(Row::Revise), &name.study).await.expect("the index is there");
        let mut digests: Vec<_> = all.into_iter().filter(of_this).map(|held| held.digest).collect();
        let mut expected: Vec<_> = held.iter().map(|data| Digest::of(data.as_bytes())).collect();
        digests.sort();
        expected.sort();
        assert_eq!(digests, expected, "{case}");
    }
    sound_digests(&archive, Row::Revise, &name("1.2", "0")).await;
}

async fn two_that_come_at_once_under_one_name_do_not_both_win(archive: Archive) {
    for (round, row) in [Row::Reject, Row::Quarantine].into_iter().cycle().take(20).enumerate() {
        let name = name(&format!("1.2.{round}"), "1");
        // All are sealed first, so that the commits meet.
        let mut commits = Vec::new();
        for data in ["a", "b", "c", "d"] {
            let sealed = sealed(&archive, row, &name, data.as_bytes()).await.expect("there is room");
            let (cleared, again) = (cleared(&sealed.instance), ask_again(&sealed.instance));
            commits.push(tokio::spawn(sealed.commit(cleared, again, metadata("x"), now())));
        }
        let mut stored = 0;
        for commit in commits {
            match (commit.await.expect("no panic"), row) {
                (Ok(receipt), _) if receipt.outcome() == Outcome::Stored => stored += 1,
                (Ok(receipt), Row::Quarantine) => assert_eq!(receipt.outcome(), Outcome::Quarantined),
                (Err(Failure::Conflict), Row::Reject) => {}
                (other, _) => panic!("{row:?}: {other:?}"),
            }
        }
        assert_eq!(stored, 1, "{row:?}");
        assert_eq!(sound_digests(&archive, row, &name).await.len(), 1, "{row:?}");
    }
}

async fn nothing_is_visible_before_the_commit(archive: Archive) {
    let name = name("1.2", "1");
    let sealed = sealed(&archive, Row::Revise, &name, b"pixels").await.expect("there is room");
    assert_eq!((sealed.size(), sealed.digest()), (6, Digest::of(b"pixels")));
    assert!(sound_digests(&archive, Row::Revise, &name).await.is_empty());
    drop(sealed);
    let receipt = send(&archive, Row::Revise, &name, b"pixels").await.expect("it is new");
    assert_eq!(receipt.outcome(), Outcome::Stored);
}

async fn a_clearance_opens_the_gate_for_its_own_instance_and_in_time(archive: Archive) {
    let name = name("1.2", "1");
    for (case, of_another, at) in
        [("another instance of the same name", true, now()), ("an expired one", false, too_late())]
    {
        let sealed = sealed(&archive, Row::Revise, &name, b"pixels").await.expect("there is room");
        let other = authorised(Row::Revise, &name);
        let cleared = cleared(if of_another { &other } else { &sealed.instance });
        let again = ask_again(&sealed.instance);
        let refused = sealed.commit(cleared, again, metadata("x"), at).await;
        assert!(matches!(refused, Err(Failure::NotCleared)), "{case}");
    }
    assert!(sound_digests(&archive, Row::Revise, &name).await.is_empty());
}

async fn a_right_withdrawn_while_the_disk_was_slow_writes_no_row(archive: Archive) {
    for row in [Row::Revise, Row::Quarantine] {
        let name = name("1.2", "1");
        let sealed = sealed(&archive, row, &name, b"pixels").await.expect("there is room");
        let cleared = cleared(&sealed.instance);
        let refused = sealed.commit(cleared, Arc::new(|| None), metadata("x"), now()).await;
        assert!(matches!(refused, Err(Failure::NotCleared)), "{row:?}");
        assert!(sound_digests(&archive, row, &name).await.is_empty(), "{row:?}");
    }
}

async fn tenants_stay_apart_even_with_the_same_uids(archive: Archive) {
    let name = name("1.2", "1");
    for (case, row, data, outcome, cross) in [
        ("the first", Row::Revise, "a's", Outcome::Stored, false),
        ("other bytes are no revision of a's", Row::OtherTenant, "b's", Outcome::Stored, true),
        ("the same bytes are not held for b", Row::OtherTenant, "a's", Outcome::Revised, true),
        ("a's are as they were", Row::Revise, "a's", Outcome::AlreadyHeld, false),
        ("held already, and still another's study", Row::OtherTenant, "b's", Outcome::AlreadyHeld, true),
        ("a reject row of a does not see b's", Row::Reject, "a's", Outcome::AlreadyHeld, false),
    ] {
        let receipt = send(&archive, row, &name, data.as_bytes()).await.expect(case);
        assert_eq!((receipt.outcome(), receipt.cross_tenant()), (outcome, cross), "{case}");
        assert_eq!(receipt.object().split('/').nth(1), Some(tenant(row).as_str()), "{case}");
    }
    assert_eq!(sound_digests(&archive, Row::Revise, &name).await, [Digest::of(b"a's")]);
    assert_eq!(sound_digests(&archive, Row::OtherTenant, &name).await.len(), 2);
    assert_eq!(archive.study(None, &name.study).await.expect("the index is there").len(), 3);
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable, Settled::Stable]);
    let events = archive.unpublished().await.expect("the index is there");
    let counts: Vec<_> = events.iter().map(|event| (event.tenant.as_str(), event.instances)).collect();
    assert!(counts.contains(&("hospital-a", 1)) && counts.contains(&("hospital-b", 1)), "{counts:?}");
    assert_ne!(events[0].id, events[1].id);
}

async fn many_associations_commit_together_and_none_is_lost(archive: Archive) {
    const ASSOCIATIONS: usize = 50;
    const INSTANCES: usize = 20;
    let associations: Vec<_> = (0..ASSOCIATIONS)
        .map(|association| {
            let archive = archive.clone();
            tokio::spawn(async move {
                for instance in 0..INSTANCES {
                    let number = association * INSTANCES + instance;
                    let name = name("1.2", &number.to_string());
                    let receipt = send(&archive, Row::Revise, &name, &vec![association as u8; 2000 + instance]).await;
                    assert_eq!(receipt.expect("it is new").outcome(), Outcome::Stored);
                }
            })
        })
        .collect();
    for association in associations {
        association.await.expect("no panic");
    }
    assert_eq!(sound_digests(&archive, Row::Revise, &name("1.2", "1")).await.len(), ASSOCIATIONS * INSTANCES);
}

async fn large_instances_are_kept_whole(archive: Archive) {
    let data: Vec<u8> = (0..3_000_001).map(|n| (n % 251) as u8).collect();
    let receipt = send(&archive, Row::Revise, &name("1.2", "1"), &data).await.expect("it is new");
    assert_eq!((receipt.size(), receipt.digest()), (data.len() as u64, Digest::of(&data)));
    assert_eq!(sound_digests(&archive, Row::Revise, &name("1.2", "1")).await, [Digest::of(&data)]);
}

async fn readers_see_studies_instances_and_metadata(archive: Archive) {
    for (study, instance, data, row, second) in [
        ("1.2", "1", "one", Row::Revise, 1),
        ("1.2", "1", "three", Row::Revise, 3),
        ("1.2", "2", "two", Row::Revise, 2),
        ("1.3", "1", "other", Row::OtherTenant, 4),
    ] {
        send_at(&archive, row, &name(study, instance), data.as_bytes(), after(second)).await.expect("it is new");
    }
    let all = archive.studies(None).await.expect("the index is there");
    let listed: Vec<_> = all.iter().map(|study| (study.study.as_str(), study.instances, study.objects)).collect();
    assert_eq!(listed, [("1.3", 1, 1), ("1.2", 2, 3)], "the latest first");
    let own = archive.studies(Some(&tenant(Row::Revise))).await.expect("the index is there");
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].bytes, own[0].series, own[0].state), (11, 1, StudyState::Arriving));
    assert_eq!((own[0].first_received, own[0].last_received), (after(1), after(3)));
    assert_eq!(own[0].promoted.get(Attribute::PatientName), Some("DOE^JANE"));
    assert!(!format!("{own:?}").contains("DOE"));

    let stored = archive.study(None, &name("1.2", "1").study).await.expect("the index is there");
    let listed: Vec<_> = stored.iter().map(|stored| (stored.held.name.instance.as_str(), stored.held.size)).collect();
    assert_eq!(listed, [("1.2.1.1", 3), ("1.2.1.1", 5), ("1.2.1.2", 3)]);
    let first = &stored[0];
    assert_eq!((first.called.as_str(), first.calling.as_str(), first.held.table_revision), ("REVISE", "CT1", 7));
    assert_eq!(first.held.sender.as_str(), "spiffe://a.invalid/ct1");
    assert_eq!(first.promoted.get(Attribute::Rows), Some("512"));
    assert_eq!(first.promoted.get(Attribute::Columns), None);
    assert!(first.metadata_complete);

    let json = archive.metadata(&first.tenant, &first.held.name, &first.held.digest).await.expect("the index is there");
    assert_eq!(json, Some(metadata("DOE^JANE").json));
    let none = archive.metadata(&first.tenant, &first.held.name, &Digest::of(b"never sent")).await;
    assert_eq!(none.expect("the index is there"), None);
}

async fn a_quiet_study_becomes_stable_once(archive: Archive) {
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"one", after(0)).await.expect("it is new");
    send_at(&archive, Row::Revise, &name("1.2", "2"), b"two", after(30)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(89)).await, [], "it is still arriving");
    assert_eq!(archive.unpublished().await.expect("the index is there"), []);
    assert_eq!(stabilise(&archive, after(90)).await, [Settled::Stable]);
    assert_eq!(stabilise(&archive, after(1000)).await, [], "nothing new");

    let events = archive.unpublished().await.expect("the index is there");
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.generation, event.instances, event.bytes), (1, 2, 6));
    let summary = &archive.studies(None).await.expect("the index is there")[0];
    assert_eq!((summary.state, summary.generation), (StudyState::Stable, 1));
    assert_eq!(summary.manifest.as_ref(), Some(&event.manifest));
}

async fn late_instances_open_the_next_generation(archive: Archive) {
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"one", after(0)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"revised", after(200)).await.expect("it is new");
    let summary = &archive.studies(None).await.expect("the index is there")[0];
    assert_eq!((summary.state, summary.generation), (StudyState::Arriving, 1));
    assert_eq!(stabilise(&archive, after(260)).await, [Settled::Stable]);

    let events = archive.unpublished().await.expect("the index is there");
    let told: Vec<_> = events.iter().map(|event| (event.generation, event.instances, event.bytes)).collect();
    assert_eq!(told, [(1, 1, 3), (2, 1, 7)]);
    assert_ne!(events[0].manifest, events[1].manifest);
}

async fn what_is_sent_again_opens_no_generation(archive: Archive) {
    let name = name("1.2", "1");
    send_at(&archive, Row::Revise, &name, b"one", after(0)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    let again = send_at(&archive, Row::Revise, &name, b"one", after(100)).await.expect("it is held");
    assert_eq!(again.outcome(), Outcome::AlreadyHeld);
    assert_eq!(archive.due(after(100_000), 10).await.expect("the index is there"), []);
}

async fn an_instance_in_flight_keeps_the_study_open(archive: Archive) {
    let name = name("1.2", "1");
    send_at(&archive, Row::Revise, &name, b"one", after(0)).await.expect("it is new");
    let quiet = Some(Duration::from_secs(60));
    archive
        .touch(&tenant(Row::Revise), &name.study, "local", quiet, None, after(50))
        .await
        .expect("the index is there");
    assert_eq!(stabilise(&archive, after(60)).await, []);
    assert_eq!(stabilise(&archive, after(110)).await, [Settled::Stable]);
}

async fn an_instance_in_flight_that_never_comes_opens_no_generation(archive: Archive) {
    let name = name("1.2", "1");
    let touch = |at| archive.touch(tenant_a(), &name.study, "local", None, None, at);
    touch(after(0)).await.expect("the index is there");
    let due = archive.due(after(60), 10).await.expect("the index is there");
    assert_eq!(due.len(), 1);
    assert!(archive.snapshot(&due[0], after(60)).await.expect("the index is there").is_none(), "nothing is held");
    assert_eq!(archive.due(after(100_000), 10).await.expect("the index is there"), [], "and it is forgotten");

    send_at(&archive, Row::Revise, &name, b"one", after(100)).await.expect("it is new");
    assert_eq!(stabilise(&archive, after(160)).await, [Settled::Stable]);
    touch(after(200)).await.expect("the index is there");
    assert_eq!(stabilise(&archive, after(260)).await, [], "everything is in the manifest");
    assert_eq!(archive.unpublished().await.expect("the index is there").len(), 1);
}

async fn an_arrival_after_the_snapshot_keeps_the_study_open(archive: Archive) {
    let first = name("1.2", "1");
    send_at(&archive, Row::Revise, &first, b"one", after(0)).await.expect("it is new");
    let snapshot = snapshot(&archive, after(60)).await;
    assert_eq!((snapshot.generation(), snapshot.reason(), snapshot.instances().len()), (1, Reason::Quiet, 1));
    // At the very moment that the snapshot knows as the last one: only the rows can tell.
    send_at(&archive, Row::Revise, &name("1.2", "2"), b"two", after(0)).await.expect("it is new");
    let stable = snapshot.stable();
    assert_eq!(archive.settle(snapshot, stable).await.expect("the index is there"), Settled::StillArriving);
    assert_eq!(archive.unpublished().await.expect("the index is there"), []);

    let touched = self::snapshot(&archive, after(60)).await;
    archive.touch(tenant_a(), &first.study, "local", None, None, after(59)).await.expect("the index is there");
    let stable = touched.stable();
    assert_eq!(archive.settle(touched, stable).await.expect("the index is there"), Settled::StillArriving);
    assert_eq!(stabilise(&archive, after(119)).await, [Settled::Stable]);
    assert_eq!(archive.unpublished().await.expect("the index is there")[0].instances, 2);
}

async fn a_sender_that_never_pauses_does_not_keep_a_study_open_for_ever(archive: Archive) {
    for number in 0..21 {
        let name = name("1.2", &number.to_string());
        send_at(&archive, Row::Revise, &name, b"data", after(number * 30)).await.expect("it is new");
    }
    assert_eq!(archive.due(after(599), 10).await.expect("the index is there"), [], "max_wait is ten minutes");
    let snapshot = snapshot(&archive, after(600)).await;
    assert_eq!((snapshot.reason(), snapshot.instances().len()), (Reason::MaxWait, 21));
    send_at(&archive, Row::Revise, &name("1.2", "99"), b"data", after(601)).await.expect("it is new");
    let stable = snapshot.stable();
    assert_eq!(archive.settle(snapshot, stable).await.expect("the index is there"), Settled::Stable);

    assert_eq!(stabilise(&archive, after(660)).await, [], "the next generation has its own silence");
    assert_eq!(stabilise(&archive, after(661)).await, [Settled::Stable]);
    let events = archive.unpublished().await.expect("the index is there");
    let told: Vec<_> = events.iter().map(|event| (event.generation, event.instances)).collect();
    assert_eq!(told, [(1, 21), (2, 22)]);
}

async fn of_two_stabilisers_one_wins(archive: Archive) {
    send_at(&archive, Row::Revise, &name("1.2", "1"), b"one", after(0)).await.expect("it is new");
    let (one, other) = (snapshot(&archive, after(60)).await, snapshot(&archive, after(61)).await);
    let (first, second) = (one.stable(), other.stable());
    let (first, second) = tokio::join!(archive.settle(one, first), archive.settle(other, second));
    let mut settled = [first.expect("the index is there"), second.expect("the index is there")];
    settled.sort_by_key(|settled| *settled != Settled::Stable);
    assert_eq!(settled, [Settled::Stable, Settled::Overtaken]);
    assert_eq!(archive.unpublished().await.expect("the index is there").len(), 1);
}

async fn one_receiver_that_still_hears_keeps_the_study_open(archive: Archive) {
    let name = name("1.2", "1");
    send_at(&archive, Row::Revise, &name, b"one", after(0)).await.expect("it is new");
    archive.touch(tenant_a(), &name.study, "another", None, None, after(45)).await.expect("the index is there");
    assert_eq!(archive.due(after(60), 10).await.expect("the index is there"), []);
    assert_eq!(stabilise(&archive, after(105)).await, [Settled::Stable]);
    assert_eq!(archive.due(after(100_000), 10).await.expect("the index is there"), [], "both are forgotten");
}

async fn due_studies_come_longest_waiting_first_and_no_more_than_asked_for(archive: Archive) {
    for (study, second) in [("1.5", 20), ("1.6", 10), ("1.7", 30)] {
        send_at(&archive, Row::Revise, &name(study, "1"), b"x", after(second)).await.expect("it is new");
    }
    let due = archive.due(after(85), 10).await.expect("the index is there");
    let listed: Vec<_> = due.iter().map(|due| (due.study.as_str(), due.due)).collect();
    assert_eq!(listed, [("1.6", after(70)), ("1.5", after(80))]);
    assert_eq!(archive.due(after(85), 1).await.expect("the index is there"), due[..1]);
}

async fn an_event_waits_until_it_is_marked(archive: Archive) {
    for study in ["1.2", "1.3"] {
        send_at(&archive, Row::Revise, &name(study, "1"), b"x", after(0)).await.expect("it is new");
    }
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable; 2]);
    let events = archive.unpublished().await.expect("the index is there");
    assert_eq!(archive.unpublished().await.expect("the index is there"), events, "asking marks nothing");
    archive.mark_published(&events[0].id, after(61)).await.expect("the index is there");
    archive.mark_published("evt-unknown", after(61)).await.expect("it changes nothing");
    assert_eq!(archive.unpublished().await.expect("the index is there"), events[1..]);
}

fn tenant_a() -> &'static model::Tenant {
    static TENANT: std::sync::OnceLock<model::Tenant> = std::sync::OnceLock::new();
    TENANT.get_or_init(|| tenant(Row::Revise))
}

/// The only due study as it is now.
async fn snapshot(archive: &Archive, now: model::Timestamp) -> Snapshot {
    let due = archive.due(now, 10).await.expect("the index is there");
    assert_eq!(due.len(), 1);
    archive.snapshot(&due[0], now).await.expect("the index is there").expect("it has something new")
}
