use model::{SpiffeId, Timestamp, TrustDomain};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    SanType, SignatureAlgorithm,
};

use crate::RejectionCode::{self, *};
use crate::testing::{CT1, Ca, DOMAIN, Leaf, der, domain, extension, now, seconds, uri, valid};
use crate::{Outcome, Purpose, Rejection, Rules, Strictness, Svid, TrustBundles, explain, verify};

const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const CRL_POINTS: &[u64] = &[2, 5, 29, 31];
const OF_NOBODY: &[u64] = &[1, 3, 6, 1, 4, 1, 55555, 1];
const OF_NOBODY_ELSE: &[u64] = &[1, 3, 6, 1, 4, 1, 55555, 2];

fn strict() -> Rules {
    Rules { strictness: Strictness::Strict, ..Rules::default() }
}

fn judge(ca: &Ca, leaf: &Leaf, rules: &Rules) -> Result<Svid, Rejection> {
    verify(&leaf.chain(), &ca.bundle(), rules, now(), Purpose::Client)
}

fn code(result: Result<Svid, Rejection>) -> Option<RejectionCode> {
    result.err().map(|rejection| rejection.code)
}

#[test]
fn a_valid_svid_is_accepted_with_every_allowed_kind_of_key() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ()).intermediate(|_| ());
    for (name, algorithm, key) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
        ("P-384", &PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
        ("Ed25519", &PKCS_ED25519, "Ed25519"),
        ("RSA", &PKCS_RSA_SHA256, "RSA 2048"),
    ] {
        for (path, ca) in [("under the root", &root), ("under two intermediates", &issuing)] {
            let leaf = ca.leaf_of(CT1, algorithm, |_| ());
            for rules in [Rules::default(), strict()] {
                let svid = judge(&root, &leaf, &rules).unwrap_or_else(|error| panic!("{name} {path}: {error}"));
                assert_eq!((svid.id().as_str(), svid.key()), (CT1, key), "{name} {path}");
                assert_eq!(svid.leaf_digest(), model::Digest::of(&leaf.chain[0]));
                assert!(!svid.serial().is_empty() && svid.serial().bytes().all(|digit| digit.is_ascii_hexdigit()));
            }
        }
    }
}

