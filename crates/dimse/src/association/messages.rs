//! From bytes to messages: P-DATA-TF PDUs, their PDVs, and the message that the fragments make (PS3.8 Annex E, PS3.7 §6.3.1).
//!
//! Both sides of an association read with this. A data set is never collected: its pieces are reported as they arrive.

use crate::Inbox;
use crate::command::{COMMAND, CommandSet, LAST};
use crate::limits::Limits;
use crate::pdu::{Abort, ContextIds, HEADER_LENGTH, Header, PDV_HEADER_LENGTH, PduType, Violation};
use crate::requestor::AcceptedContext;

/// A command buffer larger than this is given back after use: some 200 bytes are usual.
const KEPT_COMMAND_BUFFER: usize = 4 * 1024;

/// What came next.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    Command {
        context: u8,
        set: CommandSet,
    },
    /// So many bytes at the front of the inbox belong to the data set; the caller takes them.
    Data(usize),
    DataEnd,
    ReleaseRequested,
    Released,
    Aborted(Abort),
}

/// Reads messages on the accepted presentation contexts.
pub(crate) struct Messages {
    limits: Limits,
    contexts: ContextIds,
    place: Place,
    message: Message,
    command: Vec<u8>,
    empty_fragments: u32,
}

/// Where in the stream of PDUs the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    BetweenPdus,
    /// So many bytes of the P-DATA-TF are left.
    BetweenPdvs(usize),
    InFragment {
        pdu_left: usize,
        left: usize,
        last: bool,
    },
}

/// Where in a message: its command comes first, then its data set, all on one context.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    None,
    Command { context: u8 },
    Data { context: u8 },
}

impl Messages {
    pub(crate) fn new(limits: Limits, accepted: &[AcceptedContext]) -> Self {
        let mut contexts = ContextIds::default();
        for context in accepted {
            contexts.add(context.id).expect("ids were proposed, and proposed ids are odd and unique");
        }
        Self {
            limits,
            contexts,
            place: Place::BetweenPdus,
            message: Message::None,
            command: Vec::new(),
            empty_fragments: 0,
        }
    }

    /// Whether nothing has begun that is not complete: no PDU, no fragment, no message.
    pub(crate) fn is_between_messages(&self) -> bool {
        matches!(self.place, Place::BetweenPdus | Place::BetweenPdvs(0)) && self.message == Message::None
    }

    /// Reads as far as the next thing worth telling. `expected` are the PDUs that the state of the association allows.
    pub(crate) fn step(&mut self, inbox: &mut Inbox, expected: &[PduType]) -> Result<Step, Violation> {
        loop {
            let step = match self.place {
                Place::BetweenPdus => self.pdu(inbox, expected)?,
                Place::BetweenPdvs(0) => {
                    self.place = Place::BetweenPdus;
                    None
                }
                Place::BetweenPdvs(left) => self.pdv(inbox, left)?,
                Place::InFragment { pdu_left, left, last } => self.fragment(inbox, pdu_left, left, last)?,
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn pdu(&mut self, inbox: &mut Inbox, expected: &[PduType]) -> Result<Option<Step>, Violation> {
        let Some(header) = Header::peek(inbox, expected, &self.limits)? else { return Ok(Some(Step::More)) };
        if header.kind == PduType::PData {
            inbox.skip(HEADER_LENGTH);
            self.place = Place::BetweenPdvs(header.length as usize);
            return Ok(None);
        }
        if header.kind == PduType::ReleaseRq && self.message != Message::None {
            return Err(Violation::unexpected("an A-RELEASE-RQ in the middle of a message"));
        }
        let Some(body) = Header::take_short(inbox) else { return Ok(Some(Step::More)) };
        Ok(Some(match header.kind {
            PduType::ReleaseRq => Step::ReleaseRequested,
            PduType::ReleaseRp => Step::Released,
            PduType::Abort => Step::Aborted(Abort::of_body(body)),
            _ => return Err(Violation::unexpected("a PDU of association establishment in an open association")),
        }))
    }

    fn pdv(&mut self, inbox: &mut Inbox, pdu_left: usize) -> Result<Option<Step>, Violation> {
        if pdu_left < PDV_HEADER_LENGTH {
            return Err(Violation::invalid("a P-DATA-TF PDU with bytes after its last PDV"));
        }
        let Some(header) = inbox.bytes().first_chunk::<PDV_HEADER_LENGTH>() else { return Ok(Some(Step::More)) };
        let [length @ .., context, control] = *header;
        let length = u32::from_be_bytes(length) as usize;
        // The length counts the context id and the control header as well.
        if length < 2 || length > pdu_left - 4 {
            return Err(Violation::invalid("a PDV that is shorter than its header or longer than its PDU"));
        }
        let left = length - 2;
        // PS3.8 §E.2: the other six bits are never checked.
        self.begin_fragment(context, control & COMMAND != 0, left)?;
        inbox.skip(PDV_HEADER_LENGTH);
        self.place = Place::InFragment { pdu_left: pdu_left - 4 - length, left, last: control & LAST != 0 };
        Ok(None)
    }

    /// A fragment goes on with the message that is open, or opens one with its command.
    fn begin_fragment(&mut self, context: u8, is_command: bool, length: usize) -> Result<(), Violation> {
        let out_of_order = match self.message {
            Message::None if !self.contexts.contains(context) => {
                return Err(Violation::invalid("a PDV on a presentation context that was not accepted"));
            }
            Message::None => (!is_command).then_some("data without a command before it"),
            Message::Command { context: open } | Message::Data { context: open } if open != context => {
                return Err(Violation::invalid("a message on two presentation contexts"));
            }
            Message::Command { .. } => (!is_command).then_some("data before the end of its command"),
            Message::Data { .. } => is_command.then_some("a command before the end of the data set before it"),
        };
        if let Some(what) = out_of_order {
            return Err(Violation::unexpected(what));
        }
        if self.message == Message::None {
            self.message = Message::Command { context };
            self.command.clear();
            self.empty_fragments = 0;
        }
        if is_command && length > (self.limits.max_command_set as usize).saturating_sub(self.command.len()) {
            return Err(Violation::invalid("a command set that is too long"));
        }
        self.empty_fragments += u32::from(length == 0);
        if self.empty_fragments > self.limits.max_empty_fragments {
            return Err(Violation::invalid("a message with too many empty fragments"));
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        inbox: &mut Inbox,
        pdu_left: usize,
        left: usize,
        last: bool,
    ) -> Result<Option<Step>, Violation> {
        if left == 0 {
            self.place = Place::BetweenPdvs(pdu_left);
            return if last { self.end().map(Some) } else { Ok(None) };
        }
        let count = left.min(inbox.len());
        if count == 0 {
            return Ok(Some(Step::More));
        }
        self.place = Place::InFragment { pdu_left, left: left - count, last };
        if let Message::Data { .. } = self.message {
            return Ok(Some(Step::Data(count)));
        }
        self.command.extend_from_slice(inbox.take(count));
        Ok(None)
    }

    /// The last fragment of a command or of a data set is complete.
    fn end(&mut self) -> Result<Step, Violation> {
        let Message::Command { context } = self.message else {
            self.message = Message::None;
            return Ok(Step::DataEnd);
        };
        let set = CommandSet::parse(&self.command)?;
        if self.command.capacity() > KEPT_COMMAND_BUFFER {
            self.command = Vec::new();
        }
        self.message = if set.data_follows { Message::Data { context } } else { Message::None };
        Ok(Step::Command { context, set })
    }
}
