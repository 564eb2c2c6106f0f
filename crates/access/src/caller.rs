use model::{SpiffeId, Timestamp};

use crate::VerifiedPeer;

/// What the table asks about a caller. It is no key: anyone can write one down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub id: SpiffeId,
    /// Start of its SVID's validity.
    pub not_before: Timestamp,
    /// End of its SVID's validity: the last moment at which it is still good.
    pub not_after: Timestamp,
    /// Whether it came over TLS 1.3, and not 1.2.
    pub tls13: bool,
}

impl VerifiedPeer {
    /// What the table asks about this peer.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}
