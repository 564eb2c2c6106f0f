//! The requestor's side of an association: for `portcullis send`, the forwarder and tests.

use model::{AeTitle, InstanceClaim, Phi, ProposedContext, SopClass, TransferSyntax, Uid};

use crate::Inbox;
use crate::association::{First, FirstPdu, Messages, Step};
use crate::command::{LAST, RESPONSE, command_pdus, echo_request, max_fragment, store_request};
use crate::limits::Limits;
use crate::pdu::{Abort, AssociateAc, PduType, Violation, release, write_rq};

/// What an A-ASSOCIATE-RQ will ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whom we want to reach.
    pub called: AeTitle,
    /// Our own title.
    pub calling: AeTitle,
    /// At most 128 with odd, unique ids, each with at most 256 transfer syntaxes.
    pub contexts: Vec<ProposedContext>,
    /// The longest P-DATA-TF that we take, in bytes; 0 means any.
    pub max_pdu_length: u32,
}

impl Request {
    /// The PDU.
    ///
    /// # Panics
    /// When the contexts are far beyond their bounds, so that an item would pass 64 KiB.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        write_rq(self)
    }
}

/// Sta5: the request was sent, the answer is awaited.
pub struct Requestor {
    request: Request,
    first: FirstPdu,
    body: Vec<u8>,
    limits: Limits,
}

/// What came of it.
pub enum Answer {
    /// The association is open, although perhaps with no context accepted.
    Accepted(Requested),
    /// Refused; the numbers are those of PS3.8 Table 9-21.
    Rejected {
        /// 1 permanent, 2 transient.
        result: u8,
        /// 1 service user, 2 and 3 provider.
        source: u8,
        /// Its meaning depends on the source.
        reason: u8,
    },
    /// The peer gave up.
    Aborted(Abort),
}

impl Requestor {
    /// The bytes of this request were sent.
    #[must_use]
    pub fn new(request: Request) -> Self {
        let limits = Limits { max_pdu_length: request.max_pdu_length, ..Limits::default() };
        let first = FirstPdu::new(&[PduType::AssociateAc, PduType::AssociateRj, PduType::Abort]);
        Self { request, first, body: Vec::new(), limits }
    }

    /// The answer, or None if more bytes are needed.
    ///
    /// # Errors
    /// When the peer broke the protocol.
    pub fn next(&mut self, inbox: &mut Inbox) -> Result<Option<Answer>, Violation> {
        let body = &mut self.body;
        Ok(match self.first.next(inbox, &self.limits, |piece| body.extend_from_slice(piece))? {
            None => None,
            Some(First::Short(PduType::AssociateRj, [_, result, source, reason])) => {
                Some(Answer::Rejected { result, source, reason })
            }
            Some(First::Short(_, body)) => Some(Answer::Aborted(Abort::of_body(body))),
            Some(First::Associate) => Some(Answer::Accepted(self.accepted()?)),
        })
    }

    fn accepted(&mut self) -> Result<Requested, Violation> {
        let answer = AssociateAc::parse(&std::mem::take(&mut self.body))?;
        let mut contexts = Vec::new();
        for (id, transfer_syntax) in answer.contexts {
            let proposed = self.request.contexts.iter().find(|proposed| proposed.id == id);
            let proposed = proposed.ok_or(Violation::invalid("an answer to a context that was not proposed"))?;
            let Some(transfer_syntax) = transfer_syntax else { continue };
            if !proposed.transfer_syntaxes.contains(&transfer_syntax) {
                return Err(Violation::invalid("a context accepted with a transfer syntax that was not proposed"));
            }
            contexts.push(AcceptedContext { id, class: proposed.abstract_syntax.clone(), transfer_syntax });
        }
        let messages = Messages::new(self.limits, &contexts);
        Ok(Requested { contexts, messages, peer_max_length: answer.user.max_length, state: State::Open })
    }
}

/// A presentation context that both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Odd.
    pub id: u8,
    /// The abstract syntax.
    pub class: Uid<SopClass>,
    /// The one transfer syntax for it.
    pub transfer_syntax: Uid<TransferSyntax>,
}

/// An open association that we asked for.
pub struct Requested {
    contexts: Vec<AcceptedContext>,
    messages: Messages,
    peer_max_length: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sta6.
    Open,
    /// Sta7, or Sta11 once the peer's own request was answered.
    ReleaseSent,
    /// Sta8, or Sta9 in a collision: the peer asked for release.
    ReleaseAsked { sent: bool },
    /// Sta1 or Sta13.
    Over,
}

/// What the peer said next.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer to one of our requests.
    Response {
        /// The message id of the request (0000,0120).
        message_id: u16,
        /// Status (0000,0900); 0 is Success.
        status: u16,
        /// Error Comment (0000,0902), printable; what a peer writes there may be patient data.
        comment: Option<Phi<String>>,
    },
    /// The peer wants to end it first: send [`Requested::released`].
    ReleaseRequested,
    /// Our release was confirmed: close the connection.
    Released,
    /// It is over.
    Aborted(Abort),
}

