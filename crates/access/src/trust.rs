use std::time::Duration;

use model::TrustDomain;

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
    /// PEM without a certificate is a mistake, not a domain that has withdrawn its keys (V-16).
    #[error(
        "the bundle of {0} has no CERTIFICATE block; to withdraw every key of a domain, give a JWK Set with no keys"
    )]
    NoRoot(TrustDomain),
    /// The text is no JWK Set, or has a member twice.
    #[error("the bundle of {domain} is not a SPIFFE bundle (JWK Set): {why}")]
    UnreadableJwks {
        /// Whose bundle.
        domain: TrustDomain,
        /// What the parser says.
        why: String,
    },
    /// Revocation lists of a domain that has no bundle.
    #[error("there are revocation lists of {0}, which is not a trusted domain")]
    CrlOfNobody(TrustDomain),
    /// The text is not PEM.
    #[error("a revocation list of {0} is not readable PEM")]
    UnreadableCrl(TrustDomain),
    /// A file without a list.
    #[error("a revocation list of {0} has no X509 CRL block")]
    NoCrl(TrustDomain),
    /// A list that cannot be read, or that the root which it claims did not sign.
    #[error("a revocation list of {domain} is unusable (number {number} of its file): {why}")]
    UnusableCrl {
        /// Whose list.
        domain: TrustDomain,
        /// Which of the lists in its file, counted from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
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

impl TrustError {
    /// The reason code, for audit records: `bundle_dup` is V-17.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DuplicateDomain(_) => "bundle_dup",
            Self::UnreadableBundle(_) | Self::UnusableRoot { .. } | Self::NoRoot(_) | Self::UnreadableJwks { .. } => {
                "bundle_unusable"
            }
            Self::CrlOfNobody(_) | Self::UnreadableCrl(_) | Self::NoCrl(_) | Self::UnusableCrl { .. } => "crl_unusable",
            Self::UnreadableChain | Self::NotAnSvid(_) | Self::UnreadableKey | Self::KeyMismatch => "identity_unusable",
            Self::Tls(_) => "tls_unusable",
        }
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

/// How V-19, V-23, V-24 and V-32 are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// What the standard demands of a verifier. Whatever is revoked is refused, also by a list that is over.
    #[default]
    Compatible,
    /// What it demands of an issuer as well: basic constraints present (V-19), both extended key usages present (V-23),
    /// and key usage in every intermediate (V-24). And, where a trust domain has revocation lists, a list that is not over for
    /// every certificate but the root (V-32).
    Strict,
}
