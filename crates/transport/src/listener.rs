use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Origin, Rejection, Trust};
use model::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::connection::buffered;
use crate::first_bytes::Beginning;
use crate::proxy::ProxyRefusal;
use crate::socket::Socket;
use crate::strangers::{Stranger, Strangers};
use crate::{Connection, FirstBytes, LoadBalancer, TLS_HANDSHAKE};

/// The port where hospitals knock.
pub struct Listener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    strangers: Strangers,
    balancer: Option<Arc<LoadBalancer>>,
}

impl Listener {
    /// Binds the address. At most `max_connections` are open at a time; further ones wait in the kernel's queue. At most
    /// `max_handshakes` of them are strangers; one more ends the oldest.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr, max_connections: usize, max_handshakes: usize) -> io::Result<Self> {
        let slots = Arc::new(Semaphore::new(max_connections));
        let strangers = Strangers::at_most(max_handshakes);
        Ok(Self { listener: TcpListener::bind(address).await?, slots, strangers, balancer: None })
    }

    /// Takes connections from this load balancer only, each with its PROXY v2 header. Without one a header is refused: which of
    /// the two it is, is never guessed (P-1).
    #[must_use]
    pub fn behind(self, balancer: LoadBalancer) -> Self {
        Self { balancer: Some(Arc::new(balancer)), ..self }
    }

    /// The address bound, with the port that the system chose when 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for a slot, then for a connection.
    ///
    /// # Errors
    /// When the system is out of descriptors or the peer went away in between: worth a line, not the end.
    pub async fn accept(&self) -> io::Result<Incoming> {
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = self.listener.accept().await?;
        let (stranger, balancer) = (self.strangers.welcome(), self.balancer.clone());
        Ok(Incoming { stream, address, slot, stranger, balancer })
    }
}

/// An accepted connection of which nothing is known but its address.
pub struct Incoming {
    stream: TcpStream,
    address: SocketAddr,
    slot: OwnedSemaphorePermit,
    stranger: Stranger,
    balancer: Option<Arc<LoadBalancer>>,
}

/// A connection that ended before its peer was known.
#[derive(Debug)]
pub struct Refused {
    /// Where it came from, as far as that was heard.
    pub origin: Origin,
    /// Why it ended.
    pub because: RefusedBecause,
}

/// Why a handshake did not complete.
#[derive(Debug, thiserror::Error)]
pub enum RefusedBecause {
    /// Nobody's fault: the load balancer looked whether somebody is there. It said LOCAL and went, or went without a word.
    #[error("a health check of the load balancer")]
    HealthCheck,
    /// What came before TLS broke a rule of the PROXY protocol.
    #[error("{0}")]
    Proxy(#[from] ProxyRefusal),
    /// The certificate broke a rule.
    #[error("{0}")]
    Certificate(Rejection),
    /// The peer did not finish in time.
    #[error("the TLS handshake took longer than {} s; {first}", limit.as_secs())]
    TooSlow {
        /// How it began.
        first: FirstBytes,
        /// What it had.
        limit: Duration,
    },
    /// Too many others came while it had not proven who it is.
    #[error("more strangers than there may be, and this one was the oldest; {first}")]
    Crowded {
        /// How it began.
        first: FirstBytes,
    },
    /// It does not speak TLS, or no TLS that is offered here, or went away.
    #[error("{first}: {source}")]
    NotTls {
        /// How it began.
        first: FirstBytes,
        /// What TLS says.
        source: io::Error,
    },
}

impl RefusedBecause {
    /// The reason code for the audit log and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HealthCheck => "health_check",
            Self::Proxy(refusal) => refusal.code(),
            Self::Certificate(rejection) => rejection.code.as_str(),
            Self::TooSlow { .. } => "handshake_timeout",
            Self::Crowded { .. } => "crowded_out",
            Self::NotTls { first, .. } => first.code(),
        }
    }
}

impl Incoming {
    /// Where the connection comes from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Corridor steps 2 to 4: a completed mutual handshake within `limit`, and the identity that it proves as of `now`.
    ///
    /// # Errors
    /// See [`RefusedBecause`]. Nothing of DICOM has been read.
    pub async fn handshake(self, trust: &Trust, limit: Duration, now: Timestamp) -> Result<Connection, Refused> {
        let mut origin = Origin { socket: self.address, source: None, vpce: None };
        self.shake(trust, limit, now, &mut origin).await.map_err(|because| Refused { origin, because })
    }

    async fn shake(
        self,
        trust: &Trust,
        limit: Duration,
        now: Timestamp,
        origin: &mut Origin,
    ) -> Result<Connection, RefusedBecause> {
        let handshake = trust.await_caller(now);
        let beginning = Beginning::default();
        let not_tls = |source| RefusedBecause::NotTls { first: beginning.classify(), source };
        let accept = async {
            let socket = introduced(self.stream, self.balancer.as_deref(), &beginning, origin).await?;
            Ok(TlsAcceptor::from(handshake.config()).accept(socket).into_fallible().await)
        };
        let accepted = tokio::select! {
            biased;
            () = self.stranger.crowded_out() => return Err(RefusedBecause::Crowded { first: beginning.classify() }),
            accepted = tokio::time::timeout(limit, accept) => accepted,
        };
        let stream = match accepted {
            Ok(Ok(Ok(stream))) => stream,
            Ok(Ok(Err((error, socket)))) => {
                hear_out(socket).await;
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
                let rejection = tls.and_then(|tls| handshake.blame(tls));
                return Err(rejection.map_or_else(|| not_tls(error), RefusedBecause::Certificate));
            }
            Ok(Err(because)) => return Err(because),
            Err(_) => return Err(RefusedBecause::TooSlow { first: beginning.classify(), limit }),
        };
        let peer = handshake.finish(stream.get_ref().1).map_err(RefusedBecause::Certificate)?;
        let origin = origin.clone();
        Ok(Connection { stream: stream.into(), peer: Arc::new(peer), origin, _slot: Some(self.slot) })
    }
}

/// Step 2, if a load balancer is in front; what is read next is the caller's own either way.
async fn introduced(
    stream: TcpStream,
    balancer: Option<&LoadBalancer>,
    beginning: &Beginning,
    origin: &mut Origin,
) -> Result<BufReader<Socket>, RefusedBecause> {
    let Some(balancer) = balancer else {
        let socket = Socket::new(stream, Some(beginning.clone()));
        return socket.map(buffered).map_err(|source| RefusedBecause::NotTls { first: beginning.classify(), source });
    };
    let socket = balancer.introduce(stream, origin).await?;
    beginning.hear(&[TLS_HANDSHAKE]);
    Ok(socket)
}

/// A TLS 1.3 client has sent its first request before it hears that its certificate was refused. Closing with that unread
/// would have the kernel reset the connection, and the client never see the alert.
async fn hear_out(mut socket: BufReader<Socket>) {
    let rest = async {
        let _ = socket.shutdown().await;
        let mut heard = [0; 4096];
        let mut left = MOST_HEARD;
        while left > 0 && socket.read(&mut heard).await.is_ok_and(|count| count > 0) {
            left -= 1;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, rest).await;
}

/// How long a refused client is heard out.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many reads of 4 KiB.
const MOST_HEARD: usize = 64;
