use std::net::SocketAddr;
use std::time::Duration;

use access::{Cidr, Origin};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::buffered;
use crate::listener::RefusedBecause;
use crate::proxy::{self, Announced, Progress, ProxyRefusal, SIGNATURE};
use crate::socket::Socket;
use crate::{FirstBytes, TLS_HANDSHAKE};

/// The load balancer in front of a listener: nobody else may connect, and each connection begins with its PROXY v2 header (P-1).
#[derive(Debug, Clone)]
pub struct LoadBalancer {
    /// Where it connects from (P-10).
    pub networks: Vec<Cidr>,
    /// The header must be complete by then (P-2).
    pub timeout: Duration,
}

impl LoadBalancer {
    /// Reads the header and nothing more, and writes what it says of the caller into `origin`. What comes next is TLS.
    pub(crate) async fn introduce(
        &self,
        stream: TcpStream,
        origin: &mut Origin,
    ) -> Result<BufReader<Socket>, RefusedBecause> {
        self.admit(origin.socket)?;
        let silent = |source| RefusedBecause::NotTls { first: FirstBytes::Silence, source };
        let mut reader = buffered(Socket::new(stream, None).map_err(silent)?);
        let announced = timeout(self.timeout, read_header(&mut reader)).await.map_err(|_| ProxyRefusal::Timeout)??;
        let next = expect_tls(&mut reader);
        match announced {
            Announced::Local => next.await.map_err(|refusal| match refusal {
                // It does not want to talk; it wanted to see that somebody is there.
                ProxyRefusal::NotTls(FirstBytes::Silence) => RefusedBecause::HealthCheck,
                other => other.into(),
            })?,
            Announced::Relayed { source, vpce } => {
                (origin.source, origin.vpce) = (source, vpce);
                next.await?;
            }
        }
        Ok(reader)
    }

    fn admit(&self, peer: SocketAddr) -> Result<(), ProxyRefusal> {
        let inside = self.networks.iter().any(|network| network.contains(peer.ip()));
        if inside { Ok(()) } else { Err(ProxyRefusal::SourceNetwork) }
    }
}

/// Some load balancers open a connection and close it to see whether somebody is there, and AWS's sends no header before its
/// client has spoken. So who leaves without a word is no offender.
async fn read_header(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Announced, RefusedBecause> {
    let mut heard = Vec::new();
    loop {
        let missing = match proxy::parse(&heard)? {
            Progress::Complete(header) => return Ok(header.announced),
            Progress::Need(missing) => missing,
        };
        let came = next_bytes(reader).await;
        if came.is_empty() && heard.is_empty() {
            return Err(RefusedBecause::HealthCheck);
        } else if came.is_empty() {
            return Err(ProxyRefusal::Truncated.into());
        }
        let taken = came.len().min(missing);
        heard.extend_from_slice(&came[..taken]);
        reader.consume(taken);
    }
}

/// P-8: a TLS record must be next. It is left where it is; anything else is taken, to see what it is.
async fn expect_tls(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<(), ProxyRefusal> {
    let mut heard = Vec::new();
    loop {
        let came = next_bytes(reader).await;
        if heard.is_empty() && came.first() == Some(&TLS_HANDSHAKE) {
            return Ok(());
        }
        let taken = came.len().min(SIGNATURE.len() - heard.len());
        heard.extend_from_slice(&came[..taken]);
        reader.consume(taken);
        match proxy::check_signature(&heard) {
            Ok(()) if heard.len() == SIGNATURE.len() => return Err(ProxyRefusal::Duplicate),
            Err(ProxyRefusal::V1) => return Err(ProxyRefusal::Duplicate),
            Ok(()) if taken > 0 => {}
            _ => return Err(ProxyRefusal::NotTls(FirstBytes::classify(&heard))),
        }
    }
}

/// What is there, and nothing when the peer has gone: in good order or not.
async fn next_bytes(reader: &mut (impl AsyncBufRead + Unpin)) -> &[u8] {
    reader.fill_buf().await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC6\x33\x64\x09\x0A\0\0\x01\x9C\x40\x0A\xCA";
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

    /// What a header and then `rest` come to, in pieces of one byte and all at once.
    async fn after(header: &[u8], rest: &[u8]) -> Result<(), ProxyRefusal> {
        let bytes = [header, rest].concat();
        let mut answers = Vec::new();
        for piece in [1, bytes.len()] {
            let mut reader = BufReader::with_capacity(piece, bytes.as_slice());
            read_header(&mut reader).await.expect("the header is good");
            answers.push(expect_tls(&mut reader).await);
            if answers.last() == Some(&Ok(())) {
                let mut left = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut left).await.expect("memory");
                assert_eq!(left, rest, "TLS finds its record whole");
            }
        }
        assert_eq!(answers[0], answers[1]);
        answers[0]
    }

    #[tokio::test]
    async fn only_tls_may_follow_a_header() {
        let cases: [(&str, &[u8], Result<(), ProxyRefusal>); 9] = [
            ("a TLS record", b"\x16\x03\x01\x02\0", Ok(())),
            ("the first byte of one", b"\x16", Ok(())),
            ("a header of the caller's own", TCP4, Err(ProxyRefusal::Duplicate)),
            ("a signature", &LOCAL[..12], Err(ProxyRefusal::Duplicate)),
            ("a header of version 1", b"PROXY TCP4 1.2.3.4", Err(ProxyRefusal::Duplicate)),
            ("half a signature", b"\r\n\r\n\0\r", Err(ProxyRefusal::NotTls(FirstBytes::Unknown))),
            ("a line end and then TLS", b"\r\x16\x03\x01", Err(ProxyRefusal::NotTls(FirstBytes::Unknown))),
            ("line ends", b"\r\n\r\n\r\n\r\n", Err(ProxyRefusal::NotTls(FirstBytes::Unknown))),
            ("nothing", b"", Err(ProxyRefusal::NotTls(FirstBytes::Silence))),
        ];
        for (name, rest, expected) in cases {
            assert_eq!(after(TCP4, rest).await, expected, "{name}");
            assert_eq!(after(LOCAL, rest).await, expected, "{name}, LOCAL");
        }
    }

    #[tokio::test]
    async fn who_leaves_in_the_middle_of_a_header_is_refused_and_who_said_nothing_is_not() {
        for heard in 0..TCP4.len() {
            let refused = read_header(&mut &TCP4[..heard]).await.expect_err("it is not whole");
            assert_eq!(refused.code(), if heard == 0 { "health_check" } else { "proxy_truncated" }, "{heard} bytes");
        }
    }

    #[test]
    fn only_the_networks_of_the_load_balancer_are_let_in() {
        let networks = ["10.0.1.0/24", "2001:db8::/64"].map(|text| Cidr::parse(text).expect("a network"));
        let balancer = LoadBalancer { networks: networks.into(), timeout: Duration::ZERO };
        for (peer, expected) in [
            ("10.0.1.7:40000", Ok(())),
            ("[::ffff:10.0.1.7]:40000", Ok(())),
            ("[2001:db8::7]:40000", Ok(())),
            ("10.0.2.7:40000", Err(ProxyRefusal::SourceNetwork)),
            ("127.0.0.1:40000", Err(ProxyRefusal::SourceNetwork)),
            ("[2001:db8:0:1::7]:40000", Err(ProxyRefusal::SourceNetwork)),
        ] {
            assert_eq!(balancer.admit(peer.parse().expect("an address")), expected, "{peer}");
        }
    }
}
