//! V-32, and CV-7: what is revoked, and what is not known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::TrustDomain;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    DnType, KeyIdMethod,
};
use rustls::version::TLS13;

use crate::RejectionCode::{self, ChainUntrusted, Expired, RevocationUnknown, Revoked};
use crate::testing::{CT1, Ca, GATEWAY, Leaf, domain, now, seconds, shake, uri};
use crate::{
    DenyList, Outcome, Purpose, Rejection, Rules, Strictness, Trust, TrustBundles, TrustError, VerifiedPeer, explain,
    verify,
};

const RULE_SETS: [Strictness; 2] = [Strictness::Compatible, Strictness::Strict];

fn rules(strictness: Strictness) -> Rules {
    Rules { strictness, ..Rules::default() }
}

fn with(ca: &Ca, crls: &[Vec<u8>]) -> TrustBundles {
    ca.bundle().with_crls(crls.iter().map(|crl| (domain(), crl.as_slice()))).expect("usable")
}

/// What the compatible and the strict rules say.
fn judge(leaf: &Leaf, bundles: &TrustBundles) -> [Option<RejectionCode>; 2] {
    RULE_SETS.map(|strictness| {
        verify(&leaf.chain(), bundles, &rules(strictness), now(), Purpose::Client).err().map(|refused| refused.code)
    })
}

fn pem(crl: &[u8]) -> String {
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", STANDARD.encode(crl))
}

#[test]
fn what_a_list_of_its_issuer_has_is_refused_wherever_it_stands_in_the_chain() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let (direct, leaf, other) = (root.leaf(CT1), issuing.leaf(CT1), issuing.leaf(CT1));
    let intermediate = leaf.chain[1].as_slice();
    let none = || [root.crl(&[]), issuing.crl(&[])];
    let [of_root, of_issuing] = none();
    let cases = [
        ("nothing listed", &leaf, none(), None),
        ("the leaf, by the root", &direct, [root.crl(&[&direct.chain[0]]), of_issuing.clone()], Some(Revoked)),
        ("the leaf, by an intermediate", &leaf, [of_root.clone(), issuing.crl(&[&leaf.chain[0]])], Some(Revoked)),
        ("its neighbour", &other, [of_root, issuing.crl(&[&leaf.chain[0]])], None),
        ("the intermediate", &leaf, [root.crl(&[intermediate]), of_issuing.clone()], Some(Revoked)),
        ("its serial number, by another issuer", &leaf, [root.crl(&[&leaf.chain[0]]), of_issuing], None),
    ];
    for (name, leaf, crls, expected) in cases {
        assert_eq!(judge(leaf, &with(&root, &crls)), [expected; 2], "{name}");
    }
}

#[test]
fn an_unknown_status_is_refused_by_the_strict_rules_only() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let (direct, leaf) = (root.leaf(CT1), issuing.leaf(CT1));
    let old = |ca: &Ca, revoked: &[&[u8]]| ca.crl_with(revoked, (-7200, -3600), |_| ());
    let scoped = |ca: &Ca, scope| ca.crl_with(&[], (-60, 3600), |params| limit(params, "http://a.example/1", scope));
    let listed: &[&[u8]] = &[&direct.chain[0]];
    let cases = [
        ("no list at all: revocation is not configured", &direct, vec![], [None; 2]),
        ("none of the leaf's issuer", &leaf, vec![root.crl(&[])], [None, Some(RevocationUnknown)]),
        ("none of the intermediate's issuer", &leaf, vec![issuing.crl(&[])], [None, Some(RevocationUnknown)]),
        ("a list that is over", &direct, vec![old(&root, &[])], [None, Some(RevocationUnknown)]),
        ("one of two is over", &leaf, vec![root.crl(&[]), old(&issuing, &[])], [None, Some(RevocationUnknown)]),
        ("listed, in a list that is over", &direct, vec![old(&root, listed)], [Some(Revoked); 2]),
        (
            "a list for authorities only",
            &direct,
            vec![scoped(&root, CrlScope::CaCertsOnly)],
            [None, Some(RevocationUnknown)],
        ),
        ("a list for workloads only", &direct, vec![scoped(&root, CrlScope::UserCertsOnly)], [None; 2]),
    ];
    for (name, leaf, crls, expected) in cases {
        assert_eq!(judge(leaf, &with(&root, &crls)), expected, "{name}");
    }
}

