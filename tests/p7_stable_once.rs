//! Promise 7: "A study event is published at least once per generation, with one id, and never for a study that is still
//! arriving."

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Digest, Timestamp};
use serde_json::Value;
use testkit::house::{House, Options, eventually};

use crate::support::archive::{files, study};
use crate::support::instance::Instance;
use crate::support::witness::python;
use crate::support::{
    SUCCESS, amend, associated, audited, binary, house, house_in, house_with, said, with_columns, within,
};

/// `evt-` and half of the SHA-256 of what names the generation: as the event's schema promises.
fn event_id(study: &str, generation: u64) -> String {
    format!("evt-{}", Digest::of(format!("hospital-a#{study}#{generation}").as_bytes()).short())
}

fn events_of(house: &House, study: &str) -> Vec<Value> {
    house.events().into_iter().filter(|event| event["study"] == study).collect()
}

fn await_generation(house: &House, study: &str, generation: u64) -> Value {
    eventually(&format!("generation {generation} of {study}"), || {
        events_of(house, study).into_iter().find(|event| event["generation"] == generation)
    })
}

fn manifest_path(house: &House, event: &Value) -> PathBuf {
    house.dir().join("objects").join(event["manifest"].as_str().expect("an event names its manifest"))
}

fn schema(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name)
}

fn assert_valid(schema_name: &str, documents: &[PathBuf]) {
    let output = python("validate.py").arg(schema(schema_name)).args(documents).output().expect("Python starts");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn each_generation_has_one_event_and_one_immutable_manifest() {
    let house = house();
    let slices: Vec<_> = (1..=3).map(|slice| Instance::of_study(1, slice).with_pixels(1000, slice)).collect();
    let mut peer = associated(&house);
    for slice in &slices[..2] {
        assert_eq!(peer.store(&slice.claim(), &slice.data_set()), SUCCESS);
    }
    let study_uid = &slices[0].study;
    let first = await_generation(&house, study_uid, 1);
    assert_event(&first, study_uid, 1, &slices[..2]);
    assert_manifest(&house, &first, &slices[..2]);
    let (path, bytes) = (manifest_path(&house, &first), fs::read(manifest_path(&house, &first)).expect("it is there"));

    // The same bytes again are no news; a late instance opens the next generation.
    assert_eq!(peer.store(&slices[0].claim(), &slices[0].data_set()), SUCCESS);
    assert_eq!(peer.store(&slices[2].claim(), &slices[2].data_set()), SUCCESS);
    let second = await_generation(&house, study_uid, 2);
    assert_event(&second, study_uid, 2, &slices);
    assert_manifest(&house, &second, &slices);
    assert_eq!(fs::read(&path).expect("it is still there"), bytes, "an earlier manifest stays as it was");
    assert_eq!(events_of(&house, study_uid).len(), 2, "one event for each generation");

    assert_valid("event.schema.json", &[house.dir().join("events.jsonl")]);
    assert_valid("manifest.schema.json", &[path, manifest_path(&house, &second)]);
}

fn assert_event(event: &Value, study: &str, generation: u64, slices: &[Instance]) {
    assert_eq!(event["id"], event_id(study, generation));
    assert_eq!(event["type"], "study.stable");
    assert_eq!(event["tenant"], "hospital-a");
    assert_eq!(event["instances"], slices.len());
    let bytes: usize = slices.iter().map(|slice| slice.data_set().len()).sum();
    assert_eq!(event["bytes"], bytes);
}

fn assert_manifest(house: &House, event: &Value, slices: &[Instance]) {
    let path = manifest_path(house, event);
    let bytes = fs::read(&path).expect("the manifest is there before the event");
    assert_eq!(event["manifest_sha256"], Digest::of(&bytes).to_string());
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else can change or read it");
    let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
    assert_eq!(manifest["generation"], event["generation"]);
    assert_eq!(manifest["reason"], "quiet");
    let listed = manifest["instances"].as_array().expect("a list");
    assert_eq!(listed.len(), slices.len());
    for (one, slice) in listed.iter().zip(slices) {
        assert_eq!(one["instance"], slice.uid);
        assert_eq!(one["sha256"], Digest::of(&slice.data_set()).to_string());
        assert_eq!(one["size"], slice.data_set().len());
        assert!(house.dir().join("objects").join(one["object"].as_str().expect("a key")).is_file());
    }
}

#[test]
fn the_same_bytes_again_open_no_generation() {
    let house = house();
    let (instance, other) = (Instance::numbered(1), Instance::numbered(2));
    let mut peer = associated(&house);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    await_generation(&house, &instance.study, 1);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    // Another study that began later is stable: so the first one had all the time that it could need.
    assert_eq!(peer.store(&other.claim(), &other.data_set()), SUCCESS);
    await_generation(&house, &other.study, 1);
    assert_eq!(events_of(&house, &instance.study).len(), 1);
}

#[test]
fn a_study_with_an_instance_in_flight_is_not_stable() {
    let house = house();
    let (whole, slow) = (Instance::of_study(1, 1), Instance::of_study(1, 2).with_pixels(1 << 20, 2));
    let mut peer = associated(&house);
    assert_eq!(peer.store(&whole.claim(), &whole.data_set()), SUCCESS);
    let data_set = slow.data_set();
    let mut pieces = data_set.chunks(1024);
    let context = peer.begin_store(&slow.claim()).expect("the receiver listens");
    // For as long as two other studies take to become stable, one after the other, this one trickles in.
    let mut others = associated(&house);
    for number in [10, 11] {
        let other = Instance::numbered(number);
        assert_eq!(others.store(&other.claim(), &other.data_set()), SUCCESS);
        within(Duration::from_secs(20), "another study is stable", || {
            let piece = pieces.next().expect("a megabyte is enough");
            peer.send_fragment(context, piece, false).expect("the receiver listens");
            (!events_of(&house, &other.study).is_empty()).then_some(())
        });
        assert_eq!(events_of(&house, &whole.study).len(), 0, "it is still arriving");
    }
    let rest: Vec<u8> = pieces.flatten().copied().collect();
    for (piece, last) in rest.chunks(60_000).zip((1..=rest.len().div_ceil(60_000)).rev()) {
        peer.send_fragment(context, piece, last == 1).expect("the receiver listens");
    }
    assert_eq!(peer.outcome(), SUCCESS);
    let event = await_generation(&house, &whole.study, 1);
    assert_eq!(event["instances"], 2, "the first event has both");
}

#[test]
fn a_study_that_never_falls_quiet_is_published_at_max_wait() {
    let house = house();
    amend(&house, |text| with_columns(&text, "hospital-a", "quiet = \"2s\"\nmax_wait = \"4s\""));
    let mut peer = associated(&house);
    let mut slice = 0;
    let event = within(Duration::from_secs(30), "an event while instances still come", || {
        slice += 1;
        let instance = Instance::of_study(1, slice);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
        events_of(&house, &instance.study).into_iter().next()
    });
    let manifest: Value =
        serde_json::from_slice(&fs::read(manifest_path(&house, &event)).expect("it is there")).expect("JSON");
    assert_eq!(manifest["reason"], "max_wait");
    assert_valid("manifest.schema.json", &[manifest_path(&house, &event)]);
}

#[test]
fn an_event_that_could_not_be_published_before_a_crash_is_published_after_it_with_the_same_id() {
    // The event log is full (a file may not grow beyond this), everything else has room.
    const FULL: u64 = 64 << 20;
    let home = tempfile::tempdir().expect("a temporary directory");
    let log = home.path().join("events.jsonl");
    let file = fs::File::create(&log).expect("ours");
    file.set_len(FULL - 1).expect("a sparse file");
    (&file).seek(SeekFrom::End(0)).and_then(|_| std::io::Write::write_all(&mut &file, b"\n")).expect("ours");
    let program = home.path().join("limited");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec prlimit --fsize={FULL}: -- '{}' \"$@\"\n", binary().display());
    fs::write(&program, script)
        .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o700)))
        .expect("ours");
    let options = Options { dir: Some(home.path().to_owned()), program: Some(program), ..Options::default() };
    let mut house = House::start(options);
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    let told = |lines: &[String]| lines.iter().any(|line| line.contains("cannot be stabilised")).then_some(());
    house.wait_for("a log line", told);
    assert_eq!(files(house.dir(), "manifests").len(), 1, "the study is stable and its manifest written");
    house.kill();
    assert_eq!(fs::metadata(&log).expect("it is there").len(), FULL, "no event was published");
    drop(house);

    let published = || {
        let mut file = fs::File::open(&log).expect("it is there");
        file.seek(SeekFrom::Start(FULL)).expect("a file");
        let text = std::io::read_to_string(file).expect("text");
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    let house = house_in(home.path(), &[], &[]);
    let event = eventually("the event", || published().into_iter().next());
    assert_eq!(event["id"], event_id(&instance.study, 1));
    assert_eq!(study(house.dir(), "hospital-a", &instance.study).len(), 1);
    assert_eq!(files(house.dir(), "manifests").len(), 1);
}

