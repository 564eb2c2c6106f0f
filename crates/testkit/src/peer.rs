//! A scripted sender over mutual TLS on a blocking socket: well-behaved by the page, and hostile by the byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use access::{Call, Identity, Rejection, Rules, Trust, TrustBundles};
use dimse::{Abort, Answer, Inbox, Reply, Request, Requested, Requestor};
use gateway::pki::{Authority, Issued, SVID_LIFETIME};
use model::{AeTitle, InstanceClaim, ProposedContext, SpiffeId, TrustDomain, Uid, sop_class, transfer_syntax};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, SignatureScheme, StreamOwned};

use crate::house::{DEADLINE, House};
use crate::pki::RECEIVER;
use crate::stranger::Stranger;

/// Longest PDU that the sender offers to take, in bytes: what a receiver says is small.
const MAX_PDU: u32 = 16 * 1024;
/// Room for what the receiver said and the script has not asked for yet, in bytes: more than one of its PDUs.
const INBOX: usize = 64 * 1024;
/// PS3.8 §9.3.1: type, reserved byte, length.
const PDU_HEADER: usize = 6;

/// What the sender shows and whom it wants to see. It can show any certificate, also one that no honest program would load.
pub struct Credentials {
    trust: Trust,
    shown: Option<Arc<CertifiedKey>>,
}

impl Credentials {
    /// Shows this chain and key (PEM) and takes only [`RECEIVER`], vouched for by `ca` (PEM).
    ///
    /// # Panics
    /// When they are not PEM. The certificate may be as wrong as it likes.
    #[must_use]
    pub fn new(chain: &str, key: &str, ca: &str) -> Self {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("the key is PEM");
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a supported kind of key");
        let shown = CertifiedKey::new(chain.expect("the chain is PEM"), key);
        Self { shown: Some(Arc::new(shown)), ..Self::anonymous(ca) }
    }

    /// As [`Self::new`] for something that was just issued.
    #[must_use]
    pub fn of(issued: &Issued, ca: &str) -> Self {
        Self::new(&issued.chain_pem, &issued.key_pem, ca)
    }

    /// Shows one of a house's own development SVIDs: `hospital-a`, `hospital-b`.
    ///
    /// # Panics
    /// When the house has no such files.
    #[must_use]
    pub fn of_house(house: &House, name: &str) -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).expect("the house has made its certificates");
        let files = house.cert(name);
        Self::new(&read(&files.cert), &read(&files.key), &read(&house.ca("gateway.invalid")))
    }

    /// Shows no certificate at all.
    ///
    /// # Panics
    /// When `ca` is not a usable root of the receiver's trust domain.
    #[must_use]
    pub fn anonymous(ca: &str) -> Self {
        let domain = receiver().trust_domain().clone();
        let bundles = TrustBundles::new([(domain, ca.as_bytes())]).expect("a usable root");
        let trust = Trust::new(placeholder(), bundles, Rules::default()).expect("usable trust");
        Self { trust, shown: None }
    }

    fn config(&self, call: &Call) -> ClientConfig {
        let mut config = ClientConfig::clone(&call.config());
        config.client_auth_cert_resolver = Arc::new(Shown(self.shown.clone()));
        config
    }
}

/// Shows what it was given without asking whether the server would like it.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A connection with a completed handshake. With TLS 1.3 the sender is done before the receiver has judged it: a refusal
/// shows at the first read.
pub struct Peer {
    stream: StreamOwned<ClientConnection, TcpStream>,
    inbox: Inbox,
    association: Option<Requested>,
    next_message: u16,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// The sender did not like the receiver's certificate.
    Receiver(Rejection),
    /// The receiver closed or sent a TLS alert, or nobody is there.
    Closed(io::Error),
}

/// What came of an A-ASSOCIATE-RQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Associated {
    /// With so many contexts accepted.
    Accepted(usize),
    /// Result, source and reason of PS3.8 Table 9-21.
    Rejected(u8, u8, u8),
    /// A-ABORT.
    Aborted(Abort),
    /// The connection ended without an answer.
    Closed,
}

