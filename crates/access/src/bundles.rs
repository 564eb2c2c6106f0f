use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{SpiffeId, Timestamp, TrustDomain};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor};
use webpki::spki_for_anchor;

use crate::certificate::Certificate;
use crate::checks;
use crate::denylist::{DenyList, DenyNote};
use crate::jwks::{self, Authorities, Fault};
use crate::revocation::{self, Crl, Unreadable};
use crate::trust::TrustError;

/// The roots of each trust domain that is trusted here, and what of them is revoked. They are never merged: an SVID is judged
/// by the roots and revocation lists of the domain that it claims, and by no other (V-15, V-32).
#[derive(Clone)]
pub struct TrustBundles {
    bundles: BTreeMap<TrustDomain, Bundle>,
    denied: Arc<DenyList>,
}

#[derive(Clone)]
struct Bundle {
    roots: Vec<Root>,
    crls: Vec<Arc<Crl>>,
    sequence: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) anchor: TrustAnchor<'static>,
    key_id: Option<Vec<u8>>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Root {
    pub(crate) fn is_valid(&self, now: Timestamp, skew: Duration) -> bool {
        self.not_before <= now.plus(skew) && now <= self.not_after
    }
}

/// The bundle of one trust domain, as it came.
#[derive(Debug, Clone, Copy)]
pub enum BundleSource<'a> {
    /// PEM text with one or more CERTIFICATE blocks. Without one it is a mistake, and refused.
    Pem(&'a [u8]),
    /// A SPIFFE bundle: a JWK Set (SPIFFE_Trust_Domain_and_Bundle.md §4). Without a key for X509-SVIDs it is legal, and every
    /// SVID of the domain is invalid (V-16): that is how a domain revokes all that it published.
    Jwks(&'a [u8]),
    /// Certificates in DER, as the SPIFFE Workload API gives them. None: as for a JWK Set.
    Der(&'a [Vec<u8>]),
}

impl<'a> BundleSource<'a> {
    /// What a file holds: a JWK Set if its first byte that is no space is `{`, else PEM.
    #[must_use]
    pub fn of_file(bytes: &'a [u8]) -> Self {
        if bytes.trim_ascii_start().starts_with(b"{") { Self::Jwks(bytes) } else { Self::Pem(bytes) }
    }
}

/// What `receive --check` and metrics tell about one revocation list in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFacts {
    /// Whose it is.
    pub domain: TrustDomain,
    /// When it was made.
    pub this_update: Timestamp,
    /// When it is over: by the strict rules nobody whom only this list vouches for is let in from here on.
    pub next_update: Timestamp,
    /// How many certificates it lists.
    pub revoked: usize,
    /// Whether a root of the domain signed it. Otherwise an intermediate must have, which only a handshake can tell.
    pub signed_by_root: bool,
}

impl TrustBundles {
    /// Each entry: a trust domain and the content of a file ([`BundleSource::of_file`]).
    ///
    /// # Errors
    /// As [`TrustBundles::of`].
    pub fn new<'a>(entries: impl IntoIterator<Item = (TrustDomain, &'a [u8])>) -> Result<Self, TrustError> {
        Self::of(entries.into_iter().map(|(domain, file)| (domain, BundleSource::of_file(file))))
    }

    /// Each entry: a trust domain and its roots.
    ///
    /// # Errors
    /// A domain that comes twice (V-17), a bundle that cannot be read, a root that cannot be used, or PEM without a root
    /// refuses the whole set.
    pub fn of<'a>(entries: impl IntoIterator<Item = (TrustDomain, BundleSource<'a>)>) -> Result<Self, TrustError> {
        let mut bundles = BTreeMap::new();
        for (domain, source) in entries {
            let bundle = read(&domain, source)?;
            if bundles.insert(domain.clone(), bundle).is_some() {
                return Err(TrustError::DuplicateDomain(domain));
            }
        }
        Ok(Self { bundles, denied: Arc::default() })
    }

    /// Adds revocation lists (V-32). Each entry: a trust domain and the content of a file, PEM with one or more `X509 CRL`
    /// blocks or one list in DER; a domain may come several times. Of two lists of the same issuer, key and scope the newer
    /// counts.
    ///
    /// A list may be issued by an intermediate, which is known in a handshake only; its signature is checked there. One that
    /// claims name and key of a root is checked here.
    ///
    /// # Errors
    /// A domain that is not trusted, a file without a list, and a list that cannot be read or that is not signed by the root
    /// that it claims, refuse the whole set. A list that is over does not: what it revokes stays revoked.
    pub fn with_crls<'a>(
        mut self,
        entries: impl IntoIterator<Item = (TrustDomain, &'a [u8])>,
    ) -> Result<Self, TrustError> {
        for (domain, file) in entries {
            let Some(bundle) = self.bundles.get_mut(&domain) else { return Err(TrustError::CrlOfNobody(domain)) };
            let lists = revocation::lists(file).map_err(|error| match error {
                Unreadable::Pem => TrustError::UnreadableCrl(domain.clone()),
                Unreadable::Empty => TrustError::NoCrl(domain.clone()),
            })?;
            for (at, der) in lists.iter().enumerate() {
                let unusable = |why| TrustError::UnusableCrl { domain: domain.clone(), number: at + 1, why };
                let mut crl = Crl::read(der).map_err(unusable)?;
                crl.roots = bundle.signers(&crl).map_err(unusable)?;
                revocation::add(&mut bundle.crls, crl);
            }
        }
        Ok(self)
    }

    /// Takes this local deny-list into force (V-32), in the place of the one before.
    #[must_use]
    pub fn with_deny_list(mut self, denied: DenyList) -> Self {
        self.denied = Arc::new(denied);
        self
    }

    /// The domains that are trusted here.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.bundles.keys()
    }

    /// `spiffe_sequence` of a domain's bundle, if it is a JWK Set that has one. A lower number than that in force tells an older
    /// bundle (SPIFFE_Trust_Domain_and_Bundle.md §4.1.1).
    #[must_use]
    pub fn sequence(&self, domain: &TrustDomain) -> Option<u64> {
        self.bundles.get(domain).and_then(|bundle| bundle.sequence)
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> impl Iterator<Item = CrlFacts> {
        self.bundles.iter().flat_map(|(domain, bundle)| {
            bundle.crls.iter().map(|crl| CrlFacts {
                domain: domain.clone(),
                this_update: crl.this_update,
                next_update: crl.next_update,
                revoked: crl.revoked,
                signed_by_root: !crl.roots.is_empty(),
            })
        })
    }

    /// The local deny-list in force.
    #[must_use]
    pub fn deny_list(&self) -> &DenyList {
        &self.denied
    }

    /// What an operator should know and nothing refuses: sentences for a log and for `--check`.
    #[must_use]
    pub fn remarks(&self, now: Timestamp) -> Vec<String> {
        let empty = self.bundles.iter().filter(|(_, bundle)| bundle.roots.is_empty());
        let empty = empty.map(|(domain, _)| {
            format!("the bundle of {domain} has no key for X509-SVIDs: every identity of {domain} is refused")
        });
        let over = self.crls().filter(|crl| crl.next_update <= now);
        let over = over.map(|crl| {
            format!("a revocation list of {} is over since {}: put the newer one there", crl.domain, crl.next_update)
        });
        let unsigned = self.crls().filter(|crl| !crl.signed_by_root);
        let unsigned = unsigned.map(|crl| {
            format!("no root of {0} signed a revocation list of {0}: it counts if an intermediate did", crl.domain)
        });
        empty.chain(over).chain(unsigned).collect()
    }

    pub(crate) fn roots(&self, domain: &TrustDomain) -> Option<&[Root]> {
        self.bundles.get(domain).map(|bundle| bundle.roots.as_slice())
    }

    pub(crate) fn lists(&self, domain: &TrustDomain) -> &[Arc<Crl>] {
        self.bundles.get(domain).map_or(&[], |bundle| &bundle.crls)
    }

    /// What the deny-list says about this chain and identity, if it has one of them.
    pub(crate) fn denies(&self, chain: &[&[u8]], id: &SpiffeId) -> Option<Arc<DenyNote>> {
        self.denied.denies(chain, id)
    }

    /// Whether each of these issuers of a domain has a revocation list that is not over. Signatures and scopes are not looked
    /// at: that was done when the path was judged. Without any list revocation is not configured.
    pub(crate) fn status_is_known(&self, domain: &TrustDomain, issuers: &[Box<[u8]>], now: Timestamp) -> bool {
        let lists = self.lists(domain);
        let current = |issuer: &[u8]| lists.iter().any(|list| list.issuer() == issuer && !list.is_expired(now));
        lists.is_empty() || issuers.iter().all(|issuer| current(issuer))
    }
}

