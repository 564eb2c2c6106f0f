//! What the promises have in common: starting the house, making instances, and looking at what was kept.

pub(crate) mod archive;
pub(crate) mod clock;
pub(crate) mod furnish;
pub(crate) mod instance;
pub(crate) mod witness;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use gateway::pki::{Authority, Issued};
use model::SpiffeId;
use serde_json::Value;
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Credentials, Peer, plain, sample_contexts};

use self::instance::Instance;

/// The called AE title of `portcullis dev`.
pub(crate) const CALLED: &str = "PORTCULLIS";
/// The calling AE title of hospital-a, which may send everything.
pub(crate) const A: &str = "HOSPITAL_A";
/// The calling AE title of hospital-b, which may send CT and MR.
pub(crate) const B: &str = "HOSPITAL_B";
/// Congratulations.
pub(crate) const SUCCESS: testkit::peer::Outcome = testkit::peer::Outcome::Status(0);

/// A fresh `portcullis dev`.
pub(crate) fn house() -> House {
    house_with(&[], &[])
}

/// A fresh `portcullis dev` with further arguments and environment.
pub(crate) fn house_with(args: &[&str], env: &[(&str, &str)]) -> House {
    House::start(options(args, env))
}

/// As [`house_with`], in a directory that is kept.
pub(crate) fn house_in(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> House {
    House::start(Options { dir: Some(dir.to_owned()), ..options(args, env) })
}

fn options(args: &[&str], env: &[(&str, &str)]) -> Options {
    binary();
    let args = args.iter().map(ToString::to_string).collect();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Options { args, env, ..Options::default() }
}

/// The binary under test.
pub(crate) fn binary() -> std::path::PathBuf {
    match std::env::var_os("PORTCULLIS_BIN") {
        Some(path) => path.into(),
        None => panic!("PORTCULLIS_BIN is not set: run ./tests/run, which builds the binary and brings the peers"),
    }
}

/// Runs `portcullis` to its end.
pub(crate) fn portcullis(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the portcullis binary starts")
}

/// Standard output of a program, as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs of a program, as text, for a failure message.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", stdout(output), String::from_utf8_lossy(&output.stderr))
}

/// A connection of one of the house's two hospitals.
pub(crate) fn connect(house: &House, name: &str) -> Peer {
    Peer::connect(house.addr(), &Credentials::of_house(house, name)).expect("a good certificate is let in")
}

/// An association of hospital-a for the classes of the samples.
pub(crate) fn associated(house: &House) -> Peer {
    associated_as(house, "hospital-a", A)
}

/// An association of hospital-b for CT.
pub(crate) fn associated_b(house: &House) -> Peer {
    associated_as(house, "hospital-b", B)
}

fn associated_as(house: &House, name: &str, calling: &str) -> Peer {
    let mut peer = connect(house, name);
    let answer = peer.associate(CALLED, calling, sample_contexts());
    assert!(matches!(answer, Associated::Accepted(2..)), "{name} has a row: {answer:?}");
    peer
}

/// An association that was open before something bad happened to somebody else, and must be none the worse for it.
pub(crate) struct Bystander {
    peer: Peer,
    stored: u64,
}

/// Where the numbers of a bystander's instances begin.
const BYSTANDERS: u64 = 900_000_000;

impl Bystander {
    /// Whether it was a bystander that sent this.
    pub(crate) fn stored(held: &study::HeldInstance) -> bool {
        held.name.study.as_str().starts_with("2.25.1.9000")
    }

    /// Opens it and stores an instance.
    pub(crate) fn of(house: &House) -> Self {
        let mut bystander = Self { peer: associated(house), stored: 0 };
        bystander.still_served();
        bystander
    }

    /// Stores one more.
    pub(crate) fn still_served(&mut self) {
        self.stored += 1;
        let instance = Instance::numbered(BYSTANDERS + self.stored);
        assert_eq!(self.peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "a bystander goes on storing");
    }
}

/// What the admin listener answers to GET, headers and all.
pub(crate) fn admin_page(house: &House, path: &str) -> String {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    answer
}

/// Waits for an audit line with all of these `(key, value)`.
pub(crate) fn audited(house: &House, wanted: &[(&str, &str)]) -> Value {
    eventually(&format!("an audit line with {wanted:?}"), || {
        house.audit().into_iter().find(|line| wanted.iter().all(|(key, value)| line[*key] == *value))
    })
}

/// Edits the house's access table as an operator does (a new file renamed into place) and waits until it is in force.
pub(crate) fn amend(house: &House, edit: impl FnOnce(String) -> String) {
    let revision = write_table(house, edit);
    eventually("the new table is in force", || {
        house.audit().into_iter().find(|line| line["reason"] == "policy_changed" && line["policy_revision"] == revision)
    });
}

/// As [`amend`] without the wait.
pub(crate) fn write_table(house: &House, edit: impl FnOnce(String) -> String) -> u64 {
    let path = house.dir().join("access.toml");
    let text = std::fs::read_to_string(&path).expect("dev has written a table");
    let line = text.lines().find(|line| line.starts_with("revision = ")).expect("a table has a revision").to_owned();
    let revision: u64 = line["revision = ".len()..].parse().expect("a number");
    let edited = edit(text.clone());
    assert_ne!(edited, text, "the edit changes something");
    let edited = edited.replacen(&line, &format!("revision = {}", revision + 1), 1);
    let new = path.with_extension("new");
    std::fs::write(&new, edited).and_then(|()| std::fs::rename(&new, &path)).expect("the directory is ours");
    revision + 1
}

/// The text without the row of that id.
pub(crate) fn without_row(text: &str, id: &str) -> String {
    let marker = format!("\nid = \"{id}\"\n");
    let kept: Vec<_> = text.split("[[row]]").filter(|row| !row.contains(&marker)).collect();
    kept.join("[[row]]")
}

/// The text with further columns in the row of that id.
pub(crate) fn with_columns(text: &str, id: &str, columns: &str) -> String {
    let marker = format!("id = \"{id}\"\n");
    assert!(text.contains(&marker), "there is a row {id}");
    text.replacen(&marker, &format!("{marker}{columns}\n"), 1)
}

/// As [`eventually`], for what takes longer than a test may usually wait.
pub(crate) fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An SVID from one of the house's own development authorities.
pub(crate) fn issue(house: &House, id: &str, lifetime: Duration) -> Issued {
    let id = SpiffeId::parse(id).expect("a valid SPIFFE ID");
    let dir = house.dir().join("certs").join(id.trust_domain().as_str());
    let authority = Authority::load(&dir).expect("dev has made the authority");
    authority.issue(&id, lifetime, SystemTime::now()).expect("an SVID can be made")
}

/// What a sender shows that holds this SVID.
pub(crate) fn credentials(house: &House, issued: &Issued) -> Credentials {
    let ca = std::fs::read_to_string(house.ca("gateway.invalid")).expect("dev has made the authority");
    Credentials::of(issued, &ca)
}
