//! The strict profile: every choice is made for refusing, and none of them can be loosened quietly.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};

use crate::audit::{FULL, write_big_log};
use crate::support::archive::rows;
use crate::support::furnish::{
    ID_A, asks, assert_log_is_sound, assert_others_are_served, count, edit, furnished, let_in, metric, put, quick,
    table_of, with_key, with_row,
};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, audited, binary, portcullis, said, stdout, within, without_row, write_table};

/// What the strict profile wants to know of a row besides its owner.
const ANSWERED: &str = "contact = \"pacs@hospital.invalid\"\nticket = \"CHG-1\"\ncreated_by = \"ann\"\n\
    approved_by = \"bob\"\nupdated_at = 2026-11-01T00:00:00Z";
/// Out of resources: send it again later (PS3.4 Table B.2-1).
const LATER: Outcome = Outcome::Status(0xA700);

fn strictly(config: &str) -> String {
    format!("profile = \"strict\"\n{config}")
}

fn answered(table: &str) -> String {
    with_row(&with_row(table, "hospital-a", ANSWERED), "hospital-b", ANSWERED)
}

fn strict() -> House {
    furnished(|config| strictly(&config), |table| answered(&table))
}

/// A directory in which a house has lived under the strict profile, as `receive` takes it.
struct Left(House);

impl Left {
    fn behind() -> Self {
        let anywhere = |config: String| config.replace(":2762", ":0").replace(":8080", ":0");
        let mut house = furnished(|config| anywhere(strictly(&config)), |table| answered(&table));
        assert_eq!(house.terminate().code(), Some(0));
        Self(house)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.dir().join(name)
    }

    fn edited(&self, name: &str, change: impl FnOnce(String) -> String) {
        edit(&self.file(name), change);
    }

    fn receive(&self, more: &[&str]) -> Output {
        let config = self.file("gateway.toml");
        portcullis(&[&["receive", "--config", config.to_str().expect("our paths are text")], more].concat())
    }
}

fn store(peer: &mut Peer, instance: &Instance) -> Outcome {
    peer.store(&instance.claim(), &instance.data_set())
}

#[test]
fn the_check_shows_what_the_profile_comes_to() {
    let left = Left::behind();
    let strict = left.receive(&["--check"]);
    assert!(strict.status.success(), "{}", said(&strict));
    left.edited("gateway.toml", |config| config.replace("profile = \"strict\"\n", ""));
    let baseline = left.receive(&["--check"]);
    assert!(baseline.status.success(), "{}", said(&baseline));
    for (text, name) in [(stdout(&strict), "strict"), (stdout(&baseline), "baseline")] {
        assert!(text.contains(&format!("profile    {name}\n")), "{text}");
    }
    for (strictly, otherwise) in [
        ("certificate rules: strict", "certificate rules: compatible"),
        ("observe mode: refused", "observe mode: allowed"),
        ("of the same revision: refused", "of the same revision: accepted"),
        ("wrong AE title: rejected like a stranger", "wrong AE title: told which"),
        ("cannot be written: C-STORE is refused with 0xA700", "cannot be written: an error and a metric"),
        ("Success is said: after the audit record", "Success is said: after object and index row"),
        ("an identity is suspended: after 50 denials within 60 s, for 900 s", "an identity is suspended: never"),
    ] {
        let (strict, baseline) = (stdout(&strict), stdout(&baseline));
        assert!(strict.contains(strictly) && !strict.contains(otherwise), "{strictly}: {strict}");
        assert!(baseline.contains(otherwise) && !baseline.contains(strictly), "{otherwise}: {baseline}");
    }
}

#[test]
fn a_key_that_is_looser_than_the_profile_keeps_the_gateway_from_starting() {
    let left = Left::behind();
    let good = fs::read_to_string(left.file("gateway.toml")).expect("it is there");
    for (key, from, to) in [
        ("identity.rules", "[identity]\n", "[identity]\nrules = \"compatible\"\n"),
        ("access.staleness", "[access]\n", "[access]\nstaleness = \"best-effort\"\n"),
        ("access.auto_suspend", "[archive]\n", "[access.auto_suspend]\ndenials = 0\n\n[archive]\n"),
    ] {
        left.edited("gateway.toml", |_| good.replacen(from, to, 1));
        let output = left.receive(&[]);
        assert_eq!(output.status.code(), Some(2), "{key}: {}", said(&output));
        let told = said(&output);
        assert!(told.contains(key) && told.contains("looser than the strict profile"), "{key}: {told}");
    }
}

