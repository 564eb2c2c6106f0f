use crate::{AeTitle, SopClass, TransferSyntax, Uid};

/// What a requestor proposes in its A-ASSOCIATE-RQ, as far as authorisation asks about it (PS3.8 §9.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The title the caller wants to reach.
    pub called: AeTitle,
    /// The title the caller gives itself: anyone can type it.
    pub calling: AeTitle,
    /// At most 128, in the order proposed.
    pub contexts: Vec<ProposedContext>,
}

/// One presentation context: an abstract syntax and the transfer syntaxes offered for it (PS3.8 §9.3.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Odd, unique within the association.
    pub id: u8,
    /// A SOP class, storage or not.
    pub abstract_syntax: Uid<SopClass>,
    /// At least one, the sender's favourite first.
    pub transfer_syntaxes: Vec<Uid<TransferSyntax>>,
}

/// The answer to one proposed context (PS3.8 §9.3.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextAnswer {
    /// The proposed id.
    pub id: u8,
    /// Accepted with a transfer syntax, or why not.
    pub result: ContextResult,
}

/// PS3.8 Table 9-18, result/reason. Provider rejection (2) is left out: nothing here ever has that reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextResult {
    /// 0.
    Accepted(Uid<TransferSyntax>),
    /// 1: the row does not allow it.
    UserRejection,
    /// 3: no such class is stored here.
    AbstractSyntaxNotSupported,
    /// 4: none of the proposed transfer syntaxes is allowed.
    TransferSyntaxesNotSupported,
}

impl ContextResult {
    /// The byte on the wire.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Accepted(_) => 0,
            Self::UserRejection => 1,
            Self::AbstractSyntaxNotSupported => 3,
            Self::TransferSyntaxesNotSupported => 4,
        }
    }
}
