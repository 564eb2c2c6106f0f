//! V-14 to V-18, V-27, V-32: the path to a root of the claimed trust domain, and of no other.

use std::time::Duration;

use model::{Timestamp, TrustDomain};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use webpki::aws_lc_rs::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY, RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};

use crate::bundles::TrustBundles;
use crate::certificate::Certificate;
use crate::rejection::RejectionCode::{self, *};
use crate::revocation::{Revocation, unix};
use crate::svid::Purpose;

/// V-31, for certificates and for the handshake alike: ECDSA P-256 and P-384, Ed25519, RSA of 2048 bits or more; SHA-2.
pub(crate) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ECDSA_P256_SHA256,
        ECDSA_P256_SHA384,
        ECDSA_P384_SHA256,
        ECDSA_P384_SHA384,
        ED25519,
        RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512,
    ],
    // TLS 1.3 ties the curve to the scheme and tries the first algorithm only; TLS 1.2 does not (RFC 8446 §4.2.3).
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384, ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[ECDSA_P256_SHA256, ECDSA_P384_SHA256]),
        (SignatureScheme::ED25519, &[ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// The anchors of this trust domain that are valid now (V-14 to V-16).
pub(crate) fn anchors(
    bundles: &TrustBundles,
    domain: &TrustDomain,
    now: Timestamp,
    skew: Duration,
) -> Result<Vec<TrustAnchor<'static>>, RejectionCode> {
    let roots = bundles.roots(domain).ok_or(TdUnknown)?;
    let anchors: Vec<_> =
        roots.iter().filter(|root| root.is_valid(now, skew)).map(|root| root.anchor.clone()).collect();
    if anchors.is_empty() { Err(TdNoKeys) } else { Ok(anchors) }
}

/// Builds and checks a path from the leaf to one of `anchors` (RFC 5280 §6.1, by webpki with its own work budget) on which
/// nothing is revoked. Gives the names of the issuers on that path, the leaf's first.
pub(crate) fn build(
    chain: &[&[u8]],
    anchors: &[TrustAnchor<'_>],
    at: Timestamp,
    purpose: Purpose,
    revocation: &Revocation<'_>,
) -> Result<Vec<Box<[u8]>>, RejectionCode> {
    let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
    let (leaf, intermediates) = chain.split_first().ok_or(NoClientCert)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| LeafMalformed)?;
    let usage = match purpose {
        Purpose::Client => KeyUsage::client_auth(),
        Purpose::Server => KeyUsage::server_auth(),
    };
    let at = unix(at);
    let unrevoked = |path: &VerifiedPath<'_>| revocation.judge(path, at, usage);
    let path = leaf
        .verify_for_usage(ALGORITHMS.all, anchors, intermediates, at, usage, None, Some(&unrevoked))
        .map_err(|error| code(&error))?;
    let beyond = path.intermediate_certificates().map(|issuer| issuer.issuer().into());
    Ok([leaf.issuer().into()].into_iter().chain(beyond).collect())
}

/// The moment at which the path is judged: now, or a little later where a certificate of the chain begins within the
/// skew that V-28 allows.
pub(crate) fn moment<'a>(
    certificates: impl Iterator<Item = &'a Certificate>,
    now: Timestamp,
    skew: Duration,
) -> Timestamp {
    certificates.map(|certificate| certificate.not_before).filter(|begin| *begin <= now.plus(skew)).fold(now, Ord::max)
}

fn code(error: &Error) -> RejectionCode {
    match error {
        // A root of the same name with another key, too, is a root that does not vouch.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => ChainUntrusted,
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => ChainExpired,
        Error::CaUsedAsEndEntity => LeafIsCa,
        Error::EndEntityUsedAsCa => IssuerKu,
        Error::RequiredEkuNotFoundContext(_) => Eku,
        Error::NameConstraintViolation
        | Error::MalformedNameConstraint
        | Error::InvalidNetworkMaskConstraint
        | Error::MaximumNameConstraintComparisonsExceeded => NameConstraint,
        Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            WeakKey
        }
        Error::CertRevoked => Revoked,
        Error::UnknownRevocationStatus => RevocationUnknown,
        _ => ChainInvalid,
    }
}
