//! What stands in for a load balancer: PROXY v2 headers, right and wrong, and a relay that puts one in front of each connection.
//!
//! Written from the specification (haproxy's `doc/proxy-protocol.txt`, §2.2) without a look at the receiver's parser, so that the
//! two check each other.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;

use crate::peer::plain;

/// What every header begins with.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;
const AWS: u8 = 0xEA;

/// A PROXY v2 header in the making.
#[derive(Debug, Clone)]
pub struct Header {
    command: u8,
    family: u8,
    addresses: Vec<u8>,
    tlvs: Vec<u8>,
    checksum: bool,
}

impl Header {
    /// LOCAL: what a health check sends.
    #[must_use]
    pub fn local() -> Self {
        Self { command: 0x20, family: 0x00, addresses: Vec::new(), tlvs: Vec::new(), checksum: false }
    }

    /// PROXY over TCP, for a caller at `source` who connected to `destination`.
    ///
    /// # Panics
    /// When one is IPv4 and the other is not.
    #[must_use]
    pub fn relayed(source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        let (family, addresses) = match (source, destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => (0x11, [from.ip().octets(), to.ip().octets()].concat()),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => (0x21, [from.ip().octets(), to.ip().octets()].concat()),
            _ => panic!("a connection has one address family"),
        };
        let addresses = [addresses, ports].concat();
        Self { command: 0x21, family, addresses, ..Self::local() }
    }

    /// As a network load balancer of AWS writes it for a connection through PrivateLink: 100 bytes for the usual endpoint id.
    ///
    /// # Panics
    /// As [`Self::relayed`].
    #[must_use]
    pub fn aws(source: SocketAddr, destination: SocketAddr, vpce: &str) -> Self {
        Self::relayed(source, destination).checksum().vpce(vpce).tlv(NOOP, &[0; 36])
    }

    /// Adds any TLV.
    ///
    /// # Panics
    /// When it is longer than 64 KiB.
    #[must_use]
    pub fn tlv(mut self, kind: u8, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).expect("a TLV has a length of two bytes");
        self.tlvs.extend([&[kind], length.to_be_bytes().as_slice(), value].concat());
        self
    }

    /// Adds the VPC endpoint as AWS does.
    #[must_use]
    pub fn vpce(self, id: &str) -> Self {
        self.tlv(AWS, &[&[0x01], id.as_bytes()].concat())
    }

    /// With a checksum, as the first TLV.
    #[must_use]
    pub fn checksum(mut self) -> Self {
        self.checksum = true;
        self
    }

    /// The header.
    ///
    /// # Panics
    /// When it is longer than 64 KiB.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let checksum: &[u8] = if self.checksum { &[CRC32C, 0, 4, 0, 0, 0, 0] } else { &[] };
        let block = [&self.addresses, checksum, &self.tlvs].concat();
        let length = u16::try_from(block.len()).expect("a header has a length of two bytes").to_be_bytes();
        let mut header = [SIGNATURE.as_slice(), &[self.command, self.family], &length, &block].concat();
        if self.checksum {
            let sum = crc32c(&header).to_be_bytes();
            let place = SIGNATURE.len() + 4 + self.addresses.len() + 3;
            header[place..place + 4].copy_from_slice(&sum);
        }
        header
    }
}

/// RFC 4960, Appendix B.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let low = sum & 1;
            sum >>= 1;
            if low == 1 {
                sum ^= 0x82F6_3B78;
            }
        }
    }
    !sum
}

/// A TCP relay that sends these bytes to the receiver before anything that its client says. It takes connections until the test
/// process ends.
#[derive(Debug, Clone, Copy)]
pub struct Relay {
    address: SocketAddr,
}

impl Relay {
    /// Relays to `to`, the header all at once.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(to: SocketAddr, header: &Header) -> Self {
        let header = header.bytes();
        let piece = header.len();
        Self::in_pieces(to, header, piece)
    }

    /// As [`Self::start`], with any bytes, in segments of `piece` bytes.
    ///
    /// # Panics
    /// When there is no free port, or `piece` is 0.
    #[must_use]
    pub fn in_pieces(to: SocketAddr, header: Vec<u8>, piece: usize) -> Self {
        assert_ne!(piece, 0, "a segment has a byte at least");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let header = header.clone();
                // A connection that breaks is seen at its ends.
                spawn(move || join(client, to, &header, piece));
            }
        });
        Self { address }
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

fn join(client: TcpStream, to: SocketAddr, header: &[u8], piece: usize) -> io::Result<()> {
    // Without Nagle's algorithm, so that each piece is a segment.
    let mut house = plain(to)?;
    client.set_nodelay(true)?;
    for piece in header.chunks(piece) {
        house.write_all(piece)?;
    }
    let (up, down) = (client.try_clone()?, house.try_clone()?);
    spawn(move || copy(up, house));
    copy(down, client);
    Ok(())
}

/// One direction. However it ends, the other side sees an end.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured in aws/elastic-load-balancing-tools (`Compatibility_AwsNetworkLoadBalancerTest`).
    #[test]
    fn a_header_of_aws_is_written_as_aws_writes_it() {
        let address = |text: &str| text.parse().expect("an address");
        let header =
            Header::aws(address("172.31.7.113:51442"), address("172.31.10.31:80"), "vpce-08d2bf15fac5001c9").bytes();
        let captured = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x54\xAC\x1F\x07\x71\xAC\x1F\x0A\x1F\xC8\xF2\0\x50\
            \x03\0\x04\xE8\xD6\x89\x2D\xEA\0\x17\x01vpce-08d2bf15fac5001c9\x04\0\x24";
        assert_eq!(header.len(), 100);
        assert_eq!(&header[..captured.len()], captured);
        assert!(header[captured.len()..].iter().all(|byte| *byte == 0));
    }
}