/// Rules that a single certificate breaks: what is wrong with it, the code by the baseline rules, the code by the strict ones.
type Flaw = (&'static str, fn(&mut CertificateParams), Option<RejectionCode>, Option<RejectionCode>);

fn both(name: &'static str, flaw: fn(&mut CertificateParams), code: RejectionCode) -> Flaw {
    (name, flaw, Some(code), Some(code))
}

fn ids(params: &mut CertificateParams, ids: &[&str]) {
    params.subject_alt_names = ids.iter().map(|id| uri(id)).collect();
}

#[test]
fn each_rule_about_the_leaf_refuses_by_its_own_code() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign};
    let flaws: &[Flaw] = &[
        both(
            "V-3 unknown critical extension",
            |p| p.custom_extensions = vec![extension(OF_NOBODY, &[5, 0], true)],
            LeafMalformed,
        ),
        both(
            "V-3 two unknown critical extensions",
            |p| p.custom_extensions = [OF_NOBODY, OF_NOBODY_ELSE].map(|oid| extension(oid, &[5, 0], true)).into(),
            LeafMalformed,
        ),
        both(
            "V-3 a critical extension that webpki knows, and is for authorities",
            |p| p.custom_extensions = vec![extension(NAME_CONSTRAINTS, &permitted(), true)],
            LeafMalformed,
        ),
        both(
            "V-3 two of them",
            |p| {
                p.custom_extensions =
                    vec![extension(NAME_CONSTRAINTS, &permitted(), true), extension(CRL_POINTS, &[0x30, 0], true)];
            },
            LeafMalformed,
        ),
        both(
            "V-3 duplicate extension",
            |p| p.custom_extensions = vec![extension(OF_NOBODY, &[5, 0], false), extension(OF_NOBODY, &[5, 0], false)],
            LeafMalformed,
        ),
        both(
            "V-3 key usage twice",
            |p| p.custom_extensions = vec![extension(KEY_USAGE, &[3, 2, 7, 0x80], true)],
            LeafMalformed,
        ),
        both(
            "V-3 bytes behind an extension's value",
            |p| {
                p.is_ca = IsCa::NoCa;
                p.custom_extensions = vec![extension(BASIC_CONSTRAINTS, &[0x30, 0, 0], true)];
            },
            LeafMalformed,
        ),
        both("V-4 none", |p| ids(p, &[]), UriSanCount),
        both("V-4 a DNS name is no identity", |p| dns(p, "ct1.hosp-a.example"), UriSanCount),
        both("V-4 two SPIFFE IDs", |p| ids(p, &[CT1, "spiffe://hosp-a.example/b"]), UriSanCount),
        both("V-4 the same twice", |p| ids(p, &[CT1, CT1]), UriSanCount),
        both("V-4 one and an https URI", |p| ids(p, &[CT1, "https://hosp-a.example/"]), UriSanCount),
        both("V-4 an empty one before it", |p| ids(p, &["", CT1]), UriSanCount),
        both("V-5", |p| ids(p, &[&format!("spiffe://hosp-a.example/{}", "x".repeat(2048))]), IdTooLong),
        both("V-6", |p| ids(p, &["https://hosp-a.example/ingest/ct1"]), IdScheme),
        both("V-7", |p| ids(p, &["spiffe://hosp-a.example/ct1?x"]), IdSyntax),
        both("V-8", |p| ids(p, &["spiffe://hosp-a.example:1/ct1"]), IdSyntax),
        both("V-9", |p| ids(p, &["spiffe://Hosp-a.example/ct1"]), TdSyntax),
        both("V-10", |p| ids(p, &["spiffe://hosp-a.example"]), IdNoPath),
        both("V-11", |p| ids(p, &["spiffe://hosp-a.example/a/../b"]), PathSyntax),
        both("V-14", |p| ids(p, &["spiffe://hosp-b.example/ct1"]), TdUnknown),
        both("V-19 authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), LeafIsCa),
        ("V-19 absent", |p| p.is_ca = IsCa::NoCa, None, Some(BcMissing)),
        both("V-20 absent", |p| p.key_usages.clear(), KuMissing),
        both(
            "V-20 not critical",
            |p| {
                p.key_usages.clear();
                p.custom_extensions = vec![extension(KEY_USAGE, &[3, 2, 7, 0x80], false)];
            },
            KuNotCritical,
        ),
        both("V-21", |p| p.key_usages = vec![KeyAgreement], KuNoDs),
        both("V-22 keyCertSign", |p| p.key_usages = vec![DigitalSignature, KeyCertSign], KuSigning),
        both("V-22 cRLSign", |p| p.key_usages = vec![DigitalSignature, CrlSign], KuSigning),
        both("V-23 serverAuth only", |p| p.extended_key_usages = vec![ServerAuth], Eku),
        ("V-23 clientAuth only", |p| p.extended_key_usages = vec![ClientAuth], None, Some(Eku)),
        ("V-23 absent", |p| p.extended_key_usages.clear(), None, Some(Eku)),
        both("V-28 expired", |p| valid(p, -3600, -1), Expired),
        both("V-28 not yet", |p| valid(p, 90, 3600), NotYet),
        ("V-28 within the skew", |p| valid(p, 30, 3600), None, None),
        ("V-29 a day and a minute", |p| valid(p, -60, 24 * 3600), None, None),
        both("V-29", |p| valid(p, -60, 24 * 3600 + 1), Lifetime),
        both("V-30", |p| valid(p, -3600, 20), Expiring),
    ];
    let ca = Ca::root();
    for (name, flaw, baseline, strictly) in flaws {
        let leaf = ca.leaf_with(CT1, flaw);
        assert_eq!(code(judge(&ca, &leaf, &Rules::default())), *baseline, "{name}");
        assert_eq!(code(judge(&ca, &leaf, &strict())), *strictly, "{name}, strict");
        assert!(strictly.is_none_or(|code| code == TdUnknown || is_told_alone(&leaf, code)), "{name}, explained");
    }
}

