use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{SpiffeId, Timestamp, TrustDomain};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;

use crate::certificate::Certificate;
use crate::checks;
use crate::rejection::RejectionCode;

/// V-29: a day, as SPIRE issues at most by default, and a minute because issuers date an SVID back for slow clocks.
const MAX_SVID_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60 + 60);
/// V-30: less than this is not enough to send one image.
const MIN_REMAINING: Duration = Duration::from_secs(30);
/// V-28: how far the issuer's clock may be ahead of ours.
const NOT_BEFORE_SKEW: Duration = Duration::from_secs(60);

/// What we trust or show is not usable: our own configuration is at fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrustError {
    /// V-17.
    #[error("the trust domain {0} has two bundles: put all its roots into one")]
    DuplicateDomain(TrustDomain),
    /// The text is not PEM.
    #[error("the bundle of {0} is not readable PEM")]
    UnreadableBundle(TrustDomain),
    /// A root is no certificate authority, not strict X.509 version 3, or of another trust domain.
    #[error("the bundle of {domain} has an unusable root (number {number}): {why}")]
    UnusableRoot {
        /// Whose bundle.
        domain: TrustDomain,
        /// Which of its certificates, counted from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// V-16.
    #[error("the bundle of {0} has no CERTIFICATE block")]
    NoRoot(TrustDomain),
    /// The chain of our own SVID is not PEM, or empty.
    #[error("our own certificate chain has no readable CERTIFICATE block")]
    UnreadableChain,
    /// Our own leaf breaks a rule about its identity.
    #[error("our own certificate is no SVID: {}", .0.sentence())]
    NotAnSvid(RejectionCode),
    /// The private key is not PEM, or of a kind that is not supported.
    #[error("our own private key is not a readable PRIVATE KEY block of a supported kind")]
    UnreadableKey,
    /// The key belongs to another certificate.
    #[error("our own private key does not belong to our certificate")]
    KeyMismatch,
    /// rustls refuses the configuration.
    #[error("the TLS configuration is not usable")]
    Tls(#[source] rustls::Error),
}

/// The roots of each trust domain that is trusted here. They are never merged: an SVID is judged by the roots of the domain
/// that it claims, and by no other (V-15).
#[derive(Clone)]
pub struct TrustBundles {
    bundles: BTreeMap<TrustDomain, Vec<Root>>,
}

#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) anchor: TrustAnchor<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Root {
    pub(crate) fn is_valid(&self, now: Timestamp, skew: Duration) -> bool {
        self.not_before <= now.plus(skew) && now <= self.not_after
    }
}

impl TrustBundles {
    /// Each entry: a trust domain and PEM text with one or more CERTIFICATE blocks, its roots.
    ///
    /// # Errors
    /// A domain that comes twice (V-17), PEM that cannot be read, a root that cannot be used, or a bundle without a root
    /// (V-16) refuses the whole set.
    pub fn new<'a>(entries: impl IntoIterator<Item = (TrustDomain, &'a [u8])>) -> Result<Self, TrustError> {
        let mut bundles = BTreeMap::new();
        for (domain, pem) in entries {
            let roots = roots(&domain, pem)?;
            if bundles.insert(domain.clone(), roots).is_some() {
                return Err(TrustError::DuplicateDomain(domain));
            }
        }
        Ok(Self { bundles })
    }

    /// The domains that are trusted here.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.bundles.keys()
    }

    pub(crate) fn roots(&self, domain: &TrustDomain) -> Option<&[Root]> {
        self.bundles.get(domain).map(Vec::as_slice)
    }
}

impl fmt::Debug for TrustBundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.bundles.iter().map(|(domain, roots)| (domain.as_str(), roots.len()))).finish()
    }
}

/// The trust domain that an authority's certificate names in its SPIFFE ID (X509-SVID §3.2): for people who were handed one
/// file and no name. Nothing is proven by it.
#[must_use]
pub fn authority_domain(pem: &[u8]) -> Option<TrustDomain> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = Certificate::read(&der).ok()?;
    let [uri] = certificate.uris.as_slice() else { return None };
    let name = std::str::from_utf8(uri).ok()?.strip_prefix("spiffe://")?;
    TrustDomain::parse(name).ok()
}

fn roots(domain: &TrustDomain, pem: &[u8]) -> Result<Vec<Root>, TrustError> {
    let mut roots = Vec::new();
    for (at, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let der = der.map_err(|_| TrustError::UnreadableBundle(domain.clone()))?;
        let unusable = |why| TrustError::UnusableRoot { domain: domain.clone(), number: at + 1, why };
        roots.push(root(domain, &der).map_err(unusable)?);
    }
    if roots.is_empty() { Err(TrustError::NoRoot(domain.clone())) } else { Ok(roots) }
}

fn root(domain: &TrustDomain, der: &CertificateDer<'_>) -> Result<Root, &'static str> {
    let certificate = Certificate::read(der).map_err(|_| "it is not a strict X.509 version 3 certificate")?;
    if certificate.ca != Some(true) {
        return Err("it is not a certificate authority");
    }
    if certificate.key_usage.is_some_and(|usage| !usage.cert_sign) {
        return Err("its key usage does not let it sign certificates");
    }
    if !checks::speaks_for(&certificate, domain) {
        return Err("it carries the SPIFFE ID of something else than this trust domain");
    }
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| "it cannot serve as a trust anchor")?;
    Ok(Root { anchor: anchor.to_owned(), not_before: certificate.not_before, not_after: certificate.not_after })
}

/// Our own SVID: the chain that we show and the key that proves it.
#[derive(Clone)]
pub struct Identity {
    id: SpiffeId,
    not_after: Timestamp,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads the chain (PEM, leaf first) and the private key (PEM: PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// When one cannot be read, the leaf has no well-formed SPIFFE ID, or the key does not belong to the leaf.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| TrustError::UnreadableChain)?;
        let leaf = chain.first().ok_or(TrustError::UnreadableChain)?;
        let leaf = checks::well_formed(leaf).map_err(TrustError::NotAnSvid)?;
        let id = checks::identity(&leaf).map_err(TrustError::NotAnSvid)?;

        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TrustError::UnreadableKey)?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| TrustError::UnreadableKey)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| TrustError::KeyMismatch)?;
        Ok(Self { id, not_after: leaf.not_after, certified: Arc::new(certified) })
    }

    /// Who we are.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When our SVID expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The measures of the V rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// V-29: the longest validity that an SVID may have.
    pub max_svid_lifetime: Duration,
    /// V-30: how much of it must remain when a connection begins.
    pub min_remaining: Duration,
    /// V-28: how far `notBefore` may lie in the future.
    pub not_before_skew: Duration,
    /// How the rules are read on which issuers differ.
    pub strictness: Strictness,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_svid_lifetime: MAX_SVID_LIFETIME,
            min_remaining: MIN_REMAINING,
            not_before_skew: NOT_BEFORE_SKEW,
            strictness: Strictness::default(),
        }
    }
}

/// How V-19, V-23 and V-24 are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// What the standard demands of a verifier.
    #[default]
    Compatible,
    /// What it demands of an issuer as well: basic constraints present (V-19), both extended key usages present (V-23),
    /// and key usage in every intermediate (V-24).
    Strict,
}