#[test]
fn killed_at_any_moment_every_study_is_published_with_one_id_for_each_generation() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut house = house_in(home.path(), &["--quiet", "200ms"], &[]);
    let mut studies = BTreeSet::new();
    for round in 0..8_u64 {
        let mut peer = associated(&house);
        for number in 0..3 {
            let instance = Instance::of_study(round * 10 + number, 1);
            assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
            studies.insert(instance.study);
        }
        // Sooner or later in the settling: after so many manifests of this round.
        let settled = usize::try_from(round % 4).expect("small");
        let before = files(house.dir(), "manifests").len();
        eventually("manifests", || {
            (files(house.dir(), "manifests").len() >= (before + settled).min(studies.len())).then_some(())
        });
        house = house.restart();
    }
    eventually("every study is published", || {
        let known: BTreeSet<_> =
            house.events().iter().map(|event| event["study"].as_str().expect("text").to_owned()).collect();
        (known == studies).then_some(())
    });
    let of_generation = |event: &Value| (event["study"].to_string(), event["generation"].to_string());
    let events = house.events();
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    let generations: BTreeSet<_> = events.iter().map(of_generation).collect();
    assert_eq!(ids.len(), generations.len(), "a repetition has the same id");
    assert!(events.iter().all(|event| event["generation"] == 1), "nothing new came, so there is no second generation");
}

#[test]
fn the_time_to_be_quiet_is_the_rows_own_where_it_has_one() {
    let house = house_with(&["--quiet", "1s"], &[]);
    amend(&house, |text| with_columns(&text, "hospital-a", "quiet = \"4s\""));
    let instance = Instance::numbered(1);
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    let event = await_generation(&house, &instance.study, 1);
    let line = audited(&house, &[("event", "instance"), ("reason", "stored")]);
    let moment = |value: &Value| Timestamp::parse(value.as_str().expect("text")).expect("RFC 3339");
    // A lower bound: what is still arriving is never published.
    assert!(moment(&event["occurred_at"]).since(moment(&line["ts"])) >= Duration::from_millis(3900));
}
