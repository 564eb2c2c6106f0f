//! V-32: certificate revocation lists, and what they say about a path that holds otherwise (RFC 5280 §5, §6.3).
//!
//! webpki takes the first list that has an issuer's name and fails if another key signed it. Issuers that rotate their keys
//! keep their name, so the lists that an issuer of this very path signed are found here first; webpki then decides, among
//! those, whether the status of each certificate is known.

use std::cmp::Reverse;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{
    Cert, CertRevocationList, Error, KeyUsage, OwnedCertRevocationList, RawPublicKeyEntity, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath, spki_for_anchor,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::path::ALGORITHMS;

/// One revocation list, as it was read.
#[derive(Debug)]
pub(crate) struct Crl {
    list: CertRevocationList<'static>,
    signed: Signed,
    /// The key that its issuer says it signed with (RFC 5280 §5.2.1).
    authority_key: Option<Vec<u8>>,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// How many certificates it lists.
    pub(crate) revoked: usize,
    /// The keys of roots that signed it: a long list takes long to verify.
    pub(crate) roots: Vec<SubjectPublicKeyInfoDer<'static>>,
}

#[derive(Debug)]
struct Signed {
    content: Vec<u8>,
    signature: Vec<u8>,
}

/// What a file of lists is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Pem,
    Empty,
}

/// The lists of a file in DER: PEM with any number of `X509 CRL` blocks, or one list in DER.
pub(crate) fn lists(file: &[u8]) -> Result<Vec<CertificateRevocationListDer<'_>>, Unreadable> {
    // A SEQUENCE, and a length in the long form: every list is longer than 127 bytes.
    if let [0x30, 0x80..=0xFF, ..] = file {
        return Ok(vec![file.into()]);
    }
    let lists: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(file).collect::<Result<_, _>>().map_err(|_| Unreadable::Pem)?;
    if lists.is_empty() { Err(Unreadable::Empty) } else { Ok(lists) }
}

impl Crl {
    /// Reads one list. Its signature is not checked here.
    pub(crate) fn read(der: &[u8]) -> Result<Self, &'static str> {
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| match error {
            Error::UnsupportedDeltaCrl => "it is a delta list; a complete one is needed",
            Error::UnsupportedIndirectCrl => "it is an indirect list; one of the issuer's own is needed",
            Error::UnsupportedRevocationReasonsPartitioning => "it is for some reasons only; a complete one is needed",
            _ => "it is not a strict version 2 list with a next update (RFC 5280, section 5)",
        })?;
        let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|_| "it is not a strict DER list")?;
        let next_update = parsed.next_update().ok_or("it does not say when the next one comes")?;
        let authority_key = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            list: list.into(),
            signed: Signed {
                content: parsed.tbs_cert_list.as_ref().to_vec(),
                signature: parsed.signature_value.data.to_vec(),
            },
            authority_key,
            this_update: Timestamp::from_seconds(parsed.last_update().timestamp()),
            next_update: Timestamp::from_seconds(next_update.timestamp()),
            revoked: parsed.iter_revoked_certificates().count(),
            roots: Vec::new(),
        })
    }

    /// The issuer's name in DER, without the SEQUENCE around it: as webpki gives names.
    pub(crate) fn issuer(&self) -> &[u8] {
        self.list.issuer()
    }

    /// Whether it claims to be signed with the key of this identifier. One that does not say claims every key.
    pub(crate) fn claims(&self, key_id: Option<&[u8]>) -> bool {
        self.authority_key.as_deref().zip(key_id).is_none_or(|(claimed, key_id)| claimed == key_id)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.next_update <= now
    }

    /// Whether this key signed it, by an algorithm that V-31 allows.
    pub(crate) fn is_signed_by(&self, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
        if self.roots.contains(key) {
            return true;
        }
        let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
        let Signed { content, signature } = &self.signed;
        ALGORITHMS.all.iter().any(|algorithm| key.verify_signature(*algorithm, content, signature).is_ok())
    }

    fn lists(&self, certificate: &Cert<'_>) -> bool {
        // A list with an entry that cannot be read was refused when it was loaded.
        !matches!(self.list.find_serial(certificate.serial()), Ok(None))
    }

    /// Whether `self` takes the place of `other`: of the same issuer, key and scope, and not older.
    fn supersedes(&self, other: &Self) -> bool {
        self.issuer() == other.issuer()
            && self.list.issuing_distribution_point() == other.list.issuing_distribution_point()
            && self.authority_key.is_some()
            && self.authority_key == other.authority_key
            && self.this_update >= other.this_update
    }
}