#[test]
fn a_table_that_leaves_questions_open_is_refused_at_the_start_and_while_it_runs() {
    let left = Left::behind();
    let good = table_of(&left.0);
    let without = |column: &str| {
        let kept = good.lines().filter(|line| !line.starts_with(&format!("{column} = ")));
        kept.map(|line| format!("{line}\n")).collect::<String>()
    };
    let columns = ["owner", "contact", "ticket", "created_by", "approved_by", "updated_at"];
    let mut cases: Vec<_> = columns.iter().map(|column| (*column, without(column))).collect();
    let prefix = "prefix = \"spiffe://hospital-a.invalid/ingest/\"";
    let below =
        with_key(&good, "allow_prefix = [\"hospital-a.invalid\"]").replace(&format!("identity = \"{ID_A}\""), prefix);
    cases.extend([
        ("approved by the person who wrote it", with_row(&good, "hospital-a", "approved_by = \"ann\"")),
        ("only observes", with_row(&good, "hospital-a", "mode = \"observe\"")),
        ("only observes", with_key(&good, "mode = \"observe\"")),
        ("sop_classes", below),
    ]);
    for (says, table) in &cases {
        left.edited("access.toml", |_| table.clone());
        let output = left.receive(&["--check"]);
        assert_eq!(output.status.code(), Some(2), "{says}: {}", said(&output));
        assert!(said(&output).contains("the strict profile refuses it"), "{says}: {}", said(&output));
        assert!(said(&output).contains(says), "{says}: {}", said(&output));
    }
    left.edited("access.toml", |_| good.clone());
    let house = left.0.restart();
    let mut peer = let_in(&house, "before the change");
    write_table(&house, |_| cases.remove(0).1);
    let failed = audited(&house, &[("event", "policy"), ("reason", "reload_failed"), ("alert", "reload_failed")]);
    assert!(failed["detail"].as_str().is_some_and(|detail| detail.contains("strict")), "{failed}");
    assert_eq!((peer.echo(), let_in(&house, "the previous one").echo()), (SUCCESS, SUCCESS));
    assert_log_is_sound(house);
}

#[test]
fn a_change_without_a_new_revision_is_refused_and_a_good_one_is_taken() {
    let house = strict();
    let base = table_of(&house);
    edit(&house.dir().join("access.toml"), |table| without_row(&table, "hospital-a"));
    let failed = audited(&house, &[("event", "policy"), ("reason", "reload_failed")]);
    assert!(failed["detail"].as_str().is_some_and(|detail| detail.contains("still revision 1")), "{failed}");
    let_in(&house, "the previous one stays");
    put(&house, &with_row(&without_row(&base, "hospital-a"), "hospital-b", "ticket = \"CHG-2\""));
    assert_eq!(asks(&house, CALLED, A).1, Associated::Rejected(1, 1, 1));
    let loose = quick();
    edit(&loose.dir().join("access.toml"), |table| without_row(&table, "hospital-a"));
    audited(&loose, &[("event", "policy"), ("reason", "policy_changed")]);
    assert_eq!(asks(&loose, CALLED, A).1, Associated::Rejected(1, 1, 1), "the baseline takes it");
}

#[test]
fn a_wrong_title_is_told_nothing_and_the_log_everything() {
    let house = strict();
    for (reason, called, calling) in [("called_aet", "ELSEWHERE", A), ("calling_aet", CALLED, "SOMEBODY")] {
        assert_eq!(asks(&house, called, calling).1, Associated::Rejected(1, 1, 1), "{reason}");
        audited(
            &house,
            &[("event", "association"), ("reason", reason), ("called_ae", called), ("calling_ae", calling)],
        );
    }
    assert_eq!(let_in(&house, "the right ones").echo(), SUCCESS);
    let lines = assert_log_is_sound(house);
    let startups: Vec<_> =
        lines.iter().filter(|line| line["event"] == "startup").map(|line| &line["profile"]).collect();
    assert_eq!(startups, ["baseline", "strict"]);
}

/// An SVID of hospital-a with these extensions, made by openssl with the house's own authority.
fn minted(house: &House, scratch: &Path, extensions: &str) -> Credentials {
    let authority = house.dir().join("certs/hospital-a.invalid");
    let file = |name: &str| scratch.join(name).to_str().expect("our paths are text").to_owned();
    fs::write(file("ext"), format!("subjectAltName=URI:{ID_A}\n{extensions}")).expect("a temporary directory");
    let openssl = |line: &str, more: &[&str]| {
        let output = Command::new("openssl").args(line.split(' ')).args(more).output().expect("openssl is there");
        assert!(output.status.success(), "{}", said(&output));
    };
    let (key, request, chain) = (file("key"), file("csr"), file("crt"));
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out", &[&key]);
    openssl("req -new -subj /CN=ct1 -key", &[&key, "-out", &request]);
    let (ca, ca_key) = (authority.join("ca.pem"), authority.join("ca.key"));
    let (ca, ca_key) = (ca.to_str().expect("text"), ca_key.to_str().expect("text"));
    let signing = ["-in", &request, "-CA", ca, "-CAkey", ca_key, "-extfile", &file("ext"), "-out", &chain];
    openssl("x509 -req -days 1", &signing);
    let read = |path: &str| fs::read_to_string(path).expect("openssl has made it");
    let receiver = fs::read_to_string(house.ca("gateway.invalid")).expect("dev has made it");
    Credentials::new(&read(&chain), &read(&key), &receiver)
}