/// What came of a C-STORE, a C-ECHO or a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The status of the response.
    Status(u16),
    /// A-RELEASE-RP.
    Released,
    /// A-ABORT.
    Aborted(Abort),
    /// The connection ended without an answer.
    Closed,
}

impl Peer {
    /// Connects and shakes hands. The receiver must be [`RECEIVER`].
    ///
    /// # Errors
    /// When the handshake fails on either side.
    ///
    /// # Panics
    /// When rustls refuses the configuration.
    pub fn connect(addr: SocketAddr, credentials: &Credentials) -> Result<Self, NoConnection> {
        let call = credentials.trust.call(receiver(), SystemTime::now().into());
        let config = credentials.config(&call);
        let mut connection =
            ClientConnection::new(Arc::new(config), call.server_name()).expect("a usable configuration");
        let mut socket = plain(addr).map_err(NoConnection::Closed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| match call.rejection() {
                Some(rejection) => NoConnection::Receiver(rejection),
                None => NoConnection::Closed(error),
            })?;
        }
        call.finish(&connection).map_err(NoConnection::Receiver)?;
        Ok(Self::over(StreamOwned::new(connection, socket)))
    }

    /// Connects as a [`Stranger`], who takes whoever answers.
    ///
    /// # Errors
    /// When the handshake fails.
    ///
    /// # Panics
    /// When rustls refuses the configuration.
    pub fn connect_as(addr: SocketAddr, stranger: &Stranger) -> Result<Self, NoConnection> {
        // The same name for each connection: sessions are kept by it.
        let name = "receiver.invalid".try_into().expect("a DNS name");
        let mut connection = ClientConnection::new(stranger.config(), name).expect("a usable configuration");
        let mut socket = plain(addr).map_err(NoConnection::Closed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(NoConnection::Closed)?;
        }
        Ok(Self::over(StreamOwned::new(connection, socket)))
    }

    fn over(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        Self { stream, inbox: Inbox::with_capacity(INBOX), association: None, next_message: 1 }
    }

    /// Asks for an association and waits for the answer.
    ///
    /// # Panics
    /// When a title is not one, or the receiver breaks the protocol.
    pub fn associate(&mut self, called: &str, calling: &str, contexts: Vec<ProposedContext>) -> Associated {
        let title = |text: &str| AeTitle::parse(text).expect("a valid AE title");
        let request = Request { called: title(called), calling: title(calling), contexts, max_pdu_length: MAX_PDU };
        // A receiver that has closed already may still have said why.
        let _ = self.send_raw(&request.bytes());
        let mut requestor = Requestor::new(request);
        loop {
            match requestor.next(&mut self.inbox).expect("the receiver keeps to the protocol") {
                Some(Answer::Accepted(association)) => {
                    let accepted = association.contexts().len();
                    self.association = Some(association);
                    return Associated::Accepted(accepted);
                }
                Some(Answer::Rejected { result, source, reason }) => {
                    return Associated::Rejected(result, source, reason);
                }
                Some(Answer::Aborted(abort)) => return Associated::Aborted(abort),
                None if self.receive() => {}
                None => return Associated::Closed,
            }
        }
    }

    /// Sends one instance and waits for the response.
    ///
    /// # Panics
    /// As [`Self::store_from`].
    pub fn store(&mut self, claim: &InstanceClaim, data_set: &[u8]) -> Outcome {
        self.store_from(claim, data_set)
    }

    /// As [`Self::store`], with a data set that is made while it is sent and never held.
    ///
    /// # Panics
    /// When there is no association with a context for the claim, or the receiver breaks the protocol.
    pub fn store_from(&mut self, claim: &InstanceClaim, data_set: impl Read) -> Outcome {
        // A receiver that refuses in the middle closes; what it said is still to be read.
        let _ = self.begin_store(claim).and_then(|context| self.send_data(context, data_set));
        self.outcome()
    }

    /// Sends a C-STORE-RQ alone and says on which context its data set must follow.
    ///
    /// # Errors
    /// When the connection is gone.
    ///
    /// # Panics
    /// When there is no association with a context for the claim.
    pub fn begin_store(&mut self, claim: &InstanceClaim) -> io::Result<u8> {
        let message = self.message_id();
        let association = self.association();
        let context = association.accepted(&claim.class, &claim.transfer_syntax).expect("an accepted context fits");
        let command = association.store_command(context, message, claim);
        self.send_raw(&command)?;
        Ok(context)
    }

    /// Sends a whole data set in fragments as large as the receiver takes.
    ///
    /// # Errors
    /// When the connection is gone or `data_set` cannot be read.
    ///
    /// # Panics
    /// When there is no association.
    pub fn send_data(&mut self, context: u8, mut data_set: impl Read) -> io::Result<()> {
        let largest = self.association().max_fragment().min(128 * 1024);
        let (mut piece, mut following) = (vec![0; largest], vec![0; largest]);
        let mut length = fill(&mut data_set, &mut piece)?;
        loop {
            let next = fill(&mut data_set, &mut following)?;
            self.send_fragment(context, &piece[..length], next == 0)?;
            if next == 0 {
                return Ok(());
            }
            std::mem::swap(&mut piece, &mut following);
            length = next;
        }
    }

    /// Sends one fragment of a data set in a PDU of its own.
    ///
    /// # Errors
    /// When the connection is gone.
    ///
    /// # Panics
    /// When there is no association.
    pub fn send_fragment(&mut self, context: u8, piece: &[u8], last: bool) -> io::Result<()> {
        let header = self.association().data_header(context, piece.len(), last);
        self.stream.write_all(&header)?;
        self.stream.write_all(piece)?;
        self.stream.flush()
    }

    /// C-ECHO on the context for Verification.
    ///
    /// # Panics
    /// When there is none, or the receiver breaks the protocol.
    pub fn echo(&mut self) -> Outcome {
        let message = self.message_id();
        let association = self.association();
        let mut contexts = association.contexts().iter();
        let context = contexts.find(|context| context.class.as_str() == sop_class::VERIFICATION);
        let command = association.echo_command(context.expect("Verification was accepted").id, message);
        let _ = self.send_raw(&command);
        self.outcome()
    }

    /// Ends the association as the standard wants it.
    ///
    /// # Panics
    /// When there is none, or the receiver breaks the protocol.
    pub fn release(&mut self) -> Outcome {
        let request = self.association.as_mut().expect(ASSOCIATED).release();
        let _ = self.send_raw(&request);
        self.outcome()
    }

    /// What the receiver says next about the association.
    ///
    /// # Panics
    /// When there is no association, or the receiver breaks the protocol or asks for release (it never does).
    pub fn outcome(&mut self) -> Outcome {
        loop {
            let association = self.association.as_mut().expect(ASSOCIATED);
            match association.next(&mut self.inbox).expect("the receiver keeps to the protocol") {
                Some(Reply::Response { status, .. }) => return Outcome::Status(status),
                Some(Reply::Released) => return Outcome::Released,
                Some(Reply::Aborted(abort)) => return Outcome::Aborted(abort),
                Some(Reply::ReleaseRequested) => panic!("a receiver does not ask for release"),
                None if self.receive() => {}
                None => return Outcome::Closed,
            }
        }
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next PDU as it came, for a script that speaks in bytes: type and body. `None` when the connection has ended.
    /// Not to be mixed with the functions that understand, which read ahead.
    pub fn read_pdu(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; PDU_HEADER];
        self.stream.read_exact(&mut header).ok()?;
        let [kind, _, length @ ..] = header;
        let mut body = Vec::new();
        let length = u64::from(u32::from_be_bytes(length));
        let read = Read::take(&mut self.stream, length).read_to_end(&mut body).ok()?;
        (read as u64 == length).then_some((kind, body))
    }

    /// Waits for the end of the connection; what came before it is returned. An end without `close_notify` is an end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // read_to_end keeps what it has read when the connection breaks.
        let _ = self.stream.read_to_end(&mut said);
        said
    }

    /// Says that nothing more will be sent (`close_notify` and FIN) and goes on listening.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()?;
        self.stream.sock.shutdown(Shutdown::Write)
    }

    /// Goes away without a word, in the middle of whatever it was.
    pub fn drop_connection(self) {
        // An error means that the other side was faster.
        let _ = self.stream.sock.shutdown(Shutdown::Both);
    }

    /// The accepted association, for what no function here does.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn association(&self) -> &Requested {
        self.association.as_ref().expect(ASSOCIATED)
    }

    /// Reads once; false when the connection has ended in whatever way.
    fn receive(&mut self) -> bool {
        match self.stream.read(self.inbox.space()) {
            Ok(0) => false,
            Ok(read) => {
                self.inbox.filled(read);
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the receiver said nothing for {DEADLINE:?}")
            }
            Err(_) => false,
        }
    }

    fn message_id(&mut self) -> u16 {
        let id = self.next_message;
        self.next_message = id.wrapping_add(1);
        id
    }
}

