//! DIMSE status codes (PS3.7 Annex C, PS3.4 §B.2.3) and what a refused store is told.

/// A status that says failure. It is never Success or a warning, both of which mean *stored* (PS3.4 §B.2.2): those cost a
/// receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailureStatus(u16);

/// Success, PS3.7 §C.1.1. Only [`Association::stored`](crate::Association::stored) writes it for a C-STORE.
pub const SUCCESS: u16 = 0x0000;

/// PS3.7 §C.5.14: the operation failed for a reason of ours.
pub const PROCESSING_FAILURE: FailureStatus = FailureStatus(0x0110);
/// PS3.7 §C.5.6: the SOP Instance UID is already held with other bytes.
pub const DUPLICATE_INSTANCE: FailureStatus = FailureStatus(0x0111);
/// PS3.7 §C.5.8: the SOP Instance UID breaks the rules for UIDs.
pub const INVALID_INSTANCE: FailureStatus = FailureStatus(0x0117);
/// PS3.7 §C.5.17: the SOP class is not supported.
pub const SOP_CLASS_NOT_SUPPORTED: FailureStatus = FailureStatus(0x0122);
/// PS3.7 §C.5.22: this identity may not do that.
pub const NOT_AUTHORISED: FailureStatus = FailureStatus(0x0124);
/// PS3.7 §C.5.7: the message id is in use.
pub const DUPLICATE_INVOCATION: FailureStatus = FailureStatus(0x0210);
/// PS3.7 §C.5.18: no such operation here.
pub const UNRECOGNISED_OPERATION: FailureStatus = FailureStatus(0x0211);
/// PS3.7 §C.5.12: an argument is not of the agreed type.
pub const MISTYPED_ARGUMENT: FailureStatus = FailureStatus(0x0212);
/// PS3.4 §B.2.3: out of resources; the sender should try again.
pub const OUT_OF_RESOURCES: FailureStatus = FailureStatus(0xA700);
/// PS3.4 §B.2.3: the data set does not match its SOP class, or not its command.
pub const DATA_SET_MISMATCH: FailureStatus = FailureStatus(0xA900);
/// PS3.4 §B.2.3: cannot understand.
pub const CANNOT_UNDERSTAND: FailureStatus = FailureStatus(0xC000);

impl FailureStatus {
    /// The value of Status (0000,0900).
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for FailureStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:04X}", self.0)
    }
}

/// What a refused C-STORE is told. Its text is written in this program, so that no patient data can get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRefusal {
    /// Status (0000,0900).
    pub status: FailureStatus,
    /// Error Comment (0000,0902): at most 64 characters are sent, none if it is empty.
    pub comment: &'static str,
    /// Offending Element (0000,0901): tags as `0xGGGG_EEEE`, none if it is empty.
    pub offending: &'static [u32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_refusal_can_say_success_or_warning() {
        let all = [
            (PROCESSING_FAILURE, 0x0110),
            (DUPLICATE_INSTANCE, 0x0111),
            (INVALID_INSTANCE, 0x0117),
            (SOP_CLASS_NOT_SUPPORTED, 0x0122),
            (NOT_AUTHORISED, 0x0124),
            (DUPLICATE_INVOCATION, 0x0210),
            (UNRECOGNISED_OPERATION, 0x0211),
            (MISTYPED_ARGUMENT, 0x0212),
            (OUT_OF_RESOURCES, 0xA700),
            (DATA_SET_MISMATCH, 0xA900),
            (CANNOT_UNDERSTAND, 0xC000),
        ];
        for (status, code) in all {
            assert_eq!(status.code(), code);
            // PS3.7 Annex C: 0000 is Success, 0001 and Bxxx are warnings.
            assert!(code != SUCCESS && code != 1 && code >> 12 != 0xB, "{status}");
        }
    }
}
