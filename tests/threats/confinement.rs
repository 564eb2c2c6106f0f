//! The receiver as a container would run it: nobody's user, no capability, no way to get one, and a file system that can only be
//! read but for its own directory. And what it keeps out of the hands of who can look at a process: core dumps.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use testkit::house::{House, Options};
use testkit::peer::{Associated, Credentials, Peer, sample_contexts};

use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, amend, binary, house_in, without_row};

/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// Becomes the receiver, confined: `$HOME_OF_IT` is the directory that stays writable. Root in a namespace of its own may do
/// this; anybody else first becomes root of a user namespace.
const CONFINE: &str = r#"#!/bin/sh
set -e
if [ -z "$CONFINED" ]; then
  export CONFINED=yes
  if [ "$(id -u)" = 0 ]; then exec unshare --mount "$0" "$@"; else exec unshare --map-root-user --mount "$0" "$@"; fi
fi
mount --make-rprivate /
mount --bind "$HOME_OF_IT" "$HOME_OF_IT"
# The longest first: what lies below a mount point is remounted before it.
cut -d ' ' -f 5 /proc/self/mountinfo | sort -r | while read -r at; do
  [ "$at" = "$HOME_OF_IT" ] || mount -o remount,bind,ro "$at" 2>/dev/null || true
done
# The control: nothing else can be written, not even by root.
for place in / /tmp "$OUTSIDE"; do
  if touch "$place/probe" 2>/dev/null; then echo "$place can still be written" >&2; exit 1; fi
done
cd /
exec setpriv --reuid="$NOBODY" --regid="$NOBODY" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$RECEIVER" "$@"
"#;

/// A directory for the receiver alone, and one with what it may only read.
struct Confined {
    house: House,
    outside: tempfile::TempDir,
}

impl Confined {
    fn start() -> Self {
        let outside = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| outside.path().join(name);
        let home = at("home");
        fs::create_dir(&home).expect("ours");
        open_to_all(outside.path());
        // `dev` makes certificates, table and configuration; the receiver that is confined finds them.
        drop(house_in(&home, &[], &[]));
        for name in ["gateway.toml", "access.toml", "certs"] {
            fs::rename(home.join(name), at(name)).expect("one file system");
        }
        for file in ["audit.jsonl", "events.jsonl", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
            let _ = fs::remove_file(home.join(file));
        }
        fs::remove_dir_all(home.join("objects")).expect("ours");
        configure(&at("gateway.toml"), &home);
        give_to_nobody(&home);
        give_to_nobody(&at("certs"));
        let (receiver, program) = (at("portcullis"), at("confine"));
        // Where we build may be nobody's business.
        fs::copy(binary(), &receiver).and_then(|_| fs::write(&program, CONFINE)).expect("ours");
        open_to_all(&receiver);
        open_to_all(&program);
        let text = |path: &Path| path.to_str().expect("our paths are text").to_owned();
        let nobody = if is_root() { NOBODY } else { 0 };
        let env = [
            ("HOME_OF_IT", text(&home)),
            ("OUTSIDE", text(outside.path())),
            ("NOBODY", nobody.to_string()),
            ("RECEIVER", text(&receiver)),
        ];
        let house = House::start(Options {
            dir: Some(home),
            config: Some(at("gateway.toml")),
            program: Some(program),
            env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            ..Options::default()
        });
        Self { house, outside }
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.house.pid())).expect("it runs")
    }

    fn associated(&self) -> Peer {
        let read = |name: &str| fs::read_to_string(self.outside.path().join("certs").join(name)).expect("dev made it");
        let credentials =
            Credentials::new(&read("hospital-a.pem"), &read("hospital-a.key"), &read("gateway.invalid/ca.pem"));
        let mut peer = Peer::connect(self.house.addr(), &credentials).expect("a good certificate");
        assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
        peer
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("Linux").uid() == 0
}

/// Readable and passable for everybody.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
}