/// Adds a list to those of its trust domain; the one that lasts longest comes first. Of an older and a newer one the newer
/// counts, whatever their order in a file.
pub(crate) fn add(lists: &mut Vec<Arc<Crl>>, new: Crl) {
    if lists.iter().any(|old| old.supersedes(&new)) {
        return;
    }
    lists.retain(|old| !new.supersedes(old));
    lists.push(Arc::new(new));
    lists.sort_by_key(|list| Reverse(list.next_update));
}

/// What is asked about each path that webpki finds.
pub(crate) struct Revocation<'a> {
    /// Of the trust domain. None at all: revocation is not configured for it.
    pub(crate) lists: &'a [Arc<Crl>],
    /// Whether a certificate of unknown status is refused.
    pub(crate) strict: bool,
    /// Whether the deny-list has it.
    pub(crate) denied: bool,
    pub(crate) now: Timestamp,
}

impl Revocation<'_> {
    /// Refuses a path with a certificate that is revoked, or by the strict rules of unknown status.
    pub(crate) fn judge(&self, path: &VerifiedPath<'_>, at: UnixTime, usage: KeyUsage) -> Result<(), Error> {
        if self.denied {
            return Err(Error::CertRevoked);
        }
        let mut current = Vec::new();
        for (certificate, issuer) in links(path) {
            let signed = |list: &&Arc<Crl>| list.issuer() == certificate.issuer() && list.is_signed_by(&issuer);
            for list in self.lists.iter().filter(signed) {
                if list.lists(certificate) {
                    return Err(Error::CertRevoked);
                }
                current.push(list);
            }
        }
        if !self.strict || self.lists.is_empty() {
            return Ok(());
        }
        current.retain(|list| !list.is_expired(self.now));
        let current: Vec<&CertRevocationList<'_>> = current.into_iter().map(|list| &list.list).collect();
        known(path, &current, at, usage).map_err(|_| Error::UnknownRevocationStatus)
    }
}

/// Each certificate of a path, leaf first, with the key that issued it.
fn links<'p>(path: &'p VerifiedPath<'p>) -> impl Iterator<Item = (&'p Cert<'p>, SubjectPublicKeyInfoDer<'p>)> {
    let leaf: &Cert<'_> = path.end_entity();
    let certificates = [leaf].into_iter().chain(path.intermediate_certificates());
    let issuers = path.intermediate_certificates().map(|issuer| issuer.subject_public_key_info());
    certificates.zip(issuers.chain([spki_for_anchor(path.anchor())]))
}

/// Whether each certificate of the path is within the scope of one of these lists.
fn known(
    path: &VerifiedPath<'_>,
    lists: &[&CertRevocationList<'_>],
    at: UnixTime,
    usage: KeyUsage,
) -> Result<(), Error> {
    let options = RevocationOptionsBuilder::new(lists)
        .map_err(|_| Error::UnknownRevocationStatus)?
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .build();
    let intermediates: Vec<CertificateDer<'_>> = path.intermediate_certificates().map(|issuer| issuer.der()).collect();
    let anchor = slice::from_ref(path.anchor());
    let leaf = path.end_entity();
    leaf.verify_for_usage(ALGORITHMS.all, anchor, &intermediates, at, usage, Some(options), None).map(|_| ())
}

/// As webpki counts, in whole seconds.
pub(crate) fn unix(moment: Timestamp) -> UnixTime {
    let seconds = u64::try_from(moment.as_millis() / 1000).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    #[test]
    fn a_list_that_does_not_name_its_key_takes_the_place_of_none() {
        let ca = Ca::root();
        let unnamed = || Crl { authority_key: None, ..Crl::read(&ca.crl(&[])).expect("a list") };
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            add(&mut named, Crl::read(&ca.crl(&[])).expect("a list"));
            add(&mut others, unnamed());
        }
        assert_eq!((named.len(), others.len()), (1, 2));
        assert!(unnamed().claims(Some(&[1])), "and claims the name of every key");
    }
}