const ASSOCIATED: &str = "associate() was answered with Accepted";

/// A socket to the receiver without TLS, for those who come unencrypted.
///
/// # Errors
/// When nobody is there.
pub fn plain(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket)
}

/// A presentation context for each `(SOP class, transfer syntaxes)`, with ids 1, 3, 5, …; keywords or UIDs.
///
/// # Panics
/// When one is neither, or there are more than 128.
#[must_use]
pub fn contexts(wanted: &[(&str, &[&str])]) -> Vec<ProposedContext> {
    let class = |text: &str| sop_class::by_keyword(text).unwrap_or_else(|| Uid::parse(text).expect("a SOP class"));
    let syntax =
        |text: &&str| transfer_syntax::by_keyword(text).unwrap_or_else(|| Uid::parse(text).expect("a transfer syntax"));
    let contexts = wanted.iter().zip((1..=255).step_by(2)).map(|((abstract_syntax, syntaxes), id)| ProposedContext {
        id,
        abstract_syntax: class(abstract_syntax),
        transfer_syntaxes: syntaxes.iter().map(syntax).collect(),
    });
    assert!(wanted.len() <= 128, "PS3.8 has room for 128 contexts");
    contexts.collect()
}

/// Verification, CT and multi-frame secondary capture in explicit VR little endian: what the [samples](crate::samples) need.
#[must_use]
pub fn sample_contexts() -> Vec<ProposedContext> {
    const EXPLICIT: &[&str] = &[transfer_syntax::EXPLICIT_LITTLE];
    contexts(&[
        (sop_class::VERIFICATION, &[transfer_syntax::IMPLICIT_LITTLE]),
        ("CTImageStorage", EXPLICIT),
        ("MultiFrameGrayscaleByteSecondaryCaptureImageStorage", EXPLICIT),
    ])
}

/// Reads until the buffer is full or the source has ended.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn receiver() -> SpiffeId {
    SpiffeId::parse(RECEIVER).expect("a valid ID")
}

/// `access` wants to know who we are before it lets us call; what is shown is decided in [`Credentials::config`].
fn placeholder() -> Identity {
    let domain = TrustDomain::parse("nobody.invalid").expect("a valid name");
    let id = SpiffeId::parse("spiffe://nobody.invalid/placeholder").expect("a valid ID");
    let now = SystemTime::now();
    let authority = Authority::create(domain, now).expect("a development authority can be made");
    let issued = authority.issue(&id, SVID_LIFETIME, now).expect("an SVID can be made");
    Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes()).expect("a usable pair")
}

#[cfg(test)]
mod tests;