/// Whether `explain` tells the rule of this code by the leaf and what came with it: no bundle, so no path to a root that
/// could show it as well.
fn is_told_alone(leaf: &Leaf, code: RejectionCode) -> bool {
    let findings = explain(&leaf.chain(), None, &strict(), now(), Purpose::Client);
    findings
        .iter()
        .any(|finding| finding.rule == code.rule() && finding.outcome == Outcome::Broken(code.sentence().into()))
}

/// A name constraint that permits what is called `x` (RFC 5280 §4.2.1.10).
fn permitted() -> Vec<u8> {
    der(0x30, &der(0xA0, &der(0x30, &der(0x82, b"x"))))
}

fn dns(params: &mut CertificateParams, name: &str) {
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))];
}

#[test]
fn each_rule_about_an_issuer_refuses_by_its_own_code() {
    let uri_constraint = |params: &mut CertificateParams| {
        let subtrees = der(0xA0, &der(0x30, &der(0x86, DOMAIN.as_bytes())));
        params.custom_extensions = vec![extension(NAME_CONSTRAINTS, &der(0x30, &subtrees), true)];
    };
    let dns_constraint = |params: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    };
    let flaws: Vec<Flaw> = vec![
        both("V-24 no authority", |p| p.is_ca = IsCa::ExplicitNoCa, IssuerKu),
        both("V-24 no keyCertSign", |p| p.key_usages = vec![KeyUsagePurpose::CrlSign], IssuerKu),
        ("V-24 no key usage", |p| p.key_usages.clear(), None, Some(IssuerKu)),
        both("V-25 with a path", |p| ids(p, &["spiffe://hosp-a.example/ca"]), IssuerId),
        both("V-25 of another domain", |p| ids(p, &["spiffe://hosp-b.example"]), IssuerId),
        both("V-25 two, one of them another's", |p| ids(p, &[CT1, "spiffe://hosp-a.example"]), IssuerId),
        ("V-25 none", |p| ids(p, &[]), None, None),
        both("V-27 URI constraint", uri_constraint, NameConstraint),
        both("V-27 DNS constraint", dns_constraint, NameConstraint),
        both("V-18 expired", |p| valid(p, -7200, -3600), ChainExpired),
        both(
            "V-18 unknown critical",
            |p| p.custom_extensions = vec![extension(OF_NOBODY, &[5, 0], true)],
            ChainInvalid,
        ),
    ];
    let root = Ca::root();
    for (name, flaw, baseline, strictly) in flaws {
        let leaf = root.intermediate(flaw).leaf_with(CT1, |params| {
            params.subject_alt_names.push(SanType::DnsName("ct1.hosp-a.example".try_into().expect("ASCII")));
        });
        assert_eq!(code(judge(&root, &leaf, &Rules::default())), baseline, "{name}");
        assert_eq!(code(judge(&root, &leaf, &strict())), strictly, "{name}, strict");
    }
}

