//! The development PKI: a certificate authority for each trust domain of `*.invalid` and short-lived SVIDs under it.
//!
//! It exists so that a newcomer and a test have working mutual TLS in a second. It never makes anything for a trust
//! domain that somebody could own, and never overwrites a file that it cannot have written itself. In production SVIDs
//! come from SPIRE or another issuer with an audit trail.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use access::{Identity, Purpose, Rules, TrustBundles};
use model::{SpiffeId, Timestamp, TrustDomain};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::OffsetDateTime;

use self::files::{at, make_dir, read_if_there, write_public, write_secret};
pub use self::pem::certificates;
use self::pem::{contains, names};

mod files;
mod pem;

/// In seconds.
const HOUR: u64 = 60 * 60;
/// An SVID lives a day: the longest that V-29 takes.
pub const SVID_LIFETIME: Duration = Duration::from_secs(24 * HOUR);
/// [`ensure`] reissues an SVID with less than this left, so that a house started now works through the afternoon.
pub const RENEW: Duration = Duration::from_secs(6 * HOUR);
/// A development authority lives a year: long enough to forget it, short enough not to trust it for ever.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(365 * 24 * HOUR);
/// [`ensure`] replaces an authority with less than this left, so that it outlives every SVID under it.
pub const AUTHORITY_RENEW: Duration = Duration::from_secs(48 * HOUR);
/// Certificates begin this much in the past, for a peer whose clock is a little behind. Stays within V-29's tolerance.
pub const BACKDATE: Duration = Duration::from_secs(30);

/// The identity that the development receiver shows.
pub const RECEIVER: &str = "spiffe://gateway.invalid/receiver";
/// `(file stem, SPIFFE ID)` of every SVID that [`ensure`] keeps.
pub const LEAVES: [(&str, &str); 3] = [
    ("receiver", RECEIVER),
    ("hospital-a", "spiffe://hospital-a.invalid/forwarder"),
    ("hospital-b", "spiffe://hospital-b.invalid/forwarder"),
];

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The trust domain could belong to somebody.
    #[error(
        "{0} is not a development trust domain: `portcullis certs` only issues for names that end in .invalid, \
         get real SVIDs from your SPIFFE issuer"
    )]
    NotDevelopment(TrustDomain),
    /// The file holds something that this program has not written.
    #[error("{path}: {why}; it is left as it is: move it away, or choose another directory with --dir")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: &'static str,
    },
    /// The certificate and the key belong to different authorities.
    #[error("{0}: ca.pem and ca.key do not belong together; delete both and run `portcullis certs init`")]
    Mismatch(PathBuf),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The library refused to make the key or certificate.
    #[error("the certificate could not be made: {0}")]
    Mint(#[from] rcgen::Error),
}

/// The outcome of this room's work.
pub type Result<T> = std::result::Result<T, PkiError>;

/// The certificate authority of one development trust domain: ECDSA P-256, `pathLen` 0, named by the domain's own
/// SPIFFE ID, which has no path.
pub struct Authority {
    domain: TrustDomain,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain, leaf first and without the root, with its private key. Its `Debug` shows no key.
pub struct Issued {
    /// PEM, one or more CERTIFICATE blocks.
    pub chain_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: String,
    /// The leaf's last second.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority, valid from `now` for a year.
    ///
    /// # Errors
    /// When the domain does not end in `.invalid`, or no key can be made.
    pub fn create(domain: TrustDomain, now: SystemTime) -> Result<Self> {
        if !domain.is_development() {
            return Err(PkiError::NotDevelopment(domain));
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = authority_params(&domain, now)?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { domain, pem, issuer: Issuer::new(params, key) })
    }

