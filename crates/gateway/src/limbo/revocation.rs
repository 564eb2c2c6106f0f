//! What is revoked in a suite (V-32): lists of three trust domains, and a deny-list.

use std::fmt::Write as _;

use model::Digest;

use super::certificate::{AUTHORITY_KEY_IDENTIFIER, Signer, name};
use super::der::{CONTEXT, bits, element, integer, moment, octets, oid, sequence};
use super::keys::{Key, Keys, Kind, sign};
use super::recipe::{Anchor, HOUR, INTERMEDIATE, Root, serial};
use crate::pki::Result;

const CRL_NUMBER: &[u64] = &[2, 5, 29, 20];

/// The identity that the deny-list has.
pub(super) const DENIED: &str = "spiffe://limbo.invalid/svid/denied";

/// The serial number of every leaf that a list revokes.
pub(super) fn revoked_leaf() -> Vec<u8> {
    serial("revoked leaf")
}

/// The serial number of every intermediate that a list revokes.
pub(super) fn revoked_issuer() -> Vec<u8> {
    serial("revoked intermediate")
}

/// The serial number that the deny-list has, of a leaf and of an intermediate.
pub(super) fn denied_serial() -> Vec<u8> {
    serial("denied")
}

/// The lists of a root's trust domain, DER. None where revocation is not configured.
pub(super) fn lists(anchor: &Anchor, keys: &Keys, now: i64) -> Result<Vec<Vec<u8>>> {
    // This update and next update.
    let (from, until) = match anchor.root {
        Root::Listed | Root::Partial => (now - HOUR, now + 365 * 24 * HOUR),
        Root::Stale => (now - 48 * HOUR, now - HOUR),
        _ => return Ok(Vec::new()),
    };
    let of_root = list(&anchor.signer(), &revoked_issuer(), from, until)?;
    if anchor.root == Root::Partial {
        return Ok(vec![of_root]);
    }
    let issuer = name(INTERMEDIATE);
    let (kind, pair) = keys.pair(Key::Issuing(Kind::P256)).expect("intermediates have keys");
    Ok(vec![of_root, list(&Signer::new(&issuer, kind, pair), &revoked_leaf(), from, until)?])
}

/// A complete list with one entry (RFC 5280 §5.1).
fn list(by: &Signer<'_>, revoked: &[u8], from: i64, until: i64) -> Result<Vec<u8>> {
    let extension = |arcs, value: &[u8]| sequence(&[oid(arcs), octets(value)]);
    let extensions = sequence(&[
        extension(AUTHORITY_KEY_IDENTIFIER, &sequence(&[element(0x80, &by.identifier)])),
        extension(CRL_NUMBER, &integer(&[1])),
    ]);
    let algorithm = by.kind.signature_algorithm();
    let to_be_signed = sequence(&[
        integer(&[1]),
        algorithm.clone(),
        by.name.to_vec(),
        moment(from),
        moment(until),
        sequence(&[sequence(&[integer(revoked), moment(from)])]),
        element(CONTEXT, &extensions),
    ]);
    let signature = sign(by.pair, &to_be_signed)?;
    Ok(sequence(&[to_be_signed, algorithm, bits(&signature)]))
}

/// The deny-list of a suite, as `gateway` reads it: an identity, a leaf, and two certificates by issuer and serial number.
pub(super) fn deny_list(leaf: &[u8], root: &Anchor) -> String {
    let mut text =
        String::from("# The deny-list of the limbo suite: what it has is refused whatever its issuer says (V-32).\n");
    let hex: String = denied_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = write!(text, "\n[[deny]]\nspiffe_id = \"{DENIED}\"\n");
    let _ = write!(text, "\n[[deny]]\nleaf_sha256 = \"{}\"\n", Digest::of(leaf));
    for issuer in [name(INTERMEDIATE).as_slice(), root.signer().name] {
        let _ = write!(text, "\n[[deny]]\nissuer_sha256 = \"{}\"\nserial = \"{hex}\"\n", Digest::of(issuer));
    }
    text
}
