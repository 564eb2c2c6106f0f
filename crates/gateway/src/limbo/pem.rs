//! PEM as RFC 7468 writes it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 7468 §2: characters in a line.
const LINE: usize = 64;

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn certificate_pem(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

pub(super) fn crl_pem(der: &[u8]) -> String {
    block("X509 CRL", der)
}

pub(super) fn private_key_pem(der: &[u8]) -> String {
    block("PRIVATE KEY", der)
}

/// A CERTIFICATE block for each part of a chain, also for one that is no certificate.
#[must_use]
pub fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| certificate_pem(der)).collect()
}

fn block(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(LINE) {
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    let _ = writeln!(pem, "-----END {label}-----");
    pem
}
