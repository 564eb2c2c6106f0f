//! Promise 5: "What is stored is bit-for-bit the data set that was sent, for every SOP class and transfer syntax."
//!
//! The images of pydicom and pydicom-data come from real scanners in many transfer syntaxes. Three senders send them. Two
//! send the file's bytes as they are; DCMTK encodes anew, so what it sent is what its own `storescp` received from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use model::Digest;
use serde_json::Value;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, contexts, plain};

use crate::support::archive::{assert_rows_have_objects, data_set, rows};
use crate::support::instance::{BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, Instance, element};
use crate::support::witness::{dcmtk, fed, listed, python, storescu_tls};
use crate::support::{A, CALLED, SUCCESS, binary, connect, house, said, stdout};

/// A file that can be sent.
struct File {
    path: PathBuf,
    name: String,
    class: String,
    syntax: String,
    digest: Digest,
}

/// Files that are refused, with the status (`none`: no context was accepted) and why.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, &str)] = &[
    ("JPEGLSNearLossless_08.dcm", "C000", NO_STUDY),
    ("JPEGLSNearLossless_16.dcm", "C000", NO_STUDY),
    ("MR_truncated.dcm", "C000", TRUNCATED),
    ("SC_rgb_jls_lossy_line.dcm", "C000", NO_STUDY),
    ("SC_rgb_jls_lossy_sample.dcm", "C000", NO_STUDY),
    ("SC_rgb_jpeg.dcm", "C000", "implicit VR in a transfer syntax that is explicit"),
    ("UN_sequence.dcm", "C000", NO_CLASS),
    ("badVR.dcm", "A900", META_DIFFERS),
    ("bad_sequence.dcm", "C000", "its SOP Instance UID has letters"),
    ("chrJapMulti.dcm", "A900", META_DIFFERS),
    ("chrJapMultiExplicitIR6.dcm", "A900", META_DIFFERS),
    ("chrSQEncoding.dcm", "C000", NO_CLASS),
    ("chrSQEncoding1.dcm", "C000", NO_CLASS),
    ("emri_small_jpeg_2k_lossless_too_short.dcm", "C000", TRUNCATED),
    ("fall.dcm", "none", PALETTE),
    ("hotiron.dcm", "none", PALETTE),
    ("hotmetalblue.dcm", "none", PALETTE),
    ("no_meta_group_length.dcm", "C000", NO_CLASS),
    ("pet.dcm", "none", PALETTE),
    ("pet20step.dcm", "none", PALETTE),
    ("priv_SQ.dcm", "C000", NO_CLASS),
    ("rtdose.dcm", "A900", META_DIFFERS),
    ("rtdose_1frame.dcm", "A900", META_DIFFERS),
    ("rtdose_expb.dcm", "A900", META_DIFFERS),
    ("rtdose_expb_1frame.dcm", "A900", META_DIFFERS),
    ("rtplan.dcm", "A900", META_DIFFERS),
    ("rtplan_truncated.dcm", "A900", META_DIFFERS),
    ("spring.dcm", "none", PALETTE),
    ("summer.dcm", "none", PALETTE),
    ("winter.dcm", "none", PALETTE),
];
const NO_STUDY: &str = "no Study Instance UID: no archive could find it again";
const NO_CLASS: &str = "no SOP Class UID: a fragment of a data set";
const TRUNCATED: &str = "it ends in the middle of an element";
const META_DIFFERS: &str =
    "its file meta group names another SOP Instance UID than its data set, and so does the command";
const PALETTE: &str = "Color Palette Storage belongs to no patient and no study";

/// What DCMTK sends and is refused, in the order of transfer syntaxes.
const DCMTK_REFUSED: &[&str] = &[
    // bad_sequence.dcm: the SOP Instance UID has letters, and DCMTK puts it into the command.
    "the C-STORE request is not valid",
    "the data set has no Study Instance UID",
    "the data set has no Study Instance UID",
    "the data set has no Study Instance UID",
    "the data set has no Study Instance UID",
];

/// Fewer would mean that the images were not installed.
const LEAST_FILES: usize = 150;