fn limit(params: &mut CertificateRevocationListParams, uri: &str, scope: CrlScope) {
    let distribution_point = CrlDistributionPoint { uris: vec![uri.into()] };
    params.issuing_distribution_point = Some(CrlIssuingDistributionPoint { distribution_point, scope: Some(scope) });
}

#[test]
fn a_list_ends_at_its_next_update() {
    let root = Ca::root();
    let leaf = root.leaf(CT1);
    let bundles = with(&root, &[root.crl_with(&[], (-60, 600), |_| ())]);
    let end = bundles.crls().next().expect("one").next_update;
    let judge = |at| verify(&leaf.chain(), &bundles, &rules(Strictness::Strict), at, Purpose::Client);
    assert!(judge(end.minus(seconds(1))).is_ok());
    assert_eq!(judge(end).expect_err("over").code, RevocationUnknown);
}

/// Two roots of one name: webpki would take the first list of that name and refuse whom the other root issued.
#[test]
fn lists_of_issuers_with_one_name_are_told_apart_by_their_keys() {
    let named = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "Same Name");
    let (old, new) = (Ca::root_with(named), Ca::root_with(named));
    let bundles = |crls: [Vec<u8>; 2]| {
        let bundles = TrustBundles::new([(domain(), format!("{}{}", old.pem, new.pem).as_bytes())]).expect("usable");
        bundles.with_crls(crls.iter().map(|crl| (domain(), crl.as_slice()))).expect("usable")
    };
    let (one, two) = (old.leaf(CT1), new.leaf(CT1));
    let both = bundles([old.crl(&[]), new.crl(&[])]);
    assert_eq!((judge(&one, &both), judge(&two, &both)), ([None; 2], [None; 2]));
    let crossed = bundles([old.crl(&[&two.chain[0]]), new.crl(&[&one.chain[0]])]);
    assert_eq!((judge(&one, &crossed), judge(&two, &crossed)), ([None; 2], [None; 2]), "a serial of the other key");
    let listed = bundles([old.crl(&[&one.chain[0]]), new.crl(&[])]);
    assert_eq!((judge(&one, &listed), judge(&two, &listed)), ([Some(Revoked); 2], [None; 2]));
}

#[test]
fn of_two_lists_the_newer_counts_in_either_order() {
    let root = Ca::root();
    let leaf = root.leaf(CT1);
    let old = root.crl_with(&[&leaf.chain[0]], (-7200, 3600), |_| ());
    let new = root.crl_with(&[], (-60, 1800), |_| ());
    for crls in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let bundles = with(&root, &crls);
        assert_eq!((judge(&leaf, &bundles), bundles.crls().count()), ([None; 2], 1));
    }
    let part = root.crl_with(&[&leaf.chain[0]], (-7200, 3600), |p| {
        limit(p, "http://a.example/2", CrlScope::UserCertsOnly);
    });
    let bundles = with(&root, &[part, new]);
    assert_eq!((judge(&leaf, &bundles), bundles.crls().count()), ([Some(Revoked); 2], 2), "of another scope");
}

#[test]
fn a_list_of_another_trust_domain_says_nothing() {
    let (ours, theirs) = (
        Ca::root(),
        Ca::root_with(|params| {
            params.subject_alt_names = vec![uri("spiffe://hosp-b.example")];
        }),
    );
    let leaf = ours.leaf(CT1);
    let other = TrustDomain::parse("hosp-b.example").expect("valid");
    let entries = [(domain(), ours.pem.as_bytes()), (other.clone(), theirs.pem.as_bytes())];
    let bundles = TrustBundles::new(entries).expect("usable");
    let listed = ours.crl(&[&leaf.chain[0]]);
    let bundles = bundles.with_crls([(other, listed.as_slice())]).expect("an intermediate may have signed it");
    assert_eq!(judge(&leaf, &bundles), [None; 2], "and revocation is not configured for ours");
}

