use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use access::{DenyList, TrustBundles};

use super::*;

/// Keys are made once for all tests.
static MINT: LazyLock<Mint> = LazyLock::new(|| Mint::new(now()).expect("keys can be made"));

fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_363_445)
}

fn bundles() -> TrustBundles {
    let bundles = MINT.bundles();
    let crls = bundles.iter().filter_map(|bundle| Some((bundle.domain.clone(), bundle.crls.as_deref()?.as_bytes())));
    TrustBundles::new(bundles.iter().map(|bundle| (bundle.domain.clone(), bundle.pem.as_bytes())))
        .and_then(|trusted| trusted.with_crls(crls))
        .expect("usable")
        .with_deny_list(DenyList::parse(&MINT.deny_list()).expect("well-formed"))
}

/// What the verifier says: a SPIFFE ID or a code.
fn judge(case: &Case, bundles: &TrustBundles) -> std::result::Result<String, &'static str> {
    let vector = MINT.mint(case, now()).expect("minted");
    let chain: Vec<&[u8]> = vector.chain.iter().map(Vec::as_slice).collect();
    access::verify(&chain, bundles, &case.profile().rules(), vector.at, case.purpose())
        .map(|svid| svid.id().to_string())
        .map_err(|rejection| rejection.code.as_str())
}

#[test]
fn each_vector_is_judged_exactly_as_it_says() {
    let bundles = bundles();
    let mut wrong = Vec::new();
    for case in refused().iter().chain(&accepted()) {
        let expected = match case.expected() {
            Expected::Accept(id) => Ok(id.clone()),
            Expected::Reject(codes) => Err(codes[0].as_str()),
        };
        let found = judge(case, &bundles);
        if found != expected {
            wrong.push(format!("{}: expected {expected:?}, found {found:?}", case.id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_pair_is_refused_by_the_code_of_one_of_its_two() {
    let bundles = bundles();
    let pairs = pairs();
    assert!(pairs.len() > 1000, "{}", pairs.len());
    let mut wrong = Vec::new();
    for case in &pairs {
        let Expected::Reject(codes) = case.expected() else { panic!("{}: a pair is refused", case.id()) };
        let found = judge(case, &bundles);
        if !codes.iter().any(|code| found == Err(code.as_str())) {
            wrong.push(format!("{}: found {found:?}", case.id()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}

#[test]
fn each_rule_about_certificates_has_a_vector() {
    let rules: BTreeSet<_> = refused().iter().chain(&accepted()).flat_map(|case| case.rules().to_vec()).collect();
    let missing: Vec<_> =
        (1..=32).map(|number| format!("V-{number}")).filter(|rule| !rules.contains(rule.as_str())).collect();
    // V-17 is about configuration. V-33 is about sessions and V-34 about what comes after: the page says what tests them.
    assert_eq!(missing, ["V-17"]);
}

#[test]
fn each_code_is_the_right_answer_to_a_vector() {
    let first = |case: Case| match case.expected {
        Expected::Reject(codes) => codes[0].as_str(),
        Expected::Accept(_) => "",
    };
    let given: BTreeSet<_> = refused().into_iter().map(first).collect();
    let missing: Vec<_> =
        RejectionCode::ALL.iter().map(|code| code.as_str()).filter(|code| !given.contains(code)).collect();
    // About a handshake and about whom one calls, not about a certificate.
    assert_eq!(missing, ["handshake", "unexpected_id"]);
}

#[test]
fn ids_are_unique_and_fit_for_file_names() {
    let mut seen = BTreeMap::new();
    for case in refused().into_iter().chain(accepted()).chain(pairs()) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'/');
        assert!(case.id().bytes().all(legal), "{}", case.id());
        assert!(case.id().matches('/').count() == 1, "{}", case.id());
        let before = seen.insert(case.id().to_owned(), case.what().to_owned());
        assert_eq!(before, None, "{}", case.id());
    }
}
