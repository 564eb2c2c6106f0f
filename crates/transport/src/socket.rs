use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::first_bytes::Beginning;

/// Shorter than the 350 s after which a network load balancer forgets an idle flow; each probe resets its timer.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A TCP stream that acknowledges at once and remembers how the peer began.
///
/// Many senders leave Nagle's algorithm on: they hold the last piece of an object back until what went before is
/// acknowledged, and the kernel delays that acknowledgement by 40 ms. `TCP_QUICKACK` cures it from our side, but the kernel
/// clears it again, so it is armed after every read.
pub(crate) struct Socket {
    stream: TcpStream,
    /// Until enough was heard.
    beginning: Option<Beginning>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, beginning: Option<Beginning>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        acknowledge_at_once(&stream);
        Ok(Self { stream, beginning })
    }
}

/// Without it senders are slow, not wrong: a kernel that refuses is no reason to drop the connection.
fn acknowledge_at_once(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_quickack(true);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        acknowledge_at_once(&self.stream);
        if self.beginning.as_ref().is_some_and(|beginning| beginning.hear(&buf.filled()[before..])) {
            self.beginning = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
