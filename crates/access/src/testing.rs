//! Certificates that are minted for one test, and a handshake in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{AeTitle, Proposal, ProposedContext, SpiffeId, Timestamp, TrustDomain, Uid};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::path::ALGORITHMS;
use crate::{Identity, Origin, Rules, Trust, TrustBundles, VerifiedPeer};

pub(crate) const DOMAIN: &str = "hosp-a.example";
pub(crate) const CT1: &str = "spiffe://hosp-a.example/ingest/ct1";
pub(crate) const GATEWAY: &str = "spiffe://hosp-a.example/gateway";
pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// The real time: rustls asks the system's clock in the handshakes.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sets the validity of a certificate in seconds from now.
pub(crate) fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    params.not_before = date_time_ymd(1970, 1, 1) + after_1970(from);
    params.not_after = date_time_ymd(1970, 1, 1) + after_1970(until);
}

/// The time between 1970 and so many seconds from now.
fn after_1970(offset: i64) -> Duration {
    seconds(u64::try_from(now().as_millis() / 1000 + offset).expect("after 1970"))
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse(DOMAIN).expect("valid")
}

/// One DER element.
pub(crate) fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(body.len()).expect("short")], body].concat()
}

pub(crate) fn extension(oid: &[u64], content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// The serial number of a certificate, as it stands there.
pub(crate) fn serial(der: &[u8]) -> Vec<u8> {
    webpki::EndEntityCert::try_from(&CertificateDer::from(der)).expect("a certificate").serial().to_vec()
}

/// A certificate authority, with the intermediates between it and its root.
pub(crate) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) pem: String,
    chain: Vec<Vec<u8>>,
}

impl Ca {
    pub(crate) fn root() -> Self {
        Self::root_with(|_| ())
    }

    pub(crate) fn root_with(edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = Self::parts(edit);
        let pem = params.self_signed(&key).expect("minted").pem();
        Self { params, key, pem, chain: Vec::new() }
    }

    /// A root whose key is of this kind.
    pub(crate) fn root_of(algorithm: &'static SignatureAlgorithm) -> Self {
        let (params, _) = Self::parts(|_| ());
        let key = KeyPair::generate_for(algorithm).expect("generated");
        let pem = params.self_signed(&key).expect("minted").pem();
        Self { params, key, pem, chain: Vec::new() }
    }

    pub(crate) fn intermediate(&self, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = Self::parts(edit);
        let minted = params.signed_by(&key, &self.issuer()).expect("minted");
        let chain = [vec![minted.der().to_vec()], self.chain.clone()].concat();
        Self { params, key, pem: minted.pem(), chain }
    }

    /// An intermediate whose key is of this kind.
    pub(crate) fn intermediate_of(&self, algorithm: &'static SignatureAlgorithm) -> Self {
        let (params, _) = Self::parts(|_| ());
        let key = KeyPair::generate_for(algorithm).expect("generated");
        let minted = params.signed_by(&key, &self.issuer()).expect("minted");
        let chain = [vec![minted.der().to_vec()], self.chain.clone()].concat();
        Self { params, key, pem: minted.pem(), chain }
    }

    fn parts(edit: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("CA {}", COUNT.fetch_add(1, Ordering::Relaxed)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{DOMAIN}"))];
        edit(&mut params);
        (params, KeyPair::generate().expect("generated"))
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A revocation list in force from a minute ago for an hour, of these certificates in DER.
    pub(crate) fn crl(&self, revoked: &[&[u8]]) -> Vec<u8> {
        self.crl_with(revoked, (-60, 3600), |_| ())
    }

    /// As above, with its validity in seconds from now.
    pub(crate) fn crl_with(
        &self,
        revoked_certs: &[&[u8]],
        (from, until): (i64, i64),
        edit: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        let at = |offset| date_time_ymd(1970, 1, 1) + after_1970(offset);
        let revoked = |der: &&[u8]| RevokedCertParams {
            serial_number: serial(der).into(),
            revocation_time: at(from),
            reason_code: None,
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: at(from),
            next_update: at(until),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.iter().map(revoked).collect(),
            key_identifier_method: self.params.key_identifier_method.clone(),
        };
        edit(&mut params);
        params.signed_by(&self.issuer()).expect("minted").der().to_vec()
    }

    pub(crate) fn leaf(&self, id: &str) -> Leaf {
        self.leaf_with(id, |_| ())
    }

    /// A chain to this authority for somebody else's key; who shows it can prove nothing.
    pub(crate) fn chain_for(&self, key: &impl PublicKeyData) -> Vec<Vec<u8>> {
        let minted = Self::leaf_params(CT1).signed_by(key, &self.issuer()).expect("minted");
        [vec![minted.der().to_vec()], self.chain.clone()].concat()
    }

    pub(crate) fn leaf_with(&self, id: &str, edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.leaf_of(id, &PKCS_ECDSA_P256_SHA256, edit)
    }

    pub(crate) fn leaf_of(
        &self,
        id: &str,
        algorithm: &'static SignatureAlgorithm,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let key = KeyPair::generate_for(algorithm).expect("generated");
        let mut params = Self::leaf_params(id);
        edit(&mut params);
        let minted = params.signed_by(&key, &self.issuer()).expect("minted");
        let chain = [vec![minted.der().to_vec()], self.chain.clone()].concat();
        Leaf { chain, key }
    }

    fn leaf_params(id: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "workload");
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        valid(&mut params, -60, 3600);
        params
    }

    pub(crate) fn bundle(&self) -> TrustBundles {
        TrustBundles::new([(domain(), self.pem.as_bytes())]).expect("usable")
    }
}

/// A leaf with its chain and key.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: KeyPair,
}

