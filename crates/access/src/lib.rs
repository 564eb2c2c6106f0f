//! Identity and authorisation: the V rules for an X509-SVID, the access table, and the keys that open every later door.
//!
//! A key (`VerifiedPeer → Grant → Permit → AuthorisedInstance → Cleared`) has private fields and is cut in one function
//! here; the next room takes the key instead of asking again. This is the only room that builds rustls configurations.
//! It never opens a socket or a file, never reads the clock, and never takes an identity from anything but a completed
//! handshake.

mod certificate;
mod checks;
mod decide;
mod denial;
mod explain;
mod grant;
mod instance;
mod path;
mod rejection;
mod repository;
mod row;
mod svid;
mod table;
mod tls;
mod trust;
mod verifier;
mod written;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use decide::Origin;
pub use denial::{Denial, DenialCode};
pub use explain::{Finding, Outcome, explain};
pub use grant::Grant;
pub use instance::{AuthorisedInstance, Cleared, Contradiction, Permit};
pub use rejection::{Rejection, RejectionCode};
pub use repository::{Repository, RepositoryCall, RepositoryError};
pub use row::{DenyRow, MinTls, Row, Standing, Subject};
pub use svid::{Purpose, Svid, verify};
pub use table::{Table, TableError};
pub use tls::{Call, Handshake, Trust, VerifiedPeer};
pub use trust::{Identity, Rules, Strictness, TrustBundles, TrustError, authority_domain};