#[test]
fn files_of_lists_are_read_as_pem_and_der() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let several = [root.crl(&[]), issuing.crl(&[])].map(|crl| pem(&crl)).concat();
    let bundles = root.bundle().with_crls([(domain(), several.as_bytes())]).expect("usable");
    let signed: Vec<_> = bundles.crls().map(|crl| (crl.domain, crl.revoked, crl.signed_by_root)).collect();
    assert_eq!(signed.len(), 2);
    assert!(signed.contains(&(domain(), 0, true)) && signed.contains(&(domain(), 0, false)));
    let leaf = root.leaf(CT1);
    let bundles = with(&root, &[root.crl(&[&leaf.chain[0]])]);
    assert_eq!(bundles.crls().map(|crl| crl.revoked).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_file_that_is_no_usable_list_refuses_the_whole_set() {
    let fixed = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "Same Name");
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
    };
    let (root, forger) = (Ca::root_with(fixed), Ca::root_with(fixed));
    let load = |file: &[u8]| root.bundle().with_crls([(domain(), file)]).expect_err("unusable");
    let good = root.crl(&[]);
    let mut damaged = good.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    let why = |error: TrustError| match error {
        TrustError::UnusableCrl { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(load(b""), TrustError::NoCrl(domain()));
    assert_eq!(load(root.pem.as_bytes()), TrustError::NoCrl(domain()));
    assert_eq!(load(pem(&good).replace("-----END", "").as_bytes()), TrustError::UnreadableCrl(domain()));
    assert!(why(load(&good[..good.len() - 1])).contains("version 2"));
    assert!(why(load(pem(b"rubbish").as_bytes())).contains("version 2"));
    assert!(why(load(&damaged)).contains("did not sign"));
    assert!(why(load(&forger.crl(&[]))).contains("did not sign"), "name and key identifier are the root's");
    let other = TrustDomain::parse("hosp-b.example").expect("valid");
    let error = root.bundle().with_crls([(other.clone(), good.as_slice())]).expect_err("no bundle");
    assert_eq!((error.code(), error), ("crl_unusable", TrustError::CrlOfNobody(other)));
}

/// A root's name alone is no claim to be signed by it: authorities keep their name when they are renewed.
#[test]
fn a_list_of_an_intermediate_that_is_called_like_the_root_is_its_own() {
    let named = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "Same Name");
    let root = Ca::root_with(named);
    let issuing = root.intermediate(named);
    let bundles = with(&root, &[issuing.crl(&[]), root.crl(&[])]);
    let mut signed: Vec<_> = bundles.crls().map(|crl| crl.signed_by_root).collect();
    signed.sort_unstable();
    assert_eq!(signed, [false, true]);
}

#[test]
fn whether_a_root_signed_a_list_is_told_and_remarked_on() {
    let root = Ca::root();
    for (name, list, by_root, remarks) in
        [("the root's", root.crl(&[]), true, 0), ("an intermediate's", root.intermediate(|_| ()).crl(&[]), false, 1)]
    {
        let bundles = with(&root, &[list]);
        assert_eq!(bundles.crls().map(|crl| crl.signed_by_root).collect::<Vec<_>>(), [by_root], "{name}");
        assert_eq!(bundles.remarks(now()).len(), remarks, "{name}");
    }
}

