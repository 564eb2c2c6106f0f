use std::fmt;
use std::sync::Arc;

use model::{SpiffeId, Timestamp};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::checks;
use crate::trust::TrustError;

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
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TrustError::UnreadableKey)?;
        Self::new(chain, &key)
    }

    /// As [`Identity::from_pem`], of what the SPIFFE Workload API gives (SPIFFE_Workload_API.md §5.2.1): certificates in DER,
    /// leaf first, and the key in PKCS#8 DER.
    ///
    /// # Errors
    /// As there.
    pub fn from_der(chain: Vec<Vec<u8>>, key_pkcs8: Vec<u8>) -> Result<Self, TrustError> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self::new(chain, &PrivatePkcs8KeyDer::from(key_pkcs8).into())
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, TrustError> {
        let leaf = chain.first().ok_or(TrustError::UnreadableChain)?;
        let leaf = checks::well_formed(leaf).map_err(TrustError::NotAnSvid)?;
        let id = checks::identity(&leaf).map_err(TrustError::NotAnSvid)?;
        let key = any_supported_type(key).map_err(|_| TrustError::UnreadableKey)?;
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
