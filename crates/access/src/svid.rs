use model::{Digest, SpiffeId, Timestamp};
use rustls::pki_types::TrustAnchor;

use crate::bundles::TrustBundles;
use crate::certificate::Certificate;
use crate::checks::{self, CHECKS, Case};
use crate::path;
use crate::rejection::{Rejection, RejectionCode};
use crate::revocation::Revocation;
use crate::trust::{Rules, Strictness};

/// What the holder of an SVID does in this handshake: which extended key usage it needs (V-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It calls.
    Client,
    /// It is called.
    Server,
}

/// An X509-SVID that passed every V rule about certificates. It says nothing about who shows it: only a
/// [`VerifiedPeer`](crate::VerifiedPeer) proved that it holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    id: SpiffeId,
    leaf_digest: Digest,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
    key: String,
    /// Who issued it, by name, and who issued those; in DER as webpki gives names.
    issuers: Vec<Box<[u8]>>,
}

impl Svid {
    /// The identity.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// SHA-256 of the leaf certificate's DER.
    #[must_use]
    pub fn leaf_digest(&self) -> Digest {
        self.leaf_digest
    }

    /// The serial number in lower-case hex.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Start of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of validity: the last moment at which it is still good.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The kind of key, such as `ECDSA P-256` or `RSA 3072`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn issuers(&self) -> &[Box<[u8]>] {
        &self.issuers
    }

    /// This SVID, refused.
    pub(crate) fn refused(&self, code: RejectionCode) -> Rejection {
        Rejection {
            claimed: Some(self.id.clone()),
            leaf: Some(self.leaf_digest),
            serial: Some(self.serial.clone()),
            not_after: Some(self.not_after),
            ..Rejection::bare(code)
        }
    }
}

/// When a chain is judged: trust and validity at one moment, revocation at another, which for a live connection is later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) trust: Timestamp,
    pub(crate) revocation: Timestamp,
}

/// Judges a certificate chain (DER, leaf first) by the V rules at `now`. The identity that the leaf claims only selects the
/// bundle; it is believed when that bundle's roots vouch for it.
///
/// # Errors
/// The first rule that is broken: cheap rules first, signatures last.
pub fn verify(
    chain: &[&[u8]],
    bundles: &TrustBundles,
    rules: &Rules,
    now: Timestamp,
    purpose: Purpose,
) -> Result<Svid, Rejection> {
    judge(chain, bundles, rules, Moments { trust: now, revocation: now }, purpose)
}

/// As [`verify`], of a chain that was verified before.
pub(crate) fn judge(
    chain: &[&[u8]],
    bundles: &TrustBundles,
    rules: &Rules,
    moments: Moments,
    purpose: Purpose,
) -> Result<Svid, Rejection> {
    checks::presented(chain).map_err(Rejection::bare)?;
    let digest = Digest::of(chain[0]);
    let mut known = Rejection { leaf: Some(digest), ..Rejection::bare(RejectionCode::LeafMalformed) };
    let refuse = |known: &Rejection, code| Rejection { code, ..known.clone() };

    let leaf = checks::well_formed(chain[0]).map_err(|code| refuse(&known, code))?;
    known.serial = Some(leaf.serial.clone());
    known.not_after = Some(leaf.not_after);
    let id = checks::identity(&leaf).map_err(|code| refuse(&known, code))?;
    known.claimed = Some(id.clone());
    let denied = bundles.denies(chain, &id);
    let revocation = revocation(bundles, &id, rules, denied.is_some(), moments.revocation);
    let now = moments.trust;
    let issuers = path::anchors(bundles, id.trust_domain(), now, rules.not_before_skew)
        .and_then(|anchors| Ok((anchors, issuers(chain)?)))
        .and_then(|(anchors, issuers)| {
            let domain = Some(id.trust_domain());
            let case = Case { leaf: &leaf, issuers: &issuers, domain, rules, now, purpose };
            vouched(chain, &case, &anchors, &revocation)
        });
    let issuers = issuers.map_err(|code| {
        let note = denied.filter(|_| code == RejectionCode::Revoked);
        Rejection { note, ..refuse(&known, code) }
    })?;

    let Certificate { serial, not_before, not_after, key, .. } = leaf;
    let key = key.ok_or_else(|| refuse(&known, RejectionCode::WeakKey))?;
    Ok(Svid { id, leaf_digest: digest, serial, not_before, not_after, key, issuers })
}

/// What V-32 asks about whoever has this identity.
pub(crate) fn revocation<'b>(
    bundles: &'b TrustBundles,
    id: &SpiffeId,
    rules: &Rules,
    denied: bool,
    now: Timestamp,
) -> Revocation<'b> {
    let strict = rules.strictness == Strictness::Strict;
    Revocation { lists: bundles.lists(id.trust_domain()), strict, denied, now }
}

/// V-18 to V-32 for a leaf with a well-formed identity. Gives the names of its issuers.
fn vouched(
    chain: &[&[u8]],
    case: &Case<'_>,
    anchors: &[TrustAnchor<'_>],
    revocation: &Revocation<'_>,
) -> Result<Vec<Box<[u8]>>, RejectionCode> {
    CHECKS.iter().try_for_each(|check| (check.judge)(case))?;
    let at = path::moment(case.issuers.iter().chain([case.leaf]), case.now, case.rules.not_before_skew);
    path::build(chain, anchors, at, case.purpose, revocation)
}

/// Every certificate that came with the leaf. One that cannot be read spoils the chain, whether or not it is needed.
pub(crate) fn issuers(chain: &[&[u8]]) -> Result<Vec<Certificate>, RejectionCode> {
    chain.iter().skip(1).map(|der| Certificate::read(der).map_err(|_| RejectionCode::ChainInvalid)).collect()
}
