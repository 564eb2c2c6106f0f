use std::sync::Arc;

use model::Timestamp;

use crate::bundles::TrustBundles;
use crate::certificate::Certificate;
use crate::checks::{self, CHECKS, Case};
use crate::denylist::DenyNote;
use crate::path;
use crate::rejection::RejectionCode;
use crate::svid::{self, Purpose, issuers};
use crate::trust::Rules;

/// One rule and what it says about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The number of the rule, such as `V-4`.
    pub rule: &'static str,
    /// What the rule asks.
    pub what: &'static str,
    /// Its answer.
    pub outcome: Outcome,
}

/// Whether a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It is broken: why, for a person.
    Broken(String),
    /// It could not be asked: why not.
    NotJudged(String),
}

/// The rules about the identity (V-4 to V-11): the first that is broken hides the ones behind it.
const IDENTITY: [(&str, &str); 7] = [
    ("V-4", "there is exactly one URI name"),
    ("V-5", "the SPIFFE ID is ASCII and at most 2048 bytes long"),
    ("V-6", "its scheme is spiffe"),
    ("V-7", "it has no query, fragment, user info or port"),
    ("V-9", "its trust domain is well-formed"),
    ("V-10", "it has a path"),
    ("V-11", "its path is well-formed"),
];

/// The rules about the path to a root: the first that is broken hides the ones behind it.
const PATH: [(&str, &str); 4] = [
    ("V-14", "its trust domain is trusted here"),
    ("V-16", "that domain has a root that is valid now"),
    ("V-15", "a root of that domain vouches for it"),
    ("V-18", "the chain holds by RFC 5280"),
];

/// Only path building can tell.
const CONSTRAINTS: (&str, &str) = ("V-27", "name constraints of the issuers hold");
/// Asked about a path that holds.
const REVOCATION: (&str, &str) = ("V-32", "it is not revoked, and neither is one that issued it");

/// Judges every rule that can be judged from the certificates, and with `bundles` the chain as well; in rule order.
/// Unlike [`verify`](crate::verify) it does not stop at the first broken rule. Made for people's eyes: no key is cut here.
#[must_use]
pub fn explain(
    chain: &[&[u8]],
    bundles: Option<&TrustBundles>,
    rules: &Rules,
    now: Timestamp,
    purpose: Purpose,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let presented = checks::presented(chain);
    push(&mut findings, "V-1", "a certificate is presented", &presented);
    push(&mut findings, "V-2", "the chain has at most 8 certificates and 64 KiB", &presented);
    let Some(first) = chain.first() else { return findings };
    let leaf = checks::well_formed(first);
    push(&mut findings, "V-3", "the leaf is strict X.509 version 3", &leaf);
    if let (Ok(()), Ok(leaf)) = (presented, leaf) {
        findings.extend(of_leaf(chain, &leaf, bundles, rules, now, purpose));
    }
    findings.sort_by_key(|finding| number(finding.rule));
    findings
}

fn of_leaf(
    chain: &[&[u8]],
    leaf: &Certificate,
    bundles: Option<&TrustBundles>,
    rules: &Rules,
    now: Timestamp,
    purpose: Purpose,
) -> Vec<Finding> {
    let id = checks::identity(leaf);
    let mut findings = staged(&IDENTITY, id.as_ref().map(|_| ()).map_err(|code| *code));
    let issuers = issuers(chain);
    let domain = id.as_ref().ok().map(model::SpiffeId::trust_domain);
    let case = Case { leaf, issuers: issuers.as_deref().unwrap_or_default(), domain, rules, now, purpose };
    for check in &CHECKS {
        push(&mut findings, check.rule, check.what, &(check.judge)(&case));
    }
    let unasked = |why: &str| {
        PATH.into_iter().chain([CONSTRAINTS, REVOCATION]).map(|(rule, what)| not_judged(rule, what, why)).collect()
    };
    match (bundles, &id) {
        (None, _) => findings.extend::<Vec<_>>(unasked("no trust bundle was given")),
        (_, Err(_)) => findings.extend::<Vec<_>>(unasked("the SPIFFE ID does not say which trust domain to ask")),
        (Some(bundles), Ok(id)) => {
            let denied = bundles.denies(chain, id);
            let revocation = svid::revocation(bundles, id, rules, denied.is_some(), now);
            let at = path::moment(case.issuers.iter().chain([leaf]), now, rules.not_before_skew);
            let built = path::anchors(bundles, id.trust_domain(), now, rules.not_before_skew)
                .and_then(|anchors| issuers.map(|_| anchors))
                .and_then(|anchors| path::build(chain, &anchors, at, purpose, &revocation).map(|_| ()));
            findings.extend(path_findings(built));
            findings.push(revocation_finding(built, denied, !revocation.lists.is_empty(), bundles));
        }
    }
    findings
}

