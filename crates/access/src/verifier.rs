//! The rustls verifier of one handshake: it judges by the V rules and remembers what it saw.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{SpiffeId, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::bundles::TrustBundles;
use crate::path::ALGORITHMS;
use crate::rejection::{Rejection, RejectionCode};
use crate::svid::{Purpose, Svid, verify};
use crate::trust::Rules;

/// One verifier belongs to one handshake and is never used for a second.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) bundles: Arc<TrustBundles>,
    pub(crate) rules: Rules,
    pub(crate) purpose: Purpose,
    /// The only identity that will do, when we call.
    pub(crate) expected: Option<SpiffeId>,
    /// The moment as of which certificates are judged: the house's clock, not rustls' own, which may go backwards.
    pub(crate) now: Timestamp,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
enum Memory {
    Waiting,
    /// The certificate is good; that the peer holds its key is not proven yet.
    Verified(Seen),
    /// The peer signed this handshake with the certificate's key.
    Proven(Seen),
    Refused(Rejection),
}

/// What was verified.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) svid: Svid,
}

impl Verifier {
    pub(crate) fn new(
        bundles: Arc<TrustBundles>,
        rules: Rules,
        purpose: Purpose,
        expected: Option<SpiffeId>,
        now: Timestamp,
    ) -> Arc<Self> {
        Arc::new(Self { bundles, rules, purpose, expected, now, memory: Mutex::new(Memory::Waiting) })
    }

    /// What was verified and proven, or why there is none.
    pub(crate) fn proven(&self) -> Result<Seen, Rejection> {
        match &*self.memory() {
            Memory::Proven(seen) => Ok(seen.clone()),
            Memory::Refused(rejection) => Err(rejection.clone()),
            Memory::Waiting | Memory::Verified(_) => Err(Rejection::bare(RejectionCode::Handshake)),
        }
    }

    /// Why the certificate was refused, if it was.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        match &*self.memory() {
            Memory::Refused(rejection) => Some(rejection.clone()),
            _ => None,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        let mut memory = self.memory();
        let judged = match *memory {
            Memory::Waiting => self.see(end_entity, intermediates),
            // A second certificate in one handshake, or a configuration that was used twice.
            _ => Err(Rejection::bare(RejectionCode::Handshake)),
        };
        match judged {
            Ok(seen) => {
                *memory = Memory::Verified(seen);
                Ok(())
            }
            Err(rejection) => {
                *memory = Memory::Refused(rejection);
                Err(refusal())
            }
        }
    }

    fn see(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<Seen, Rejection> {
        let chain: Vec<&[u8]> = [end_entity].into_iter().chain(intermediates).map(|der| der.as_ref()).collect();
        let svid = verify(&chain, &self.bundles, &self.rules, self.now, self.purpose)?;
        if self.expected.as_ref().is_some_and(|expected| expected != svid.id()) {
            return Err(svid.refused(RejectionCode::UnexpectedId));
        }
        let chain = chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        Ok(Seen { chain, svid })
    }

    /// Remembers that the key was proven, if the signature was made with the very leaf that was verified.
    fn prove(
        &self,
        cert: &CertificateDer<'_>,
        signature: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mut memory = self.memory();
        match (std::mem::replace(&mut *memory, Memory::Waiting), signature) {
            (Memory::Verified(seen), Ok(valid)) if seen.chain.first().is_some_and(|leaf| leaf == cert) => {
                *memory = Memory::Proven(seen);
                Ok(valid)
            }
            (before, signature) => {
                *memory = match before {
                    Memory::Refused(rejection) => Memory::Refused(rejection),
                    _ => Memory::Refused(Rejection::bare(RejectionCode::Handshake)),
                };
                Err(signature.err().unwrap_or_else(refusal))
            }
        }
    }
}

/// The same for every reason: the alert must not tell a stranger which rule it broke.
fn refusal() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl ClientCertVerifier for Verifier {
    /// Empty: a stranger does not learn whose certificates we would take.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(cert, verify_tls12_signature(message, cert, dss, &ALGORITHMS))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(cert, verify_tls13_signature(message, cert, dss, &ALGORITHMS))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    /// The name is not used: a receiver is its SPIFFE ID.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(cert, verify_tls12_signature(message, cert, dss, &ALGORITHMS))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(cert, verify_tls13_signature(message, cert, dss, &ALGORITHMS))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CT1, Ca, now};

    type Step = fn(&Verifier, &[CertificateDer<'static>; 2]) -> bool;

    /// rustls asks in the right order, with one certificate. It is not what this rests on.
    #[test]
    fn a_peer_is_proven_by_one_certificate_and_then_its_signature() {
        let show: Step = |verifier, [own, _]| verifier.judge(own, &[]).is_ok();
        let show_other: Step = |verifier, [_, other]| verifier.judge(other, &[]).is_ok();
        let sign: Step = |verifier, [own, _]| verifier.prove(own, Ok(HandshakeSignatureValid::assertion())).is_ok();
        let sign_other: Step =
            |verifier, [_, other]| verifier.prove(other, Ok(HandshakeSignatureValid::assertion())).is_ok();
        let fail: Step =
            |verifier, [own, _]| verifier.prove(own, Err(Error::General("a wrong signature".into()))).is_ok();
        let cases: &[(&str, &[(Step, bool)], bool)] = &[
            ("both", &[(show, true), (sign, true)], true),
            ("no signature", &[(show, true)], false),
            ("no certificate", &[(sign, false)], false),
            ("nothing", &[], false),
            ("the key of another certificate", &[(show, true), (sign_other, false)], false),
            ("a wrong signature", &[(show, true), (fail, false)], false),
            ("a right one after a wrong one", &[(show, true), (fail, false), (sign, false)], false),
            ("two certificates", &[(show, true), (show_other, false), (sign, false)], false),
            ("the same twice", &[(show, true), (show, false), (sign, false)], false),
            ("another after the proof", &[(show, true), (sign, true), (show_other, false)], false),
            ("two signatures", &[(show, true), (sign, true), (sign, false)], false),
        ];
        let ca = Ca::root();
        let certificates = [ca.leaf(CT1), ca.leaf(CT1)].map(|leaf| CertificateDer::from(leaf.chain[0].clone()));
        for (name, steps, proven) in cases {
            let verifier = Verifier::new(Arc::new(ca.bundle()), Rules::default(), Purpose::Client, None, now());
            for (at, (step, good)) in steps.iter().enumerate() {
                assert_eq!(step(&verifier, &certificates), *good, "{name}, step {at}");
            }
            assert_eq!(verifier.proven().is_ok(), *proven, "{name}");
        }
    }

    #[test]
    fn the_first_reason_is_the_one_that_is_remembered() {
        let ca = Ca::root();
        let expected = Some(SpiffeId::parse("spiffe://hosp-a.example/other").expect("valid"));
        let verifier = Verifier::new(Arc::new(ca.bundle()), Rules::default(), Purpose::Client, expected, now());
        let leaf = CertificateDer::from(ca.leaf(CT1).chain[0].clone());
        assert!(verifier.judge(&leaf, &[]).is_err());
        assert!(verifier.prove(&leaf, Ok(HandshakeSignatureValid::assertion())).is_err());
        let code = |rejection: Option<Rejection>| rejection.map(|rejection| rejection.code);
        assert_eq!(code(verifier.rejection()), Some(RejectionCode::UnexpectedId));
        assert_eq!(code(verifier.proven().err()), Some(RejectionCode::UnexpectedId));
    }
}
