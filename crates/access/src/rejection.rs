use std::fmt;
use std::sync::Arc;

use model::{Digest, SpiffeId, SpiffeIdError, Timestamp};

use crate::denylist::DenyNote;

/// A certificate that is not accepted as an identity: the peer is at fault.
///
/// What it claims is *not* proven; it is here for the audit record. `Display` is a sentence for a person and holds no
/// text of the peer's but a SPIFFE ID that passed the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// The rule that it breaks.
    pub code: RejectionCode,
    /// The SPIFFE ID in the certificate, once it is known to be well-formed.
    pub claimed: Option<SpiffeId>,
    /// SHA-256 of the leaf certificate.
    pub leaf: Option<Digest>,
    /// Serial number of the leaf, lower-case hex.
    pub serial: Option<String>,
    /// End of the leaf's validity.
    pub not_after: Option<Timestamp>,
    /// What our own deny-list says about it, where that is the reason.
    pub note: Option<Arc<DenyNote>>,
}

impl Rejection {
    /// A rejection of which nothing more is known.
    pub(crate) fn bare(code: RejectionCode) -> Self {
        Self { code, claimed: None, leaf: None, serial: None, not_after: None, note: None }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.claimed {
            Some(id) => write!(f, "the certificate that claims {id} was refused: ")?,
            None => write!(f, "the peer was refused: ")?,
        }
        write!(f, "{} ({}, {})", self.code.sentence(), self.code.rule(), self.code.as_str())?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, "; {note}"))
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $rule:literal, $sentence:literal;)*) => {
        /// The V rule that was broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RejectionCode {
            $(#[doc = concat!($rule, ": ", $sentence, ".")] $name,)*
        }

        impl RejectionCode {
            /// Every code, in the order of the rules.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The reason code, as audit records and metrics have it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The number of the rule.
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }

            /// What is wrong, for a person.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

codes! {
    NoClientCert = "no_client_cert", "V-1", "it presented no certificate";
    ChainTooLarge = "chain_too_large", "V-2", "it presented more than 8 certificates or more than 64 KiB of them";
    LeafMalformed = "leaf_malformed", "V-3", "its certificate is not a well-formed X.509 version 3 certificate, or has a duplicate or unknown critical extension";
    UriSanCount = "uri_san_count", "V-4", "its certificate does not have exactly one URI name";
    IdTooLong = "id_too_long", "V-5", "its SPIFFE ID is longer than 2048 bytes or not ASCII";
    IdScheme = "id_scheme", "V-6", "the scheme of its URI name is not spiffe";
    IdSyntax = "id_syntax", "V-7", "its SPIFFE ID has a query, fragment, user info or port, or no trust domain";
    TdSyntax = "td_syntax", "V-9", "its trust domain has a character other than a-z, 0-9, dot, hyphen and underscore, or is too long";
    IdNoPath = "id_no_path", "V-10", "its SPIFFE ID has no path, so it names a trust domain and not a workload";
    PathSyntax = "path_syntax", "V-11", "the path of its SPIFFE ID is not in the only form that is allowed";
    TdUnknown = "td_unknown", "V-14", "its trust domain is not one that is trusted here";
    ChainUntrusted = "chain_untrusted", "V-15", "no root of its own trust domain vouches for its certificate";
    TdNoKeys = "td_no_keys", "V-16", "the bundle of its trust domain has no root that is valid now";
    ChainInvalid = "chain_invalid", "V-18", "its certificate chain does not hold by RFC 5280";
    ChainExpired = "chain_expired", "V-18", "a certificate that issued its certificate is outside its validity";
    LeafIsCa = "leaf_is_ca", "V-19", "its certificate is a signing certificate, which is never an identity";
    BcMissing = "bc_missing", "V-19", "its certificate has no basic constraints, which the strict rules demand";
    KuMissing = "ku_missing", "V-20", "its certificate has no key usage";
    KuNotCritical = "ku_not_critical", "V-20", "the key usage of its certificate is not critical";
    KuNoDs = "ku_no_ds", "V-21", "its certificate may not be used for digital signatures";
    KuSigning = "ku_signing", "V-22", "its certificate may sign certificates or revocation lists";
    Eku = "eku", "V-23", "the extended key usage of its certificate does not allow this use";
    IssuerKu = "issuer_ku", "V-24", "a certificate that issued its certificate may not sign certificates";
    IssuerId = "issuer_id", "V-25", "a certificate that issued its certificate has a SPIFFE ID with a path or of another trust domain";
    NameConstraint = "name_constraint", "V-27", "a name constraint of its issuer does not hold or cannot be checked";
    Expired = "expired", "V-28", "its certificate has expired";
    NotYet = "not_yet", "V-28", "its certificate is not valid yet";
    Lifetime = "lifetime", "V-29", "its certificate is valid for longer than is allowed";
    Expiring = "expiring", "V-30", "its certificate expires within moments; a new one is needed";
    WeakKey = "weak_key", "V-31", "a key or signature is not ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more, with SHA-2";
    Revoked = "revoked", "V-32", "its certificate or one that issued it is revoked, or is on the local deny-list";
    RevocationUnknown = "revocation_unknown", "V-32", "no revocation list that is still in force tells about its certificate or one that issued it";
    Handshake = "handshake", "V-33", "it did not prove in one full handshake that it holds the key of its certificate";
    UnexpectedId = "unexpected_id", "V-34", "it is not the workload that was to be reached";
}

impl From<SpiffeIdError> for RejectionCode {
    fn from(error: SpiffeIdError) -> Self {
        match error {
            SpiffeIdError::TooLong => Self::IdTooLong,
            SpiffeIdError::Scheme => Self::IdScheme,
            SpiffeIdError::Syntax => Self::IdSyntax,
            SpiffeIdError::TrustDomain => Self::TdSyntax,
            SpiffeIdError::NoPath => Self::IdNoPath,
            SpiffeIdError::Path => Self::PathSyntax,
        }
    }
}