impl Requested {
    /// The accepted contexts, in the order of the answer.
    #[must_use]
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// The context on which such an instance can be sent as it is.
    #[must_use]
    pub fn accepted(&self, class: &Uid<SopClass>, transfer_syntax: &Uid<TransferSyntax>) -> Option<u8> {
        let fits = |context: &&AcceptedContext| context.class == *class && context.transfer_syntax == *transfer_syntax;
        self.contexts.iter().find(fits).map(|context| context.id)
    }

    /// The longest P-DATA-TF that the peer takes, in bytes; 0 means any.
    #[must_use]
    pub fn max_pdu_length(&self) -> u32 {
        self.peer_max_length
    }

    /// The most bytes of data set for one [`Requested::data_header`]: an even number.
    #[must_use]
    pub fn max_fragment(&self) -> usize {
        max_fragment(self.peer_max_length)
    }

    /// The C-STORE-RQ for an instance; its data set is to follow.
    #[must_use]
    pub fn store_command(&self, context_id: u8, message_id: u16, claim: &InstanceClaim) -> Vec<u8> {
        command_pdus(context_id, &store_request(message_id, &claim.class, &claim.instance), self.peer_max_length)
    }

    /// The C-ECHO-RQ.
    #[must_use]
    pub fn echo_command(&self, context_id: u8, message_id: u16) -> Vec<u8> {
        command_pdus(context_id, &echo_request(message_id), self.peer_max_length)
    }

    /// What goes before the next `length` bytes of a data set, at most [`Requested::max_fragment`]: the headers of a PDU
    /// and of its one PDV.
    #[must_use]
    pub fn data_header(&self, context_id: u8, length: usize, last: bool) -> [u8; 12] {
        debug_assert!(length <= self.max_fragment());
        let pdv = u32::try_from(length + 2).unwrap_or(u32::MAX);
        let ([p1, p2, p3, p4], [v1, v2, v3, v4]) = (pdv.saturating_add(4).to_be_bytes(), pdv.to_be_bytes());
        [PduType::PData as u8, 0, p1, p2, p3, p4, v1, v2, v3, v4, context_id, if last { LAST } else { 0 }]
    }

    /// A-RELEASE-RQ: everything was sent and answered.
    pub fn release(&mut self) -> Vec<u8> {
        self.state = State::ReleaseSent;
        release(PduType::ReleaseRq)
    }

    /// A-RELEASE-RP, the answer to [`Reply::ReleaseRequested`].
    pub fn released(&mut self) -> Vec<u8> {
        self.state = match self.state {
            // PS3.8 §7.2.2.8: in a collision the acceptor's answer to our own request still comes.
            State::ReleaseAsked { sent: true } => State::ReleaseSent,
            _ => State::Over,
        };
        release(PduType::ReleaseRp)
    }

    /// What the peer said next, or None if more bytes are needed.
    ///
    /// # Errors
    /// When the peer broke the protocol. It is then sent the A-ABORT of the [`Violation`].
    pub fn next(&mut self, inbox: &mut Inbox) -> Result<Option<Reply>, Violation> {
        use PduType::{Abort, PData, ReleaseRp, ReleaseRq};
        let expected: &[PduType] = match self.state {
            State::Open => &[PData, ReleaseRq, Abort],
            State::ReleaseSent => &[PData, ReleaseRq, ReleaseRp, Abort],
            State::ReleaseAsked { .. } => &[Abort],
            State::Over => {
                inbox.clear();
                return Ok(None);
            }
        };
        let reply = self.messages.step(inbox, expected).and_then(|step| self.reply(step));
        reply.inspect_err(|_| self.state = State::Over)
    }

    fn reply(&mut self, step: Step) -> Result<Option<Reply>, Violation> {
        Ok(Some(match step {
            Step::More => return Ok(None),
            Step::Command { set, .. } => {
                let (Some(message_id), Some(status)) = (set.responded_to, set.status) else {
                    return Err(Violation::invalid("a response without a message id or without a status"));
                };
                if set.field & RESPONSE == 0 || set.data_follows {
                    return Err(Violation::unexpected("something other than the response to a C-STORE or C-ECHO"));
                }
                Reply::Response { message_id, status, comment: set.comment }
            }
            Step::Data(_) | Step::DataEnd => return Err(Violation::unexpected("a data set that was not asked for")),
            Step::ReleaseRequested => {
                self.state = State::ReleaseAsked { sent: self.state == State::ReleaseSent };
                Reply::ReleaseRequested
            }
            Step::Released => {
                self.state = State::Over;
                Reply::Released
            }
            Step::Aborted(abort) => {
                self.state = State::Over;
                Reply::Aborted(abort)
            }
        }))
    }
}

#[cfg(test)]
mod tests;