impl Leaf {
    pub(crate) fn chain(&self) -> Vec<&[u8]> {
        self.chain.iter().map(Vec::as_slice).collect()
    }

    pub(crate) fn chain_pem(&self) -> String {
        let pem = |der| {
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode::<&Vec<u8>>(der))
        };
        self.chain.iter().map(pem).collect()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.chain_pem().as_bytes(), self.key.serialize_pem().as_bytes()).expect("usable")
    }

    pub(crate) fn trust(&self, bundles: TrustBundles) -> Trust {
        Trust::new(self.identity(), bundles, Rules::default()).expect("usable")
    }

    /// A caller of any make: it checks nothing, speaks one TLS version and remembers sessions as rustls does by default.
    pub(crate) fn stranger(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        self.stranger_with_key_of(self, version)
    }

    /// As above, with somebody else's key.
    pub(crate) fn stranger_with_key_of(
        &self,
        other: &Leaf,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::try_from(other.key.serialize_der()).expect("PKCS#8");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("supported");
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        Arc::new(stranger(version).with_client_cert_resolver(Arc::new(shown)))
    }
}

/// A caller without a certificate.
pub(crate) fn anonymous(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    Arc::new(stranger(version).with_no_client_auth())
}

fn stranger(
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("supported")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// Both ends of a handshake in memory, as far as it went; the error is that of the end which refused.
pub(crate) fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (ServerConnection, ClientConnection, Result<(), rustls::Error>) {
    let mut server = ServerConnection::new(server).expect("usable");
    let mut client = ClientConnection::new(client, "receiver.invalid".try_into().expect("a name")).expect("usable");
    let mut wire = Vec::new();
    // One round more than a handshake needs, so that tickets would arrive as well.
    for _ in 0..6 {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            if let Err(error) = server.process_new_packets() {
                return (server, client, Err(error));
            }
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            if let Err(error) = client.process_new_packets() {
                return (server, client, Err(error));
            }
        }
    }
    (server, client, Ok(()))
}

/// A peer with this identity, by a real handshake.
pub(crate) fn peer(id: &str) -> Arc<VerifiedPeer> {
    peer_over(id, &rustls::version::TLS13)
}

pub(crate) fn peer_over(id: &str, version: &'static SupportedProtocolVersion) -> Arc<VerifiedPeer> {
    let id = SpiffeId::parse(id).expect("valid");
    let own = format!("spiffe://{}", id.trust_domain());
    let ca = Ca::root_with(|params| params.subject_alt_names = vec![uri(&own)]);
    let bundles = TrustBundles::new([(id.trust_domain().clone(), ca.pem.as_bytes())]).expect("usable");
    let handshake = ca.leaf(GATEWAY).trust(bundles).await_caller(now());
    let (server, _, result) = shake(handshake.config(), ca.leaf(id.as_str()).stranger(version));
    result.expect("a good SVID");
    Arc::new(handshake.finish(&server).expect("a good SVID"))
}

pub(crate) fn origin() -> Origin {
    Origin { socket: SocketAddr::from(([192, 0, 2, 7], 40000)), source: None, vpce: None }
}

pub(crate) fn proposal(called: &str, calling: &str, contexts: &[(&str, &[&str])]) -> Proposal {
    let context = |(at, (class, syntaxes)): (usize, &(&str, &[&str]))| ProposedContext {
        id: u8::try_from(2 * at + 1).expect("few"),
        abstract_syntax: Uid::parse(class).expect("valid"),
        transfer_syntaxes: syntaxes.iter().map(|uid| Uid::parse(uid).expect("valid")).collect(),
    };
    Proposal {
        called: AeTitle::parse(called).expect("valid"),
        calling: AeTitle::parse(calling).expect("valid"),
        contexts: contexts.iter().enumerate().map(context).collect(),
    }
}