/// Lists of kinds that rcgen does not make: made of others by changing what says so (RFC 5280 §5.2.4, §5.2.5).
#[test]
fn a_list_that_is_not_complete_is_refused_and_the_operator_learns_which_kind_is_needed() {
    const USERS_ONLY: &[u8] = &[0x81, 1, 0xFF];
    const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 0x14];
    let root = Ca::root();
    let list = root.crl_with(&[], (-60, 3600), |p| limit(p, "http://a.example/1", CrlScope::UserCertsOnly));
    for (word, from, to) in [
        ("delta", CRL_NUMBER, [0x55, 0x1D, 0x1B]),
        ("indirect", USERS_ONLY, [0x84, 1, 0xFF]),
        ("some reasons", USERS_ONLY, [0x83, 1, 0]),
    ] {
        let at = list.windows(3).position(|bytes| bytes == from).expect("there");
        let changed = [&list[..at], &to, &list[at + 3..]].concat();
        let error = root.bundle().with_crls([(domain(), changed.as_slice())]).expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_unusable_list_of_a_file_is_named_by_its_number() {
    let root = Ca::root();
    let file = [pem(&root.crl(&[])), pem(&root.crl(&[])), pem(b"rubbish")].concat();
    let error = root.bundle().with_crls([(domain(), file.as_bytes())]).expect_err("the third");
    assert!(matches!(error, TrustError::UnusableCrl { number: 3, .. }), "{error}");
}

#[test]
fn a_log_shows_how_many_roots_and_lists_a_domain_has() {
    let root = Ca::root();
    let bundles = with(&root, &[root.crl(&[]), root.intermediate(|_| ()).crl(&[])]);
    assert_eq!(format!("{bundles:?}"), format!("{{{:?}: (1, 2)}}", domain()));
}

#[test]
fn a_list_that_no_root_signed_is_remarked_on_and_counts_for_nobody_but_its_signer() {
    let (root, stranger) = (Ca::root(), Ca::root());
    let leaf = root.leaf(CT1);
    let bundles = with(&root, &[stranger.crl(&[&leaf.chain[0]]), root.crl_with(&[], (-60, 600), |_| ())]);
    assert_eq!(judge(&leaf, &bundles), [None; 2]);
    assert_eq!(bundles.remarks(now()).len(), 1);
    let end = bundles.crls().map(|crl| crl.next_update).min().expect("two");
    assert_eq!(bundles.remarks(end.minus(seconds(1))).len(), 1);
    assert_eq!(bundles.remarks(end).len(), 2, "and one of a list that is over");
}

fn greet(trust: &Trust, caller: &Leaf) -> VerifiedPeer {
    let handshake = trust.await_caller(now());
    let (server, _, result) = shake(handshake.config(), caller.stranger(&TLS13));
    result.expect("a good SVID");
    handshake.finish(&server).expect("a good SVID")
}

fn code(result: Result<(), Rejection>) -> Option<RejectionCode> {
    result.err().map(|rejection| rejection.code)
}

#[test]
fn a_revocation_ends_the_connections_that_it_names_and_no_others() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let own = root.leaf(GATEWAY);
    let callers = [root.leaf(CT1), root.leaf(CT1), issuing.leaf("spiffe://hosp-a.example/ingest/ct2")];
    let trust = own.trust(root.bundle());
    let peers = callers.each_ref().map(|caller| greet(&trust, caller));
    let again = |bundles: TrustBundles| {
        let trust = own.trust(bundles);
        peers.each_ref().map(|peer| code(trust.recheck(peer, now())))
    };
    let denied = |text: &str| root.bundle().with_deny_list(DenyList::parse(text).expect("a list"));
    assert_eq!(again(root.bundle()), [None; 3]);
    assert_eq!(again(with(&root, &[root.crl(&[&callers[1].chain[0]])])), [None, Some(Revoked), None]);
    assert_eq!(again(with(&root, &[root.crl(&[&callers[2].chain[1]])])), [None, None, Some(Revoked)]);
    let leaf = format!("[[deny]]\nleaf_sha256 = \"{}\"", peers[0].svid().leaf_digest());
    assert_eq!(again(denied(&leaf)), [Some(Revoked), None, None]);
    let id = format!("[[deny]]\nspiffe_id = \"{CT1}\"");
    assert_eq!(again(denied(&id)), [Some(Revoked), Some(Revoked), None]);
}