#[test]
fn a_path_longer_than_an_issuer_allows_is_refused() {
    let root = Ca::root();
    let last = root.intermediate(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(code(judge(&root, &last.leaf(CT1), &Rules::default())), None);
    let beyond = last.intermediate(|_| ()).leaf(CT1);
    assert_eq!(code(judge(&root, &beyond, &Rules::default())), Some(ChainInvalid));
}

#[test]
fn what_is_not_one_strict_certificate_is_refused() {
    let ca = Ca::root();
    let good = ca.leaf(CT1);
    let bundle = ca.bundle();
    let judge = |chain: &[&[u8]]| code(verify(chain, &bundle, &Rules::default(), now(), Purpose::Client));
    let trailing = [good.chain[0].as_slice(), &[0]].concat();
    let large = [0; 64 * 1024];
    let leaf = good.chain[0].as_slice();
    let cases = [
        ("good", vec![leaf], None),
        ("V-1 none", vec![], Some(NoClientCert)),
        ("V-2 eight", vec![leaf; 8], Some(IssuerKu)),
        ("V-2 nine", vec![leaf; 9], Some(ChainTooLarge)),
        ("V-2 as many bytes as may be", vec![leaf, &large[leaf.len()..]], Some(ChainInvalid)),
        ("V-2 one byte more", vec![leaf, &large[leaf.len() - 1..]], Some(ChainTooLarge)),
        ("V-3 trailing byte", vec![&trailing], Some(LeafMalformed)),
        ("V-3 cut off", vec![&leaf[..leaf.len() - 1]], Some(LeafMalformed)),
        ("V-3 empty", vec![&[]], Some(LeafMalformed)),
        ("V-18 an issuer that is none", vec![leaf, b"x"], Some(ChainInvalid)),
    ];
    for (name, chain, expected) in cases {
        assert_eq!(judge(&chain), expected, "{name}");
    }
}

/// The parser that reads the names does not mind; the one that checks the signature does, and both must agree.
#[test]
fn a_certificate_that_names_two_signature_algorithms_is_malformed() {
    const ECDSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
    let ca = Ca::root();
    let mut leaf = ca.leaf(CT1);
    let outer = leaf.chain[0].windows(8).rposition(|bytes| bytes == ECDSA_SHA256).expect("there");
    leaf.chain[0][outer + 7] = 0x03;
    let findings = explain(&leaf.chain(), None, &strict(), now(), Purpose::Client);
    let broken = findings.iter().find(|finding| finding.rule == "V-3").map(|finding| &finding.outcome);
    assert!(matches!(broken, Some(Outcome::Broken(_))), "{broken:?}");
}

#[test]
fn only_the_bundle_of_the_claimed_trust_domain_counts() {
    let named = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "Same Name");
    let (ours, theirs) = (
        Ca::root_with(named),
        Ca::root_with(|params| {
            named(params);
            ids(params, &["spiffe://hosp-b.example"]);
        }),
    );
    let stranger = Ca::root();
    let other = TrustDomain::parse("hosp-b.example").expect("valid");
    let bundles = TrustBundles::new([(domain(), ours.pem.as_bytes()), (other, theirs.pem.as_bytes())]).expect("usable");
    let judge = |leaf: &Leaf| code(verify(&leaf.chain(), &bundles, &Rules::default(), now(), Purpose::Client));
    let of_b = "spiffe://hosp-b.example/ct1";
    assert_eq!(judge(&ours.leaf(CT1)), None);
    assert_eq!(judge(&theirs.leaf(of_b)), None);
    assert_eq!(judge(&theirs.leaf(CT1)), Some(ChainUntrusted), "V-15: a trusted root, but not of this domain");
    assert_eq!(judge(&ours.leaf(of_b)), Some(ChainUntrusted), "V-15: and the other way round");
    assert_eq!(judge(&stranger.leaf(CT1)), Some(ChainUntrusted));
}

/// What the rules about single certificates refuse first, building the path would refuse too, for the same reason.
#[test]
fn path_building_gives_the_reason_of_the_rule_that_it_stands_behind() {
    let root = Ca::root();
    let leaf = |flaw: fn(&mut CertificateParams)| root.leaf_with(CT1, flaw);
    let under = |flaw: fn(&mut CertificateParams)| root.intermediate(flaw).leaf(CT1);
    let bundle = root.bundle();
    for (name, leaf, code) in [
        ("V-19", leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), LeafIsCa),
        ("V-23", leaf(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), Eku),
        ("V-24", under(|p| p.is_ca = IsCa::ExplicitNoCa), IssuerKu),
        ("V-28", leaf(|p| valid(p, -3600, -1)), ChainExpired),
        ("V-31", root.intermediate_of(&PKCS_ECDSA_P521_SHA512).leaf(CT1), WeakKey),
    ] {
        let findings = explain(&leaf.chain(), Some(&bundle), &Rules::default(), now(), Purpose::Client);
        let path = findings.into_iter().find(|finding| finding.rule == "V-18").expect("asked");
        assert_eq!(path.outcome, Outcome::Broken(code.sentence().into()), "{name}");
    }
}

#[test]
fn a_root_vouches_from_its_first_moment_to_its_last() {
    let instant = std::time::Duration::from_millis(1);
    let bundles = Ca::root_with(|params| valid(params, -600, 600)).bundle();
    let root = &bundles.roots(&domain()).expect("there")[0];
    let (begin, end) = (root.not_before, root.not_after);
    assert_eq!(end.since(begin), seconds(1200));
    for (name, at, valid) in [
        ("earlier than the skew", begin.minus(seconds(60)).minus(instant), false),
        ("within the skew", begin.minus(seconds(60)), true),
        ("its end", end, true),
        ("later", end.plus(instant), false),
    ] {
        assert_eq!(root.is_valid(at, seconds(60)), valid, "{name}");
    }
}