#[test]
fn what_portcullis_sends_is_stored_bit_for_bit() {
    let house = house();
    let files = house.cert("hospital-a");
    let mut command = Command::new(binary());
    command.args(["send", "--jobs", "2", "--called", CALLED, "--calling", A, "--to"]).arg(house.addr().to_string());
    command.arg("--cert").arg(files.cert).arg("--key").arg(files.key).arg("--ca").arg(house.ca("gateway.invalid"));
    let output = command.args(corpus().iter().map(|file| &file.path)).output().expect("portcullis starts");
    let said = stdout(&output);
    let refused = said.lines().filter_map(|line| {
        if let Some((path, _)) = line.strip_prefix("failed    ").and_then(|rest| rest.split_once(": the receiver")) {
            return Some((name_of(path), "none".to_owned()));
        }
        let (path, status) = line.strip_prefix("refused   ")?.split_once(": status ")?;
        Some((name_of(path), status[..4].to_owned()))
    });
    assert_refused(refused.collect());
    assert_eq!(output.status.code(), Some(1), "not all were accepted: {said}");
    assert_stored(&house);
}

#[test]
fn what_pynetdicom_sends_is_stored_bit_for_bit() {
    let house = house();
    let files = house.cert("hospital-a");
    let mut command = python("send.py");
    command.args(["127.0.0.1", &house.addr().port().to_string(), CALLED, A]);
    command.args([files.cert, files.key, house.ca("gateway.invalid")]);
    let paths: Vec<_> = corpus().iter().map(|file| file.path.clone()).collect();
    let output = fed(command, &listed(&paths));
    let answers: Vec<_> = stdout(&output).lines().map(|line| (line[5..].to_owned(), line[..4].to_owned())).collect();
    assert_eq!(answers.len(), paths.len(), "every file was tried: {}", said(&output));
    let refused = answers.into_iter().filter(|(_, status)| status != "0000");
    assert_refused(refused.map(|(path, status)| (name_of(&path), status)).collect());
    assert_stored(&house);
}

#[test]
fn what_storescu_sends_is_stored_bit_for_bit() {
    let house = house();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let reference = Reference::start(&scratch.path().join("reference"));
    let by_syntax = corpus().iter().fold(BTreeMap::<_, Vec<_>>::new(), |mut by_syntax, file| {
        by_syntax.entry(&file.syntax).or_default().push(file);
        by_syntax
    });
    for (syntax, files) in by_syntax {
        let config = scratch.path().join("storescu.cfg");
        fs::write(&config, proposal(syntax, &files)).expect("a temporary directory");
        let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
        let send = |mut command: Command, port: u16| {
            command.args(["-nh", "-aet", A, "-aec", CALLED, "-xf"]).arg(&config).args(["Files", "127.0.0.1"]);
            command.arg(port.to_string()).args(&paths).output().expect("storescu starts")
        };
        send(dcmtk("storescu"), reference.port);
        send(storescu_tls(&house, "hospital-a"), house.addr().port());
    }
    let sent = reference.received();
    assert!(sent.len() >= LEAST_FILES, "DCMTK sent {} of {}", sent.len(), corpus().len());
    let stored: BTreeSet<_> = rows(house.dir()).iter().map(|row| row.held.digest).collect();
    assert_eq!(stored.difference(&sent).count(), 0, "nothing is stored that was not sent");
    let refused = eventually("the refusals are in the audit log", || {
        let lines = house.audit().into_iter().filter(|line| line["event"] == "instance" && line["decision"] == "deny");
        let refused: Vec<_> = lines.map(|line| line["detail"].as_str().unwrap_or_default().to_owned()).collect();
        (refused.len() >= DCMTK_REFUSED.len()).then_some(refused)
    });
    assert_eq!(sent.difference(&stored).count(), refused.len(), "what is not stored was refused: {refused:?}");
    assert_eq!(refused, DCMTK_REFUSED);
    assert_rows_have_objects(house.dir(), &rows(house.dir()));
    assert_readable(&house);
}