    /// Reads `ca.pem` and `ca.key` from a directory of their own.
    ///
    /// # Errors
    /// When a file cannot be read, the pair does not belong together, or it is no development authority's.
    pub fn load(dir: &Path) -> Result<Self> {
        let (pem_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        let missing = |path: &Path| at(path)(std::io::ErrorKind::NotFound.into());
        let pem = read_if_there(&pem_path)?.ok_or_else(|| missing(&pem_path))?;
        let why = "it is not the certificate of a trust domain's authority";
        let foreign = || PkiError::Foreign { path: pem_path.clone(), why };
        let domain = access::authority_domain(pem.as_bytes()).ok_or_else(foreign)?;
        if !domain.is_development() {
            return Err(PkiError::NotDevelopment(domain));
        }
        let key_pem = read_if_there(&key_path)?.ok_or_else(|| missing(&key_path))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| PkiError::Mismatch(dir.to_owned()))?;
        if !certificates(&pem).iter().all(|der| contains(der, key.public_key_raw())) {
            return Err(PkiError::Mismatch(dir.to_owned()));
        }
        // Of the parameters only the name, the key id method and the usages matter to an issuer; none depends on time.
        let params = authority_params(&domain, SystemTime::UNIX_EPOCH + BACKDATE)?;
        Ok(Self { domain, pem, issuer: Issuer::new(params, key) })
    }

    /// Writes `ca.pem` and `ca.key` into a directory, which is made if missing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        make_dir(dir)?;
        write_secret(&dir.join("ca.key"), &self.issuer.key().serialize_pem())?;
        write_public(&dir.join("ca.pem"), &self.pem)
    }

    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificate: what goes into the trust bundle of this domain.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// An SVID for this ID: a leaf with one URI SAN, `digitalSignature`, `clientAuth` and `serverAuth`.
    /// The ID's trust domain is not compared: a test wants to see a certificate from the wrong authority refused.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Issued> {
        self.issue_with(id, lifetime, now, |_| ())
    }

    /// As [`Self::issue`], with the certificate changed before it is signed.
    fn issue_with(
        &self,
        id: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Issued> {
        let mut params = svid_params(id, lifetime, now)?;
        change(&mut params);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let chain_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued {
            chain_pem,
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_seconds(params.not_after.unix_timestamp()),
        })
    }
}

/// What an SVID for this ID says, before anybody signs it.
///
/// # Errors
/// Never for a valid ID: its text is ASCII.
fn svid_params(id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<CertificateParams> {
    let mut params = params(now, lifetime)?;
    // For people who read it with openssl; nothing here ever looks at a subject (V-13).
    params.distinguished_name.push(DnType::CommonName, short_name(id));
    params.subject_alt_names = vec![uri_san(id.as_str())?];
    if id.as_str() == RECEIVER {
        params.subject_alt_names.extend(local_names()?);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A certificate that [`ensure`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate file; its key has the same name with `.key`.
    pub path: PathBuf,
    /// `spiffe://domain` for an authority, the whole ID for an SVID.
    pub id: String,
    /// What was the matter with the old one.
    pub why: Why,
}

/// Why [`ensure`] made a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There was none, or half of it.
    Missing,
    /// It had too little time left.
    NearEnd,
    /// It no longer matched its key or its authority.
    Unusable,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Missing => "new",
            Self::NearEnd => "renewed: the old one was near its end",
            Self::Unusable => "renewed: the old one did not fit its key or authority",
        })
    }
}

