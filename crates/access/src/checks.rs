//! The V rules that can be judged from the certificates alone, in their order. `verify` stops at the first that is broken,
//! `explain` tells them all.

use model::{SpiffeId, Timestamp, TrustDomain};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::certificate::Certificate;
use crate::rejection::RejectionCode::{self, *};
use crate::svid::Purpose;
use crate::trust::{Rules, Strictness};

/// V-2: a real chain has two or three certificates; each costs signature checks.
pub(crate) const MAX_CHAIN_CERTIFICATES: usize = 8;
/// V-2, in bytes: as much as rustls reads for one handshake message.
pub(crate) const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// What is judged.
pub(crate) struct Case<'a> {
    pub(crate) leaf: &'a Certificate,
    /// All other certificates that the peer presented.
    pub(crate) issuers: &'a [Certificate],
    /// The trust domain that the leaf claims, if its SPIFFE ID is well-formed.
    pub(crate) domain: Option<&'a TrustDomain>,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Timestamp,
    pub(crate) purpose: Purpose,
}

impl Case<'_> {
    fn strict(&self) -> bool {
        self.rules.strictness == Strictness::Strict
    }
}

/// One rule.
pub(crate) struct Check {
    pub(crate) rule: &'static str,
    pub(crate) what: &'static str,
    pub(crate) judge: fn(&Case<'_>) -> Result<(), RejectionCode>,
}

/// V-19 to V-31, but for what only path building can tell.
pub(crate) const CHECKS: [Check; 11] = [
    Check { rule: "V-19", what: "the leaf is no certificate authority", judge: not_a_ca },
    Check { rule: "V-20", what: "key usage is present and critical", judge: key_usage_is_critical },
    Check { rule: "V-21", what: "the key may sign", judge: may_sign },
    Check { rule: "V-22", what: "the key may not sign certificates or revocation lists", judge: may_not_certify },
    Check { rule: "V-23", what: "extended key usage allows this use", judge: extended_key_usage },
    Check { rule: "V-24", what: "every issuer may sign certificates", judge: issuers_may_certify },
    Check { rule: "V-25", what: "an issuer's SPIFFE ID is that of the trust domain", judge: issuers_are_of_the_domain },
    Check { rule: "V-28", what: "it is valid now", judge: valid_now },
    Check { rule: "V-29", what: "it is short-lived", judge: short_lived },
    Check { rule: "V-30", what: "enough of its life remains", judge: enough_remains },
    Check { rule: "V-31", what: "the keys are strong", judge: strong_keys },
];

/// V-1, V-2.
pub(crate) fn presented(chain: &[&[u8]]) -> Result<(), RejectionCode> {
    let bytes: usize = chain.iter().map(|der| der.len()).sum();
    match chain.len() {
        0 => Err(NoClientCert),
        1..=MAX_CHAIN_CERTIFICATES if bytes <= MAX_CHAIN_BYTES => Ok(()),
        _ => Err(ChainTooLarge),
    }
}

/// V-3, as far as it is not done by reading. webpki, which builds the path, must be able to read it as well.
pub(crate) fn well_formed(der: &[u8]) -> Result<Certificate, RejectionCode> {
    let leaf = Certificate::read(der).map_err(|_| LeafMalformed)?;
    EndEntityCert::try_from(&CertificateDer::from(der)).map_err(|_| LeafMalformed)?;
    if leaf.unknown_critical { Err(LeafMalformed) } else { Ok(leaf) }
}

/// V-4 to V-11. No other name is ever looked at (V-13).
pub(crate) fn identity(leaf: &Certificate) -> Result<SpiffeId, RejectionCode> {
    let [uri] = leaf.uris.as_slice() else { return Err(UriSanCount) };
    let uri = std::str::from_utf8(uri).map_err(|_| IdTooLong)?;
    Ok(SpiffeId::parse(uri)?)
}

fn not_a_ca(case: &Case<'_>) -> Result<(), RejectionCode> {
    match case.leaf.ca {
        Some(true) => Err(LeafIsCa),
        None if case.strict() => Err(BcMissing),
        _ => Ok(()),
    }
}

fn key_usage_is_critical(case: &Case<'_>) -> Result<(), RejectionCode> {
    match case.leaf.key_usage {
        None => Err(KuMissing),
        Some(usage) if !usage.critical => Err(KuNotCritical),
        Some(_) => Ok(()),
    }
}

fn may_sign(case: &Case<'_>) -> Result<(), RejectionCode> {
    if case.leaf.key_usage.is_some_and(|usage| usage.digital_signature) { Ok(()) } else { Err(KuNoDs) }
}

fn may_not_certify(case: &Case<'_>) -> Result<(), RejectionCode> {
    if case.leaf.key_usage.is_some_and(|usage| usage.cert_sign || usage.crl_sign) { Err(KuSigning) } else { Ok(()) }
}

fn extended_key_usage(case: &Case<'_>) -> Result<(), RejectionCode> {
    let allowed = match (case.leaf.extended, case.purpose) {
        (None, _) => !case.strict(),
        (Some(usage), _) if case.strict() => usage.client && usage.server,
        (Some(usage), Purpose::Client) => usage.client,
        (Some(usage), Purpose::Server) => usage.server,
    };
    if allowed { Ok(()) } else { Err(Eku) }
}

fn issuers_may_certify(case: &Case<'_>) -> Result<(), RejectionCode> {
    let may = |issuer: &Certificate| {
        issuer.ca == Some(true) && issuer.key_usage.map_or(!case.strict(), |usage| usage.cert_sign)
    };
    if case.issuers.iter().all(may) { Ok(()) } else { Err(IssuerKu) }
}

fn issuers_are_of_the_domain(case: &Case<'_>) -> Result<(), RejectionCode> {
    let Some(domain) = case.domain else { return Ok(()) };
    if case.issuers.iter().all(|issuer| speaks_for(issuer, domain)) { Ok(()) } else { Err(IssuerId) }
}

/// Whether the SPIFFE ID of a signing certificate, if it has one, is that of this trust domain alone (X509-SVID §3.2).
pub(crate) fn speaks_for(issuer: &Certificate, domain: &TrustDomain) -> bool {
    let is_spiffe = |uri: &[u8]| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe:"));
    let own = format!("spiffe://{domain}");
    issuer.uris.iter().filter(|uri| is_spiffe(uri)).all(|uri| *uri == own.as_bytes())
}

fn valid_now(case: &Case<'_>) -> Result<(), RejectionCode> {
    if case.leaf.not_before > case.now.plus(case.rules.not_before_skew) {
        return Err(NotYet);
    }
    if case.now > case.leaf.not_after { Err(Expired) } else { Ok(()) }
}

fn short_lived(case: &Case<'_>) -> Result<(), RejectionCode> {
    let lifetime = case.leaf.not_after.since(case.leaf.not_before);
    if lifetime > case.rules.max_svid_lifetime { Err(Lifetime) } else { Ok(()) }
}

fn enough_remains(case: &Case<'_>) -> Result<(), RejectionCode> {
    if case.leaf.not_after.since(case.now) < case.rules.min_remaining { Err(Expiring) } else { Ok(()) }
}

fn strong_keys(case: &Case<'_>) -> Result<(), RejectionCode> {
    let strong = case.leaf.key.is_some() && case.issuers.iter().all(|issuer| issuer.key.is_some());
    if strong { Ok(()) } else { Err(WeakKey) }
}
