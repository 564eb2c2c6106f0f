//! The acceptor's side of an association, PS3.8 §9.2: Sta2 ([`Acceptor`], [`Unheard`]), Sta3 ([`AssociationRequest`]),
//! Sta6 and Sta8 ([`Association`]). In Sta13 whatever comes is thrown away; the timer and the closing are the caller's.

mod messages;
mod opening;
mod request;

use std::marker::PhantomData;

use model::{InstanceClaim, SopClass, SopInstance, Uid};

pub(crate) use messages::{Messages, Step};
pub use opening::{Acceptor, Opening, Unheard};
pub(crate) use opening::{First, FirstPdu};
pub use request::AssociationRequest;

use crate::Inbox;
use crate::command::{C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, CommandSet, RESPONSE, Response, command_pdus};
use crate::limits::Limits;
use crate::pdu::{Abort, PduType, Violation, release};
use crate::requestor::AcceptedContext;
use crate::status::{self, StoreRefusal};

/// An open association. `R` is what proves that an instance is durable; saying Success costs one.
pub struct Association<R> {
    messages: Messages,
    contexts: Vec<AcceptedContext>,
    peer_max_length: u32,
    state: State,
    /// A request was handed out and is not answered yet. The window is one operation (PS3.7 §D.3.3.3).
    unanswered: bool,
    receipt: PhantomData<fn(R)>,
}

/// PS3.8 Table 9-1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sta6.
    Open,
    /// Sta8: the peer asked for release.
    ReleaseAsked,
    /// Sta13, or Sta1 after an A-ABORT.
    Over,
}

/// What the peer said next.
#[derive(Debug)]
pub enum Event<'a> {
    /// C-ECHO: answered by [`Association::echoed`].
    Echo(EchoRequest),
    /// C-STORE: its data set follows as [`Event::Data`] and ends with [`Event::DataEnd`]. Answered by
    /// [`Association::stored`] or [`Association::refused`].
    Store(StoreRequest),
    /// A C-STORE that cannot be served. The data set, if one follows, must still be read; then
    /// [`Association::malformed`] answers it.
    Malformed(MalformedStore),
    /// Any other operation, or one where it does not belong: as [`Event::Malformed`], answered by
    /// [`Association::unsupported`].
    Unsupported(UnsupportedRequest),
    /// The next piece of the data set, as it arrived. Patient data.
    Data(&'a [u8]),
    /// The data set is complete.
    DataEnd,
    /// C-CANCEL, which has no answer and, one operation at a time, nothing to cancel.
    Cancel,
    /// Answered by [`Association::released`]. What was received before may still be answered first.
    ReleaseRequested,
    /// It is over; nothing is to be sent.
    Aborted(Abort),
}

/// A C-ECHO-RQ.
#[derive(Debug)]
#[must_use = "a request must be answered"]
pub struct EchoRequest {
    context: u8,
    message_id: u16,
}

/// A C-STORE-RQ that makes sense so far.
#[derive(Debug)]
#[must_use = "a request must be answered"]
pub struct StoreRequest {
    context: u8,
    message_id: u16,
    claim: InstanceClaim,
}

impl StoreRequest {
    /// What the command says is coming.
    pub fn claim(&self) -> &InstanceClaim {
        &self.claim
    }

    /// Message ID (0000,0110).
    pub fn message_id(&self) -> u16 {
        self.message_id
    }

    /// The presentation context that it came on.
    pub fn context_id(&self) -> u8 {
        self.context
    }
}

/// A C-STORE-RQ that is answered with a failure before anybody is asked.
#[derive(Debug)]
#[must_use = "a request must be answered"]
pub struct MalformedStore {
    context: u8,
    message_id: u16,
    class: Option<Uid<SopClass>>,
    instance: Option<Uid<SopInstance>>,
    refusal: StoreRefusal,
    data_follows: bool,
}

impl MalformedStore {
    /// What its answer will say.
    pub fn refusal(&self) -> StoreRefusal {
        self.refusal
    }

    /// Whether [`Event::Data`] and [`Event::DataEnd`] follow.
    pub fn data_follows(&self) -> bool {
        self.data_follows
    }
}

/// A request for something that is not done here.
#[derive(Debug)]
#[must_use = "a request must be answered"]
pub struct UnsupportedRequest {
    context: u8,
    message_id: u16,
    field: u16,
    class: Option<Uid<SopClass>>,
    refusal: StoreRefusal,
    data_follows: bool,
}

impl UnsupportedRequest {
    /// Command Field (0000,0100).
    pub fn command_field(&self) -> u16 {
        self.field
    }

    /// What its answer will say.
    pub fn refusal(&self) -> StoreRefusal {
        self.refusal
    }

    /// Whether [`Event::Data`] and [`Event::DataEnd`] follow.
    pub fn data_follows(&self) -> bool {
        self.data_follows
    }
}

