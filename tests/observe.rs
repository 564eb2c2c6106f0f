//! What is noticed and does not decide: rows in observe mode, and a second table in the shadow of the one in force.

use gateway::telemetry::{AUTHZ_DENY, AUTHZ_OBSERVED, SHADOW_DIFFERENCES};
use serde_json::Value;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Peer, contexts, sample_contexts};

use crate::support::archive::rows;
use crate::support::furnish::{
    ID_A, asks, assert_log_is_sound, assert_others_are_served, assert_turned_away, count, edit, furnished, let_in,
    metric, put, quick, table_of, with_key, with_row,
};
use crate::support::instance::{EXPLICIT, IMPLICIT, Instance};
use crate::support::{A, CALLED, SUCCESS, audited, connect, portcullis, said, without_row};

/// Every reason that was only observed, in its order.
fn observed(house: &House) -> Vec<Value> {
    house.audit().into_iter().filter(|line| line["decision"] == "observe").collect()
}

fn store(peer: &mut Peer, instance: &Instance) -> testkit::peer::Outcome {
    peer.store(&instance.claim(), &instance.data_set())
}

const NARROW: &str = "mode = \"observe\"\ncalled_aets = [\"ARCHIVE\"]\ncalling_aets = [\"CT1\"]\noperations = []\n\
    sop_classes = [\"MRImageStorage\"]\ntransfer_syntaxes = [\"ImplicitVRLittleEndian\"]\nmodalities = [\"MR\"]\n\
    patient_issuers = [\"HOSP-A\"]\ninstitutions = [\"Hospital A\"]\nsource_cidrs = [\"192.0.2.0/24\"]\n\
    require_vpce = true\nmax_svid_lifetime = \"1h\"\nposture_ok_until = 2020-01-01T00:00:00Z\nmax_instance_bytes = 10";

#[test]
fn a_row_that_observes_refuses_nothing_and_every_would_be_denial_is_recorded_and_counted() {
    let house = quick();
    put(&house, &with_row(&table_of(&house), "hospital-a", NARROW));
    let mut peer = let_in(&house, "observed only");
    assert_eq!(peer.echo(), SUCCESS);
    let instance = Instance::numbered(1);
    assert_eq!(store(&mut peer, &instance), SUCCESS);
    assert_eq!(rows(house.dir()).len(), 1);
    let of_association = [
        "posture",
        "svid_lifetime",
        "vpce_missing",
        "source",
        "called_aet",
        "calling_aet",
        "operation",
        "sop_class",
        "transfer_syntax",
    ];
    let of_instance = ["modality", "patient_issuer", "institution", "instance_size"];
    for (event, reasons) in [("association", of_association.as_slice()), ("instance", of_instance.as_slice())] {
        for reason in reasons {
            let line = audited(&house, &[("event", event), ("decision", "observe"), ("reason", reason)]);
            assert_eq!((&line["row"], &line["spiffe_id"]), (&"hospital-a".into(), &ID_A.into()), "{line}");
            let counted = metric(&house, AUTHZ_OBSERVED, &format!("reason=\"{reason}\""));
            assert!(counted >= 1.0, "{reason}: {counted}");
            assert!(metric(&house, AUTHZ_DENY, &format!("reason=\"{reason}\"")) < 0.5, "{reason} refused nothing");
        }
    }
    let stored = audited(&house, &[("event", "instance"), ("decision", "allow"), ("instance", &instance.uid)]);
    assert_eq!(stored["reason"], "stored");
    assert_log_is_sound(house);
}

#[test]
fn nothing_is_observed_of_what_a_row_lists() {
    let house = quick();
    put(&house, &with_row(&table_of(&house), "hospital-a", "mode = \"observe\""));
    let mut peer = let_in(&house, "within the row");
    assert_eq!(store(&mut peer, &Instance::numbered(1)), SUCCESS);
    audited(&house, &[("event", "instance"), ("decision", "allow")]);
    assert_eq!(observed(&house), Vec::<Value>::new());
}

