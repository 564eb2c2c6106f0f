//! CV-11: what cannot be used leaves the previous set in force, is said once and counted at every look, and is taken when it is
//! repaired. At the start there is no previous set: the gateway says what is wrong and does not start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gateway::pki::{Authority, SVID_LIFETIME};
use model::SpiffeId;
use testkit::house::eventually;
use testkit::pki::RECEIVER;

use super::{A_BUNDLE, A_ID, B_ID, Site, failed_looks, records, sender, stores, svid, taken};
use crate::support::{audited, portcullis, said};

/// One way in which a file breaks.
struct Breakage {
    name: &'static str,
    file: &'static str,
    /// None: it is not there.
    broken: Option<Vec<u8>>,
    /// Good, and not what it was.
    repaired: Vec<u8>,
    says: &'static str,
}

/// A gateway with everything that can break.
fn whole_site() -> Site {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\"\ncrls = [\"a.crl\"]"));
    site.revoke("a.crl", 3600, &[]);
    site.put("deny.toml", "");
    site
}

const DENY_LIST: (&str, &str) = ("PORTCULLIS__ACCESS__DENY_LIST", "deny.toml");

/// Our own SVID once more, with another key.
fn own_again(site: &Site) -> gateway::pki::Issued {
    let authority = Authority::load(&site.path("certs/gateway.invalid")).expect("it was made");
    let id = SpiffeId::parse(RECEIVER).expect("valid");
    authority.issue(&id, SVID_LIFETIME, std::time::SystemTime::now()).expect("an SVID can be made")
}

#[test]
fn certificates_and_lists_that_cannot_be_used_leave_the_previous_ones_in_force_until_they_are_repaired() {
    let site = whole_site();
    let house = site.house(&[DENY_LIST]);
    let a = svid(&house, A_ID);
    let mut live = sender(&house, &a, A_ID);
    let bundle = site.read(A_BUNDLE).into_bytes();
    let more = |bytes: &[u8]| [bytes, b"\n# once more\n"].concat();
    let list = site.read("a.crl").into_bytes();
    let (other, of_b) = (site.revocation_list(7200, &[]), site.read("certs/hospital-b.invalid/ca.pem").into_bytes());
    // Signed by hospital-a's key, so it says, and not quite.
    let forged = forge(&list);
    let own = site.read("certs/receiver.pem").into_bytes();
    let foreign = own_again(&site).chain_pem.into_bytes();
    let breakage = |name, file, broken: Option<&[u8]>, repaired: &[u8], says| Breakage {
        name,
        file,
        broken: broken.map(<[u8]>::to_vec),
        repaired: repaired.to_vec(),
        says,
    };
    let cases = [
        breakage("an empty bundle", A_BUNDLE, Some(b""), &more(&bundle), "no CERTIFICATE block"),
        breakage("a bundle that is gone", A_BUNDLE, None, &bundle, "cannot read"),
        breakage("a bundle that is no PEM", A_BUNDLE, Some(b"-----BEGIN CERTIFICATE-----\nx"), &more(&bundle), "PEM"),
        breakage("another domain's root", A_BUNDLE, Some(&of_b), &bundle, "unusable root"),
        breakage("half a JWK Set", A_BUNDLE, Some(b"{\"keys\":"), &more(&bundle), "JWK Set"),
        breakage("a list that is none", "a.crl", Some(b"garbage"), &other, "X509 CRL block"),
        breakage("a list that is cut off", "a.crl", Some(&list[..list.len() / 2]), &list, "revocation list"),
        breakage("a list that nobody signed", "a.crl", Some(&forged), &other, "did not sign it"),
        breakage("a list that is gone", "a.crl", None, &list, "cannot read"),
        breakage("a deny-list that is none", "deny.toml", Some(b"[[deny"), b"# nobody\n", "deny-list is refused"),
        breakage("an unknown key", "deny.toml", Some(b"[[deny]]\nleaf = \"00\"\n"), b"", "deny-list is refused"),
        breakage("no text", "deny.toml", Some(&[0xFF, 0xFE]), b"# nobody at all\n", "utf-8"),
        breakage("our key's certificate", "certs/receiver.pem", Some(&foreign), &more(&own), "does not belong"),
        breakage("our certificate is gone", "certs/receiver.pem", Some(b""), &own, "own certificate chain"),
    ];
    for (number, case) in cases.iter().enumerate() {
        let number = 10 * number as u64;
        let before = records(&house, "reload_failed").len();
        match &case.broken {
            Some(bytes) => site.put(case.file, bytes),
            None => fs::remove_file(site.path(case.file)).expect("it is there"),
        }
        eventually(case.name, || (records(&house, "reload_failed").len() > before).then_some(()));
        let looks = failed_looks(&house, "certificates");
        eventually("it is looked at again", || (failed_looks(&house, "certificates") > looks + 1).then_some(()));
        let told = records(&house, "reload_failed");
        assert_eq!(told.len(), before + 1, "{}: said once: {told:?}", case.name);
        let line = told.last().expect("just counted");
        let detail = line["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with("certificates: ") && detail.contains(case.says), "{}: {line}", case.name);
        stores(&mut live, number + 1);
        stores(&mut sender(&house, &a, A_ID), number + 2);
        taken(&house, "certificates_changed", || site.put(case.file, &case.repaired));
        stores(&mut live, number + 3);
    }
    assert!(house.audit().iter().all(|line| line["decision"] != "terminate"), "nobody was disturbed");
}

/// The list with the last bit of its signature turned over.
fn forge(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).expect("PEM");
    let at = text.find("\n-----END").expect("PEM");
    // The last whole group of four characters before the padding, so that it stays base64 and the value changes.
    let at = text[..at].rfind(|c: char| c != '=' && c != '\n').expect("base64") - 5;
    let mut forged = pem.to_vec();
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    forged
}

