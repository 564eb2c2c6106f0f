//! svid-limbo: test vectors for the verification of X509-SVIDs, as x509-limbo has them for X.509.
//!
//! Each vector is a chain that breaks one V rule in one way, or two of them, or none, with the answer that is right. They
//! are minted when they are asked for, because time is part of most rules. Nothing here judges a certificate: `access`
//! does, and the tests compare. All names are development names; the keys of a suite live in memory only.

use access::{Purpose, RejectionCode, Rules, Strictness};
use model::Timestamp;

use self::accepted::Right;
use self::certificate::Template;
use self::keys::Keys;
use self::pem::{certificate_pem, crl_pem, private_key_pem};
use self::recipe::{Anchor, Recipe, Root, WORKLOAD};
use self::refused::{Mutation, Slot};
use crate::pki::Result;

mod accepted;
mod certificate;
mod der;
mod export;
mod keys;
mod pem;
mod recipe;
mod refused;
mod revocation;

pub use self::export::{ExportError, export};
pub use self::pem::chain_pem;

/// Under which reading of the rules a vector is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// What X509-SVID demands of a verifier.
    Compatible,
    /// What it demands of an issuer as well.
    Strict,
}

impl Profile {
    /// As it is written in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::Strict => "strict",
        }
    }

    /// The measures by which the vectors are made: the defaults, with this strictness.
    #[must_use]
    pub fn rules(self) -> Rules {
        let strictness = match self {
            Self::Compatible => Strictness::Compatible,
            Self::Strict => Strictness::Strict,
        };
        Rules { strictness, ..Rules::default() }
    }
}

/// The right answer to a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It proves this SPIFFE ID, byte for byte.
    Accept(String),
    /// It is refused. The first code is ours; another verifier, with another order of its checks, may give any of them.
    Reject(Vec<RejectionCode>),
}

/// A vector that is not minted yet.
#[derive(Debug, Clone)]
pub struct Case {
    id: String,
    rules: Vec<&'static str>,
    what: String,
    profile: Profile,
    purpose: Purpose,
    to_the_second: bool,
    expected: Expected,
    edits: Vec<fn(&mut Recipe)>,
}

impl Case {
    /// Its name, always the same: `V-04/two-spiffe-ids`, `good/p-384`, `pair/…+…`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rules that it is about, such as `V-4`.
    #[must_use]
    pub fn rules(&self) -> &[&'static str] {
        &self.rules
    }

    /// What is special about it, for a person; no full stop.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How the rules are read.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What its holder does in the handshake.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether the answer is right only at the very second for which it was minted: nothing for a socket.
    #[must_use]
    pub fn to_the_second(&self) -> bool {
        self.to_the_second
    }

    /// The right answer.
    #[must_use]
    pub fn expected(&self) -> &Expected {
        &self.expected
    }
}

impl From<&Mutation> for Case {
    fn from(mutation: &Mutation) -> Self {
        Self {
            id: mutation.id.to_owned(),
            rules: mutation.rules.to_vec(),
            what: mutation.what.to_owned(),
            profile: mutation.profile,
            purpose: Purpose::Client,
            to_the_second: mutation.to_the_second,
            expected: Expected::Reject(mutation.codes.to_vec()),
            edits: vec![mutation.edit],
        }
    }
}

impl From<&Right> for Case {
    fn from(right: &Right) -> Self {
        Self {
            id: right.id.to_owned(),
            rules: right.rules.to_vec(),
            what: right.what.to_owned(),
            profile: right.profile,
            purpose: right.purpose,
            to_the_second: right.to_the_second,
            expected: Expected::Accept(right.spiffe_id.map_or_else(|| WORKLOAD.to_owned(), |write| write())),
            edits: vec![right.edit],
        }
    }
}

/// Every vector that breaks one rule in one way, in the order of the rules.
#[must_use]
pub fn refused() -> Vec<Case> {
    refused::ALL.iter().map(Case::from).collect()
}

/// Every vector that breaks none.
#[must_use]
pub fn accepted() -> Vec<Case> {
    accepted::ALL.iter().map(Case::from).collect()
}

/// Every two of [`refused`] that change different parts of a certificate or chain. Refused by the code of either.
#[must_use]
pub fn pairs() -> Vec<Case> {
    let all: Vec<_> = refused::ALL.iter().filter(|one| combines(one)).collect();
    let behind = |(at, one)| all[at + 1..].iter().map(move |other| (one, *other));
    all.iter().copied().enumerate().flat_map(behind).filter(|(one, other)| apart(one, other)).map(pair).collect()
}

/// Where nothing is shown, nothing else can be wrong.
fn combines(mutation: &Mutation) -> bool {
    !mutation.slots.contains(&Slot::Everything)
}

fn apart(one: &Mutation, other: &Mutation) -> bool {
    !one.slots.iter().any(|slot| other.slots.contains(slot))
}

