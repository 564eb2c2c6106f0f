//! A signed table: who can write the file cannot change who may do what.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::house::House;
use testkit::peer::Associated;

use crate::support::furnish::{asks, assert_log_is_sound, assert_turned_away, count, edit, let_in, quick, table_of};
use crate::support::{A, CALLED, SUCCESS, audited, portcullis, said, without_row};

fn openssl(line: &str) -> Output {
    let output = Command::new("openssl").args(line.split(' ')).output().expect("openssl is there");
    assert!(output.status.success(), "{line}: {}", said(&output));
    output
}

/// A key pair, as docs/access-table.md has it made.
struct Signer(PathBuf);

impl Signer {
    fn new(dir: &Path, name: &str) -> Self {
        let signer = Self(dir.join(format!("{name}.key")));
        openssl(&format!("genpkey -algorithm ed25519 -out {}", signer.0.display()));
        openssl(&format!("pkey -in {} -pubout -out {}", signer.0.display(), dir.join(format!("{name}.pub")).display()));
        signer
    }

    fn sign(&self, table: &Path) -> Vec<u8> {
        openssl(&format!("pkeyutl -sign -rawin -inkey {} -in {}", self.0.display(), table.display())).stdout
    }
}

fn table(house: &House) -> PathBuf {
    house.dir().join("access.toml")
}

fn signature(house: &House) -> PathBuf {
    house.dir().join("access.toml.sig")
}

/// A house that demands a signature and has one.
fn signed() -> (House, Signer) {
    let mut house = quick();
    assert_eq!(house.terminate().code(), Some(0));
    let signer = Signer::new(house.dir(), "table");
    edit(&house.dir().join("gateway.toml"), |config| {
        config.replacen("[access]\n", "[access]\nverify_key = \"table.pub\"\n", 1)
    });
    fs::write(signature(&house), signer.sign(&table(&house))).expect("ours");
    (house.restart(), signer)
}

fn refusals(house: &House) -> usize {
    count(house, &[("event", "policy"), ("reason", "reload_failed")])
}

fn revised(text: &str, revision: u64) -> String {
    text.replacen("revision = 1", &format!("revision = {revision}"), 1)
}

#[test]
fn a_table_that_was_tampered_with_changes_nothing_until_it_is_signed() {
    let (house, signer) = signed();
    let base = table_of(&house);
    let mut peer = let_in(&house, "signed");
    fs::write(table(&house), revised(&base.replace("CTImageStorage", "MRImageStorage"), 2)).expect("ours");
    let failed = audited(&house, &[("event", "policy"), ("reason", "reload_failed"), ("alert", "reload_failed")]);
    let told = failed["detail"].as_str().is_some_and(|detail| detail.contains("does not belong to this table and key"));
    assert!(told, "{failed}");
    assert_eq!((peer.echo(), let_in(&house, "the old one").echo()), (SUCCESS, SUCCESS));
    // By somebody else's key.
    let before = refusals(&house);
    let other = Signer::new(house.dir(), "other");
    fs::write(table(&house), revised(&without_row(&base, "hospital-a"), 3)).expect("ours");
    fs::write(signature(&house), other.sign(&table(&house))).expect("ours");
    let_in(&house, "the old one");
    assert_eq!(count(&house, &[("reason", "policy_changed")]), 0);
    fs::write(signature(&house), signer.sign(&table(&house))).expect("ours");
    audited(&house, &[("event", "policy"), ("reason", "policy_changed")]);
    assert_turned_away(&house, "the new one");
    assert!(refusals(&house) >= before);
    // A signature of yesterday is still good, and its table is still older.
    fs::write(table(&house), &base).expect("ours");
    fs::write(signature(&house), signer.sign(&table(&house))).expect("ours");
    testkit::house::eventually("the rollback is refused", || {
        let older =
            |line: &serde_json::Value| line["detail"].as_str().is_some_and(|detail| detail.contains("is older than"));
        house.audit().iter().any(older).then_some(())
    });
    assert_turned_away(&house, "no way back");
    assert_log_is_sound(house);
}

#[test]
fn a_signature_may_be_raw_or_text() {
    let (house, signer) = signed();
    let base = table_of(&house);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (revision, form) in [(2, "raw"), (3, "hex"), (4, "base64")] {
        fs::write(table(&house), revised(&base, revision)).expect("ours");
        let raw = signer.sign(&table(&house));
        let written = match form {
            "raw" => raw,
            "hex" => format!("{}\n", hex(&raw)).into_bytes(),
            _ => {
                fs::write(house.dir().join("raw"), raw).expect("ours");
                openssl(&format!("base64 -in {}", house.dir().join("raw").display())).stdout
            }
        };
        fs::write(signature(&house), written).expect("ours");
        testkit::house::eventually(form, || {
            let changed =
                |line: &serde_json::Value| line["reason"] == "policy_changed" && line["policy_revision"] == revision;
            house.audit().iter().any(changed).then_some(())
        });
    }
    assert_eq!(asks(&house, CALLED, A).1, Associated::Accepted(3));
}

#[test]
fn without_a_good_signature_the_gateway_does_not_start() {
    let (mut house, signer) = signed();
    assert_eq!(house.terminate().code(), Some(0));
    let config = house.dir().join("gateway.toml").display().to_string();
    let start = || portcullis(&["receive", "--check", "--config", &config]);
    assert!(start().status.success(), "{}", said(&start()));
    let good = fs::read(signature(&house)).expect("it is there");
    let other = Signer::new(house.dir(), "other").sign(&table(&house));
    for (name, bytes, says) in [
        ("another key's", Some(other), "does not belong to this table and key"),
        ("cut off", Some(good[..63].to_vec()), "not 64 bytes"),
        ("empty", Some(Vec::new()), "not 64 bytes"),
        ("none", None, "access.toml.sig"),
    ] {
        match bytes {
            Some(bytes) => fs::write(signature(&house), bytes).expect("ours"),
            None => fs::remove_file(signature(&house)).expect("ours"),
        }
        let output = start();
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
        assert!(said(&output).contains(says), "{name}: {}", said(&output));
    }
    fs::write(signature(&house), signer.sign(&table(&house))).expect("ours");
    assert!(start().status.success(), "{}", said(&start()));
    fs::copy(house.cert("receiver").cert, house.dir().join("table.pub")).expect("ours");
    assert!(said(&start()).contains("Ed25519"), "not a key: {}", said(&start()));
}