#[test]
fn a_bundle_whose_roots_have_expired_vouches_for_nobody() {
    let ca = Ca::root_with(|params| valid(params, -7200, -3600));
    assert_eq!(code(judge(&ca, &ca.leaf(CT1), &Rules::default())), Some(TdNoKeys));
}

#[test]
fn weak_keys_are_refused() {
    let ca = Ca::root();
    let leaf = ca.leaf_of(CT1, &PKCS_ECDSA_P521_SHA512, |_| ());
    assert_eq!(code(judge(&ca, &leaf, &Rules::default())), Some(WeakKey));
    assert!(is_told_alone(&leaf, WeakKey));
    for (bits, expected) in [(1024, Some(WeakKey)), (2047, Some(WeakKey)), (2048, None), (8200, Some(WeakKey))] {
        let chain = ca.chain_for(&Rsa::of(bits));
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let judged = verify(&chain, &ca.bundle(), &Rules::default(), now(), Purpose::Client);
        assert_eq!(code(judged), expected, "RSA {bits}");
    }
}

/// An RSA public key of which nobody has the private one: generators refuse short keys.
struct Rsa(Vec<u8>);

impl Rsa {
    fn of(bits: usize) -> Self {
        let mut modulus = vec![0xA5; bits.div_ceil(8)];
        modulus[0] = 0xFF >> (modulus.len() * 8 - bits);
        let number = |bytes: &[u8]| [&[0x02, 0x82], &length(bytes.len())[..], bytes].concat();
        let body = [number(&[&[0], modulus.as_slice()].concat()), vec![0x02, 3, 1, 0, 1]].concat();
        // The sign byte only where the first bit is set: DER has no needless one.
        let body = if modulus[0] < 0x80 { [number(&modulus), vec![0x02, 3, 1, 0, 1]].concat() } else { body };
        Self([&[0x30, 0x82], &length(body.len())[..], &body].concat())
    }
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("short").to_be_bytes()
}

impl PublicKeyData for Rsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

#[test]
fn a_weak_issuer_spoils_the_chain() {
    let ca = Ca::root();
    let weak = ca.intermediate_of(&PKCS_ECDSA_P521_SHA512).leaf(CT1);
    assert_eq!(code(judge(&ca, &weak, &Rules::default())), Some(WeakKey));
    assert!(is_told_alone(&weak, WeakKey));
    let mut unneeded = ca.leaf(CT1);
    unneeded.chain.push(weak.chain[1].clone());
    assert_eq!(code(judge(&ca, &unneeded, &Rules::default())), Some(WeakKey), "on no path to a root");
}

/// V-12: no normalisation anywhere.
#[test]
fn identities_that_differ_in_case_only_are_two() {
    let ca = Ca::root();
    let id = |text: &str| judge(&ca, &ca.leaf(text), &Rules::default()).expect("valid").id().clone();
    let (lower, upper) = (id(CT1), id("spiffe://hosp-a.example/ingest/CT1"));
    assert_ne!(lower, upper);
    assert_eq!(upper.as_str(), "spiffe://hosp-a.example/ingest/CT1");
}