/// Makes what is missing under `dir`, reissues what is near its end ([`RENEW`], [`AUTHORITY_RENEW`]) and keeps the rest.
/// Two processes may do it at once: the second waits for the first. Says what it made, authorities first.
///
/// # Errors
/// When a file is in the way that it has not written, or the directory cannot be written.
pub fn ensure(dir: &Path, now: SystemTime) -> Result<Vec<Made>> {
    make_dir(dir)?;
    let lock_path = dir.join(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    let mut made = Vec::new();
    let mut leaves = Vec::new();
    for (stem, id) in LEAVES {
        let id = SpiffeId::parse(id).expect("the IDs of this file are valid");
        let (authority, new) = ensure_authority(dir, id.trust_domain(), now)?;
        made.extend(new);
        leaves.extend(ensure_leaf(&authority, dir, stem, &id, now)?);
    }
    made.extend(leaves);
    Ok(made)
}

/// Writes an SVID and its key. Only an earlier certificate of the same ID is replaced.
///
/// # Errors
/// When another file is in the way or the disk refuses.
pub fn write_pair(issued: &Issued, id: &SpiffeId, pem: &Path, key: &Path) -> Result<()> {
    if read_if_there(pem)?.is_some_and(|chain| !names(&chain, id.as_str())) {
        return Err(PkiError::Foreign { path: pem.to_owned(), why: "it is not an earlier certificate of this ID" });
    }
    // The key goes first: a crash in between leaves a pair that does not match, which the next run replaces.
    write_secret(key, &issued.key_pem)?;
    write_public(pem, &issued.chain_pem)
}

fn ensure_authority(dir: &Path, domain: &TrustDomain, now: SystemTime) -> Result<(Authority, Option<Made>)> {
    let dir = dir.join(domain.as_str());
    let why = match Authority::load(&dir) {
        Ok(other) if other.domain != *domain => {
            let why = "it is the authority of another trust domain";
            return Err(PkiError::Foreign { path: dir.join("ca.pem"), why });
        }
        Ok(authority) if lasts(&authority.pem, now + AUTHORITY_RENEW) => return Ok((authority, None)),
        Ok(_) => Why::NearEnd,
        Err(PkiError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Why::Missing,
        Err(PkiError::Mismatch(_)) => Why::Unusable,
        Err(other) => return Err(other),
    };
    let authority = Authority::create(domain.clone(), now)?;
    authority.save(&dir)?;
    let id = format!("spiffe://{}", authority.domain);
    Ok((authority, Some(Made { path: dir.join("ca.pem"), id, why })))
}

fn ensure_leaf(authority: &Authority, dir: &Path, stem: &str, id: &SpiffeId, now: SystemTime) -> Result<Option<Made>> {
    let (path, key_path) = (dir.join(stem).with_extension("pem"), dir.join(stem).with_extension("key"));
    let why = match (read_if_there(&path)?, read_if_there(&key_path)?) {
        (None, _) | (_, None) => Why::Missing,
        // Somebody else's: write_pair says so.
        (Some(chain), _) if !names(&chain, id.as_str()) => Why::Unusable,
        (Some(chain), _) if !lasts(&chain, now + RENEW) => Why::NearEnd,
        (Some(chain), Some(key)) if !serves(authority, &chain, &key, now) => Why::Unusable,
        _ => return Ok(None),
    };
    let issued = authority.issue(id, SVID_LIFETIME, now)?;
    write_pair(&issued, id, &path, &key_path)?;
    Ok(Some(Made { path, id: id.to_string(), why }))
}

/// Whether the first certificate is within its validity at that moment.
fn lasts(pem: &str, until: SystemTime) -> bool {
    let Some(der) = certificates(pem).into_iter().next() else { return false };
    let findings = access::explain(&[&der], None, &Rules::default(), until.into(), Purpose::Client);
    findings.iter().any(|finding| finding.rule == "V-28" && matches!(finding.outcome, access::Outcome::Holds))
}

/// Whether a peer that trusts this authority would take this pair.
fn serves(authority: &Authority, chain: &str, key: &str, now: SystemTime) -> bool {
    let ders = certificates(chain);
    let ders: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    let bundles = TrustBundles::new([(authority.domain.clone(), authority.pem.as_bytes())]);
    let verified = |bundles| access::verify(&ders, &bundles, &Rules::default(), now.into(), Purpose::Client).is_ok();
    Identity::from_pem(chain.as_bytes(), key.as_bytes()).is_ok() && bundles.is_ok_and(verified)
}

fn authority_params(domain: &TrustDomain, now: SystemTime) -> Result<CertificateParams> {
    let mut params = params(now, AUTHORITY_LIFETIME)?;
    let name = format!("{domain} authority");
    params.distinguished_name.push(DnType::CommonName, name.get(..64).unwrap_or(&name));
    params.subject_alt_names = vec![uri_san(&format!("spiffe://{domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(now: SystemTime, lifetime: Duration) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(now + lifetime);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Portcullis development, not for production");
    Ok(params)
}

fn uri_san(uri: &str) -> Result<SanType> {
    Ok(SanType::URI(Ia5String::try_from(uri)?))
}

/// So that DCMTK and OpenSSL, which compare host names, can be pointed at a receiver on this machine.
fn local_names() -> Result<[SanType; 3]> {
    Ok([
        SanType::DnsName(Ia5String::try_from("localhost")?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ])
}

/// The last path segment, as far as it fits into a common name (64 characters, RFC 5280 appendix A).
fn short_name(id: &SpiffeId) -> &str {
    let last = id.as_str().rsplit('/').next().unwrap_or_default();
    last.get(..64).unwrap_or(last)
}

#[cfg(test)]
mod tests;
