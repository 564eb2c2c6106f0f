use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::files::create;
use super::pem::base64;
use super::*;

const HOUR: Duration = Duration::from_secs(super::HOUR);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_445)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

fn ensured() -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a temporary directory");
    let dir = home.path().join("certs");
    assert_eq!(ensure(&dir, now()).expect("made").len(), 6);
    (home, dir)
}

/// Every file's name and content.
fn contents(dir: &Path) -> Vec<(PathBuf, String)> {
    let domains = ["gateway.invalid", "hospital-a.invalid", "hospital-b.invalid"].map(|domain| dir.join(domain));
    let all = domains.into_iter().chain([dir.to_owned()]);
    let entries = all.flat_map(|dir| fs::read_dir(dir).expect("readable")).map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).map(|path| (path.clone(), read(&path))).collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("copied");
}

fn ids_of(made: &[Made]) -> Vec<(&str, Why)> {
    made.iter().map(|made| (made.id.as_str(), made.why)).collect()
}

fn judge(issued: &Issued, authority: &Authority, purpose: Purpose) -> std::result::Result<access::Svid, &'static str> {
    let chain = certificates(&issued.chain_pem);
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let bundles = TrustBundles::new([(authority.domain().clone(), authority.pem().as_bytes())]).expect("a good root");
    let rules = Rules { strictness: access::Strictness::Strict, ..Rules::default() };
    access::verify(&chain, &bundles, &rules, now().into(), purpose).map_err(|rejection| rejection.code.as_str())
}

#[test]
fn nobody_else_can_read_a_private_key() {
    let (_home, dir) = ensured();
    for (path, _) in contents(&dir) {
        let expected = if path.extension().is_some_and(|it| it == "pem") { 0o644 } else { 0o600 };
        // A stricter umask may take away more.
        assert_eq!(mode(&path) & !expected, 0, "{}", path.display());
        assert_eq!(mode(path.parent().expect("in a directory")), 0o700);
    }
}

#[test]
fn a_key_file_has_its_mode_before_it_has_content() {
    let home = TempDir::new().expect("a temporary directory");
    let path = home.path().join("x.key");
    let file = create(&path, 0o600).expect("created");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(file.metadata().expect("it exists").len(), 0);
}

#[test]
fn the_layout_is_the_one_that_scripts_rely_on() {
    let (_home, dir) = ensured();
    let names: Vec<_> = contents(&dir)
        .into_iter()
        .map(|(path, _)| path.strip_prefix(&dir).expect("below").to_string_lossy().into_owned())
        .filter(|name| name != ".lock")
        .collect();
    let expected = [
        "gateway.invalid/ca.key",
        "gateway.invalid/ca.pem",
        "hospital-a.invalid/ca.key",
        "hospital-a.invalid/ca.pem",
        "hospital-a.key",
        "hospital-a.pem",
        "hospital-b.invalid/ca.key",
        "hospital-b.invalid/ca.pem",
        "hospital-b.key",
        "hospital-b.pem",
        "receiver.key",
        "receiver.pem",
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_is_good_is_kept_to_the_byte() {
    let (_home, dir) = ensured();
    let before = contents(&dir);
    assert_eq!(ensure(&dir, now() + 17 * HOUR).expect("kept"), []);
    assert_eq!(contents(&dir), before);
}

#[test]
fn an_svid_near_its_end_is_reissued_by_the_same_authority() {
    let (_home, dir) = ensured();
    let before = contents(&dir);
    let made = ensure(&dir, now() + 19 * HOUR).expect("renewed");
    let expected: Vec<_> = LEAVES.iter().map(|(_, id)| (*id, Why::NearEnd)).collect();
    assert_eq!(ids_of(&made), expected);
    for ((path, old), (_, new)) in before.iter().zip(contents(&dir)) {
        let leaf = path.parent() == Some(&dir) && path.extension().is_some();
        assert_eq!(*old != new, leaf, "{}", path.display());
    }
}

#[test]
fn an_authority_near_its_end_is_replaced_with_its_svid() {
    let (_home, dir) = ensured();
    let made = ensure(&dir, now() + AUTHORITY_LIFETIME - 47 * HOUR).expect("renewed");
    assert_eq!(made.len(), 6);
    assert!(made.iter().all(|made| made.why == Why::NearEnd), "{made:?}");
    let later = now() + AUTHORITY_LIFETIME - 47 * HOUR;
    for (stem, id) in LEAVES {
        let id = SpiffeId::parse(id).expect("valid");
        let authority = Authority::load(&dir.join(id.trust_domain().as_str())).expect("loads");
        let (chain, key) = (read(&dir.join(format!("{stem}.pem"))), read(&dir.join(format!("{stem}.key"))));
        assert!(serves(&authority, &chain, &key, later), "{stem}");
    }
}

#[test]
fn a_damaged_set_is_mended() {
    let hospital_a = LEAVES[1].1;
    let authority_a = "spiffe://hospital-a.invalid";
    type Case<'a> = (&'a str, fn(&Path), &'a [(&'a str, Why)]);
    let cases: &[Case<'_>] = &[
        ("no leaf", |dir| fs::remove_file(dir.join("hospital-a.pem")).expect("gone"), &[(hospital_a, Why::Missing)]),
        ("no key", |dir| fs::remove_file(dir.join("hospital-a.key")).expect("gone"), &[(hospital_a, Why::Missing)]),
        ("empty leaf", |dir| fs::write(dir.join("hospital-a.pem"), "").expect("ok"), &[(hospital_a, Why::Missing)]),
        (
            "another leaf's key",
            |dir| copy(&dir.join("hospital-b.key"), &dir.join("hospital-a.key")),
            &[(hospital_a, Why::Unusable)],
        ),
        (
            "no authority",
            |dir| fs::remove_dir_all(dir.join("hospital-a.invalid")).expect("gone"),
            &[(authority_a, Why::Missing), (hospital_a, Why::Unusable)],
        ),
        (
            "another authority's key",
            |dir| copy(&dir.join("hospital-b.invalid/ca.key"), &dir.join("hospital-a.invalid/ca.key")),
            &[(authority_a, Why::Unusable), (hospital_a, Why::Unusable)],
        ),
    ];
    for (name, damage, expected) in cases {
        let (_home, dir) = ensured();
        damage(&dir);
        assert_eq!(ids_of(&ensure(&dir, now()).expect(name)), *expected, "{name}");
        assert_eq!(ensure(&dir, now()).expect(name), [], "{name}, afterwards");
    }
}

