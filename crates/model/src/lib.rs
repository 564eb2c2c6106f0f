//! The words: DICOM UIDs and AE titles, SPIFFE IDs, tenants, digests, times, and the things that pass between rooms.
//!
//! Text becomes one of these types at the rim (a socket, a file, the command line) and never goes back to being text on
//! the way in. Nothing here reads a socket, a file or the clock, and nothing here decides anything.

mod ae_title;
mod association;
mod digest;
mod instance;
pub mod key;
mod phi;
pub mod sop_class;
pub mod span;
mod spiffe;
mod tenant;
mod timestamp;
pub mod transfer_syntax;
mod uid;

pub use ae_title::{AeTitle, AeTitleError};
pub use association::{ContextAnswer, ContextResult, Proposal, ProposedContext};
pub use digest::{Digest, DigestError, DigestKey, DigestKeyError, Hasher};
pub use instance::{
    Attribute, InstanceClaim, InstanceHead, InstanceName, Metadata, OnConflict, OnDuplicate, OnPatientConflict,
    Promoted,
};
pub use phi::Phi;
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use tenant::{Tenant, TenantError};
pub use timestamp::Timestamp;
pub use transfer_syntax::Encoding;
pub use uid::{Series, SopClass, SopInstance, Study, TransferSyntax, Uid, UidError};
