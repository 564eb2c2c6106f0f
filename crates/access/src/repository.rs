//! The audit repository (PS3.15 A.6, RFC 5425): ordinary WebPKI by one configured issuer and DNS name, with our own SVID as
//! the client certificate. It is no SPIFFE peer, so the V rules are not asked about it; it may hear and never be heard.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};

use crate::identity::Identity;
use crate::path::ALGORITHMS;

/// Whom we take for the audit repository.
#[derive(Debug, Clone)]
pub struct Repository {
    roots: Arc<RootCertStore>,
    name: ServerName<'static>,
}

/// The repository cannot be called like this: our own configuration is at fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RepositoryError {
    /// The issuer's file is not usable.
    #[error("the issuer of the audit repository's certificate is not readable PEM with a CERTIFICATE block")]
    UnreadableIssuer,
    /// The name is none that a certificate could have.
    #[error("{0:?} is no DNS name or IP address that a certificate could have")]
    BadName(String),
    /// rustls refuses the configuration.
    #[error("the TLS configuration is not usable")]
    Tls(#[source] rustls::Error),
}

/// One client handshake with the repository.
#[derive(Debug)]
pub struct RepositoryCall {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Repository {
    /// The issuer (PEM) of its certificate, and the DNS name or IP address that stands in it.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn new(issuer: &[u8], name: &str) -> Result<Self, RepositoryError> {
        let issuers: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(issuer)
            .collect::<Result<_, _>>()
            .map_err(|_| RepositoryError::UnreadableIssuer)?;
        let mut roots = RootCertStore::empty();
        for issuer in issuers {
            roots.add(issuer).map_err(|_| RepositoryError::UnreadableIssuer)?;
        }
        if roots.is_empty() {
            return Err(RepositoryError::UnreadableIssuer);
        }
        let name = ServerName::try_from(name.to_owned()).map_err(|_| RepositoryError::BadName(name.to_owned()))?;
        Ok(Self { roots: Arc::new(roots), name })
    }

    /// Makes ready for one handshake, TLS 1.2 or later, showing `identity`: give today's each time.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn call(&self, identity: &Identity) -> Result<RepositoryCall, RepositoryError> {
        let provider =
            CryptoProvider { signature_verification_algorithms: ALGORITHMS, ..aws_lc_rs::default_provider() };
        let shown = SingleCertAndKey::from(Arc::clone(&identity.certified));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(RepositoryError::Tls)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Arc::new(shown));
        // A full handshake each time: the repository sees the identity of today.
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.require_ems = true;
        Ok(RepositoryCall { config: Arc::new(config), name: self.name.clone() })
    }
}

impl RepositoryCall {
    /// The configuration for this one connection.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that must stand in the repository's certificate.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_could_never_be_proven_is_refused() {
        let issuer = rcgen::generate_simple_self_signed(["repository.example".to_owned()]).expect("it can be made");
        let pem = issuer.cert.pem();
        assert!(Repository::new(pem.as_bytes(), "repository.example").is_ok());
        assert!(Repository::new(pem.as_bytes(), "192.0.2.7").is_ok());
        let cases: &[(&str, &[u8], &str)] =
            &[("no PEM", b"x", "a.example"), ("nothing", b"", "a.example"), ("no name", pem.as_bytes(), "not a name")];
        for (name, issuer, server) in cases {
            assert!(Repository::new(issuer, server).is_err(), "{name}");
        }
    }
}
