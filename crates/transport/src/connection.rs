use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use access::{Call, Origin, Rejection, VerifiedPeer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::socket::Socket;

/// Bytes taken from the kernel at once. rustls alone asks for 4 KiB at a time, which costs a system call for each; this is
/// held once per connection.
pub(crate) const READ_BUFFER: usize = 64 * 1024;

pub(crate) fn buffered(socket: Socket) -> BufReader<Socket> {
    BufReader::with_capacity(READ_BUFFER, socket)
}

/// A connection after a completed mutual handshake. Holds its slot until it is dropped.
pub struct Connection {
    pub(crate) stream: TlsStream<BufReader<Socket>>,
    pub(crate) peer: Arc<VerifiedPeer>,
    pub(crate) origin: Origin,
    pub(crate) _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<VerifiedPeer> {
        &self.peer
    }

    /// Where the connection came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Reads what is there, at least one byte unless the peer closed (0) or `space` is empty. Safe to cancel.
    ///
    /// # Errors
    /// When the connection broke; a peer that goes without a TLS close_notify counts as having closed.
    pub async fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(space).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }

    /// Writes all of it and flushes: what stays in the TLS buffer never reaches a peer that waits for it.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// As [`Connection::write`] without the flush, for a sender that has more to say at once.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write_more(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be written (close_notify, then FIN).
    pub async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// Why a receiver could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection.
    #[error("no connection to {address}")]
    Unreachable {
        /// As it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The receiver is not who it must be.
    #[error("the receiver's certificate was refused: {0}")]
    NotTheReceiver(Rejection),
    /// The handshake failed for another reason, such as a refusal of our own certificate.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
}

/// Connects to a receiver that must prove exactly the identity that `call` expects.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(address: &str, call: Call) -> Result<Connection, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let peer_address: SocketAddr = stream.peer_addr().map_err(unreachable)?;
    let socket = Socket::new(stream, None).map_err(unreachable)?;
    let stream = match TlsConnector::from(call.config()).connect(call.server_name(), buffered(socket)).await {
        Ok(stream) => stream,
        Err(error) => return Err(call.rejection().map_or(DialError::Handshake(error), DialError::NotTheReceiver)),
    };
    let peer = call.finish(stream.get_ref().1).map_err(DialError::NotTheReceiver)?;
    let origin = Origin { socket: peer_address, source: None, vpce: None };
    Ok(Connection { stream: stream.into(), peer: Arc::new(peer), origin, _slot: None })
}
