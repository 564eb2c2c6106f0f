//! Protocol data units, PS3.8 §9.3: type first, then length, then bytes.

mod associate;
mod items;

pub(crate) use associate::{AssociateAc, AssociateRq, ContextIds, write_ac, write_rq};
pub(crate) use items::pdu;

use crate::Inbox;
use crate::limits::Limits;

/// Type, a reserved byte and the length of what follows.
pub(crate) const HEADER_LENGTH: usize = 6;
/// Length and presentation context id and message control header of a PDV (PS3.8 §9.3.5.1 and §E.2).
pub(crate) const PDV_HEADER_LENGTH: usize = 6;
/// The body of an A-ASSOCIATE-RJ, an A-RELEASE-RQ or -RP and an A-ABORT.
const SHORT_BODY: u32 = 4;
/// An A-ASSOCIATE-RQ or -AC without any item (PS3.8 Table 9-11).
const ASSOCIATE_FIXED: u32 = 68;

/// PS3.8 §9.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PduType {
    AssociateRq = 1,
    AssociateAc = 2,
    AssociateRj = 3,
    PData = 4,
    ReleaseRq = 5,
    ReleaseRp = 6,
    Abort = 7,
}

impl PduType {
    fn of(byte: u8) -> Option<Self> {
        use PduType::{Abort, AssociateAc, AssociateRj, AssociateRq, PData, ReleaseRp, ReleaseRq};
        [AssociateRq, AssociateAc, AssociateRj, PData, ReleaseRq, ReleaseRp, Abort]
            .into_iter()
            .find(|known| *known as u8 == byte)
    }
}

/// A header whose type belongs here and whose length is within its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: PduType,
    pub(crate) length: u32,
}

impl Header {
    /// Judges the type as soon as its byte is there, and the length before anything is reserved or consumed.
    pub(crate) fn peek(inbox: &Inbox, expected: &[PduType], limits: &Limits) -> Result<Option<Self>, Violation> {
        let bytes = inbox.bytes();
        let Some(first) = bytes.first() else { return Ok(None) };
        let kind = PduType::of(*first).ok_or(Violation::unrecognised("a PDU of a type that DICOM does not have"))?;
        if !expected.contains(&kind) {
            return Err(Violation::unexpected("a PDU that is out of place in this state of the association"));
        }
        let Some(length) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let allowed = match kind {
            PduType::AssociateRq | PduType::AssociateAc => ASSOCIATE_FIXED..=limits.max_association_request,
            PduType::PData => PDV_HEADER_LENGTH as u32..=limits.longest_pdu(),
            _ => SHORT_BODY..=SHORT_BODY,
        };
        if !allowed.contains(&length) {
            return Err(Violation::invalid(match kind {
                PduType::PData => "a P-DATA-TF PDU shorter than a PDV or longer than the maximum that we advertised",
                PduType::AssociateRq | PduType::AssociateAc => "an A-ASSOCIATE PDU that is too short or too long",
                _ => "a PDU of fixed length with another length",
            }));
        }
        Ok(Some(Self { kind, length }))
    }

    /// The four bytes of a PDU that has no more, when they are there.
    pub(crate) fn take_short(inbox: &mut Inbox) -> Option<[u8; SHORT_BODY as usize]> {
        let body = *inbox.bytes().get(HEADER_LENGTH..)?.first_chunk()?;
        inbox.skip(HEADER_LENGTH + body.len());
        Some(body)
    }
}

/// The peer broke the protocol. It gets [`Violation::abort`] and nothing more is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer broke the protocol: {what}")]
pub struct Violation {
    what: &'static str,
    reason: u8,
    looks_like: Option<Stranger>,
}

/// Another protocol that often calls at the wrong port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    Tls,
    Http,
}

impl Violation {
    const fn of(reason: u8, what: &'static str) -> Self {
        Self { what, reason, looks_like: None }
    }

    /// PS3.8 Table 9-26, reason 1.
    pub(crate) const fn unrecognised(what: &'static str) -> Self {
        Self::of(1, what)
    }