/// Without root there is one user only, and it is ours already.
fn give_to_nobody(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg("-R").arg(format!("{NOBODY}:{NOBODY}")).arg(path).status();
        assert!(status.expect("chown is there").success());
    }
}

/// Everything that is written goes below `home`; ports are free ones.
fn configure(path: &Path, home: &Path) {
    let text = fs::read_to_string(path).expect("dev has written it");
    let home = home.display();
    let text = text
        .replace("127.0.0.1:2762", "127.0.0.1:0")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("dir = \".\"", &format!("dir = \"{home}\""))
        .replace("\"events.jsonl\"", &format!("\"{home}/events.jsonl\""))
        .replace("\"audit.jsonl\"", &format!("\"{home}/audit.jsonl\""));
    fs::write(path, text).expect("ours");
}

#[test]
fn without_a_privilege_or_a_place_to_write_but_its_own_the_receiver_serves_and_reloads() {
    let mut confined = Confined::start();
    let status = confined.proc("status");
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.trim_start_matches(':').trim().to_owned()
    };
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        // In a user namespace whoever is its root has some; they end at its edge.
        assert!(field(capabilities).bytes().all(|digit| digit == b'0') || !is_root(), "{capabilities}: {status}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert!(!is_root() || field("Uid").split_whitespace().all(|uid| uid == NOBODY.to_string()), "{status}");

    let mut peer = confined.associated();
    let instance = Instance::numbered(1).with_pixels(3 << 20, 1);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    assert_eq!(rows(confined.house.dir()).len(), 1);
    // The table lies outside, where the receiver can only read; an operator changes it.
    let table = confined.outside.path().join("access.toml");
    fs::copy(&table, confined.house.dir().join("access.toml")).expect("ours");
    let good = fs::read_to_string(&table).expect("ours");
    let new = table.with_extension("new");
    let narrowed = without_row(&good, "hospital-a").replacen("revision = 1", "revision = 2", 1);
    fs::write(&new, narrowed).and_then(|()| fs::rename(&new, &table)).expect("ours");
    let ended = peer.outcome();
    assert!(matches!(ended, testkit::peer::Outcome::Aborted(_)), "{ended:?}");
    assert!(confined.house.terminate().success());
    let audit = confined.house.audit();
    assert_eq!(audit.last().map(|line| line["event"].clone()), Some("shutdown".into()), "to the last line");
}

/// A core dump has everything that is in memory: pixels, names, and our private key.
#[test]
fn no_core_dump_is_ever_written_and_no_other_process_of_its_user_looks_into_it() {
    let confined = Confined::start();
    let limits = confined.proc("limits");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux says so");
    assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{line}");
    // What may not be dumped belongs to root, whoever runs it (proc(5)).
    let owner = fs::metadata(format!("/proc/{}/mem", confined.house.pid())).expect("it runs").uid();
    assert_eq!(owner, 0);
    if is_root() {
        let memory = format!("/proc/{}/mem", confined.house.pid());
        let looked = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat", &memory])
            .output()
            .expect("util-linux is there");
        let said = String::from_utf8_lossy(&looked.stderr);
        assert!(said.contains("Permission denied"), "{said}");
    }
}

/// A table that somebody wrote over stays out; what was in force goes on. The signature: `tests/access_verbs.rs`.
#[test]
fn an_older_table_put_back_gives_nobody_their_right_again() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let house = house_in(home.path(), &[], &[]);
    let path = house.dir().join("access.toml");
    let older = fs::read_to_string(&path).expect("dev has written it");
    amend(&house, |text| without_row(&text, "hospital-a"));
    let new = path.with_extension("new");
    fs::write(&new, &older).and_then(|()| fs::rename(&new, &path)).expect("ours");
    crate::support::audited(&house, &[("event", "policy"), ("reason", "reload_failed")]);
    let mut peer = crate::support::connect(&house, "hospital-a");
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Rejected(1, 1, 1));
}
