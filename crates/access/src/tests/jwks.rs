//! SPIFFE bundles (SPIFFE_Trust_Domain_and_Bundle.md §4, X509-SVID.md §6.2).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{PKCS_ED25519, PKCS_RSA_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::RejectionCode::TdNoKeys;
use crate::testing::{CT1, Ca, domain, now, uri};
use crate::{BundleSource, Purpose, Rules, TrustBundles, TrustError, verify};

fn der(ca: &Ca) -> Vec<u8> {
    CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("PEM").to_vec()
}

fn x5c(ca: &Ca) -> String {
    STANDARD.encode(der(ca))
}

/// A bundle of these keys.
fn set(keys: &[String]) -> String {
    format!("\n {{\"keys\": [{}], \"spiffe_sequence\": 7, \"spiffe_refresh_hint\": 300}}", keys.join(","))
}

fn key(ca: &Ca, more: &str) -> String {
    format!("{{\"use\": \"x509-svid\", \"kty\": \"EC\", \"x5c\": [\"{}\"]{more}}}", x5c(ca))
}

fn load(text: &str) -> Result<TrustBundles, TrustError> {
    TrustBundles::new([(domain(), text.as_bytes())])
}

/// x and y of the root's key, as a JWK has them: the last bytes of a P-256 key.
fn coordinates(ca: &Ca) -> [String; 2] {
    let der = der(ca);
    let at = der.windows(4).position(|four| four == [0x03, 0x42, 0x00, 0x04]).expect("a P-256 key") + 4;
    [&der[at..at + 32], &der[at + 32..at + 64]].map(|number| URL_SAFE_NO_PAD.encode(number))
}