impl<R> Association<R> {
    fn new(limits: Limits, contexts: Vec<AcceptedContext>, peer_max_length: u32) -> Self {
        let messages = Messages::new(limits, &contexts);
        Self { messages, contexts, peer_max_length, state: State::Open, unanswered: false, receipt: PhantomData }
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// Whether the peer is between two messages, as far as what was read tells: bytes left in the inbox begin another.
    pub fn is_between_messages(&self) -> bool {
        self.messages.is_between_messages()
    }

    /// What the peer said next, or None if more bytes are needed. After an abort, a violation or
    /// [`Association::released`] it is None for ever, and what still arrives is thrown away. Neither allocates nor copies
    /// for a piece of data set.
    ///
    /// # Errors
    /// When the peer broke the protocol. It is then sent the A-ABORT of the [`Violation`].
    pub fn next<'a>(&mut self, inbox: &'a mut Inbox) -> Result<Option<Event<'a>>, Violation> {
        let expected: &[PduType] = match self.state {
            State::Open => &[PduType::PData, PduType::ReleaseRq, PduType::Abort],
            State::ReleaseAsked => &[PduType::Abort],
            State::Over => {
                inbox.clear();
                return Ok(None);
            }
        };
        let step = self.messages.step(inbox, expected).inspect_err(|_| self.state = State::Over)?;
        Ok(Some(match step {
            Step::More => return Ok(None),
            Step::Data(count) => Event::Data(inbox.take(count)),
            Step::DataEnd => Event::DataEnd,
            Step::Command { context, set } => self.command(context, set).inspect_err(|_| self.state = State::Over)?,
            Step::ReleaseRequested => {
                self.state = State::ReleaseAsked;
                Event::ReleaseRequested
            }
            Step::Aborted(abort) => {
                self.state = State::Over;
                Event::Aborted(abort)
            }
            // Sta6 and Sta8 do not expect it, so the PDU was refused before.
            Step::Released => return Err(Violation::unexpected("an A-RELEASE-RP that nobody asked for")),
        }))
    }

    fn command(&mut self, context: u8, set: CommandSet) -> Result<Event<'static>, Violation> {
        if set.field == C_CANCEL_RQ {
            return match set.data_follows {
                false => Ok(Event::Cancel),
                true => Err(Violation::invalid("a C-CANCEL with a data set")),
            };
        }
        if set.field & RESPONSE != 0 {
            return Err(Violation::unexpected("a response to a request that was never sent"));
        }
        if self.unanswered {
            return Err(Violation::unexpected("a second operation although one at a time was agreed"));
        }
        // Without it no answer can be told from another.
        let message_id = set.message_id.ok_or(Violation::invalid("a request without a message id"))?;
        let accepted = self.contexts.iter().find(|accepted| accepted.id == context);
        let accepted = accepted.ok_or(Violation::invalid("a request on a context that was not accepted"))?;
        let event = match set.field {
            C_STORE_RQ => store(accepted, message_id, set),
            C_ECHO_RQ => echo(accepted, message_id, set),
            _ => Event::Unsupported(unsupported(accepted, message_id, set, UNRECOGNISED)),
        };
        self.unanswered = true;
        Ok(event)
    }

    /// C-ECHO-RSP, Success.
    pub fn echoed(&mut self, EchoRequest { context, message_id }: EchoRequest) -> Vec<u8> {
        let class = Some(model::sop_class::VERIFICATION);
        self.answer(context, &Response { class, ..Response::success(C_ECHO_RQ, message_id) })
    }

    /// C-ECHO-RSP, 0122 "Refused: SOP class not supported" (PS3.7 §9.1.5.1.4): the only refusal that it has for this.
    pub fn echo_refused(&mut self, EchoRequest { context, message_id }: EchoRequest) -> Vec<u8> {
        let refusal =
            StoreRefusal { status: status::SOP_CLASS_NOT_SUPPORTED, comment: "not authorised", offending: &[] };
        let class = Some(model::sop_class::VERIFICATION);
        self.answer(context, &Response { class, ..Response::failure(C_ECHO_RQ, message_id, &refusal) })
    }

    /// C-STORE-RSP, Success: the instance is durable, and the receipt for it is given up here. There is no other way to
    /// say it; neither of these compiles:
    ///
    /// ```compile_fail,E0061
    /// fn lie<R>(association: &mut dimse::Association<R>, request: dimse::StoreRequest) -> Vec<u8> {
    ///     association.stored(request)
    /// }
    /// ```
    /// ```compile_fail,E0308
    /// fn lie<R>(association: &mut dimse::Association<R>, request: dimse::StoreRequest) -> Vec<u8> {
    ///     let status = dimse::status::SUCCESS;
    ///     association.refused(request, dimse::StoreRefusal { status, comment: "", offending: &[] })
    /// }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a receipt pays for one Success")]
    pub fn stored(&mut self, request: StoreRequest, receipt: R) -> Vec<u8> {
        drop(receipt);
        let response = Response::success(C_STORE_RQ, request.message_id);
        let (class, instance) = (Some(request.claim.class.as_str()), Some(request.claim.instance.as_str()));
        self.answer(request.context, &Response { class, instance, ..response })
    }

    /// C-STORE-RSP with a failure. It may be sent before the data set has ended, whose rest then still arrives.
    #[expect(clippy::needless_pass_by_value, reason = "a request is consumed by answering")]
    pub fn refused(&mut self, request: StoreRequest, refusal: StoreRefusal) -> Vec<u8> {
        let response = Response::failure(C_STORE_RQ, request.message_id, &refusal);
        let (class, instance) = (Some(request.claim.class.as_str()), Some(request.claim.instance.as_str()));
        self.answer(request.context, &Response { class, instance, ..response })
    }

    /// C-STORE-RSP with the failure that the request brought on itself.
    #[expect(clippy::needless_pass_by_value, reason = "a request is consumed by answering")]
    pub fn malformed(&mut self, request: MalformedStore) -> Vec<u8> {
        let response = Response::failure(C_STORE_RQ, request.message_id, &request.refusal);
        let class = request.class.as_ref().map(Uid::as_str);
        let instance = request.instance.as_ref().map(Uid::as_str);
        self.answer(request.context, &Response { class, instance, ..response })
    }

    /// The response of whatever was asked, with its failure.
    #[expect(clippy::needless_pass_by_value, reason = "a request is consumed by answering")]
    pub fn unsupported(&mut self, request: UnsupportedRequest) -> Vec<u8> {
        let response = Response::failure(request.field, request.message_id, &request.refusal);
        self.answer(request.context, &Response { class: request.class.as_ref().map(Uid::as_str), ..response })
    }

    /// A-RELEASE-RP. The peer closes the connection next.
    pub fn released(&mut self) -> Vec<u8> {
        self.state = State::Over;
        release(PduType::ReleaseRp)
    }

    fn answer(&mut self, context: u8, response: &Response<'_>) -> Vec<u8> {
        self.unanswered = false;
        command_pdus(context, &response.write(), self.peer_max_length)
    }
}