#[test]
fn odd_data_sets_are_stored_bit_for_bit() {
    let house = house();
    let mut peer = connect(&house, "hospital-a");
    let cases = odd_cases();
    let wanted: Vec<_> = cases.iter().map(|(_, one, _)| (one.class.as_str(), vec![one.syntax])).collect();
    let wanted: Vec<_> = wanted.iter().map(|(class, syntaxes)| (*class, syntaxes.as_slice())).collect();
    assert_eq!(peer.associate(CALLED, A, contexts(&wanted)), Associated::Accepted(cases.len()));
    for (name, instance, bytes) in &cases {
        assert_eq!(peer.store(&instance.claim(), bytes), SUCCESS, "{name}");
        let stored = rows(house.dir()).into_iter().find(|row| row.held.name.instance.as_str() == instance.uid);
        let stored = stored.unwrap_or_else(|| panic!("{name} is in the index"));
        assert_eq!(&data_set(&house.dir().join("objects").join(&stored.held.object)), bytes, "{name}");
        assert_eq!(stored.held.transfer_syntax.as_str(), instance.syntax, "{name}");
    }
}

/// `(name, instance, data set)`.
fn odd_cases() -> Vec<(&'static str, Instance, Vec<u8>)> {
    let plain = |number: u64, syntax: &'static str| {
        let instance = Instance::numbered(number).with(0x0010_0010, b"PN", b"ODD^CASE");
        instance.with_pixels(3000, number).in_syntax(syntax)
    };
    let of_class = |number, class: &str| {
        let mut instance = plain(number, EXPLICIT);
        class.clone_into(&mut instance.class);
        instance
    };
    let mut private_group =
        plain(7, EXPLICIT).with(0x0009_0010, b"LO", b"ACME 1.1").with(0x0009_1001, b"UN", &[1, 2, 3]);
    private_group = private_group.with(0x0008_0000, b"UL", &[0xFF, 0, 0, 0]);
    let mut all: Vec<_> = [
        ("implicit VR", plain(1, IMPLICIT)),
        ("explicit VR", plain(2, EXPLICIT)),
        ("explicit VR big endian", plain(3, BIG_ENDIAN)),
        ("deflated", plain(4, DEFLATED)),
        ("a private transfer syntax", plain(5, "1.2.826.0.1.3680043.9.9999.1")),
        ("a private SOP class", of_class(6, "1.2.826.0.1.3680043.9.9999.2")),
        ("a private block and a wrong group length", private_group),
        ("a character set that nobody knows", plain(8, EXPLICIT).with(0x0008_0005, b"CS", b"ISO_IR 999")),
        (
            "text that is not of its character set",
            plain(9, EXPLICIT).with(0x0010_0010, b"PN", b"\xFF\xFE\x80^\x00\x1B"),
        ),
        ("an empty pixel data element", plain(10, EXPLICIT).with(0x7FE0_0010, b"OW", b"")),
        ("data set trailing padding", plain(11, EXPLICIT).with(0xFFFC_FFFC, b"OB", &[0; 64])),
    ]
    .into_iter()
    .map(|(name, instance)| (name, instance.clone(), instance.data_set()))
    .collect();

    // Encapsulated pixels and a sequence of undefined length, with an item of undefined length and one with a length.
    let encapsulated = Instance::numbered(12).in_syntax("1.2.840.10008.1.2.4.50");
    let mut bytes = encapsulated.data_set();
    bytes.extend([0x40, 0x00, 0x75, 0x02, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    element(&mut bytes, EXPLICIT, 0x0040_0007, *b"LO", b"INSIDE");
    bytes.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
    bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 4, 0, 0, 0, 0xFF, 0xD8, 0xFF, 0xD9]);
    bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    all.push(("encapsulated pixels after a sequence of undefined length", encapsulated, bytes));
    all
}

fn corpus() -> &'static [File] {
    static CORPUS: OnceLock<Vec<File>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let output = python("corpus.py").output().expect("Python starts");
        let files: Vec<_> = stdout(&output).lines().map(file).collect();
        assert!(files.len() >= LEAST_FILES, "the images of pydicom are there: {}", said(&output));
        files
    })
}

fn file(line: &str) -> File {
    let value: Value = serde_json::from_str(line).expect("corpus.py writes JSON");
    let text = |key: &str| value[key].as_str().expect("a text").to_owned();
    File {
        path: text("path").into(),
        name: text("name"),
        class: text("class"),
        syntax: text("syntax"),
        digest: Digest::parse(&text("sha256")).expect("a digest"),
    }
}

fn name_of(path: &str) -> String {
    Path::new(path).file_name().expect("a file").to_string_lossy().into_owned()
}