/// V-13: the other names are there and say nothing.
#[test]
fn an_identity_is_the_uri_name_whatever_else_a_certificate_is_called() {
    let ca = Ca::root();
    let leaf = ca.leaf_with(CT1, |params| {
        params.distinguished_name.push(DnType::CommonName, "spiffe://hosp-a.example/admin");
        params.subject_alt_names.insert(0, SanType::DnsName("hosp-b.example".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::Rfc822Name("root@hosp-a.example".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
    });
    assert_eq!(judge(&ca, &leaf, &strict()).expect("valid").id().as_str(), CT1);
}

/// V-27: a constraint that cannot be checked refuses, whatever it says and whoever makes it.
#[test]
fn a_uri_name_constraint_fails_closed() {
    let constraint = |side: u8, name: &'static str| {
        move |params: &mut CertificateParams| {
            let subtrees = der(side, &der(0x30, &der(0x86, name.as_bytes())));
            params.custom_extensions = vec![extension(NAME_CONSTRAINTS, &der(0x30, &subtrees), true)];
        }
    };
    for (name, side, host) in [
        ("permitted, and it is", 0xA0, DOMAIN),
        ("permitted, and it is not", 0xA0, "hosp-b.example"),
        ("permitted below", 0xA0, ".example"),
        ("excluded, and it is", 0xA1, DOMAIN),
        ("excluded, and it is not", 0xA1, "hosp-b.example"),
    ] {
        let root = Ca::root_with(constraint(side, host));
        assert_eq!(code(judge(&root, &root.leaf(CT1), &Rules::default())), Some(NameConstraint), "{name}, by the root");
        let root = Ca::root();
        let leaf = root.intermediate(constraint(side, host)).leaf(CT1);
        assert_eq!(code(judge(&root, &leaf, &Rules::default())), Some(NameConstraint), "{name}");
    }
}

/// V-2: issuers of one name that all could have signed each other. Without a budget webpki would try every order.
#[test]
fn a_maze_of_issuers_is_left_early() {
    let named = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "Same Name");
    let (root, stranger) = (Ca::root_with(named), Ca::root_with(named));
    let mut leaf = stranger.intermediate(named).leaf(CT1);
    leaf.chain.truncate(1);
    leaf.chain.extend((0..7).map(|_| stranger.intermediate(named).leaf(CT1).chain[1].clone()));
    let refused = code(judge(&root, &leaf, &Rules::default()));
    assert!(matches!(refused, Some(ChainUntrusted | ChainInvalid)), "{refused:?}");
}

#[test]
fn an_svid_may_serve_one_side_only() {
    let ca = Ca::root();
    let leaf = ca.leaf_with(CT1, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let as_server = verify(&leaf.chain(), &ca.bundle(), &Rules::default(), now(), Purpose::Server);
    assert_eq!(code(as_server), None);
    assert_eq!(code(judge(&ca, &leaf, &Rules::default())), Some(Eku));
}

#[test]
fn validity_ends_with_the_last_second_of_not_after() {
    let ca = Ca::root();
    let leaf = ca.leaf(CT1);
    let rules = Rules { min_remaining: seconds(0), ..Rules::default() };
    let judge = |at| verify(&leaf.chain(), &ca.bundle(), &rules, at, Purpose::Client);
    let end = judge(now()).expect("valid").not_after();
    assert_eq!(code(judge(end)), None);
    assert_eq!(code(judge(end.plus(seconds(1)))), Some(Expired));
    assert_eq!(code(judge(now().minus(seconds(3600)))), Some(NotYet));
}

/// V-28, V-29, V-30: what a rule allows at most, it allows.
#[test]
fn the_measures_of_the_rules_include_their_bounds() {
    let ca = Ca::root();
    let leaf = ca.leaf(CT1);
    let rules = Rules::default();
    let judge = |rules: &Rules, at| verify(&leaf.chain(), &ca.bundle(), rules, at, Purpose::Client);
    let svid = judge(&rules, now()).expect("valid");
    let (begin, end, instant) = (svid.not_before(), svid.not_after(), std::time::Duration::from_millis(1));
    let earliest = begin.minus(rules.not_before_skew);
    assert_eq!(code(judge(&rules, earliest)), None);
    assert_eq!(code(judge(&rules, earliest.minus(instant))), Some(NotYet));
    let last = end.minus(rules.min_remaining);
    assert_eq!(code(judge(&rules, last)), None);
    assert_eq!(code(judge(&rules, last.plus(instant))), Some(Expiring));
    let lifetime = end.since(begin);
    let of_at_most = |max_svid_lifetime| Rules { max_svid_lifetime, ..rules };
    assert_eq!(code(judge(&of_at_most(lifetime), now())), None);
    assert_eq!(code(judge(&of_at_most(lifetime - instant), now())), Some(Lifetime));
}

#[test]
fn a_rejection_says_who_was_claimed_and_which_rule_was_broken() {
    let ca = Ca::root();
    let leaf = ca.leaf_with(CT1, |params| valid(params, -3600, -1));
    let rejection = judge(&ca, &leaf, &Rules::default()).expect_err("expired");
    assert_eq!(rejection.claimed, Some(SpiffeId::parse(CT1).expect("valid")));
    assert_eq!(rejection.leaf, Some(model::Digest::of(&leaf.chain[0])));
    assert!(rejection.serial.is_some() && rejection.not_after.is_some());
    let sentence = rejection.to_string();
    assert!(sentence.contains(CT1) && sentence.contains("V-28") && sentence.contains("expired"), "{sentence}");

    let hostile = ca.leaf_with("https://evil.example/<b>", |_| ());
    let sentence = judge(&ca, &hostile, &Rules::default()).expect_err("no SPIFFE ID").to_string();
    assert!(!sentence.contains("evil"), "{sentence}");
}

#[test]
fn every_code_has_its_own_name_and_a_rule() {
    let names: std::collections::BTreeSet<_> = RejectionCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), RejectionCode::ALL.len());
    assert!(RejectionCode::ALL.iter().all(|code| code.rule().starts_with("V-")));
}

