use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::proxy::{SIGNATURE, SIGNATURE_V1};

/// The type of the TLS record that a handshake begins with (RFC 8446 §5.1).
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

/// What a peer began with, when it was not a TLS handshake: so that a person can see which door it was looking for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// It connected and said nothing.
    Silence,
    /// A TLS record (type 22, handshake).
    Tls,
    /// An A-ASSOCIATE-RQ in the clear (PS3.8 §9.3.2, PDU type 01H).
    PlainDicom,
    /// An HTTP request line.
    Http,
    /// A PROXY protocol header, v1 or v2.
    ProxyHeader,
    /// Something else.
    Unknown,
}

impl FirstBytes {
    /// As many bytes as the longest signature has.
    const LENGTH: usize = SIGNATURE.len();

    pub(crate) fn classify(bytes: &[u8]) -> Self {
        const METHODS: [&[u8]; 6] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"CONNECT "];
        match bytes {
            [] => Self::Silence,
            [TLS_HANDSHAKE, ..] => Self::Tls,
            [0x01, 0x00, ..] => Self::PlainDicom,
            _ if bytes.starts_with(SIGNATURE_V1) || bytes.starts_with(SIGNATURE) => Self::ProxyHeader,
            _ if METHODS.iter().any(|method| bytes.starts_with(method)) => Self::Http,
            _ => Self::Unknown,
        }
    }

    /// The reason code for logs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Tls => "tls_handshake",
            Self::PlainDicom => "plain_dicom",
            Self::Http => "http",
            Self::ProxyHeader => "proxy_header_unexpected",
            Self::Unknown => "not_tls",
        }
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "the peer connected and said nothing",
            Self::Tls => "the TLS handshake was not completed",
            Self::PlainDicom => "the peer speaks DICOM without TLS to the TLS port; turn TLS on at the sender",
            Self::Http => "the peer speaks HTTP to the DICOM port",
            Self::ProxyHeader => "the peer sent a PROXY protocol header, which is not expected on this port",
            Self::Unknown => "the peer's first bytes are not a TLS handshake",
        })
    }
}

/// The first bytes of a connection, shared with whoever has to explain later why it failed.
#[derive(Clone, Default)]
pub(crate) struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    /// Keeps what is missing to the longest signature. True when nothing more is needed.
    pub(crate) fn hear(&self, bytes: &[u8]) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = FirstBytes::LENGTH - heard.len();
        heard.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        heard.len() == FirstBytes::LENGTH
    }

    pub(crate) fn classify(&self) -> FirstBytes {
        FirstBytes::classify(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_which_door_a_peer_was_looking_for() {
        let cases: &[(&str, &[u8], FirstBytes)] = &[
            ("nothing", b"", FirstBytes::Silence),
            ("client hello", b"\x16\x03\x01\x02\x00", FirstBytes::Tls),
            ("associate request", b"\x01\x00\x00\x00\x00\xcd", FirstBytes::PlainDicom),
            ("browser", b"GET / HTTP/1.", FirstBytes::Http),
            ("proxy v1", b"PROXY TCP4 1", FirstBytes::ProxyHeader),
            ("proxy v2", b"\r\n\r\n\0\r\nQUIT\n", FirstBytes::ProxyHeader),
            ("ssh", b"SSH-2.0-Open", FirstBytes::Unknown),
            ("zeros", &[0; 12], FirstBytes::Unknown),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(FirstBytes::classify(bytes), *expected, "{name}");
        }
    }
}