#[test]
fn a_file_of_somebody_else_is_left_as_it_is() {
    for (name, file, text) in [
        ("another leaf", "hospital-a.pem", None),
        ("no certificate", "hospital-a.pem", Some("my notes\n")),
        ("another authority", "hospital-a.invalid/ca.pem", None),
    ] {
        let (_home, dir) = ensured();
        let foreign = text.map_or_else(|| read(&dir.join("receiver.pem")), str::to_owned);
        fs::write(dir.join(file), &foreign).expect("writable");
        let refused = ensure(&dir, now()).expect_err(name);
        assert!(matches!(refused, PkiError::Foreign { .. }), "{name}: {refused}");
        assert_eq!(read(&dir.join(file)), foreign, "{name}");
    }
}

#[test]
fn an_issued_svid_keeps_every_rule_also_the_strict_ones() {
    for (stem, id) in LEAVES {
        let id = SpiffeId::parse(id).expect("valid");
        let authority = Authority::create(id.trust_domain().clone(), now()).expect("made");
        let issued = authority.issue(&id, SVID_LIFETIME, now()).expect("issued");
        for purpose in [Purpose::Client, Purpose::Server] {
            let svid = judge(&issued, &authority, purpose).expect(stem);
            assert_eq!((svid.id(), svid.key()), (&id, "ECDSA P-256"));
            assert_eq!(svid.not_after(), issued.not_after);
        }
        Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes()).expect("a usable pair");
    }
}

#[test]
fn a_loaded_authority_signs_as_the_one_that_was_saved() {
    let home = TempDir::new().expect("a temporary directory");
    let dir = home.path().join("hospital-a.invalid");
    let domain = TrustDomain::parse("hospital-a.invalid").expect("valid");
    let saved = Authority::create(domain, now()).expect("made");
    saved.save(&dir).expect("saved");
    let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
    let issued = Authority::load(&dir).expect("loads").issue(&id, HOUR, now()).expect("issued");
    assert_eq!(judge(&issued, &saved, Purpose::Client).expect("good").id(), &id);
}

#[test]
fn a_trust_domain_that_somebody_could_own_gets_no_authority() {
    let domain = TrustDomain::parse("hospital-a.example").expect("valid");
    assert!(matches!(Authority::create(domain, now()), Err(PkiError::NotDevelopment(_))));
}

#[test]
fn a_change_before_signing_reaches_the_certificate() {
    let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
    let authority = Authority::create(id.trust_domain().clone(), now()).expect("made");
    let issued = authority.issue_with(&id, SVID_LIFETIME, now(), |params| params.key_usages.clear()).expect("issued");
    assert_eq!(judge(&issued, &authority, Purpose::Client), Err("ku_missing"));
}

#[test]
fn certificates_are_found_between_other_blocks() {
    let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
    let authority = Authority::create(id.trust_domain().clone(), now()).expect("made");
    let issued = authority.issue(&id, SVID_LIFETIME, now()).expect("issued");
    let bundle = format!("notes\n{}{}{}", issued.key_pem, issued.chain_pem, authority.pem());
    assert_eq!(certificates(&bundle).len(), 2);
    let cases = [
        ("a bad character", "-----BEGIN CERTIFICATE-----\nMA*=\n-----END CERTIFICATE-----\n"),
        ("no end", "-----BEGIN CERTIFICATE-----\nMAA=\n"),
        ("a length that no text has", "-----BEGIN CERTIFICATE-----\nMAAAA\n-----END CERTIFICATE-----\n"),
    ];
    for (name, text) in cases {
        assert!(certificates(text).is_empty(), "{name}");
    }
    for (text, bytes) in [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v\nYmFy", b"foobar")] {
        assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
    }
}

#[test]
fn a_debugged_pair_shows_no_key() {
    let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
    let authority = Authority::create(id.trust_domain().clone(), now()).expect("made");
    let issued = authority.issue(&id, HOUR, now()).expect("issued");
    let key_text = issued.key_pem.lines().nth(1).expect("a second line");
    assert!(!format!("{issued:?}").contains(key_text));
}
