use rcgen::{IsCa, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512};

use crate::testing::{CT1, Ca, domain, uri};
use crate::{Identity, RejectionCode, TrustBundles, TrustError, authority_domain};

fn load(pems: &[&str]) -> Result<TrustBundles, TrustError> {
    TrustBundles::new(pems.iter().map(|pem| (domain(), pem.as_bytes())))
}

fn why(error: &TrustError) -> &'static str {
    match error {
        TrustError::UnusableRoot { why, .. } => why,
        _ => "",
    }
}

#[test]
fn a_bundle_may_have_several_roots() {
    let (one, two) = (Ca::root(), Ca::root());
    let bundles = load(&[&format!("{}{}", one.pem, two.pem)]).expect("usable");
    assert_eq!(bundles.domains().collect::<Vec<_>>(), [&domain()]);
    assert_eq!(bundles.roots(&domain()).expect("there").len(), 2);
}

#[test]
fn one_unusable_entry_refuses_the_whole_set() {
    let good = Ca::root().pem;
    let twice = load(&[&good, &good]).expect_err("V-17");
    assert_eq!((twice.code(), twice), ("bundle_dup", TrustError::DuplicateDomain(domain())));
    assert_eq!(load(&[""]).expect_err("V-16"), TrustError::NoRoot(domain()));
    assert_eq!(load(&["rubbish"]).expect_err("V-16"), TrustError::NoRoot(domain()));
    let broken = good.replace("-----END CERTIFICATE-----", "");
    assert_eq!(load(&[&broken]).expect_err("cut off"), TrustError::UnreadableBundle(domain()));

    let no_ca = Ca::root_with(|params| params.is_ca = IsCa::ExplicitNoCa).pem;
    let no_signer = Ca::root_with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]).pem;
    let other = Ca::root_with(|params| params.subject_alt_names = vec![uri("spiffe://hosp-b.example")]).pem;
    let weak = Ca::root_of(&PKCS_ECDSA_P521_SHA512).pem;
    for (name, pem, part) in [
        ("V-31", weak, "P-384"),
        ("a leaf", no_ca, "not a certificate authority"),
        ("no keyCertSign", no_signer, "key usage"),
        ("another domain's", other, "something else"),
    ] {
        let error = load(&[&format!("{good}{pem}")]).expect_err(name);
        assert!(why(&error).contains(part), "{name}: {error}");
        assert!(matches!(error, TrustError::UnusableRoot { number: 2, .. }), "{name}");
    }
}

#[test]
fn an_authority_names_its_trust_domain_if_it_names_exactly_one() {
    let named = |ids: &[&str]| {
        let ca = Ca::root_with(|params| params.subject_alt_names = ids.iter().map(|id| uri(id)).collect());
        authority_domain(ca.pem.as_bytes())
    };
    assert_eq!(named(&["spiffe://hosp-a.example"]), Some(domain()));
    for (name, ids) in [
        ("none", &[][..]),
        ("two", &["spiffe://hosp-a.example", "spiffe://hosp-b.example"]),
        ("a workload", &[CT1]),
        ("another scheme", &["https://hosp-a.example"]),
    ] {
        assert_eq!(named(ids), None, "{name}");
    }
    assert_eq!(authority_domain(b"rubbish"), None);
}

#[test]
fn an_identity_is_a_chain_with_its_own_key() {
    let ca = Ca::root().intermediate(|_| ());
    let (leaf, other) = (ca.leaf(CT1), ca.leaf(CT1));
    let read = |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes());
    let key = leaf.key.serialize_pem();
    let identity = read(&leaf.chain_pem(), &key).expect("usable");
    assert_eq!(identity.id().as_str(), CT1);
    assert!(!format!("{identity:?}").contains("key"));

    let ca_leaf = ca.leaf_with("https://hosp-a.example/x", |_| ());
    let cases = [
        ("another's key", read(&leaf.chain_pem(), &other.key.serialize_pem()), TrustError::KeyMismatch),
        ("no key", read(&leaf.chain_pem(), ""), TrustError::UnreadableKey),
        ("no chain", read("", &key), TrustError::UnreadableChain),
        ("no SPIFFE ID", read(&ca_leaf.chain_pem(), &key), TrustError::NotAnSvid(RejectionCode::IdScheme)),
    ];
    for (name, result, expected) in cases {
        assert_eq!(result.expect_err(name), expected, "{name}");
        assert_eq!(expected.code(), "identity_unusable", "{name}");
    }
}

#[test]
fn an_identity_may_come_in_der() {
    let leaf = Ca::root().intermediate(|_| ()).leaf(CT1);
    let identity = Identity::from_der(leaf.chain.clone(), leaf.key.serialize_der()).expect("usable");
    assert_eq!((identity.id().as_str(), identity.not_after()), (CT1, leaf.identity().not_after()));
    let other = Ca::root().leaf(CT1);
    let cases = [
        ("another's key", Identity::from_der(leaf.chain.clone(), other.key.serialize_der()), TrustError::KeyMismatch),
        ("no key", Identity::from_der(leaf.chain.clone(), Vec::new()), TrustError::UnreadableKey),
        ("no chain", Identity::from_der(Vec::new(), leaf.key.serialize_der()), TrustError::UnreadableChain),
    ];
    for (name, result, expected) in cases {
        assert_eq!(result.expect_err(name), expected, "{name}");
    }
}