#[test]
fn explain_tells_every_broken_rule_and_not_only_the_first() {
    let ca = Ca::root();
    let leaf = ca.leaf_with(CT1, |params| {
        params.key_usages.clear();
        valid(params, -48 * 3600, -1);
    });
    let bundle = ca.bundle();
    let findings = explain(&leaf.chain(), Some(&bundle), &Rules::default(), now(), Purpose::Client);
    let broken: Vec<_> = findings.iter().filter(|f| matches!(f.outcome, Outcome::Broken(_))).map(|f| f.rule).collect();
    // V-18 sees the expiry as well; V-30 follows from V-28.
    assert_eq!(broken, ["V-18", "V-20", "V-21", "V-28", "V-29", "V-30"]);

    let good = ca.leaf(CT1);
    let findings = explain(&good.chain(), Some(&bundle), &strict(), now(), Purpose::Client);
    let unasked: Vec<_> = findings.iter().filter(|f| f.outcome != Outcome::Holds).map(|f| f.rule).collect();
    assert_eq!(unasked, ["V-32"], "revocation is not configured: {findings:?}");
    assert!(findings.is_sorted_by_key(|f| f.rule[2..].parse::<u32>().expect("a number")));
    let findings = explain(&good.chain(), None, &strict(), now(), Purpose::Client);
    let unasked: Vec<_> =
        findings.iter().filter(|f| matches!(f.outcome, Outcome::NotJudged(_))).map(|f| f.rule).collect();
    assert_eq!(unasked, ["V-14", "V-15", "V-16", "V-18", "V-27", "V-32"]);
    assert_eq!(explain(&[], None, &strict(), now(), Purpose::Client).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// V-4, whatever the second name looks like and wherever it stands.
    #[test]
    fn adding_any_uri_name_to_a_valid_certificate_refuses_it(other in "[ -~]{0,60}", first: bool, dns: bool) {
        let ca = Ca::root();
        let leaf = ca.leaf_with(CT1, |params| {
            params.subject_alt_names.insert(usize::from(!first), uri(&other));
            if dns {
                params.subject_alt_names.insert(1, SanType::DnsName("x.example".try_into().expect("ASCII")));
            }
        });
        prop_assert_eq!(code(judge(&ca, &leaf, &Rules::default())), Some(UriSanCount));
    }

    #[test]
    fn changing_any_bit_of_a_valid_certificate_refuses_it(at: prop::sample::Index, bit in 0_u8..8) {
        let ca = Ca::root();
        let mut leaf = ca.leaf(CT1);
        let at = at.index(leaf.chain[0].len());
        leaf.chain[0][at] ^= 1 << bit;
        prop_assert!(judge(&ca, &leaf, &Rules::default()).is_err());
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let bundle = TrustBundles::new([]).expect("empty");
        prop_assert!(verify(&chain, &bundle, &Rules::default(), Timestamp::from_seconds(0), Purpose::Client).is_err());
        let findings = explain(&chain, Some(&bundle), &Rules::default(), Timestamp::from_seconds(0), Purpose::Client);
        prop_assert!(findings.iter().any(|finding| finding.outcome != Outcome::Holds));
    }
}
