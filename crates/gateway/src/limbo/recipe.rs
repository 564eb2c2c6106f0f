//! How a chain is made: a leaf, the authorities above it, a root, and the order in which they are shown.

use model::Digest;
use rcgen::KeyPair;

use super::certificate::{SUBJECT_ALT_NAME, Signer, Template, name, names, uri_name};
use super::keys::{Key, Keys, Kind};
use crate::pki::Result;

/// In seconds.
pub(super) const HOUR: i64 = 60 * 60;
/// The identity of a vector that does not say another one.
pub(super) const WORKLOAD: &str = "spiffe://limbo.invalid/svid/ct1";

/// A root certificate that exists once in a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Limbo,
    LimboP384,
    LimboEd25519,
    LimboRsa,
    /// Of another trust domain that is trusted as well.
    Other,
    /// The only root of its domain, and it has expired.
    Faded,
    /// Of a trust domain whose name is as long as it may be.
    Longest,
    /// Of a trust domain with a revocation list of each issuer.
    Listed,
    /// Of a trust domain whose revocation lists are over.
    Stale,
    /// Of a trust domain with the root's revocation list alone.
    Partial,
    /// Of a trust domain that nobody trusts.
    Stranger,
    /// Nobody trusts it, and it has the name of [`Root::Limbo`].
    Rogue,
}

impl Root {
    pub(super) const ALL: [Self; 12] = [
        Self::Limbo,
        Self::LimboP384,
        Self::LimboEd25519,
        Self::LimboRsa,
        Self::Other,
        Self::Faded,
        Self::Longest,
        Self::Listed,
        Self::Stale,
        Self::Partial,
        Self::Stranger,
        Self::Rogue,
    ];

    /// The trust domain, and whether it is among the bundles.
    pub(super) fn domain(self) -> (String, bool) {
        match self {
            Self::Limbo | Self::LimboP384 | Self::LimboEd25519 | Self::LimboRsa => ("limbo.invalid".into(), true),
            Self::Rogue => ("limbo.invalid".into(), false),
            Self::Other => ("other.invalid".into(), true),
            Self::Faded => ("faded.invalid".into(), true),
            Self::Longest => (longest_domain(), true),
            Self::Listed => ("listed.invalid".into(), true),
            Self::Stale => ("stale.invalid".into(), true),
            Self::Partial => ("partial.invalid".into(), true),
            Self::Stranger => ("stranger.invalid".into(), false),
        }
    }

    /// The identity of a vector under this root.
    pub(super) fn workload(self) -> String {
        format!("spiffe://{}/svid/ct1", self.domain().0)
    }

    fn kind(self) -> Kind {
        match self {
            Self::LimboP384 => Kind::P384,
            Self::LimboEd25519 => Kind::Ed25519,
            Self::LimboRsa => Kind::Rsa2048,
            _ => Kind::P256,
        }
    }

    fn common_name(self) -> String {
        match self {
            Self::Rogue => Self::Limbo.common_name(),
            Self::Longest => "root of the longest name".into(),
            _ => format!("{} root {:?}", self.domain().0, self.kind()),
        }
    }

    /// Validity in seconds around `now`.
    fn validity(self, now: i64) -> (i64, i64) {
        match self {
            Self::Faded => (now - 48 * HOUR, now - HOUR),
            _ => (now - 24 * HOUR, now + 365 * 24 * HOUR),
        }
    }
}

/// V-9: 255 bytes.
pub(super) fn longest_domain() -> String {
    format!("{}.invalid", "a".repeat(255 - ".invalid".len()))
}

/// A root with its key.
pub(super) struct Anchor {
    pub(super) root: Root,
    pub(super) der: Vec<u8>,
    name: Vec<u8>,
    pair: KeyPair,
}

impl Anchor {
    pub(super) fn create(root: Root, keys: &Keys, now: i64) -> Result<Self> {
        let (from, until) = root.validity(now);
        let (domain, kind) = (root.domain().0, root.kind());
        let pair = kind.generate()?;
        let mut template = Template::authority(&root.common_name(), Key::Of(kind), from, until);
        template.serial = serial(&root.common_name());
        template.set(SUBJECT_ALT_NAME, false, names(&[uri_name(format!("spiffe://{domain}").as_bytes())]));
        template.own = Some(rcgen::PublicKeyData::subject_public_key_info(&pair));
        let name = name(&root.common_name());
        let der = template.encode(&Signer::new(&name, kind, &pair), keys)?;
        Ok(Self { root, der, name, pair })
    }

