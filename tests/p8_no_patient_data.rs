//! Promise 8: "No patient data in logs, metrics, errors, keys or tags."
//!
//! Instances full of canaries are stored, refused and cut off in every way there is; then everything that the gateway wrote
//! is searched. Only objects and the index may have them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use testkit::house::{House, eventually};
use testkit::peer::{Associated, Outcome, contexts, plain};

use crate::support::archive::{files, rows};
use crate::support::instance::{BIG_ENDIAN, CT, EXPLICIT, IMPLICIT, Instance};
use crate::support::{A, CALLED, SUCCESS, amend, connect, house_with};

/// In upper case, so that it is legal in every text VR.
const CANARY: &str = "CANARY";
const CLASSES: &[(&str, &[&str])] = &[(CT, &[EXPLICIT]), (CT, &[IMPLICIT]), (CT, &[BIG_ENDIAN])];

/// A canary of its own in every text VR and in everything that the index promotes.
fn full_of_canaries(number: u64) -> Instance {
    let text = |number: u32| format!("{CANARY}{number}").into_bytes();
    let values: [(u32, &[u8; 2]); 22] = [
        (0x0008_0050, b"SH"),
        (0x0008_0070, b"LO"),
        (0x0008_0080, b"LO"),
        (0x0008_0081, b"ST"),
        (0x0008_0090, b"PN"),
        (0x0008_1010, b"SH"),
        (0x0008_1030, b"LO"),
        (0x0008_103E, b"LO"),
        (0x0008_1048, b"PN"),
        (0x0009_0010, b"LO"),
        (0x0010_0010, b"PN"),
        (0x0010_0020, b"LO"),
        (0x0010_0021, b"LO"),
        (0x0010_1000, b"LO"),
        (0x0010_1040, b"LO"),
        (0x0010_21B0, b"LT"),
        (0x0010_4000, b"LT"),
        (0x0018_0015, b"CS"),
        (0x0018_1030, b"LO"),
        (0x0020_0010, b"SH"),
        (0x0020_4000, b"LT"),
        (0x0040_A160, b"UT"),
    ];
    let instance = values
        .iter()
        .zip(0..)
        .fold(Instance::numbered(number), |instance, ((tag, vr), n)| instance.with(*tag, vr, &text(n)));
    // Values that are not what their VR wants, too: they may end up in an error.
    let odd: [(u32, &[u8; 2]); 6] = [
        (0x0010_0030, b"DA"),
        (0x0008_0030, b"TM"),
        (0x0020_0013, b"IS"),
        (0x0010_1010, b"AS"),
        (0x0028_0030, b"DS"),
        (0x0008_0054, b"AE"),
    ];
    odd.iter().zip(50..).fold(instance, |instance, ((tag, vr), n)| instance.with(*tag, vr, &text(n)))
}

#[test]
fn no_patient_data_leaves_objects_and_index() {
    for log in ["human", "json"] {
        let house = house_with(&["--log", log], &[("PORTCULLIS_LOG", "trace")]);
        let stored = provoke(&house);
        eventually("an event", || house.events().pop());
        let metrics = metrics(&house);
        let found: BTreeSet<_> = rows(house.dir()).iter().map(|row| row.held.name.instance.to_string()).collect();
        assert!(stored.iter().all(|uid| found.contains(uid)), "{log}: the canaries did come in");
        let object = files(house.dir(), "instances").pop().expect("there are some");
        assert!(holds(&fs::read(object).expect("readable")), "{log}: the control: they are where they belong");

        assert!(house.output().len() > 30, "{log}: it has said a lot: {:#?}", house.output());
        for line in house.output() {
            assert!(!holds(line.as_bytes()), "{log}: said: {line}");
        }
        assert!(!holds(metrics.as_bytes()), "{log}: {metrics}");
        assert_files_are_clean(house.dir());
    }
}

/// Stores, and makes every kind of refusal happen. Gives the instances that must be there.
fn provoke(house: &House) -> Vec<String> {
    let mut stored = Vec::new();
    let mut peer = connect(house, "hospital-a");
    assert_eq!(peer.associate(CALLED, A, contexts(CLASSES)), Associated::Accepted(3));
    for (number, syntax) in [(1, EXPLICIT), (2, IMPLICIT), (3, BIG_ENDIAN)] {
        let instance = full_of_canaries(number).in_syntax(syntax);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
        stored.push(instance.uid);
    }
    let good = full_of_canaries(4);
    let data_set = good.data_set();
    // In the middle of a value, and in the middle of a header.
    for cut in [data_set.len() - 3, data_set.len() / 2, 61] {
        assert_eq!(peer.store(&good.claim(), &data_set[..cut]), Outcome::Status(0xC000));
    }
    let broken = [
        // A canary where a UID is due, where a VR is due, and where an item is due.
        full_of_canaries(4).with(0x0020_000D, b"UI", b"CANARY60").data_set(),
        full_of_canaries(4).with(0x0020_000E, b"UI", b"1.2.CANARY61").data_set(),
        [data_set.as_slice(), b"\xF0\x7F\x10\x00CANARY62"].concat(),
        [data_set.as_slice(), b"\xF0\x7F\x10\x00SQ\0\0\xFF\xFF\xFF\xFFCANARY63"].concat(),
        b"CANARY64CANARY65CANARY66".to_vec(),
    ];
    for bytes in &broken {
        assert_eq!(peer.store(&good.claim(), bytes), Outcome::Status(0xC000));
    }
    let other = full_of_canaries(5);
    assert_eq!(peer.store(&good.claim(), &other.data_set()), Outcome::Status(0xA900));
    assert_eq!(peer.store(&good.claim(), &data_set), SUCCESS);
    let revised = full_of_canaries(4).with(0x0010_0020, b"LO", b"CANARY67");
    assert_eq!(peer.store(&revised.claim(), &revised.data_set()), SUCCESS);

    refused_by_the_table(house, &good);
    lost_on_the_way(house, &good);
    stored
}

