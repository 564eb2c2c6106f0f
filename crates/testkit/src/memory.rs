//! A handshake in memory: a verified peer without a socket, at any time of the test's choosing.

use std::sync::Arc;

use access::{Trust, VerifiedPeer};
use gateway::pki::Issued;
use model::{SpiffeId, Timestamp};
use rustls::{ClientConnection, ServerConnection};

use crate::pki::{Pki, RECEIVER};

/// The peer that `receiver` sees when `issued` calls it at `now`.
///
/// # Panics
/// When one of the two refuses the other.
#[must_use]
pub fn verified(pki: &Pki, receiver: &Trust, issued: &Issued, now: Timestamp) -> Arc<VerifiedPeer> {
    let handshake = receiver.await_caller(now);
    let call = pki.trust(issued).call(SpiffeId::parse(RECEIVER).expect("a valid ID"), now);
    let mut server = ServerConnection::new(handshake.config()).expect("a usable configuration");
    let mut client = ClientConnection::new(call.config(), call.server_name()).expect("a usable configuration");
    while server.is_handshaking() || client.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        hear(&wire, |rest| server.read_tls(rest).map(drop));
        server.process_new_packets().expect("the receiver accepts the caller");
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        hear(&wire, |rest| client.read_tls(rest).map(drop));
        client.process_new_packets().expect("the caller accepts the receiver");
    }
    Arc::new(handshake.finish(&server).expect("the caller has proven its identity"))
}

fn hear(wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<()>) {
    let mut rest = wire;
    while !rest.is_empty() {
        read(&mut rest).expect("memory");
    }
}
