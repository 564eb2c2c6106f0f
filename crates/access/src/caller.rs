use model::{SpiffeId, Timestamp};

/// What the table asks about a caller. It is no key: anyone can write one down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub id: SpiffeId,
    /// Start of its SVID's validity.
    pub not_before: Timestamp,
    /// End of its SVID's validity: the last moment at which it is still good.
    pub not_after: Timestamp,
    /// Whether the connection has TLS 1.3; otherwise 1.2.
    pub tls13: bool,
}
