//! Identity and authorisation: the V rules for an X509-SVID, the access table, and the keys that open every later door.
//!
//! A key (`VerifiedPeer → Grant → Permit → AuthorisedInstance → Cleared`) has private fields and is cut in one function
//! here; the next room takes the key instead of asking again. This is the only room that builds rustls configurations.
//! It never opens a socket or a file, never reads the clock, and never takes an identity from anything but a completed
//! handshake.

mod bundles;
mod caller;
mod certificate;
mod checks;
mod constraint;
mod content;
mod decide;
mod denial;
mod denylist;
mod explain;
mod grant;
mod identity;
mod instance;
mod jwks;
mod lint;
mod path;
mod question;
mod quota;
mod rejection;
mod repository;
mod revocation;
mod row;
mod signature;
mod strict;
mod svid;
mod table;
mod tls;
mod trust;
mod verifier;
mod window;
mod words;
mod written;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use bundles::{BundleSource, CrlFacts, TrustBundles, authority_domain};
pub use caller::Caller;
pub use content::Content;
pub use decide::Origin;
pub use denial::{Denial, DenialCode};
pub use denylist::{DenyList, DenyListError, DenyNote};
pub use explain::{Finding, Outcome, explain};
pub use grant::Grant;
pub use identity::Identity;
pub use instance::{AuthorisedInstance, Cleared, Contradiction, Permit};
pub use question::{Answer, Question, RowFinding, RowOutcome};
pub use quota::{Limits, Rate};
pub use rejection::{Rejection, RejectionCode};
pub use repository::{Repository, RepositoryCall, RepositoryError};
pub use row::{Cidr, DenyRow, Effect, MinTls, Operation, Row, Standing, Subject};
pub use signature::{SignatureError, verify_table_signature};
pub use svid::{Purpose, Svid, verify};
pub use table::{Table, TableError};
pub use tls::{Call, Handshake, Trust, VerifiedPeer};
pub use trust::{Rules, Strictness, TrustError};
pub use window::Windows;
