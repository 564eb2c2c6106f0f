use std::sync::Arc;
use std::time::Duration;

use model::{SpiffeId, Timestamp};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, ServerConfig, ServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use crate::bundles::TrustBundles;
use crate::caller::Caller;
use crate::identity::Identity;
use crate::path::ALGORITHMS;
use crate::rejection::{Rejection, RejectionCode};
use crate::svid::{Moments, Purpose, Svid, judge};
use crate::trust::{Rules, Strictness, TrustError};
use crate::verifier::{Seen, Verifier};

/// For configurations that shake no hands.
const EPOCH: Timestamp = Timestamp::from_seconds(0);

/// Who we are, whom we trust and by which rules: the only maker of rustls configurations in the house.
///
/// Immutable: when material is reloaded, a new `Trust` takes its place.
#[derive(Debug)]
pub struct Trust {
    identity: Identity,
    bundles: Arc<TrustBundles>,
    rules: Rules,
    provider: Arc<CryptoProvider>,
    shown: Arc<SingleCertAndKey>,
}

impl Trust {
    /// Puts the three together.
    ///
    /// # Errors
    /// When rustls refuses a configuration made of them.
    pub fn new(identity: Identity, bundles: TrustBundles, rules: Rules) -> Result<Self, TrustError> {
        let shown = Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified)));
        let provider =
            CryptoProvider { signature_verification_algorithms: ALGORITHMS, ..aws_lc_rs::default_provider() };
        let trust = Self { identity, bundles: Arc::new(bundles), rules, provider: Arc::new(provider), shown };
        trust.server_config(trust.verifier(Purpose::Client, None, EPOCH)).map_err(TrustError::Tls)?;
        trust.client_config(trust.verifier(Purpose::Server, None, EPOCH)).map_err(TrustError::Tls)?;
        Ok(trust)
    }

    /// Our own SVID.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The bundles by which peers are judged.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    /// Makes ready for one server handshake, whose certificates are judged as of `now`. Good for one connection only: its
    /// verifier remembers what it verified.
    #[must_use]
    pub fn await_caller(&self, now: Timestamp) -> Handshake {
        let verifier = self.verifier(Purpose::Client, None, now);
        let config = self.server_config(Arc::clone(&verifier)).expect("new() has built the same configuration");
        Handshake { config: Arc::new(config), verifier }
    }

    /// Makes ready for one client handshake to a receiver that must be exactly `expected`, and whose certificates are judged
    /// as of `now`. DNS names are not used.
    #[must_use]
    pub fn call(&self, expected: SpiffeId, now: Timestamp) -> Call {
        let verifier = self.verifier(Purpose::Server, Some(expected), now);
        let config = self.client_config(Arc::clone(&verifier)).expect("new() has built the same configuration");
        Call { config: Arc::new(config), verifier }
    }

    /// Judges a live connection's chain again, by these bundles: trust as of the moment when the connection was made, so
    /// that an intermediate which was renewed since does not break it; revocation, the deny-list and expiry of the SVID as of
    /// `now` (CV-6, CV-7). Each peer is judged for itself: one that is not revoked keeps its connection.
    ///
    /// # Errors
    /// The rule that is broken by now.
    pub fn recheck(&self, peer: &VerifiedPeer, now: Timestamp) -> Result<(), Rejection> {
        let chain: Vec<&[u8]> = peer.chain.iter().map(AsRef::as_ref).collect();
        // V-30 is about beginning a connection, not about keeping one.
        let rules = Rules { min_remaining: Duration::ZERO, ..self.rules };
        let moments = Moments { trust: peer.established, revocation: now };
        let svid = judge(&chain, &self.bundles, &rules, moments, peer.purpose)?;
        in_time(&svid, now)
    }

    /// What time alone can change about a peer that these bundles have vouched for: its SVID expires, and by the strict rules
    /// the revocation lists of its issuers are over. No signature is checked: cheap enough for each instance and each commit.
    ///
    /// # Errors
    /// The rule that is broken by now.
    pub fn revocation_current(&self, peer: &VerifiedPeer, now: Timestamp) -> Result<(), Rejection> {
        let svid = &peer.svid;
        in_time(svid, now)?;
        let strict = self.rules.strictness == Strictness::Strict;
        if strict && !self.bundles.status_is_known(svid.id().trust_domain(), svid.issuers(), now) {
            return Err(svid.refused(RejectionCode::RevocationUnknown));
        }
        Ok(())
    }

    fn verifier(&self, purpose: Purpose, expected: Option<SpiffeId>, now: Timestamp) -> Arc<Verifier> {
        Verifier::new(Arc::clone(&self.bundles), self.rules, purpose, expected, now)
    }

    fn server_config(&self, verifier: Arc<Verifier>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<_>);
        // V-33: with rustls' defaults a client whose SVID has expired resumes its session and no rule is asked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.max_fragment_size = None;
        // RFC 7627: without it a TLS 1.2 signature does not bind the whole handshake.
        config.require_ems = true;
        Ok(config)
    }

    fn client_config(&self, verifier: Arc<Verifier>) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&self.shown) as Arc<_>);
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        config.max_fragment_size = None;
        config.require_ems = true;
        Ok(config)
    }
}