#[test]
fn observing_loosens_neither_who_may_come_nor_what_is_denied_nor_quotas() {
    let house = quick();
    let base = with_row(&table_of(&house), "hospital-a", NARROW);
    let deny = format!("{base}\n[[row]]\nid = \"stop\"\neffect = \"deny\"\nidentity = \"{ID_A}\"\n");
    for (reason, table) in [
        ("no_row", without_row(&base, "hospital-a")),
        ("row_suspended", with_row(&base, "hospital-a", "state = \"suspended\"")),
        ("row_expired", with_row(&base, "hospital-a", "valid_until = 2020-01-01T00:00:00Z")),
        ("row_not_yet", with_row(&base, "hospital-a", "not_before = 2999-01-01T00:00:00Z")),
        ("deny_row", deny),
        ("kill_switch", with_key(&base, "kill_switch = true")),
    ] {
        put(&house, &table);
        assert_turned_away(&house, reason);
        audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", reason), ("spiffe_id", ID_A)]);
    }
    put(&house, &with_row(&base, "hospital-a", "max_associations = 1\nmax_instances_day = 1"));
    let mut peer = let_in(&house, "the first");
    assert_eq!(asks(&house, CALLED, A).1, Associated::Rejected(2, 3, 2));
    assert_eq!(store(&mut peer, &Instance::numbered(1)), SUCCESS);
    assert_eq!(store(&mut peer, &Instance::numbered(2)), testkit::peer::Outcome::Status(0xA700));
    // A query is no storage, whoever only watches.
    let find = contexts(&[("1.2.840.10008.5.1.4.1.2.2.1", &[IMPLICIT]), ("CTImageStorage", &[EXPLICIT])]);
    drop(peer);
    put(&house, &base);
    assert_eq!(connect(&house, "hospital-a").associate(CALLED, A, find), Associated::Accepted(1));
    assert_log_is_sound(house);
}

#[test]
fn a_whole_table_may_observe() {
    let house = quick();
    let base = with_row(&table_of(&house), "hospital-b", "called_aets = [\"ARCHIVE\"]");
    put(&house, &with_key(&with_row(&base, "hospital-a", "calling_aets = [\"CT1\"]"), "mode = \"observe\""));
    let_in(&house, "observed only");
    assert_others_are_served(&house);
    for (reason, row) in [("calling_aet", "hospital-a"), ("called_aet", "hospital-b")] {
        audited(&house, &[("event", "association"), ("decision", "observe"), ("reason", reason), ("row", row)]);
    }
    put(&house, &with_row(&base, "hospital-a", "calling_aets = [\"CT1\"]"));
    assert_eq!(asks(&house, CALLED, A).1, Associated::Rejected(1, 1, 3), "enforced again");
}

/// A house with this shadow table beside its own.
fn shadowed(shadow: impl FnOnce(&str) -> String) -> House {
    let mut house = quick();
    assert_eq!(house.terminate().code(), Some(0));
    std::fs::write(house.dir().join("next.toml"), shadow(&table_of(&house))).expect("ours");
    edit(&house.dir().join("gateway.toml"), |config| {
        config.replacen("[access]\n", "[access]\nshadow = \"next.toml\"\n", 1)
    });
    house.restart()
}

