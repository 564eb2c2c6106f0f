use std::io;
use std::time::Duration;

use access::RepositoryCall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TCP connection and handshake together, and each write, have this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// With TLS 1.3 a client is done before the server has looked at its certificate: the refusal comes a round trip later.
const SECOND_THOUGHTS: Duration = Duration::from_millis(250);

/// A syslog connection over TLS (RFC 5425). It only says; nothing is ever answered.
pub struct Post {
    stream: TlsStream<TcpStream>,
}

/// Why the repository cannot be reached, or is not any more.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No TCP connection.
    #[error("no connection")]
    Unreachable(#[source] io::Error),
    /// It did not prove its name, or refused our certificate.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// It does not answer, or does not read.
    #[error("nothing happened for {} s", .0.as_secs())]
    TooSlow(Duration),
    /// It closed the connection.
    #[error("the repository closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// Connects to the audit repository at `address` (`host:port`).
///
/// # Errors
/// See [`PostError`].
pub async fn post(address: &str, call: &RepositoryCall) -> Result<Post, PostError> {
    let connected = async {
        let stream = TcpStream::connect(address).await.map_err(PostError::Unreachable)?;
        stream.set_nodelay(true).map_err(PostError::Unreachable)?;
        TlsConnector::from(call.config()).connect(call.server_name(), stream).await.map_err(PostError::Handshake)
    };
    let stream = tokio::time::timeout(PATIENCE, connected).await.map_err(|_| PostError::TooSlow(PATIENCE))??;
    let mut post = Post { stream };
    match tokio::time::timeout(SECOND_THOUGHTS, post.ended()).await {
        Ok(PostError::Broken(error)) => Err(PostError::Handshake(error)),
        Ok(error) => Err(error),
        Err(_) => Ok(post),
    }
}

impl Post {
    /// Writes one message with its length before it (RFC 5425 §4.3) and flushes.
    ///
    /// # Errors
    /// When it could not be written. That it could be says nothing about its having been read: syslog has no answer.
    pub async fn say(&mut self, message: &[u8]) -> Result<(), PostError> {
        let said = async {
            self.stream.write_all(format!("{} ", message.len()).as_bytes()).await?;
            self.stream.write_all(message).await?;
            self.stream.flush().await
        };
        let said = tokio::time::timeout(PATIENCE, said).await.map_err(|_| PostError::TooSlow(PATIENCE))?;
        said.map_err(PostError::Broken)
    }

    /// Waits until the repository ends the connection. What it says until then is not for us. Safe to cancel.
    pub async fn ended(&mut self) -> PostError {
        let mut heard = [0; 512];
        loop {
            match self.stream.read(&mut heard).await {
                Ok(0) => return PostError::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return PostError::Closed,
                Err(error) => return PostError::Broken(error),
            }
        }
    }

    /// Says that nothing more will be written (close_notify, then FIN).
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(PATIENCE, self.stream.shutdown()).await;
    }
}