/// V-28.
fn in_time(svid: &Svid, now: Timestamp) -> Result<(), Rejection> {
    if now <= svid.not_after() { Ok(()) } else { Err(svid.refused(RejectionCode::Expired)) }
}

/// One server handshake.
#[derive(Debug)]
pub struct Handshake {
    config: Arc<ServerConfig>,
    verifier: Arc<Verifier>,
}

impl Handshake {
    /// The configuration for this one connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Says who is there, once the handshake is complete.
    ///
    /// # Errors
    /// When this handshake's verifier did not verify exactly the leaf that the connection shows, or its key was not proven.
    pub fn finish(self, connection: &ServerConnection) -> Result<VerifiedPeer, Rejection> {
        VerifiedPeer::mint(&self.verifier, connection)
    }

    /// After the handshake failed: why, if a certificate that was presented is the reason.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        self.verifier.rejection()
    }

    /// As [`Handshake::rejection`], and also when rustls' error says that no certificate was presented (V-1): then no
    /// verifier was ever asked.
    #[must_use]
    pub fn blame(&self, error: &rustls::Error) -> Option<Rejection> {
        let none = matches!(error, rustls::Error::NoCertificatesPresented);
        self.rejection().or_else(|| none.then(|| Rejection::bare(RejectionCode::NoClientCert)))
    }
}

/// One client handshake.
#[derive(Debug)]
pub struct Call {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Call {
    /// The configuration for this one connection.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// A name to give rustls, which demands one: it is neither sent nor checked.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from("receiver.invalid").expect("a valid DNS name")
    }

    /// As [`Handshake::finish`]: the peer is exactly the one that was to be called.
    ///
    /// # Errors
    /// As there.
    pub fn finish(self, connection: &ClientConnection) -> Result<VerifiedPeer, Rejection> {
        VerifiedPeer::mint(&self.verifier, connection)
    }

    /// After the handshake failed: why, if the certificate was the reason.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        self.verifier.rejection()
    }
}

/// The first key: a peer that proved its SVID in a full handshake of a configuration made here.
#[derive(Debug)]
pub struct VerifiedPeer {
    svid: Svid,
    chain: Vec<CertificateDer<'static>>,
    purpose: Purpose,
    established: Timestamp,
    pub(crate) caller: Caller,
    cipher_suite: String,
}

impl VerifiedPeer {
    fn mint(verifier: &Verifier, connection: &CommonState) -> Result<Self, Rejection> {
        let Seen { chain, svid } = verifier.proven()?;
        let full =
            matches!(connection.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        let same = connection.peer_certificates().is_some_and(|shown| shown == chain.as_slice());
        let suite = connection.negotiated_cipher_suite();
        let tls13 = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Some(true),
            Some(ProtocolVersion::TLSv1_2) => Some(false),
            _ => None,
        };
        match (suite, tls13) {
            (Some(suite), Some(tls13)) if full && same && !connection.is_handshaking() => Ok(Self {
                caller: Caller {
                    id: svid.id().clone(),
                    not_before: svid.not_before(),
                    not_after: svid.not_after(),
                    tls13,
                },
                svid,
                chain,
                purpose: verifier.purpose,
                established: verifier.now,
                cipher_suite: format!("{:?}", suite.suite()),
            }),
            _ => Err(Rejection::bare(RejectionCode::Handshake)),
        }
    }

    /// The SVID that it proved.
    #[must_use]
    pub fn svid(&self) -> &Svid {
        &self.svid
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    /// When its certificate was verified.
    #[must_use]
    pub fn established(&self) -> Timestamp {
        self.established
    }

    /// `TLSv1.3` or `TLSv1.2`.
    #[must_use]
    pub fn tls_version(&self) -> &'static str {
        if self.caller.tls13 { "TLSv1.3" } else { "TLSv1.2" }
    }

    /// The suite by its IANA name.
    #[must_use]
    pub fn cipher_suite(&self) -> String {
        self.cipher_suite.clone()
    }
}
