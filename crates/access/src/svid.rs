use model::{Digest, SpiffeId, Timestamp};

use crate::certificate::Certificate;
use crate::checks::{self, CHECKS, Case};
use crate::path;
use crate::rejection::{Rejection, RejectionCode};
use crate::trust::{Rules, TrustBundles};

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
    checks::presented(chain).map_err(Rejection::bare)?;
    let digest = Digest::of(chain[0]);
    let mut known = Rejection { leaf: Some(digest), ..Rejection::bare(RejectionCode::LeafMalformed) };
    let refuse = |known: &Rejection, code| Rejection { code, ..known.clone() };

    let leaf = checks::well_formed(chain[0]).map_err(|code| refuse(&known, code))?;
    known.serial = Some(leaf.serial.clone());
    known.not_after = Some(leaf.not_after);
    let id = checks::identity(&leaf).map_err(|code| refuse(&known, code))?;
    known.claimed = Some(id.clone());
    vouched(chain, &leaf, &id, bundles, rules, now, purpose).map_err(|code| refuse(&known, code))?;

    let Certificate { serial, not_before, not_after, key, .. } = leaf;
    let key = key.ok_or_else(|| refuse(&known, RejectionCode::WeakKey))?;
    Ok(Svid { id, leaf_digest: digest, serial, not_before, not_after, key })
}

/// V-14 to V-31 for a leaf with a well-formed identity.
fn vouched(
    chain: &[&[u8]],
    leaf: &Certificate,
    id: &SpiffeId,
    bundles: &TrustBundles,
    rules: &Rules,
    now: Timestamp,
    purpose: Purpose,
) -> Result<(), RejectionCode> {
    let domain = id.trust_domain();
    let anchors = path::anchors(bundles, domain, now, rules.not_before_skew)?;
    let issuers = issuers(chain)?;
    let case = Case { leaf, issuers: &issuers, domain: Some(domain), rules, now, purpose };
    CHECKS.iter().try_for_each(|check| (check.judge)(&case))?;
    let at = path::moment(issuers.iter().chain([leaf]), now, rules.not_before_skew);
    path::build(chain, &anchors, at, purpose)
}

/// Every certificate that came with the leaf. One that cannot be read spoils the chain, whether or not it is needed.
pub(crate) fn issuers(chain: &[&[u8]]) -> Result<Vec<Certificate>, RejectionCode> {
    chain.iter().skip(1).map(|der| Certificate::read(der).map_err(|_| RejectionCode::ChainInvalid)).collect()
}
