//! A TLS client that shows any chain over either version, takes every receiver, and resumes a session whenever it is let.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rcgen::KeyPair;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

/// The version of TLS that a [`Stranger`] speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// The client. Connections of one stranger share its sessions.
pub struct Stranger {
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
}

impl Stranger {
    /// Shows this chain (DER, leaf first; none: no certificate) and signs with this key (PEM) where the receiver takes its
    /// kind, else with one of its own: a chain that must be refused is refused before that matters.
    ///
    /// # Panics
    /// When the key is not PEM or of no kind that rustls knows.
    #[must_use]
    pub fn new(chain: &[Vec<u8>], key: Option<&str>, version: Tls) -> Self {
        let versions = match version {
            Tls::V12 => [&TLS12],
            Tls::V13 => [&TLS13],
        };
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let shown = (!chain.is_empty()).then(|| Shown::new(&chain, key));
        let sessions = Arc::new(Sessions::default());
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)
            .expect("a supported version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_client_cert_resolver(Arc::new(Showing(shown)));
        config.enable_sni = false;
        config.resumption = Resumption::store(Arc::clone(&sessions) as Arc<_>);
        Self { config: Arc::new(config), sessions }
    }

    /// How often a receiver gave it something to resume a session with: a session id, or a ticket.
    #[must_use]
    pub fn sessions_given(&self) -> usize {
        self.sessions.given.load(Ordering::Relaxed)
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// The chain with the key that belongs to it, and with one that does not.
#[derive(Debug)]
struct Shown {
    own: Option<Arc<CertifiedKey>>,
    other: Arc<CertifiedKey>,
}

impl Shown {
    fn new(chain: &[CertificateDer<'static>], key: Option<&str>) -> Self {
        static OTHER: LazyLock<String> = LazyLock::new(|| KeyPair::generate().expect("a key").serialize_pem());
        let with = |pem: &str| {
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("the key is PEM");
            Arc::new(CertifiedKey::new(chain.to_vec(), any_supported_type(&key).expect("a known kind of key")))
        };
        Self { own: key.map(with), other: with(&OTHER) }
    }
}

#[derive(Debug)]
struct Showing(Option<Shown>);

impl ResolvesClientCert for Showing {
    fn resolve(&self, _root_hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.as_ref()?;
        let fits = |own: &&Arc<CertifiedKey>| own.key.choose_scheme(schemes).is_some();
        Some(Arc::clone(shown.own.as_ref().filter(fits).unwrap_or(&shown.other)))
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Keeps sessions as a client does by default, and counts them.
#[derive(Debug)]
struct Sessions {
    kept: ClientSessionMemoryCache,
    given: AtomicUsize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { kept: ClientSessionMemoryCache::new(256), given: AtomicUsize::new(0) }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.kept.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.kept.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.kept.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(server_name)
    }
}

/// Takes every server certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
