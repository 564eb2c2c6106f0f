//! A detached signature over the table's exact bytes, so that whoever can write the file cannot change who may do what.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// RFC 8032 §5.1.6.
const SIGNATURE_LENGTH: usize = 64;
/// RFC 8410 §4: an Ed25519 key is these bytes and then 32 of its own; there is no other way to write it in DER.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const KEY_LENGTH: usize = 32;

/// The table is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Our own configuration is at fault.
    #[error("the public key is not a PEM PUBLIC KEY block with an Ed25519 key: openssl pkey -pubout writes one")]
    Key,
    /// The signature file is not a signature.
    #[error("the signature is not 64 bytes, nor their hex or base64: openssl pkeyutl -sign -rawin writes them")]
    Form,
    /// The table was changed after it was signed, or signed with another key.
    #[error("the signature does not belong to this table and key: sign the table again, or find out who changed it")]
    Wrong,
}

/// Checks that `signature` (Ed25519: 64 raw bytes, or their hex or base64, with white space anywhere) was made over exactly
/// `text`, with the private key of `public_key_pem` (SubjectPublicKeyInfo in PEM, RFC 8410).
///
/// # Errors
/// When key or signature cannot be read, or do not fit.
pub fn verify_table_signature(text: &[u8], signature: &[u8], public_key_pem: &[u8]) -> Result<(), SignatureError> {
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(public_key_pem).map_err(|_| SignatureError::Key)?;
    let key = spki.strip_prefix(&ED25519_SPKI).filter(|key| key.len() == KEY_LENGTH).ok_or(SignatureError::Key)?;
    let signature = raw(signature).ok_or(SignatureError::Form)?;
    webpki::aws_lc_rs::ED25519.verify_signature(key, text, &signature).map_err(|_| SignatureError::Wrong)
}

fn raw(signature: &[u8]) -> Option<[u8; SIGNATURE_LENGTH]> {
    if let Ok(raw) = signature.try_into() {
        return Some(raw);
    }
    // Programs that write base64 break its lines.
    let text: String = std::str::from_utf8(signature).ok()?.split_ascii_whitespace().collect();
    let bytes = hex(&text).or_else(|| BASE64_STANDARD.decode(&text).ok())?;
    bytes.try_into().ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 2 * SIGNATURE_LENGTH {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some(digit(&pair[0])? << 4 | digit(&pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SigningKey};

    use super::*;

    const TEXT: &[u8] = b"revision = 1\n";

    /// Made with openssl genpkey, pkey -pubout and pkeyutl -sign -rawin.
    const OPENSSL_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAFEbyunOkht7ShgLEU+YkKIzIqn7dEU6AEr71Yn+G9F8=\n-----END PUBLIC KEY-----\n";
    const OPENSSL_SIGNATURE: &str =
        "qT8qoYSxp/88g5/oLqDB31rYWK+r66kpvLqAhSEY20RBGd+Cyre/UmQoFnC0Zlplk5OaE+eEqHqNDhKGXNxaAA==";

    fn pem(key: &KeyPair) -> Vec<u8> {
        key.public_key_pem().into_bytes()
    }

    #[test]
    fn what_openssl_signs_is_believed() {
        assert_eq!(verify_table_signature(TEXT, OPENSSL_SIGNATURE.as_bytes(), OPENSSL_KEY.as_bytes()), Ok(()));
    }

    #[test]
    fn a_signature_is_good_for_one_text_and_one_key() {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
        let other = KeyPair::generate_for(&PKCS_ED25519).expect("generated");
        let signature = key.sign(TEXT).expect("signed");
        let changed = [&signature[..63], &[signature[63] ^ 1]].concat();
        let encoded = format!("{}\n", BASE64_STANDARD.encode(&signature));
        let (begin, end) = encoded.split_at(64);
        let wrapped = format!("{begin}\r\n{end}");
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        use SignatureError::*;
        let cases: &[(&str, &[u8], &[u8], Vec<u8>, Result<(), SignatureError>)] = &[
            ("raw", TEXT, &signature, pem(&key), Ok(())),
            ("base64", TEXT, encoded.as_bytes(), pem(&key), Ok(())),
            ("base64 in lines", TEXT, wrapped.as_bytes(), pem(&key), Ok(())),
            ("hex", TEXT, hex.as_bytes(), pem(&key), Ok(())),
            ("one byte more", b"revision = 1\n\n", &signature, pem(&key), Err(Wrong)),
            ("no text", b"", &signature, pem(&key), Err(Wrong)),
            ("another signature", TEXT, &changed, pem(&key), Err(Wrong)),
            ("all zero", TEXT, &[0; 64], pem(&key), Err(Wrong)),
            ("another key", TEXT, &signature, pem(&other), Err(Wrong)),
            ("too short", TEXT, &signature[..63], pem(&key), Err(Form)),
            ("empty", TEXT, b"", pem(&key), Err(Form)),
            ("not hex", TEXT, &[b'z'; 128], pem(&key), Err(Form)),
            ("no key", TEXT, &signature, Vec::new(), Err(Key)),
            ("the private key", TEXT, &signature, key.serialize_pem().into_bytes(), Err(Key)),
        ];
        for (name, text, signature, key, expected) in cases {
            assert_eq!(verify_table_signature(text, signature, key), *expected, "{name}");
        }
        let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("generated");
        assert!(ecdsa.der_bytes().len() > KEY_LENGTH);
        assert_eq!(verify_table_signature(TEXT, &signature, &pem(&ecdsa)), Err(Key));
    }
}