fn refused_by_the_table(house: &House, good: &Instance) {
    let mut peer = connect(house, "hospital-a");
    assert_eq!(peer.associate(CALLED, A, contexts(CLASSES)), Associated::Accepted(3));
    let row = "on_conflict = \"revise\"";
    amend(house, |text| text.replacen(row, "on_conflict = \"reject\"\nmodalities = [\"MR\", \"CT\"]", 1));
    let modality = full_of_canaries(6).with(0x0008_0060, b"CS", b"CANARY68");
    assert_eq!(peer.store(&modality.claim(), &modality.data_set()), Outcome::Status(0x0124));
    let other = full_of_canaries(4).with(0x0010_0020, b"LO", b"CANARY69");
    assert_eq!(peer.store(&other.claim(), &other.data_set()), Outcome::Status(0x0111));
    // Titles are no patient data, but a caller without a right to them may type what it likes.
    for (called, calling) in [("CANARY70", A), (CALLED, "CANARY71")] {
        let answer = connect(house, "hospital-a").associate(called, calling, contexts(CLASSES));
        assert!(matches!(answer, Associated::Rejected(1, 1, _)), "{good:?}");
    }
}

fn lost_on_the_way(house: &House, good: &Instance) {
    let data_set = good.data_set();
    for rest in [&b"\x04\0\xFF\xFF\xFF\xFFCANARY72"[..], b"CANARY73", b""] {
        let mut peer = connect(house, "hospital-a");
        assert_eq!(peer.associate(CALLED, A, contexts(CLASSES)), Associated::Accepted(3));
        let context = peer.begin_store(&good.claim()).expect("the receiver listens");
        peer.send_fragment(context, &data_set[..data_set.len() / 2 * 2 - 20], false).expect("the receiver listens");
        peer.send_raw(rest).expect("the receiver listens");
        if rest.is_empty() { peer.drop_connection() } else { assert!(matches!(peer.outcome(), Outcome::Aborted(_))) }
    }
    let mut socket = plain(house.addr()).expect("the receiver listens");
    socket.write_all(b"GET /CANARY74 HTTP/1.1\r\n\r\n").expect("it listens");
    // Whatever it answers is no matter here.
    let _ = socket.read_to_end(&mut Vec::new());
}

fn metrics(house: &House) -> String {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("text");
    text
}

/// Everything below the directory but objects and index: by content, and everything by name.
fn assert_files_are_clean(dir: &Path) {
    let mut waiting = vec![dir.to_owned()];
    let mut looked_at = BTreeSet::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(dir).expect("it is below").to_string_lossy().into_owned();
            assert!(!holds(name.as_bytes()), "a name: {name}");
            let may = name.starts_with("index.sqlite")
                || name.starts_with("objects/instances")
                || name.starts_with("objects/.incoming");
            if path.is_dir() {
                waiting.push(path);
            } else if !may {
                // The called and calling titles of a refused request are what an auditor wants to know of it.
                let bytes = fs::read(&path).expect("readable");
                let text = String::from_utf8_lossy(&bytes).replace("CANARY70", "").replace("CANARY71", "");
                assert!(!holds(text.as_bytes()), "{name}: {}", line_with(&text));
                looked_at.insert(name);
            }
        }
    }
    for name in ["audit.jsonl", "events.jsonl"] {
        assert!(looked_at.contains(name), "{name} was looked at");
    }
    assert!(looked_at.iter().any(|name| name.starts_with("objects/manifests/")), "manifests were looked at");
}

fn line_with(text: &str) -> &str {
    text.lines().find(|line| holds(line.as_bytes())).unwrap_or_default()
}

/// In any case and, as it would be if somebody printed bytes, as hex or decimal numbers.
fn holds(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_uppercase();
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02X}")).collect();
    let decimal: Vec<_> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    [CANARY.to_owned(), hex, decimal.join(", ")].iter().any(|form| text.contains(form.as_str()))
}
