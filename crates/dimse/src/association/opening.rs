//! Sta2: the peer has connected and said nothing yet (PS3.8 §9.2).

use std::marker::PhantomData;

use super::request::AssociationRequest;
use crate::Inbox;
use crate::limits::{Implementation, Limits};
use crate::pdu::{Abort, AssociateRq, HEADER_LENGTH, Header, PduType, Reject, Violation};

/// Waits for an A-ASSOCIATE-RQ. `R` is what proves to the association to come that an instance is durable.
pub struct Acceptor<R> {
    first: FirstPdu,
    body: Vec<u8>,
    limits: Limits,
    implementation: Implementation,
    receipt: PhantomData<fn(R)>,
}

/// The first thing that the peer said.
pub enum Opening<R> {
    /// It asks for an association; this must be answered.
    Request(AssociationRequest<R>),
    /// It asks in a way that cannot be put to the table (a title that is not an AE title, or more than the limits let us
    /// hold): the reason, and the A-ASSOCIATE-RJ that says it. A caller that wants to say less sends another
    /// [`Reject::bytes`] instead.
    Refused(Reject, Vec<u8>),
    /// It changed its mind; nothing is to be sent.
    Aborted(Abort),
}

impl<R> Acceptor<R> {
    /// Nothing received yet.
    #[must_use]
    pub fn new(limits: Limits, implementation: Implementation) -> Self {
        Self { first: FirstPdu::new(SAID_FIRST), body: Vec::new(), limits, implementation, receipt: PhantomData }
    }

    /// What the peer said, or None if more bytes are needed; after it has said something, None for ever.
    ///
    /// # Errors
    /// When it broke the protocol. It is then sent the A-ABORT of the [`Violation`].
    pub fn next(&mut self, inbox: &mut Inbox) -> Result<Option<Opening<R>>, Violation> {
        let body = &mut self.body;
        match self.first.next(inbox, &self.limits, |piece| body.extend_from_slice(piece))? {
            None => Ok(None),
            Some(First::Short(_, body)) => Ok(Some(Opening::Aborted(Abort::of_body(body)))),
            Some(First::Associate) => self.open().map(Some),
        }
    }

    fn open(&mut self) -> Result<Opening<R>, Violation> {
        let mut request = AssociateRq::parse(&std::mem::take(&mut self.body), &self.limits)?;
        let (called, calling) = (request.called.take(), request.calling.take());
        let refused = |why: Reject| Ok(Opening::Refused(why, why.bytes()));
        let Some(called) = called else { return refused(Reject::CalledAeTitle) };
        let Some(calling) = calling else { return refused(Reject::CallingAeTitle) };
        if request.beyond_limits {
            return refused(Reject::LocalLimit);
        }
        Ok(Opening::Request(AssociationRequest::new(request, called, calling, self.limits, self.implementation)))
    }
}

/// For a caller without a row: its A-ASSOCIATE-RQ is framed by its length and never interpreted.
pub struct Unheard {
    first: FirstPdu,
    limits: Limits,
}

impl Unheard {
    /// Nothing received yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { first: FirstPdu::new(SAID_FIRST), limits }
    }

    /// The A-ASSOCIATE-RJ 1/1/1 once the whole request was received, or None if more bytes are needed. Empty if the peer
    /// sent an A-ABORT instead, which is not answered.
    ///
    /// # Errors
    /// As [`Acceptor::next`]: the framing is the same.
    pub fn next(&mut self, inbox: &mut Inbox) -> Result<Option<Vec<u8>>, Violation> {
        Ok(self.first.next(inbox, &self.limits, |_| {})?.map(|first| match first {
            First::Associate => Reject::NoReason.bytes(),
            First::Short(..) => Vec::new(),
        }))
    }
}

/// What an acceptor may hear first.
const SAID_FIRST: &[PduType] = &[PduType::AssociateRq, PduType::Abort];

/// Frames the first PDU of a connection, whichever of those expected it is.
pub(crate) struct FirstPdu {
    expected: &'static [PduType],
    /// Bytes of an A-ASSOCIATE PDU still to come, once its header is there.
    left: Option<usize>,
    done: bool,
}

pub(crate) enum First {
    /// An A-ASSOCIATE-RQ or -AC; its body went to `keep`.
    Associate,
    /// A PDU of four bytes.
    Short(PduType, [u8; 4]),
}

impl FirstPdu {
    pub(crate) fn new(expected: &'static [PduType]) -> Self {
        Self { expected, left: None, done: false }
    }

    /// Hands the body of an A-ASSOCIATE PDU to `keep` as it arrives, so that memory follows what was received.
    pub(crate) fn next(
        &mut self,
        inbox: &mut Inbox,
        limits: &Limits,
        mut keep: impl FnMut(&[u8]),
    ) -> Result<Option<First>, Violation> {
        if self.done {
            return Ok(None);
        }
        let first = self.framed(inbox, limits, &mut keep);
        self.done = !matches!(first, Ok(None));
        first
    }

    fn framed(
        &mut self,
        inbox: &mut Inbox,
        limits: &Limits,
        keep: &mut impl FnMut(&[u8]),
    ) -> Result<Option<First>, Violation> {
        let left = match self.left {
            Some(left) => left,
            None => {
                let first_byte = inbox.bytes().first().copied().unwrap_or_default();
                let header = Header::peek(inbox, self.expected, limits);
                let Some(header) = header.map_err(|violation| violation.of_first_byte(first_byte))? else {
                    return Ok(None);
                };
                if !matches!(header.kind, PduType::AssociateRq | PduType::AssociateAc) {
                    return Ok(Header::take_short(inbox).map(|body| First::Short(header.kind, body)));
                }
                inbox.skip(HEADER_LENGTH);
                header.length as usize
            }
        };
        let count = left.min(inbox.len());
        keep(inbox.take(count));
        self.left = Some(left - count);
        Ok((left == count).then_some(First::Associate))
    }
}