#[test]
fn a_key_that_others_can_read_is_not_taken() {
    let site = whole_site();
    let house = site.house(&[DENY_LIST]);
    let a = svid(&house, A_ID);
    let key = site.path("certs/receiver.key");
    taken(&house, "reload_failed", || fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("ours"));
    let line = audited(&house, &[("event", "policy"), ("reason", "reload_failed")]);
    assert!(line["detail"].as_str().is_some_and(|text| text.contains("chmod 600")), "{line}");
    stores(&mut sender(&house, &a, A_ID), 1);
    // Nor does a gateway start with it.
    let (gateway, check) = (site.path("gateway.toml"), ["receive", "--check", "--config"]);
    let output = portcullis(&[&check[..], &[gateway.to_str().expect("text")]].concat());
    assert!(!output.status.success() && said(&output).contains("chmod 600"), "{}", said(&output));
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("ours");
    let output = portcullis(&[&check[..], &[gateway.to_str().expect("text")]].concat());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_table_that_cannot_be_used_leaves_the_previous_one_in_force_until_it_is_repaired() {
    let site = whole_site();
    let house = site.house(&[]);
    let (a, b) = (svid(&house, A_ID), svid(&house, B_ID));
    let mut live = sender(&house, &a, A_ID);
    let good = site.read("access.toml");
    let numbered = |revision: u64| good.replacen("revision = 1\n", &format!("revision = {revision}\n"), 1);
    let cases: &[(&str, Option<String>, &str)] = &[
        ("not there", None, "cannot read"),
        ("empty", Some(String::new()), "revision"),
        ("no TOML", Some("revision = ".to_owned()), "access.toml"),
        ("an unknown column", Some(numbered(99).replacen("tenant =", "tennant =", 1)), "tennant"),
        ("an older revision", Some(numbered(0)), "older"),
        (
            "two rows of one id",
            Some(numbered(99).replacen("id = \"hospital-b\"", "id = \"hospital-a\"", 1)),
            "hospital-a",
        ),
    ];
    for (number, (name, text, says)) in cases.iter().enumerate() {
        let number = number as u64;
        let before = records(&house, "reload_failed").len();
        match text {
            Some(text) => site.put("access.toml", text),
            None => fs::remove_file(site.path("access.toml")).expect("it is there"),
        }
        eventually(name, || (records(&house, "reload_failed").len() > before).then_some(()));
        let looks = failed_looks(&house, "access table");
        eventually("it is looked at again", || (failed_looks(&house, "access table") > looks + 1).then_some(()));
        let told = records(&house, "reload_failed");
        assert_eq!(told.len(), before + 1, "{name}: said once: {told:?}");
        let detail = told[before]["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with("access table: ") && detail.contains(says), "{name}: {detail}");
        stores(&mut live, 10 * number + 1);
        stores(&mut sender(&house, &b, B_ID), 10 * number + 2);
        taken(&house, "policy_changed", || site.put("access.toml", numbered(number + 2)));
        stores(&mut live, 10 * number + 3);
    }
    assert!(house.audit().iter().all(|line| line["decision"] != "terminate"), "nobody was disturbed");
}

/// Fails if the shadow is read first and what is wrong with it ends the look.
#[test]
fn a_shadow_table_that_cannot_be_used_holds_up_nothing() {
    let site = whole_site();
    site.put("shadow.toml", "revision = 1\n");
    let stale = [("PORTCULLIS__ACCESS__SHADOW", "shadow.toml"), ("PORTCULLIS__ACCESS__MAX_STALENESS", "1s")];
    let house = site.house(&stale);
    let a = svid(&house, A_ID);
    let mut live = sender(&house, &a, A_ID);
    taken(&house, "reload_failed", || site.put("shadow.toml", "revision = "));
    let looks = failed_looks(&house, "shadow table");
    // Longer than what is in force may go unread.
    eventually("many looks", || (failed_looks(&house, "shadow table") > looks + 15).then_some(()));
    assert_eq!(records(&house, "reload_failed").len(), 1, "said once");
    stores(&mut live, 1);
    let text = crate::support::without_row(&site.read("access.toml"), "hospital-a");
    taken(&house, "policy_changed", || site.put("access.toml", text.replacen("revision = 1\n", "revision = 2\n", 1)));
    super::assert_ended(&house, &mut live, &a, "policy_revoked");
}

#[test]
fn a_gateway_does_not_start_with_trust_that_cannot_be_used() {
    let site = whole_site();
    let gateway = site.read("gateway.toml");
    let twice = format!("{gateway}[[trust]]\ndomain = \"hospital-a.invalid\"\nbundle = \"{A_BUNDLE}\"\n");
    // dev has not run: the table is ours.
    site.put("access.toml", "revision = 1\n");
    site.put("empty", "");
    let list = |file: &str| gateway.replacen("crls = [\"a.crl\"]", &format!("crls = [\"{file}\"]"), 1);
    let cases = [
        ("a domain twice", twice.clone(), "the trust domain hospital-a.invalid has two bundles"),
        ("a domain twice, its code", twice, "bundle_dup"),
        ("an empty bundle", gateway.replacen(A_BUNDLE, "empty", 1), "no CERTIFICATE block"),
        ("a bundle that is not there", gateway.replacen(A_BUNDLE, "nowhere", 1), "cannot read"),
        ("an empty list", list("empty"), "X509 CRL block"),
        ("a deny-list that is none", gateway.replacen("[archive]", "deny_list = \"a.crl\"\n[archive]", 1), "deny-list"),
    ];
    for (name, text, says) in cases {
        site.put("broken.toml", text);
        let path = site.path("broken.toml");
        let path = path.to_str().expect("text");
        for args in [&["receive", "--check", "--config", path][..], &["receive", "--config", path][..]] {
            let output = portcullis(args);
            assert!(!output.status.success() && said(&output).contains(says), "{name}: {}", said(&output));
            assert!(!said(&output).contains("listening on"), "{name}");
        }
    }
}