#[test]
fn what_x509_svid_only_asks_of_issuers_is_demanded() {
    const WHOLE: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
        extendedKeyUsage=clientAuth,serverAuth\nauthorityKeyIdentifier=keyid\n";
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (strict, baseline) = (strict(), quick());
    let without = |name: &str| -> String {
        WHOLE.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect()
    };
    for (rule, extensions) in
        [("", WHOLE.to_owned()), ("V-19", without("basicConstraints")), ("V-23", without("extendedKeyUsage"))]
    {
        for (house, profile) in [(&strict, "strict"), (&baseline, "baseline")] {
            let credentials = minted(house, scratch.path(), &extensions);
            let answer = match Peer::connect(house.addr(), &credentials) {
                Ok(mut peer) => peer.associate(CALLED, A, sample_contexts()),
                Err(_) => Associated::Closed,
            };
            let refused = profile == "strict" && !rule.is_empty();
            assert_eq!(matches!(answer, Associated::Accepted(_)), !refused, "{profile} without {rule:?}: {answer:?}");
            if refused {
                audited(house, &[("event", "connection"), ("decision", "deny"), ("rule", rule)]);
            }
        }
    }
}

#[test]
fn what_cannot_be_written_into_the_log_is_not_taken_until_it_can() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let lived = quick();
    for name in ["gateway.toml", "access.toml"] {
        let text = fs::read_to_string(lived.dir().join(name)).expect("dev has written it");
        let text = if name == "access.toml" { answered(&text) } else { strictly(&text) };
        fs::write(home.path().join(name), text).expect("ours");
    }
    drop(lived);
    write_big_log(&home.path().join("audit.jsonl"), 6000);
    let program = home.path().join("limited");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", binary().display());
    fs::write(&program, script).expect("ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("ours");
    let options = Options { dir: Some(home.path().to_owned()), program: Some(program), ..Options::default() };
    let house = House::start(options);
    let limit = |bytes: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg(format!("--pid={}", house.pid())).arg(format!("--fsize={bytes}:"));
        assert!(prlimit.status().expect("util-linux is there").success());
    };
    limit(&FULL.to_string());
    let mut peer = let_in(&house, "there is room yet");
    let mut acknowledged = Vec::new();
    let torn = (1..100).map(Instance::numbered).find(|instance| {
        let outcome = store(&mut peer, instance);
        assert!(matches!(outcome, SUCCESS | LATER), "{outcome:?}");
        acknowledged.extend((outcome == SUCCESS).then(|| instance.uid.clone()));
        outcome == LATER
    });
    let torn = torn.expect("the disk is full by then");
    assert!(!acknowledged.is_empty(), "it was not full from the beginning");
    let kept = rows(house.dir()).len();
    let next = Instance::numbered(1000);
    assert_eq!((store(&mut peer, &next), store(&mut peer, &next)), (LATER, LATER));
    assert_eq!(rows(house.dir()).len(), kept, "no byte of it was taken");
    assert_eq!(peer.echo(), SUCCESS, "the association lives");
    let refused = "status=\"A700\",outcome=\"audit_unavailable\"";
    assert!(metric(&house, "portcullis_instances_total", refused) >= 2.0, "counted");
    limit("unlimited");
    for instance in [&torn, &next] {
        within(Duration::from_secs(30), "it heals", || {
            let outcome = store(&mut peer, instance);
            assert!(matches!(outcome, SUCCESS | LATER), "{outcome:?}");
            (outcome == SUCCESS).then(|| acknowledged.push(instance.uid.clone()))
        });
    }
    audited(&house, &[("event", "log"), ("reason", "log_restored")]);
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "audit_unavailable")]);
    for uid in &acknowledged {
        assert!(count(&house, &[("decision", "allow"), ("instance", uid)]) > 0, "{uid} is accounted for");
    }
    assert_others_are_served(&house);
    assert_log_is_sound(house);
}

#[test]
fn success_is_never_said_before_its_record_is_in_the_log() {
    let mut house = strict();
    for round in 1..=8_u64 {
        let mut peer = let_in(&house, "after the kill");
        let instances: Vec<_> = (1..=round).map(|number| Instance::of_study(round, number)).collect();
        for instance in &instances {
            assert_eq!(store(&mut peer, instance), SUCCESS);
        }
        house.kill();
        for instance in &instances {
            let wanted = [("event", "instance"), ("decision", "allow"), ("instance", instance.uid.as_str())];
            assert_eq!(count(&house, &wanted), 1, "round {round}: {}", instance.uid);
        }
        house = house.restart();
    }
    eventually("the last start is written down", || {
        (count(&house, &[("event", "startup"), ("profile", "strict")]) == 9).then_some(())
    });
    assert_log_is_sound(house);
}