fn assert_refused(mut refused: Vec<(String, String)>) {
    refused.sort();
    refused.dedup();
    let expected: BTreeSet<_> =
        REFUSED.iter().map(|(name, status, _)| ((*name).to_owned(), (*status).to_owned())).collect();
    assert_eq!(refused, Vec::from_iter(expected), "exactly the files in the list are refused");
}

/// Exactly the files that are not in the list are in the archive, whole and readable for others.
fn assert_stored(house: &House) {
    let expected: BTreeSet<_> = accepted().map(|file| file.digest).collect();
    let rows = rows(house.dir());
    let stored: BTreeSet<_> = rows.iter().map(|row| row.held.digest).collect();
    let lost = |file: &&File| expected.contains(&file.digest) && !stored.contains(&file.digest);
    let missing: Vec<_> = corpus().iter().filter(lost).collect();
    assert!(missing.is_empty(), "not stored as sent: {:?}", missing.iter().map(|file| &file.name).collect::<Vec<_>>());
    assert_eq!(stored, expected, "nothing else is stored");
    assert_rows_have_objects(house.dir(), &rows);
    assert_readable(house);
}

fn accepted() -> impl Iterator<Item = &'static File> {
    corpus().iter().filter(|file| !REFUSED.iter().any(|(name, ..)| *name == file.name))
}

/// DCMTK and pydicom read every object, apart from those of which they cannot read the original either.
fn assert_readable(house: &House) {
    let objects: Vec<_> =
        rows(house.dir()).iter().map(|row| house.dir().join("objects").join(&row.held.object)).collect();
    let unreadable: Vec<_> = objects.iter().filter(|path| !dcmdump_reads(path)).collect();
    let originals: BTreeSet<_> =
        corpus().iter().filter(|file| !dcmdump_reads(&file.path)).map(|file| file.digest).collect();
    for path in unreadable {
        assert!(originals.contains(&Digest::of(&data_set(path))), "dcmdump reads {}", path.display());
    }
    let output = fed(python("read.py"), &listed(&objects));
    assert!(output.status.success(), "pydicom reads every object: {}", said(&output));
}

fn dcmdump_reads(path: &Path) -> bool {
    dcmtk("dcmdump").arg("-q").arg(path).output().expect("dcmdump starts").status.success()
}

/// A storescu configuration that proposes the classes of these files in their own transfer syntax and nothing else, so
/// that nothing is transcoded.
fn proposal(syntax: &str, files: &[&File]) -> String {
    let classes: BTreeSet<_> = files.iter().map(|file| &file.class).collect();
    let mut text =
        format!("[[TransferSyntaxes]]\n[Own]\nTransferSyntax1 = {syntax}\n[[PresentationContexts]]\n[Classes]\n");
    for (class, number) in classes.iter().zip(1..) {
        writeln!(text, "PresentationContext{number} = {class}\\Own").expect("a string takes every text");
    }
    text + "[[Profiles]]\n[Files]\nPresentationContexts = Classes\n"
}

/// DCMTK's own receiver, which keeps what it receives bit for bit.
struct Reference {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Reference {
    fn start(dir: &Path) -> Self {
        fs::create_dir(dir).expect("a temporary directory");
        // It cannot choose a port itself; between here and its start nobody else is likely to.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = dcmtk("storescp");
        // All transfer syntaxes, unknown classes too, a name of its own for each file.
        command.args(["+xa", "-pm", "+B", "+uf", "-od"]).arg(dir).arg(free.port().to_string());
        let child = command.spawn().expect("storescp starts");
        let reference = Self { child, port: free.port(), dir: dir.to_owned() };
        eventually("storescp listens", || plain(free).ok());
        reference
    }

    /// The digests of the data sets.
    fn received(&self) -> BTreeSet<Digest> {
        let files = fs::read_dir(&self.dir).expect("it is there").map(|entry| entry.expect("readable").path());
        let digest = |path: PathBuf| {
            let bytes = fs::read(path).expect("readable");
            // DCMTK begins its file meta group with the group length, always in the same place.
            let length = bytes[140..144].try_into().map(u32::from_le_bytes).expect("four bytes");
            Digest::of(&bytes[144 + length as usize..])
        };
        files.map(digest).collect()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // A child that has already ended is killed enough.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