impl fmt::Debug for TrustBundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |(domain, bundle): (_, &Bundle)| (domain, (bundle.roots.len(), bundle.crls.len()));
        f.debug_map().entries(self.bundles.iter().map(counts)).finish()
    }
}

impl Bundle {
    /// The keys of the roots that signed a list. One with the name and key identifier of a root must be signed by it: it is
    /// damaged otherwise, or forged.
    fn signers(&self, crl: &Crl) -> Result<Vec<SubjectPublicKeyInfoDer<'static>>, &'static str> {
        let named: Vec<_> = self.roots.iter().filter(|root| crl.issuer() == root.anchor.subject.as_ref()).collect();
        let claimed = named.iter().any(|root| crl.claims(root.key_id.as_deref()));
        let keys = named.iter().map(|root| spki_for_anchor(&root.anchor));
        let signers: Vec<_> = keys.filter(|key| crl.is_signed_by(key)).collect();
        if claimed && signers.is_empty() {
            Err("it claims to be a root's, and that root did not sign it")
        } else {
            Ok(signers)
        }
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

fn read(domain: &TrustDomain, source: BundleSource<'_>) -> Result<Bundle, TrustError> {
    let unusable = |number, why| TrustError::UnusableRoot { domain: domain.clone(), number, why };
    let Authorities { certificates, sequence } = match source {
        BundleSource::Pem(text) => Authorities { certificates: pem(domain, text)?, sequence: None },
        BundleSource::Der(list) => {
            Authorities { certificates: list.iter().cloned().map(CertificateDer::from).collect(), sequence: None }
        }
        BundleSource::Jwks(text) => jwks::authorities(text).map_err(|fault| match fault {
            Fault::Set(why) => TrustError::UnreadableJwks { domain: domain.clone(), why },
            Fault::Key(number, why) => unusable(number, why),
        })?,
    };
    let roots = certificates.iter().enumerate();
    let roots = roots.map(|(at, der)| root(domain, der).map_err(|why| unusable(at + 1, why)));
    Ok(Bundle { roots: roots.collect::<Result<_, _>>()?, crls: Vec::new(), sequence })
}

fn pem(domain: &TrustDomain, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| TrustError::UnreadableBundle(domain.clone()))?;
    if certificates.is_empty() { Err(TrustError::NoRoot(domain.clone())) } else { Ok(certificates) }
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
    if certificate.key.is_none() {
        return Err("its key is not ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more");
    }
    let Certificate { key_id, not_before, not_after, .. } = certificate;
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| "it cannot serve as a trust anchor")?;
    Ok(Root { anchor: anchor.to_owned(), key_id, not_before, not_after })
}