    pub(super) fn signer(&self) -> Signer<'_> {
        Signer::new(&self.name, self.root.kind(), &self.pair)
    }
}

/// One chain before it is made. An edit changes one thing about it.
pub(super) struct Recipe {
    /// In seconds since 1970.
    pub(super) now: i64,
    pub(super) leaf: Template,
    /// The authorities between leaf and root, the leaf's own first.
    pub(super) issuers: Vec<Template>,
    pub(super) root: Root,
    /// The leaf signs itself.
    pub(super) self_signed: bool,
    /// Roots that are shown behind the chain.
    pub(super) shown: Vec<Root>,
    /// What is shown of the chain, and in which order.
    pub(super) arrange: Option<fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>>,
}

impl Recipe {
    /// Leaf, one intermediate, root: it keeps every rule, also the strict ones.
    pub(super) fn good(now: i64) -> Self {
        Self {
            now,
            leaf: Template::leaf(WORKLOAD, now - 30, now + 12 * HOUR),
            issuers: vec![intermediate(1, now)],
            root: Root::Limbo,
            self_signed: false,
            shown: Vec::new(),
            arrange: None,
        }
    }

    /// The authority right above the leaf.
    pub(super) fn issuer(&mut self) -> &mut Template {
        &mut self.issuers[0]
    }

    /// An identity of the root's own trust domain, under that root.
    pub(super) fn belong(&mut self, root: Root) {
        self.identify(&root.workload());
        self.root = root;
    }

    /// The leaf has this one URI name.
    pub(super) fn identify(&mut self, uri: &str) {
        self.leaf.name_it(&[uri_name(uri.as_bytes())]);
    }

    /// Further intermediates up to so many.
    pub(super) fn deepen(&mut self, count: usize) {
        for number in self.issuers.len() + 1..=count {
            self.issuers.push(intermediate(number, self.now));
        }
    }

    /// Makes the chain. Serial numbers come from `id`, so that each vector's are its own and always the same.
    pub(super) fn make(mut self, id: &str, keys: &Keys, anchors: &[Anchor]) -> Result<Vec<Vec<u8>>> {
        let anchor = |root| anchors.iter().find(|anchor| anchor.root == root).expect("every root was made");
        if self.leaf.serial == [1] {
            self.leaf.serial = serial(id);
        }
        let mut all = vec![self.leaf];
        all.extend(self.issuers);
        for (at, issuer) in all.iter_mut().enumerate().skip(1) {
            if issuer.serial == [1] {
                issuer.serial = serial(&format!("{id} issuer {at}"));
            }
        }
        let mut chain = Vec::new();
        for (at, template) in all.iter().enumerate() {
            let by = if self.self_signed { Some(template) } else { all.get(at + 1) };
            let signer = match by {
                Some(by) => {
                    let (kind, pair) = keys.pair(by.key).expect("who signs has a key");
                    Signer::new(&by.subject, kind, pair)
                }
                None => anchor(self.root).signer(),
            };
            chain.push(template.encode(&signer, keys)?);
        }
        chain.extend(self.shown.iter().map(|root| anchor(*root).der.clone()));
        Ok(self.arrange.map_or_else(|| chain.clone(), |arrange| arrange(chain.clone())))
    }
}

/// The common name of the authority right above a leaf.
pub(super) const INTERMEDIATE: &str = "limbo intermediate 1";

pub(super) fn intermediate(number: usize, now: i64) -> Template {
    let key = Key::Issuing(Kind::P256);
    Template::authority(&format!("limbo intermediate {number}"), key, now - HOUR, now + 7 * 24 * HOUR)
}

/// 16 bytes, positive.
pub(super) fn serial(of: &str) -> Vec<u8> {
    let mut serial = Digest::of(of.as_bytes()).as_bytes()[..16].to_vec();
    serial[0] = serial[0] & 0x3F | 0x40;
    serial
}