    /// Reason 2.
    pub(crate) const fn unexpected(what: &'static str) -> Self {
        Self::of(2, what)
    }

    /// Reason 6.
    pub(crate) const fn invalid(what: &'static str) -> Self {
        Self::of(6, what)
    }

    /// Says so when the first byte of a connection is another protocol's. One byte is enough: neither is a PDU type.
    pub(crate) fn of_first_byte(self, byte: u8) -> Self {
        match byte {
            0x16 => {
                Self { what: "a TLS handshake where plain DICOM was expected", looks_like: Some(Stranger::Tls), ..self }
            }
            // The initials of GET, HEAD, POST, PUT, PATCH, PRI, DELETE, OPTIONS, CONNECT and TRACE.
            b'G' | b'H' | b'P' | b'D' | b'O' | b'C' | b'T' => {
                Self { what: "what looks like HTTP, not DICOM", looks_like: Some(Stranger::Http), ..self }
            }
            _ => self,
        }
    }

    /// The A-ABORT that the peer is sent: provider source with the reason of PS3.8 Table 9-26.
    #[must_use]
    pub fn abort(&self) -> Abort {
        Abort { source: 2, reason: self.reason }
    }

    /// The peer spoke TLS to a plain port.
    #[must_use]
    pub fn tls_hello(&self) -> bool {
        self.looks_like == Some(Stranger::Tls)
    }

    /// The peer seems to speak HTTP.
    #[must_use]
    pub fn http(&self) -> bool {
        self.looks_like == Some(Stranger::Http)
    }
}

/// A-ABORT, PS3.8 §9.3.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// 0 service user, 2 service provider.
    pub source: u8,
    /// For a provider 0 not specified, 1 unrecognised PDU, 2 unexpected PDU, 4 unrecognised, 5 unexpected, 6 invalid
    /// parameter; not significant for a user.
    pub reason: u8,
}

impl Abort {
    /// We want to end it: a deadline passed, or the program stops.
    #[must_use]
    pub fn user() -> Self {
        Self { source: 0, reason: 0 }
    }

    /// The PDU.
    #[must_use]
    pub fn bytes(self) -> [u8; 10] {
        [PduType::Abort as u8, 0, 0, 0, 0, 4, 0, 0, self.source, self.reason]
    }

    pub(crate) fn of_body([_, _, source, reason]: [u8; 4]) -> Self {
        Self { source, reason }
    }
}

/// Why an association is refused, PS3.8 Table 9-21.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// 1/1/1: permanent, no reason given.
    NoReason,
    /// 1/1/2: permanent, application context name not supported.
    ApplicationContext,
    /// 1/1/3: permanent, calling AE title not recognised.
    CallingAeTitle,
    /// 1/1/7: permanent, called AE title not recognised.
    CalledAeTitle,
    /// 1/2/2: permanent, protocol version not supported.
    ProtocolVersion,
    /// 2/3/1: transient, temporary congestion.
    Congestion,
    /// 2/3/2: transient, local limit exceeded.
    LocalLimit,
}

impl Reject {
    /// Result, source and reason.
    #[must_use]
    pub fn code(self) -> (u8, u8, u8) {
        match self {
            Self::NoReason => (1, 1, 1),
            Self::ApplicationContext => (1, 1, 2),
            Self::CallingAeTitle => (1, 1, 3),
            Self::CalledAeTitle => (1, 1, 7),
            Self::ProtocolVersion => (1, 2, 2),
            Self::Congestion => (2, 3, 1),
            Self::LocalLimit => (2, 3, 2),
        }
    }

    /// The A-ASSOCIATE-RJ PDU, PS3.8 §9.3.4.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let (result, source, reason) = self.code();
        pdu(PduType::AssociateRj, |out| out.extend([0, result, source, reason]))
    }
}

/// A-RELEASE-RQ or -RP, PS3.8 §9.3.6 and §9.3.7.
pub(crate) fn release(kind: PduType) -> Vec<u8> {
    pdu(kind, |out| out.extend([0; 4]))
}

#[cfg(test)]
mod tests;