#[test]
fn a_shadow_table_decides_nothing_and_tells_where_it_would_have() {
    let house = shadowed(|table| {
        let next = with_row(table, "hospital-a", "calling_aets = [\"HOSPITAL_A\", \"NEW\"]\nmodalities = [\"MR\"]");
        with_row(&next, "hospital-b", "tenant = \"elsewhere\"")
    });
    let mut peer = let_in(&house, "by the table in force");
    let instance = Instance::numbered(1);
    assert_eq!(store(&mut peer, &instance), SUCCESS);
    let line = audited(&house, &[("event", "instance"), ("decision", "observe"), ("reason", "shadow_deny")]);
    let told = line["detail"].as_str().is_some_and(|detail| detail.contains("modality"));
    assert!(told && line["spiffe_id"] == ID_A, "{line}");
    assert_eq!(count(&house, &[("reason", "shadow_allow")]), 0);
    assert_eq!(asks(&house, CALLED, "NEW").1, Associated::Rejected(1, 1, 3), "by the table in force");
    audited(&house, &[("event", "association"), ("decision", "observe"), ("reason", "shadow_allow")]);
    assert_others_are_served(&house);
    audited(&house, &[("event", "association"), ("decision", "observe"), ("reason", "shadow_tenant")]);
    for (reason, most) in [("shadow_deny", 1), ("shadow_allow", 1), ("shadow_tenant", 1)] {
        assert_eq!(count(&house, &[("reason", reason)]), most, "{reason}");
        assert!(metric(&house, SHADOW_DIFFERENCES, &format!("reason=\"{reason}\"")) >= 1.0, "{reason}");
    }
    let kept = rows(house.dir());
    assert_eq!((kept.len(), kept[0].held.table_revision), (1, 1), "by the table in force");
    assert_log_is_sound(house);
}

#[test]
fn a_shadow_table_is_read_again_and_a_broken_one_changes_nothing() {
    let house = shadowed(str::to_owned);
    let shadow = house.dir().join("next.toml");
    let good = std::fs::read_to_string(&shadow).expect("ours");
    let shadow_is = |text: &str| {
        let new = shadow.with_extension("new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &shadow)).expect("ours");
    };
    let mut peer = let_in(&house, "before the change");
    assert_eq!(store(&mut peer, &Instance::numbered(1)), SUCCESS);
    assert_eq!(observed(&house), Vec::<Value>::new(), "the two agree");
    shadow_is(&without_row(&good, "hospital-a"));
    house.wait_for("the new shadow", |lines| lines.iter().find(|line| line.contains("shadow table changed")).cloned());
    assert_eq!(store(&mut peer, &Instance::numbered(2)), SUCCESS, "a live association is none of its business");
    let line = audited(&house, &[("event", "instance"), ("reason", "shadow_deny")]);
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("no_row")), "{line}");
    shadow_is("revision = \"none\"");
    audited(&house, &[("event", "policy"), ("reason", "reload_failed")]);
    assert_eq!(store(&mut peer, &Instance::numbered(3)), SUCCESS);
    // The table in force is still read: what it takes away is gone, however broken the shadow is.
    put(&house, &without_row(&good, "hospital-a"));
    assert_turned_away(&house, "the table in force");
    shadow_is(&good);
    eventually("the shadow that allows", || {
        let (_, answer) = asks(&house, CALLED, A);
        assert_eq!(answer, Associated::Rejected(1, 1, 1));
        (count(&house, &[("reason", "shadow_allow")]) > 0).then_some(())
    });
    assert_log_is_sound(house);
}

#[test]
fn a_shadow_table_may_be_named_on_the_command_line_and_must_be_one() {
    let mut house = furnished(
        |config| config.replace("127.0.0.1:2762", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0"),
        |table| table,
    );
    assert_eq!(house.terminate().code(), Some(0));
    let file = |name: &str| house.dir().join(name);
    let text = |name: &str| file(name).to_str().expect("our paths are text").to_owned();
    std::fs::write(file("broken.toml"), "revision = 1\n[[row]]\nid = 7\n").expect("ours");
    let (config, broken) = (text("gateway.toml"), text("broken.toml"));
    let output = portcullis(&["receive", "--check", "--config", &config, "--shadow", &broken]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("broken.toml"), "{}", said(&output));
    std::fs::write(file("next.toml"), without_row(&table_of(&house), "hospital-a")).expect("ours");
    let shadowed = House::start(Options {
        dir: Some(house.dir().to_owned()),
        config: Some(file("gateway.toml")),
        args: vec!["--shadow".to_owned(), text("next.toml")],
        ..Options::default()
    });
    let mut peer = connect(&shadowed, "hospital-a");
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(3));
    audited(&shadowed, &[("event", "association"), ("decision", "observe"), ("reason", "shadow_deny")]);
}
