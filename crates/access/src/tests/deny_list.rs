use model::Digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::RejectionCode::Revoked;
use crate::testing::{CT1, Ca, Leaf, now, serial};
use crate::{DenyList, DenyListError, Purpose, Rejection, Rules, verify};

fn judge(ca: &Ca, leaf: &Leaf, list: &str) -> Option<Rejection> {
    let bundles = ca.bundle().with_deny_list(DenyList::parse(list).expect("a list"));
    verify(&leaf.chain(), &bundles, &Rules::default(), now(), Purpose::Client).err()
}

/// SHA-256 of the issuer's name, SEQUENCE and all; names here are shorter than 128 bytes.
fn issuer(der: &[u8]) -> Digest {
    let der = der.into();
    let certificate = webpki::EndEntityCert::try_from(&der).expect("a certificate");
    Digest::of(&crate::testing::der(0x30, certificate.issuer()))
}

fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(between)
}

#[test]
fn whom_the_list_has_is_refused_and_the_note_says_why() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let (leaf, other) = (issuing.leaf(CT1), issuing.leaf("spiffe://hosp-a.example/ingest/CT1"));
    let by_serial = |at: usize, between: &str| {
        let der = &leaf.chain[at];
        format!("issuer_sha256 = \"{}\"\nserial = \"{}\"", issuer(der), hex(&serial(der), between))
    };
    let upper = hex(Digest::of(&leaf.chain[0]).as_bytes(), ":");
    let cases = [
        ("the leaf", format!("leaf_sha256 = \"{}\"", Digest::of(&leaf.chain[0])), true, false),
        ("the leaf, as OpenSSL writes it", format!("leaf_sha256 = \"{upper}\""), true, false),
        ("issuer and serial", by_serial(0, ""), true, false),
        ("the same, as OpenSSL writes it", by_serial(0, ":"), true, false),
        ("with a leading zero", by_serial(0, "").replace("serial = \"", "serial = \"00"), true, false),
        ("the intermediate", by_serial(1, ""), true, true),
        ("its digest is no leaf's", format!("leaf_sha256 = \"{}\"", Digest::of(&leaf.chain[1])), false, false),
        ("the identity, byte for byte", format!("spiffe_id = \"{CT1}\""), true, false),
    ];
    for (name, entry, denied, other_denied) in cases {
        let list = format!("[[deny]]\n{entry}\nreason = \"stolen\"\nticket = \"SEC-7\"");
        let rejection = judge(&root, &leaf, &list);
        assert_eq!(rejection.as_ref().map(|rejection| rejection.code), denied.then_some(Revoked), "{name}");
        assert_eq!(judge(&root, &other, &list).is_some(), other_denied, "{name}: another");
        if let Some(rejection) = rejection {
            let sentence = rejection.to_string();
            assert!(sentence.contains("stolen (SEC-7)") && sentence.contains("V-32"), "{name}: {sentence}");
        }
    }
}

/// X.690 §8.1.3: the length of a name takes one, two or three octets.
#[test]
fn an_issuer_is_known_by_its_whole_name_however_long_it_is() {
    for length in [90, 100, 110, 220, 240, 300, 1000] {
        let root =
            Ca::root_with(|params| params.distinguished_name.push(rcgen::DnType::OrganizationName, "x".repeat(length)));
        let leaf = root.leaf(CT1);
        let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).expect("a certificate");
        let (issuer, serial) = (Digest::of(parsed.issuer().as_raw()), hex(&serial(&leaf.chain[0]), ""));
        let list = format!("[[deny]]\nissuer_sha256 = \"{issuer}\"\nserial = \"{serial}\"");
        assert_eq!(judge(&root, &leaf, &list).map(|rejection| rejection.code), Some(Revoked), "{length}");
    }
}

#[test]
fn an_empty_list_denies_nobody() {
    let root = Ca::root();
    assert_eq!(judge(&root, &root.leaf(CT1), "# nobody\n"), None);
    assert!(DenyList::parse("").expect("legal").is_empty());
}

#[test]
fn the_list_in_force_can_be_asked_for_its_length() {
    let root = Ca::root();
    let two = DenyList::parse(&format!(
        "[[deny]]\nspiffe_id = \"{CT1}\"\n[[deny]]\nleaf_sha256 = \"{}\"\n",
        Digest::of(b"x")
    ));
    let bundles = root.bundle().with_deny_list(two.expect("a list"));
    assert_eq!((bundles.deny_list().len(), bundles.deny_list().is_empty()), (2, false));
    assert_eq!((root.bundle().deny_list().len(), root.bundle().deny_list().is_empty()), (0, true));
}

#[test]
fn what_is_not_understood_refuses_the_whole_list_and_says_where() {
    let digest = Digest::of(b"x");
    let leaf = format!("[[deny]]\nleaf_sha256 = \"{digest}\"\n");
    assert_eq!(DenyList::parse(&leaf).expect("good").len(), 1);
    let cases = [
        ("not TOML", format!("{leaf}[[deny"), 3, "expected"),
        ("an unknown key", format!("{leaf}[[deny]]\nleaf = \"x\""), 4, "unknown field"),
        ("an unknown table", format!("{leaf}[[row]]\nx = 1"), 3, "unknown field"),
        ("no kind", format!("{leaf}[[deny]]\nreason = \"x\""), 3, "exactly one"),
        ("two kinds", format!("{leaf}spiffe_id = \"{CT1}\""), 1, "exactly one"),
        ("an issuer without a serial", format!("[[deny]]\nissuer_sha256 = \"{digest}\""), 1, "exactly one"),
        ("a serial without an issuer", "\n[[deny]]\nserial = \"01\"".into(), 2, "exactly one"),
        ("a digest that is none", "[[deny]]\nleaf_sha256 = \"abc\"".into(), 1, "64 hex digits"),
        ("half a byte", format!("[[deny]]\nissuer_sha256 = \"{digest}\"\nserial = \"123\""), 1, "hex"),
        ("no digits", format!("[[deny]]\nissuer_sha256 = \"{digest}\"\nserial = \"\""), 1, "hex"),
        ("other letters", format!("[[deny]]\nissuer_sha256 = \"{digest}\"\nserial = \"0g\""), 1, "hex"),
        ("no SPIFFE ID", "[[deny]]\nspiffe_id = \"spiffe://hosp-a.example\"".into(), 1, "no path"),
        ("twice", format!("{leaf}{leaf}"), 3, "twice"),
    ];
    for (name, text, at, part) in cases {
        let DenyListError { line, problem } = DenyList::parse(&text).expect_err(name);
        assert!(problem.contains(part), "{name}: {problem}");
        assert_eq!(line, Some(at), "{name}");
    }
}