const AFFECTED_CLASS: u32 = 0x0000_0002;
const AFFECTED_INSTANCE: u32 = 0x0000_1000;
const COMMAND_FIELD: u32 = 0x0000_0100;
const DATA_SET_TYPE: u32 = 0x0000_0800;

const UNRECOGNISED: StoreRefusal = StoreRefusal {
    status: status::UNRECOGNISED_OPERATION,
    comment: "this operation is not supported",
    offending: &[COMMAND_FIELD],
};

fn store(accepted: &AcceptedContext, message_id: u16, set: CommandSet) -> Event<'static> {
    let (context, data_follows) = (accepted.id, set.data_follows);
    let malformed = |status, comment, offending, class, instance| {
        let refusal = StoreRefusal { status, comment, offending };
        Event::Malformed(MalformedStore { context, message_id, class, instance, refusal, data_follows })
    };
    let Some(class) = set.class else {
        let comment = "Affected SOP Class UID is absent or invalid";
        return malformed(status::SOP_CLASS_NOT_SUPPORTED, comment, &[AFFECTED_CLASS], None, set.instance);
    };
    if class != accepted.class {
        let comment = "SOP class is not the one of the presentation context";
        return malformed(status::SOP_CLASS_NOT_SUPPORTED, comment, &[AFFECTED_CLASS], Some(class), set.instance);
    }
    let Some(instance) = set.instance else {
        let comment = "Affected SOP Instance UID is absent or invalid";
        return malformed(status::INVALID_INSTANCE, comment, &[AFFECTED_INSTANCE], Some(class), None);
    };
    if !data_follows {
        let comment = "C-STORE-RQ without a data set";
        return malformed(status::CANNOT_UNDERSTAND, comment, &[DATA_SET_TYPE], Some(class), Some(instance));
    }
    let claim = InstanceClaim { class, instance, transfer_syntax: accepted.transfer_syntax.clone() };
    Event::Store(StoreRequest { context, message_id, claim })
}

fn echo(accepted: &AcceptedContext, message_id: u16, set: CommandSet) -> Event<'static> {
    if accepted.class.as_str() != model::sop_class::VERIFICATION {
        let refusal = StoreRefusal {
            status: status::SOP_CLASS_NOT_SUPPORTED,
            comment: "C-ECHO outside a context for Verification",
            offending: &[AFFECTED_CLASS],
        };
        return Event::Unsupported(unsupported(accepted, message_id, set, refusal));
    }
    if set.data_follows {
        let refusal = StoreRefusal {
            status: status::MISTYPED_ARGUMENT,
            comment: "C-ECHO-RQ with a data set",
            offending: &[DATA_SET_TYPE],
        };
        return Event::Unsupported(unsupported(accepted, message_id, set, refusal));
    }
    Event::Echo(EchoRequest { context: accepted.id, message_id })
}

fn unsupported(
    accepted: &AcceptedContext,
    message_id: u16,
    set: CommandSet,
    refusal: StoreRefusal,
) -> UnsupportedRequest {
    UnsupportedRequest {
        context: accepted.id,
        message_id,
        field: set.field,
        class: set.class,
        refusal,
        data_follows: set.data_follows,
    }
}

#[cfg(test)]
mod tests;
