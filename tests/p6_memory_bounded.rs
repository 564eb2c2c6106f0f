//! Promise 6: "Memory is bounded by configuration, never by what a peer declares."

use std::io::{self, Read};

use model::Hasher;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Outcome, contexts};
use testkit::samples::big_instance_head;

use crate::support::archive::study;
use crate::support::instance::{DEFLATED, Instance, deflate, element};
use crate::support::{A, Bystander, CALLED, SUCCESS, associated, connect, house};

/// As the issue asks: while instances of any size stream, in bytes.
const MOST: u64 = 100 * 1000 * 1000;
const CANNOT_UNDERSTAND: Outcome = Outcome::Status(0xC000);

fn assert_small(house: &House, name: &str) {
    let peak = house.peak_rss();
    assert!(peak < MOST, "{name}: {} MB resident at the peak", peak / 1_000_000);
}

#[test]
fn an_instance_of_2_gb_is_stored_in_less_than_100_mb() {
    let house = house();
    let mut peer = associated(&house);
    let big = big_instance_head(2_000_000_000);
    let pixels = io::repeat(0x5A).take(big.pixel_length);
    let mut data_set = Watched { inner: big.prefix.as_slice().chain(pixels), hasher: Hasher::new(), bytes: 0 };
    assert_eq!(peer.store_from(&big.claim, &mut data_set), SUCCESS);
    assert!(data_set.bytes >= 2_000_000_000);
    assert_small(&house, "2 GB");
    let (bytes, digest) = (data_set.bytes, data_set.hasher.finish());
    let held = study(house.dir(), "hospital-a", big.name.study.as_str());
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].held.size, held[0].held.digest), (bytes, digest));
    // The digest of the index is that of the file, too: an object is its header and then the data set.
    let mut object = std::fs::File::open(house.dir().join("objects").join(&held[0].held.object)).expect("it is there");
    let length = object.metadata().expect("it is there").len();
    io::copy(&mut object.by_ref().take(length - bytes), &mut io::sink()).expect("readable");
    let mut stored = Watched { inner: object, hasher: Hasher::new(), bytes: 0 };
    io::copy(&mut stored, &mut io::sink()).expect("readable");
    assert_eq!((stored.bytes, stored.hasher.finish()), (bytes, digest));
}

#[test]
fn what_a_data_set_declares_costs_nothing() {
    let house = house();
    let mut bystander = Bystander::of(&house);
    let mut peer = associated(&house);
    let instance = Instance::numbered(1);
    let after = |more: Vec<u8>| [instance.data_set(), more].concat();
    let cases = [
        ("sequences nested 10,000 deep", after(nested(10_000, UNDEFINED, UNDEFINED)), "nested too deeply"),
        ("the same before the UIDs", nested_first(10_000), "nested too deeply"),
        ("nested and each of 2 GiB", after(nested(10_000, 0x8000_0000, 0x7FFF_FFF0)), "longer than what holds it"),
        (
            "12 bytes that claim 1.5 GB before the UIDs",
            element_of(0x0008_0005, 1_500_000_000),
            "ended inside an element",
        ),
        (
            "12 bytes that claim 1.5 GB of pixels",
            after(element_of(0x7FE0_0010, 1_500_000_000)),
            "ended inside an element",
        ),
        (
            "12 bytes that claim 1.5 GB of text",
            after(element_of(0x7FE1_1010, 1_500_000_000)),
            "ended inside an element",
        ),
        ("an item that claims 4 GiB", after(nested(1, UNDEFINED, 0xFFFF_FFF0)), "ended inside an element"),
    ];
    for (name, data_set, why) in cases {
        let refusals = || house.audit().into_iter().filter(|line| line["decision"] == "deny").collect::<Vec<_>>();
        let seen = refusals().len();
        assert_eq!(peer.store(&instance.claim(), &data_set), CANNOT_UNDERSTAND, "{name}");
        let line = eventually(name, || refusals().into_iter().nth(seen));
        assert_eq!((&line["reason"], &line["status"]), (&"cannot_understand".into(), &"C000".into()), "{name}");
        assert!(line["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{name}: {line}");
        bystander.still_served();
    }
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "the association goes on");
    assert_small(&house, "declared lengths");
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let house = house();
    let mut peer = associated(&house);
    let instance = Instance::numbered(1);
    // 64 MB of valid elements in ascending order before the Study Instance UID.
    let mut head = Vec::new();
    let value = vec![b'x'; 60_000];
    for number in 0..1_100_u32 {
        let tag = 0x0009_1000 + number;
        element(&mut head, instance.syntax, tag, *b"LT", &value);
    }
    assert_eq!(peer.store(&instance.claim(), &head), CANNOT_UNDERSTAND);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "the association goes on");
    assert_small(&house, "an endless head");
}

#[test]
fn a_deflated_bomb_does_not_go_off() {
    const ZEROS: usize = 300 << 20;
    let house = house();
    let mut peer = connect(&house, "hospital-a");
    let instance = Instance::numbered(1).in_syntax(DEFLATED);
    let wanted = contexts(&[("CTImageStorage", &[instance.syntax])]);
    let answer = peer.associate(CALLED, A, wanted);
    assert_eq!(answer, Associated::Accepted(1));
    // 300 MB of zeros where the head should be, in some 300 KB.
    let mut bomb = Vec::new();
    element(&mut bomb, instance.syntax, 0x0009_1000, *b"UN", &vec![0; ZEROS]);
    let bomb = deflate(&bomb);
    assert_eq!(peer.store(&instance.claim(), &bomb), CANNOT_UNDERSTAND);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "the association goes on");
    assert_small(&house, "a bomb");
}

/// PS3.5 §7.5.1.
const UNDEFINED: u32 = 0xFFFF_FFFF;

/// As [`nested`], but the outermost sequence is one that stands before every UID.
fn nested_first(depth: usize) -> Vec<u8> {
    let mut bytes = nested(depth, UNDEFINED, UNDEFINED);
    bytes[..4].copy_from_slice(&[0x08, 0x00, 0x06, 0x00]);
    bytes
}

/// A private sequence within a private sequence within …, without an end.
fn nested(depth: usize, sequence: u32, item: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(depth * 20);
    for _ in 0..depth {
        bytes.extend([0xE1, 0x7F, 0x01, 0x10, b'S', b'Q', 0, 0]);
        bytes.extend(sequence.to_le_bytes());
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0]);
        bytes.extend(item.to_le_bytes());
    }
    bytes
}

/// The twelve bytes that begin an element of that length.
fn element_of(tag: u32, length: u32) -> Vec<u8> {
    let (group, number) = ((tag >> 16) as u16, (tag & 0xFFFF) as u16);
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(b"OB\0\0");
    bytes.extend(length.to_le_bytes());
    bytes
}

/// Hashes and counts what is read.
struct Watched<R> {
    inner: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
