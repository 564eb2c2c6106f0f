//! The three development trust domains and one that nobody trusts, in memory.

use std::time::SystemTime;

use access::{Identity, Rules, Trust, TrustBundles};
use gateway::pki::{Authority, Issued, SVID_LIFETIME};
use model::{SpiffeId, TrustDomain};

/// The trust domains that [`Pki::bundles`] holds.
pub const TRUSTED: [&str; 3] = ["gateway.invalid", "hospital-a.invalid", "hospital-b.invalid"];
/// A trust domain with an authority of its own that is in no bundle.
pub const STRANGER: &str = "stranger.invalid";
/// A sender with a row.
pub const HOSPITAL_A: &str = "spiffe://hospital-a.invalid/forwarder";
/// Another tenant's sender.
pub const HOSPITAL_B: &str = "spiffe://hospital-b.invalid/forwarder";
/// The receiver.
pub const RECEIVER: &str = gateway::pki::RECEIVER;

/// Authorities for [`TRUSTED`] and [`STRANGER`], made at one moment that is "now" for everything they issue.
pub struct Pki {
    now: SystemTime,
    authorities: Vec<Authority>,
}

impl Pki {
    /// A PKI of today.
    #[must_use]
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// A PKI of that moment.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        let names = TRUSTED.into_iter().chain([STRANGER]);
        let authorities = names.map(|name| {
            let domain = TrustDomain::parse(name).expect("the names of this file are valid");
            Authority::create(domain, now).expect("a development authority can be made")
        });
        Self { now, authorities: authorities.collect() }
    }

    /// The moment that this PKI takes for now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// The authority of one of the four trust domains.
    #[must_use]
    pub fn authority(&self, domain: &str) -> &Authority {
        let found = self.authorities.iter().find(|authority| authority.domain().as_str() == domain);
        found.unwrap_or_else(|| panic!("the test PKI has no trust domain {domain}"))
    }

    /// A good SVID from the ID's own authority, valid for a day.
    #[must_use]
    pub fn issue(&self, id: &str) -> Issued {
        let id = SpiffeId::parse(id).expect("a valid SPIFFE ID");
        let authority = self.authority(id.trust_domain().as_str());
        authority.issue(&id, SVID_LIFETIME, self.now).expect("an SVID can be made")
    }

    /// The bundles of [`TRUSTED`].
    #[must_use]
    pub fn bundles(&self) -> TrustBundles {
        let trusted = TRUSTED.map(|name| self.authority(name));
        let pems = trusted.map(|authority| (authority.domain().clone(), authority.pem().as_bytes()));
        TrustBundles::new(pems).expect("the test authorities are usable")
    }

    /// What a party needs that shows `issued` and trusts [`TRUSTED`], with the baseline rules.
    #[must_use]
    pub fn trust(&self, issued: &Issued) -> Trust {
        let identity = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes());
        let identity = identity.expect("the issued pair is a usable identity");
        Trust::new(identity, self.bundles(), Rules::default()).expect("usable trust")
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}