#[test]
fn a_live_connection_is_trusted_as_of_its_beginning_and_unrevoked_as_of_now() {
    let root = Ca::root();
    let (own, caller) = (root.leaf(GATEWAY), root.leaf(CT1));
    let bundles = || with(&root, &[root.crl_with(&[], (-60, 600), |_| ())]);
    let strict = Trust::new(own.identity(), bundles(), rules(Strictness::Strict)).expect("usable");
    let peer = greet(&strict, &caller);
    let (later, end) = (now().plus(seconds(601)), peer.svid().not_after());
    let unasked = Trust::new(own.identity(), root.bundle(), rules(Strictness::Strict)).expect("usable");
    for (name, trust, at, expected) in [
        ("in time", &strict, now(), None),
        ("the list is over", &strict, later, Some(RevocationUnknown)),
        ("by the compatible rules", &own.trust(bundles()), later, None),
        ("revocation is not configured", &unasked, later, None),
        ("the SVID is over", &own.trust(bundles()), end.plus(seconds(1)), Some(Expired)),
    ] {
        assert_eq!(code(trust.revocation_current(&peer, at)), expected, "{name}");
        assert_eq!(code(trust.recheck(&peer, at)), expected, "{name}, in full");
    }
    let refused = strict.revocation_current(&peer, later).expect_err("unknown");
    assert_eq!((refused.claimed.as_ref(), refused.not_after), (Some(peer.id()), Some(end)));
    let (leaf, serial) = (peer.svid().leaf_digest(), peer.svid().serial());
    assert_eq!((refused.leaf, refused.serial.as_deref()), (Some(leaf), Some(serial)), "the audit log knows which");
    let other = Ca::root();
    let silent = Trust::new(own.identity(), with(&root, &[other.crl(&[])]), rules(Strictness::Strict)).expect("usable");
    assert_eq!(code(silent.revocation_current(&peer, now())), Some(RevocationUnknown), "a list, but not of its issuer");
}

#[test]
fn every_issuer_on_the_path_needs_a_list_that_is_not_over() {
    let root = Ca::root();
    let issuing = root.intermediate(|_| ());
    let lists = [root.crl_with(&[], (-60, 600), |_| ()), issuing.crl(&[])];
    let peer = greet(&root.leaf(GATEWAY).trust(root.bundle()), &issuing.leaf(CT1));
    let strict = Trust::new(root.leaf(GATEWAY).identity(), with(&root, &lists), rules(Strictness::Strict));
    let strict = strict.expect("usable");
    assert_eq!(code(strict.revocation_current(&peer, now())), None);
    assert_eq!(code(strict.revocation_current(&peer, now().plus(seconds(601)))), Some(RevocationUnknown), "the root's");
}

#[test]
fn explain_tells_what_is_revoked_beside_the_rules_that_hold() {
    let root = Ca::root();
    let leaf = root.leaf(CT1);
    let of = |bundles: &TrustBundles, leaf: &Leaf| {
        let findings = explain(&leaf.chain(), Some(bundles), &rules(Strictness::Strict), now(), Purpose::Client);
        let broken = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Broken(_)));
        let broken: Vec<_> = broken.map(|finding| finding.rule).collect();
        (broken, findings.into_iter().find(|finding| finding.rule == "V-32").expect("asked").outcome)
    };
    let list = |revoked: &[&[u8]]| with(&root, &[root.crl(revoked)]);
    assert_eq!(of(&list(&[]), &leaf), (vec![], Outcome::Holds));
    let (broken, why) = of(&list(&[&leaf.chain[0]]), &leaf);
    assert_eq!(broken, ["V-32"]);
    assert_eq!(why, Outcome::Broken(Revoked.sentence().into()));
    let text = format!("[[deny]]\nspiffe_id = \"{CT1}\"\nreason = \"laptop stolen\"\nticket = \"SEC-7\"");
    let denied = root.bundle().with_deny_list(DenyList::parse(&text).expect("a list"));
    let (broken, why) = of(&denied, &leaf);
    assert_eq!(broken, ["V-32"]);
    assert!(matches!(why, Outcome::Broken(why) if why.contains("laptop stolen") && why.contains("SEC-7")));
    let foreign = Ca::root().leaf(CT1);
    assert!(matches!(of(&list(&[]), &foreign).1, Outcome::NotJudged(_)), "there is no path");
    let refused = verify(&foreign.chain(), &denied, &rules(Strictness::Strict), now(), Purpose::Client);
    assert_eq!(refused.expect_err("forged").code, ChainUntrusted, "a claim is believed only when it is proven");
}