fn revocation_finding(
    built: Result<(), RejectionCode>,
    denied: Option<Arc<DenyNote>>,
    has_lists: bool,
    bundles: &TrustBundles,
) -> Finding {
    let (rule, what) = REVOCATION;
    let outcome = match (built, denied) {
        (_, Some(note)) => Outcome::Broken(note.to_string()),
        (Err(code), None) if code.rule() == rule => Outcome::Broken(code.sentence().into()),
        (Err(_), None) => Outcome::NotJudged("there is no path to a root".into()),
        (Ok(()), None) if has_lists || !bundles.deny_list().is_empty() => Outcome::Holds,
        (Ok(()), None) => Outcome::NotJudged("no revocation list and no deny-list was given".into()),
    };
    Finding { rule, what, outcome }
}

/// What path building found. It also sees rules that `CHECKS` has judged already, and V-27, which only it can see.
fn path_findings(built: Result<(), RejectionCode>) -> Vec<Finding> {
    let (rule, what) = CONSTRAINTS;
    // It was asked about a path that holds.
    let built = built.or_else(|code| if code.rule() == REVOCATION.0 { Ok(()) } else { Err(code) });
    let (stage, beyond) = match built {
        Err(code) if !PATH.iter().any(|(rule, _)| *rule == code.rule()) => {
            (Err(RejectionCode::ChainInvalid), Some(code))
        }
        other => (other, None),
    };
    let mut findings = staged(&PATH, stage);
    if let (Some(code), Some(last)) = (beyond, findings.last_mut()) {
        last.outcome = Outcome::Broken(code.sentence().into());
    }
    match built {
        Ok(()) | Err(RejectionCode::NameConstraint) => push(&mut findings, rule, what, &built),
        Err(_) => findings.push(not_judged(rule, what, "there is no path to a root")),
    }
    findings
}

/// Rules that are asked one after the other: those before the broken one hold, those behind it were not asked.
fn staged(rules: &[(&'static str, &'static str)], result: Result<(), RejectionCode>) -> Vec<Finding> {
    let broken = result.err().map(|code| {
        let at = rules.iter().position(|(rule, _)| *rule == code.rule()).unwrap_or(0);
        (at, code.sentence())
    });
    let outcome = |at: usize| match broken {
        None => Outcome::Holds,
        Some((broken, _)) if at < broken => Outcome::Holds,
        Some((broken, why)) if at == broken => Outcome::Broken(why.into()),
        Some((broken, _)) => Outcome::NotJudged(format!("{} is broken", rules[broken].0)),
    };
    rules.iter().enumerate().map(|(at, (rule, what))| Finding { rule, what, outcome: outcome(at) }).collect()
}

/// Adds the finding of a rule whose codes are its own; another rule's code leaves it unbroken.
fn push<T>(findings: &mut Vec<Finding>, rule: &'static str, what: &'static str, result: &Result<T, RejectionCode>) {
    let outcome = match result {
        Err(code) if code.rule() == rule => Outcome::Broken(code.sentence().into()),
        _ => Outcome::Holds,
    };
    findings.push(Finding { rule, what, outcome });
}

fn not_judged(rule: &'static str, what: &'static str, why: &str) -> Finding {
    Finding { rule, what, outcome: Outcome::NotJudged(why.into()) }
}

fn number(rule: &str) -> u32 {
    rule.trim_start_matches("V-").parse().unwrap_or(u32::MAX)
}