fn pair((one, other): (&Mutation, &Mutation)) -> Case {
    let name = |mutation: &Mutation| mutation.id.replace('/', "-");
    let mut rules = one.rules.to_vec();
    rules.extend(other.rules.iter().filter(|rule| !one.rules.contains(rule)));
    let mut codes = one.codes.to_vec();
    codes.extend(other.codes.iter().filter(|code| !one.codes.contains(code)));
    Case {
        id: format!("pair/{}+{}", name(one), name(other)),
        rules,
        what: format!("{}; and: {}", one.what, other.what),
        profile: one.profile.max(other.profile),
        purpose: Purpose::Client,
        to_the_second: one.to_the_second || other.to_the_second,
        expected: Expected::Reject(codes),
        edits: vec![one.edit, other.edit],
    }
}

/// The roots of one trust domain, as the suite trusts them.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The trust domain.
    pub domain: model::TrustDomain,
    /// PEM, one or more roots.
    pub pem: String,
    /// PEM, the revocation lists of the domain; none where revocation is not configured for it.
    pub crls: Option<String>,
}

/// A vector, minted for one moment.
#[derive(Debug, Clone)]
pub struct Vector {
    /// What it is.
    pub case: Case,
    /// For this moment, in whole seconds.
    pub at: Timestamp,
    /// DER, leaf first. Not every one of them is a certificate.
    pub chain: Vec<Vec<u8>>,
    /// PEM, PKCS#8: the leaf's private key, where there is one.
    pub key_pem: Option<String>,
}

/// The keys and roots of a suite: everything that its vectors have in common.
pub struct Mint {
    keys: Keys,
    anchors: Vec<Anchor>,
    crls: Vec<(Root, Vec<Vec<u8>>)>,
    /// The deny-list knows its leaf by digest, so it is minted once.
    denied: Vector,
}

impl Mint {
    /// New keys, and roots of that moment; good for a year of vectors.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(now: Timestamp) -> Result<Self> {
        let keys = Keys::generate()?;
        let now = seconds(now);
        let anchors: Vec<_> = Root::ALL.iter().map(|root| Anchor::create(*root, &keys, now)).collect::<Result<_>>()?;
        let lists = |anchor: &Anchor| Ok((anchor.root, revocation::lists(anchor, &keys, now)?));
        let crls = anchors.iter().map(lists).collect::<Result<_>>()?;
        let case = refused().into_iter().find(|case| case.id == DENIED_LEAF).expect("it is in the list");
        let chain = Recipe::good(now).make(&case.id, &keys, &anchors)?;
        let key_pem = key_pem(&keys, &Recipe::good(now).leaf);
        let denied = Vector { case, at: Timestamp::from_seconds(now), chain, key_pem };
        Ok(Self { keys, anchors, crls, denied })
    }

    /// What every vector of the suite is judged by.
    #[must_use]
    pub fn bundles(&self) -> Vec<Bundle> {
        let mut bundles: Vec<Bundle> = Vec::new();
        for anchor in &self.anchors {
            let (name, trusted) = anchor.root.domain();
            let domain = model::TrustDomain::parse(&name).expect("the domains of the suite are well-formed");
            let pem = certificate_pem(&anchor.der);
            match bundles.iter_mut().find(|bundle| bundle.domain == domain) {
                Some(bundle) if trusted => bundle.pem.push_str(&pem),
                None if trusted => bundles.push(Bundle { domain, pem, crls: self.crls(anchor.root) }),
                _ => {}
            }
        }
        bundles
    }

    fn crls(&self, root: Root) -> Option<String> {
        let (_, lists) = self.crls.iter().find(|(known, lists)| *known == root && !lists.is_empty())?;
        Some(lists.iter().map(|list| crl_pem(list)).collect())
    }

    /// The deny-list that holds for every vector of the suite: TOML, as `access::DenyList` reads it.
    #[must_use]
    pub fn deny_list(&self) -> String {
        let root = self.anchors.iter().find(|anchor| anchor.root == Root::Limbo).expect("every root was made");
        revocation::deny_list(&self.denied.chain[0], root)
    }

    /// Mints a vector for that moment. The one whose digest is on the deny-list is always the same, of the suite's moment.
    ///
    /// # Errors
    /// When a signature cannot be made.
    pub fn mint(&self, case: &Case, at: Timestamp) -> Result<Vector> {
        if case.id == DENIED_LEAF {
            return Ok(self.denied.clone());
        }
        let mut recipe = Recipe::good(seconds(at));
        for edit in &case.edits {
            edit(&mut recipe);
        }
        let key_pem = key_pem(&self.keys, &recipe.leaf);
        let chain = recipe.make(&case.id, &self.keys, &self.anchors)?;
        Ok(Vector { case: case.clone(), at: Timestamp::from_seconds(seconds(at)), chain, key_pem })
    }
}

const DENIED_LEAF: &str = "V-32/leaf-denied";

fn key_pem(keys: &Keys, leaf: &Template) -> Option<String> {
    let (_, pair) = keys.pair(leaf.key)?;
    Some(private_key_pem(pair.serialized_der()))
}

fn seconds(moment: Timestamp) -> i64 {
    moment.as_millis().div_euclid(1000)
}

#[cfg(test)]
mod tests;
