//! Certificates named by what is wrong with them. Each differs from a good SVID of hospital-a in that one thing.

use std::time::Duration;

use access::RejectionCode;
use gateway::pki::{self, Issued, SVID_LIFETIME};
use model::{SpiffeId, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use rcgen::string::Ia5String;

use crate::pki::{HOSPITAL_A, Pki, STRANGER};

/// A way to make a bad certificate, and the reason code with which it must be refused.
pub struct Forgery {
    /// The function's name.
    pub name: &'static str,
    /// Makes one.
    pub mint: fn(&Pki) -> Issued,
    /// Why it is refused.
    pub code: RejectionCode,
}

macro_rules! forgeries {
    ($($name:ident => $code:ident,)*) => {
        /// Every forgery of this file.
        pub const ALL: &[Forgery] =
            &[$(Forgery { name: stringify!($name), mint: $name, code: RejectionCode::$code },)*];
    };
}

forgeries! {
    two_uri_sans => UriSanCount,
    no_san => UriSanCount,
    https_uri => IdScheme,
    wrong_trust_domain_ca => ChainUntrusted,
    expired => Expired,
    not_yet_valid => NotYet,
    long_lived => Lifetime,
    no_key_usage => KuMissing,
    key_cert_sign => KuSigning,
    ca_true => LeafIsCa,
    no_path => IdNoPath,
    upper_case_td => TdSyntax,
    dns_only => UriSanCount,
    unknown_domain => TdUnknown,
    self_signed => ChainUntrusted,
    client_auth_missing => Eku,
}

/// V-4: a second SPIFFE ID, of another tenant.
#[must_use]
pub fn two_uri_sans(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names.push(uri("spiffe://hospital-b.invalid/forwarder")))
}

/// V-4: no subject alternative name at all, only a common name.
#[must_use]
pub fn no_san(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names.clear())
}

/// V-6: the one URI is a web address.
#[must_use]
pub fn https_uri(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names = vec![uri("https://hospital-a.invalid/forwarder")])
}

/// V-15: an ID of hospital-a, signed by the equally trusted authority of hospital-b.
#[must_use]
pub fn wrong_trust_domain_ca(pki: &Pki) -> Issued {
    let issued = pki.authority("hospital-b.invalid").issue(&hospital_a(), SVID_LIFETIME, pki.now());
    issued.expect(CAN_BE_MADE)
}

/// V-28: it ended yesterday.
#[must_use]
pub fn expired(pki: &Pki) -> Issued {
    let issued = authority(pki).issue(&hospital_a(), SVID_LIFETIME, pki.now() - 2 * SVID_LIFETIME);
    issued.expect(CAN_BE_MADE)
}

/// V-28: it begins in an hour.
#[must_use]
pub fn not_yet_valid(pki: &Pki) -> Issued {
    let issued = authority(pki).issue(&hospital_a(), SVID_LIFETIME, pki.now() + Duration::from_secs(60 * 60));
    issued.expect(CAN_BE_MADE)
}

/// V-29: it lives for two days.
#[must_use]
pub fn long_lived(pki: &Pki) -> Issued {
    authority(pki).issue(&hospital_a(), 2 * SVID_LIFETIME, pki.now()).expect(CAN_BE_MADE)
}

/// V-20.
#[must_use]
pub fn no_key_usage(pki: &Pki) -> Issued {
    forge(pki, |params| params.key_usages.clear())
}

/// V-22: a leaf that may sign certificates.
#[must_use]
pub fn key_cert_sign(pki: &Pki) -> Issued {
    forge(pki, |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))
}

/// V-19, V-26: a signing certificate shown as an identity.
#[must_use]
pub fn ca_true(pki: &Pki) -> Issued {
    forge(pki, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
}

/// V-10: the ID of the trust domain, not of a workload.
#[must_use]
pub fn no_path(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names = vec![uri("spiffe://hospital-a.invalid")])
}

/// V-9: refused, not folded.
#[must_use]
pub fn upper_case_td(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names = vec![uri("spiffe://Hospital-A.invalid/forwarder")])
}

/// V-13: a DNS name is no identity.
#[must_use]
pub fn dns_only(pki: &Pki) -> Issued {
    forge(pki, |params| params.subject_alt_names = vec![SanType::DnsName(ia5("hospital-a.invalid"))])
}

/// V-14: good in itself, from a trust domain that is in no bundle.
#[must_use]
pub fn unknown_domain(pki: &Pki) -> Issued {
    pki.issue(&format!("spiffe://{STRANGER}/forwarder"))
}

/// V-18: nobody vouches for it.
#[must_use]
pub fn self_signed(pki: &Pki) -> Issued {
    let params = pki::svid_params(&hospital_a(), SVID_LIFETIME, pki.now()).expect(CAN_BE_MADE);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect(CAN_BE_MADE);
    Issued {
        chain_pem: params.self_signed(&key).expect(CAN_BE_MADE).pem(),
        key_pem: key.serialize_pem(),
        not_after: Timestamp::from_seconds(params.not_after.unix_timestamp()),
    }
}

/// V-23: a server's certificate used by a client.
#[must_use]
pub fn client_auth_missing(pki: &Pki) -> Issued {
    forge(pki, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
}

const CAN_BE_MADE: &str = "rcgen makes what it is told";

fn forge(pki: &Pki, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    authority(pki).issue_with(&hospital_a(), SVID_LIFETIME, pki.now(), change).expect(CAN_BE_MADE)
}

fn authority(pki: &Pki) -> &pki::Authority {
    pki.authority("hospital-a.invalid")
}

fn hospital_a() -> SpiffeId {
    SpiffeId::parse(HOSPITAL_A).expect("a valid ID")
}

fn uri(text: &str) -> SanType {
    SanType::URI(ia5(text))
}

fn ia5(text: &str) -> Ia5String {
    Ia5String::try_from(text).expect("ASCII")
}

#[cfg(test)]
mod tests {
    use access::{Purpose, Rules};

    use super::*;

    fn judge(pki: &Pki, issued: &Issued) -> Result<access::Svid, RejectionCode> {
        let chain = gateway::pki::certificates(&issued.chain_pem);
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        access::verify(&chain, &pki.bundles(), &Rules::default(), pki.now().into(), Purpose::Client)
            .map_err(|rejection| rejection.code)
    }

    #[test]
    fn each_forgery_is_refused_for_the_one_thing_that_is_wrong_with_it() {
        let pki = Pki::new();
        for Forgery { name, mint, code } in ALL {
            let found = judge(&pki, &mint(&pki)).err();
            assert_eq!(found.map(|found| found.as_str()), Some(code.as_str()), "{name}");
        }
    }

    #[test]
    fn what_they_are_forged_from_is_good() {
        let pki = Pki::new();
        let svid = judge(&pki, &pki.issue(HOSPITAL_A)).expect("a good SVID");
        assert_eq!(svid.id().as_str(), HOSPITAL_A);
    }
}