#[test]
fn keys_for_x509_svids_are_roots_and_all_others_are_ignored() {
    let (root, other) = (Ca::root(), Ca::root());
    let (leaf, stranger) = (root.leaf(CT1), other.leaf(CT1));
    let [x, y] = coordinates(&root);
    let good = key(&root, "");
    let ignored = |from: &str, to: &str| key(&other, "").replace(from, to);
    let two = good.replace("\"]", &format!("\", \"{}\"]", x5c(&other)));
    let cases = [
        ("one", set(std::slice::from_ref(&good)), [true, false]),
        ("two", set(&[good.clone(), key(&other, "")]), [true, true]),
        (
            "with its numbers",
            set(&[key(&root, &format!(", \"x\": \"{x}\", \"y\": \"{y}\", \"crv\": \"P-256\""))]),
            [true, false],
        ),
        ("for JWT", set(&[good.clone(), ignored("x509-svid", "jwt-svid")]), [true, false]),
        ("of an unknown use", set(&[good.clone(), ignored("x509-svid", "X509-SVID")]), [true, false]),
        ("without a use", set(&[good.clone(), ignored("\"use\": \"x509-svid\",", "")]), [true, false]),
        ("of an unknown type", set(&[good.clone(), ignored("\"EC\"", "\"XX\"")]), [true, false]),
        ("without a type", set(&[good.clone(), ignored("\"kty\": \"EC\",", "")]), [true, false]),
        ("without a certificate", set(&[good, ignored("x5c", "other")]), [true, false]),
        ("with a second certificate", set(&[two]), [true, false]),
        ("without any key", set(&[]), [false, false]),
        ("without one for X509-SVIDs", set(&[ignored("x509-svid", "jwt-svid")]), [false, false]),
    ];
    for (name, text, expected) in cases {
        let bundles = load(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let accepts = |leaf: &crate::testing::Leaf| {
            verify(&leaf.chain(), &bundles, &Rules::default(), now(), Purpose::Client).is_ok()
        };
        assert_eq!([accepts(&leaf), accepts(&stranger)], expected, "{name}");
        assert_eq!(bundles.sequence(&domain()), Some(7), "{name}");
    }
}

#[test]
fn the_numbers_of_every_kind_of_key_are_compared() {
    let (rsa, ed) = (Ca::root_of(&PKCS_RSA_SHA256), Ca::root_of(&PKCS_ED25519));
    let after = |ca: &Ca, mark: &[u8], count: usize| {
        let der = der(ca);
        let at = der.windows(mark.len()).position(|bytes| bytes == mark).expect("there") + mark.len();
        URL_SAFE_NO_PAD.encode(&der[at..at + count])
    };
    let n = after(&rsa, &[0x02, 0x82, 0x01, 0x01, 0x00], 256);
    let x = after(&ed, &[0x03, 0x21, 0x00], 32);
    let member = |name: &str, value: &str| format!(", \"{name}\": \"{value}\"");
    for (name, ca, kty, more, good) in [
        ("RSA", &rsa, "RSA", member("n", &n) + &member("e", "AQAB"), true),
        ("RSA, another modulus", &rsa, "RSA", member("n", &x), false),
        ("RSA, another exponent", &rsa, "RSA", member("n", &n) + &member("e", "Aw"), false),
        ("Ed25519", &ed, "OKP", member("x", &x), true),
        ("Ed25519, another", &ed, "OKP", member("x", "AQAB"), false),
    ] {
        let key = key(ca, &more).replace("\"EC\"", &format!("\"{kty}\""));
        assert_eq!(load(&set(&[key])).is_ok(), good, "{name}");
    }
}

/// V-16, and how a trust domain revokes all that it published.
#[test]
fn a_bundle_without_keys_is_legal_and_makes_every_svid_of_its_domain_invalid() {
    let root = Ca::root();
    let none: [Vec<u8>; 0] = [];
    for (name, source) in
        [("JWK Set", BundleSource::Jwks(b"{\"keys\":[]}")), ("Workload API", BundleSource::Der(&none))]
    {
        let bundles = TrustBundles::of([(domain(), source)]).expect(name);
        let judged = verify(&root.leaf(CT1).chain(), &bundles, &Rules::default(), now(), Purpose::Client);
        assert_eq!(judged.expect_err(name).code, TdNoKeys, "{name}");
        assert!(bundles.remarks(now())[0].contains("every identity"), "{name}");
    }
    assert_eq!(load("").expect_err("PEM without a certificate is a mistake"), TrustError::NoRoot(domain()));
}

#[test]
fn der_certificates_are_roots() {
    let (root, mut list) = (Ca::root(), Vec::new());
    list.push(der(&root));
    let bundles = TrustBundles::of([(domain(), BundleSource::Der(&list))]).expect("usable");
    assert!(verify(&root.leaf(CT1).chain(), &bundles, &Rules::default(), now(), Purpose::Client).is_ok());
    list.push(b"rubbish".to_vec());
    let error = TrustBundles::of([(domain(), BundleSource::Der(&list))]).expect_err("unusable");
    assert!(matches!(error, TrustError::UnusableRoot { number: 2, .. }));
}

#[test]
fn a_bundle_that_contradicts_itself_refuses_the_whole_set() {
    let root = Ca::root();
    let [x, y] = coordinates(&root);
    let foreign = Ca::root_with(|params| params.subject_alt_names = vec![uri("spiffe://hosp-b.example")]);
    let good = key(&root, "");
    let numbers = |x: &str, y: &str| key(&root, &format!(", \"x\": \"{x}\", \"y\": \"{y}\""));
    let ignored = good.replace("x509-svid", "jwt-svid");
    let keys = [
        ("another type of key", good.replace("\"EC\"", "\"RSA\""), "kty"),
        ("Ed25519 it is not", good.replace("\"EC\"", "\"OKP\""), "kty"),
        ("another number", numbers(&y, &y), "kty"),
        ("a number that is none", numbers(&x, "%"), "kty"),
        ("not base64", good.replace("\"x5c\": [\"", "\"x5c\": [\"*"), "base64"),
        ("no certificate", good.replace(&x5c(&root), &STANDARD.encode(b"x")), "not a certificate"),
        (
            "no authority",
            good.replace(&x5c(&root), &STANDARD.encode(&root.leaf(CT1).chain[0])),
            "not a certificate auth",
        ),
        ("another domain's", key(&foreign, ""), "something else"),
    ];
    for (name, key, part) in keys {
        let error = load(&set(&[ignored.clone(), good.clone(), key])).expect_err(name);
        let TrustError::UnusableRoot { number, why, .. } = error else { panic!("{name}: {error}") };
        assert_eq!(number, 2, "{name}");
        assert!(why.contains(part), "{name}: {why}");
    }
    for (name, text) in [
        ("not JSON", "{".to_owned()),
        ("no keys", "{}".to_owned()),
        ("keys twice", format!("{{\"keys\": [], \"keys\": [{good}]}}")),
        ("a member twice", set(&[good.replace("\"kty\"", "\"use\": \"x509-svid\", \"kty\"")])),
        ("a sequence that is no number", "{\"keys\": [], \"spiffe_sequence\": \"7\"}".to_owned()),
        ("something behind it", format!("{}x", set(&[]))),
    ] {
        let error = load(&text).expect_err(name);
        assert!(matches!(error, TrustError::UnreadableJwks { .. }), "{name}: {error}");
        assert_eq!(error.code(), "bundle_unusable", "{name}");
    }
}
