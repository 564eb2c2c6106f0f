//! usage: handshake HOST:PORT CHAIN KEY VERSION EXCHANGE COUNT CONNECTIONS — mutual TLS handshakes, each closed when it is
//! complete on both sides. VERSION is 1.2 or 1.3; EXCHANGE is x25519 or hybrid (X25519MLKEM768 with TLS 1.3).

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream};

#[expect(clippy::print_stdout, reason = "the answer")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, chain, key, version, exchange, count, connections] = arguments.as_slice() else {
        panic!("usage: handshake HOST:PORT CHAIN KEY VERSION EXCHANGE COUNT CONNECTIONS")
    };
    let to: SocketAddr = to.parse().expect("HOST:PORT with an address");
    let (count, connections): (u64, u64) = (count.parse().expect("a number"), connections.parse().expect("a number"));
    let config = Arc::new(config(chain, key, version, exchange));
    let left = Arc::new(AtomicU64::new(count));
    let begun = Instant::now();
    let callers: Vec<_> = (0..connections)
        .map(|_| {
            let (config, left) = (config.clone(), left.clone());
            let next = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok();
            std::thread::spawn(move || {
                while next().is_some() {
                    shake_hands(to, &config).expect("the server takes our certificate");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("every handshake is complete");
    }
    println!("{:.0}", f64::from(u32::try_from(count).expect("fewer than 2^32")) / begun.elapsed().as_secs_f64());
}

fn config(chain: &str, key: &str, version: &str, exchange: &str) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    match exchange {
        // With TLS 1.2 the groups are also the curves that a certificate may have (RFC 8422 §5.1.1).
        "x25519" => provider.kx_groups = vec![X25519, SECP256R1],
        "hybrid" => provider.kx_groups = vec![X25519MLKEM768, X25519, SECP256R1],
        other => panic!("EXCHANGE is x25519 or hybrid, not {other}"),
    }
    let version = match version {
        "1.2" => &TLS12,
        "1.3" => &TLS13,
        other => panic!("VERSION is 1.2 or 1.3, not {other}"),
    };
    let read = |path: &str| fs::read(path).expect("the file can be read");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(chain)).collect();
    let key = PrivateKeyDer::from_pem_slice(&read(key)).expect("the key is PEM");
    let provider = Arc::new(provider);
    let anybody = Arc::new(Anybody(provider.clone()));
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version of TLS")
        .dangerous()
        .with_custom_certificate_verifier(anybody)
        .with_client_auth_cert(chain.expect("the chain is PEM"), key)
        .expect("the key belongs to the chain")
}

/// Until the server, too, has found the handshake complete: it then answers our close with its own, and with an alert else.
fn shake_hands(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<()> {
    let name = ServerName::try_from("receiver.invalid").expect("a name");
    let mut connection = ClientConnection::new(config.clone(), name).expect("a usable configuration");
    let mut socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    connection.send_close_notify();
    let mut stream = Stream::new(&mut connection, &mut socket);
    match stream.read(&mut [0; 1024]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Takes any certificate: it is the server's work that is measured. The signature is checked as always.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
