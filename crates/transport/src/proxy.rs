//! The PROXY protocol, version 2: what a load balancer says about a connection before its first byte.
//!
//! A pure function from bytes to a header, by the rules P-1 to P-9. The specification is haproxy's
//! `doc/proxy-protocol.txt`; sections named here are its own. A header may narrow what a caller is granted and never grants
//! anything: of its TLVs only checksum and VPC endpoint are read, and none of them (SSL, authority, unique ID) says who a
//! caller is.

mod refusal;
mod tlv;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub use refusal::ProxyRefusal;

/// §2.2: what every header of version 2 begins with.
pub(crate) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// §2.1: what a header of version 1 begins with.
pub(crate) const SIGNATURE_V1: &[u8] = b"PROXY ";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Bytes after the fixed part (P-4). A network load balancer of AWS sends 84, haproxy with every option less than 512; this is
/// held once per connection while its header comes.
const MAX_BLOCK: usize = 1024;

/// How far a header has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes more, all of which belong to the header: more than zero.
    Need(usize),
    /// It is complete.
    Complete(ProxyHeader),
}

/// A complete header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    /// In bytes; what the caller said begins after them.
    pub length: usize,
    /// What it says.
    pub announced: Announced,
}

/// What a load balancer says about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// LOCAL: it speaks for itself, as in a health check. The rest of the header says nothing (P-7).
    Local,
    /// PROXY: it speaks for somebody.
    Relayed {
        /// Where that somebody came from. None unless it was TCP: other families fall back to what the socket says (§2.2).
        source: Option<SocketAddr>,
        /// The VPC endpoint of AWS PrivateLink that it came through: `vpce-` and 8 to 17 lower-case hex digits.
        vpce: Option<String>,
    },
}

/// Reads the header that a connection began with, from what was heard of it so far. The answer does not depend on the pieces in
/// which the bytes came, and bytes after the header are not looked at.
///
/// # Errors
/// The rule that is broken: as soon as that is certain, so not always only when the whole header is there.
pub fn parse(heard: &[u8]) -> Result<Progress, ProxyRefusal> {
    check_signature(heard)?;
    let Some((fixed, rest)) = heard.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Need(FIXED - heard.len()));
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let command = Command::parse(version_and_command, family)?;
    let block = usize::from(u16::from_be_bytes([high, low]));
    if block > MAX_BLOCK {
        return Err(ProxyRefusal::TooLong);
    }
    let length = FIXED + block;
    let Some(header) = heard.get(..length) else {
        return Ok(Progress::Need(block - rest.len()));
    };
    let announced = match command {
        Command::Local => Announced::Local,
        Command::Proxy(family) => relayed(header, family)?,
    };
    Ok(Progress::Complete(ProxyHeader { length, announced }))
}

/// Whether this is a header's signature, or the beginning of one of either version.
pub(crate) fn check_signature(heard: &[u8]) -> Result<(), ProxyRefusal> {
    let begins = |signature: &[u8]| heard.iter().zip(signature).all(|(heard, expected)| heard == expected);
    if begins(SIGNATURE) || heard.len() < SIGNATURE_V1.len() && begins(SIGNATURE_V1) {
        Ok(())
    } else if begins(SIGNATURE_V1) {
        Err(ProxyRefusal::V1)
    } else {
        Err(ProxyRefusal::Signature)
    }
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy(Family),
}

impl Command {
    fn parse(version_and_command: u8, family: u8) -> Result<Self, ProxyRefusal> {
        match (version_and_command >> 4, version_and_command & 0x0F) {
            // The family of a LOCAL header is to be ignored.
            (2, 0) => Ok(Self::Local),
            (2, 1) => Family::parse(family).map(Self::Proxy),
            (2, _) => Err(ProxyRefusal::Command),
            _ => Err(ProxyRefusal::Version),
        }
    }
}

/// Address family and protocol.
#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    Tcp4,
    Tcp6,
    /// One that no caller of ours can have, with so many bytes of addresses.
    Foreign(usize),
}

impl Family {
    const TCP4_ADDRESSES: usize = 2 * (4 + 2);
    const TCP6_ADDRESSES: usize = 2 * (16 + 2);
    const UNIX_ADDRESSES: usize = 2 * 108;

    /// The seven bytes that §2.2 expects; the other combinations of valid halves mean nothing.
    fn parse(byte: u8) -> Result<Self, ProxyRefusal> {
        match byte {
            0x00 => Ok(Self::Unspecified),
            0x11 => Ok(Self::Tcp4),
            0x21 => Ok(Self::Tcp6),
            0x12 => Ok(Self::Foreign(Self::TCP4_ADDRESSES)),
            0x22 => Ok(Self::Foreign(Self::TCP6_ADDRESSES)),
            0x31 | 0x32 => Ok(Self::Foreign(Self::UNIX_ADDRESSES)),
            _ => Err(ProxyRefusal::Family),
        }
    }
}

fn relayed(header: &[u8], family: Family) -> Result<Announced, ProxyRefusal> {
    const UNKNOWN: Announced = Announced::Relayed { source: None, vpce: None };
    let block = &header[FIXED..];
    let (source, addresses) = match family {
        // Nobody can tell its addresses from its TLVs: all of it is skipped.
        Family::Unspecified => return Ok(UNKNOWN),
        Family::Tcp4 => (tcp4(block).ok_or(ProxyRefusal::Address)?, Family::TCP4_ADDRESSES),
        Family::Tcp6 => (tcp6(block).ok_or(ProxyRefusal::Address)?, Family::TCP6_ADDRESSES),
        Family::Foreign(addresses) => {
            // It says nothing that we use, but it is held to the same form.
            tlv::vpc_endpoint(header, FIXED + addresses)?;
            return Ok(UNKNOWN);
        }
    };
    let vpce = tlv::vpc_endpoint(header, FIXED + addresses)?;
    Ok(Announced::Relayed { source: Some(source), vpce })
}

/// Source address, destination address, source port, destination port: of which only the source is of interest.
fn tcp4(block: &[u8]) -> Option<SocketAddr> {
    let addresses = block.first_chunk::<{ Family::TCP4_ADDRESSES }>()?;
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

fn tcp6(block: &[u8]) -> Option<SocketAddr> {
    let addresses = block.first_chunk::<{ Family::TCP6_ADDRESSES }>()?;
    let [high, low, _, _] = *addresses.last_chunk()?;
    Some((Ipv6Addr::from(*addresses.first_chunk::<16>()?), u16::from_be_bytes([high, low])).into())
}
