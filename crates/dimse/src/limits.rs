//! What a peer can make this room hold, and what this program calls itself.

/// Bytes of one P-DATA-TF PDU that we advertise (PS3.8 §D.1): beyond 128 KiB larger PDUs gained nothing measurable.
pub const MAX_PDU_LENGTH: u32 = 128 * 1024;
/// Bytes of an A-ASSOCIATE-RQ or -AC: 128 contexts with 40 transfer syntaxes each are 138 KB. Held only as received.
pub const MAX_ASSOCIATE_LENGTH: u32 = 256 * 1024;
/// Bytes of a command set over all its fragments: a C-STORE-RQ has about 200.
pub const MAX_COMMAND_SET: u32 = 64 * 1024;
/// Presentation contexts: ids are odd and fit a byte (PS3.8 §9.3.2.2), so there are 128 at most.
pub const MAX_CONTEXTS: usize = 128;
/// Transfer syntaxes of one context: PS3.6 defines about 60; each costs up to 88 bytes of memory.
pub const MAX_TRANSFER_SYNTAXES: usize = 256;
/// Fragments without a byte in one message: legal, useless, and free to send for ever.
pub const MAX_EMPTY_FRAGMENTS: u32 = 1024;

/// What a peer may make us hold or read; memory follows received bytes up to these, never a declared length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a P-DATA-TF PDU, advertised to the peer; 0 tells it that there is no limit (PS3.8 §D.1).
    pub max_pdu_length: u32,
    /// Bytes of an A-ASSOCIATE-RQ (or -AC, for a requestor).
    pub max_association_request: u32,
    /// Bytes of one command set, all fragments together.
    pub max_command_set: u32,
    /// Presentation contexts of one association.
    pub max_contexts: usize,
    /// Transfer syntaxes of one presentation context.
    pub max_transfer_syntaxes: usize,
    /// Zero-length fragments of one message.
    pub max_empty_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pdu_length: MAX_PDU_LENGTH,
            max_association_request: MAX_ASSOCIATE_LENGTH,
            max_command_set: MAX_COMMAND_SET,
            max_contexts: MAX_CONTEXTS,
            max_transfer_syntaxes: MAX_TRANSFER_SYNTAXES,
            max_empty_fragments: MAX_EMPTY_FRAGMENTS,
        }
    }
}

impl Limits {
    /// No PDU is ever held as a whole, so having no limit costs no memory.
    pub(crate) fn longest_pdu(&self) -> u32 {
        if self.max_pdu_length == 0 { u32::MAX } else { self.max_pdu_length }
    }
}

/// Who wrote the software, as both sides tell each other (PS3.7 §D.3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Implementation {
    /// Implementation Class UID.
    pub class_uid: &'static str,
    /// Implementation Version Name, at most 16 characters.
    pub version: &'static str,
}

impl Implementation {
    /// This program. The UID is made from a random UUID (PS3.5 §B.2) and stays for ever.
    pub const PORTCULLIS: Self =
        Self { class_uid: "2.25.50554425638360176191824229988145299392", version: "PORTCULLIS_0_1" };
}

impl Default for Implementation {
    fn default() -> Self {
        Self::PORTCULLIS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_implementation_is_valid_in_a_pdu() {
        let ours = Implementation::PORTCULLIS;
        assert!(model::Uid::<model::SopClass>::parse(ours.class_uid).is_ok());
        assert!(ours.version.len() <= 16 && ours.version.is_ascii());
    }
}
