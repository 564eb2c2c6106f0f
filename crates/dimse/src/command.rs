//! Command sets, PS3.7 §6.3: implicit VR little endian, group 0000 only.

use model::{Phi, SopClass, SopInstance, Uid};

use crate::pdu::{PDV_HEADER_LENGTH, PduType, Violation, pdu};
use crate::status::StoreRefusal;

pub(crate) const C_STORE_RQ: u16 = 0x0001;
pub(crate) const C_ECHO_RQ: u16 = 0x0030;
pub(crate) const C_CANCEL_RQ: u16 = 0x0FFF;
/// Set in the command field of every response.
pub(crate) const RESPONSE: u16 = 0x8000;
/// Command Data Set Type that says: no data set follows. Any other value says that one does (PS3.7 §E.1).
const NO_DATA_SET: u16 = 0x0101;
/// What we write when one follows.
const DATA_SET: u16 = 0x0001;
/// Priority MEDIUM.
const MEDIUM: u16 = 0;
/// Elements in one command set: PS3.7 Annex E defines fewer than 60, retired ones included.
const MAX_ELEMENTS: usize = 128;
/// Characters of an Error Comment (VR LO).
const MAX_COMMENT: usize = 64;
/// The control header of a PDV (PS3.8 §E.2).
pub(crate) const COMMAND: u8 = 1;
pub(crate) const LAST: u8 = 2;

const GROUP_LENGTH: u16 = 0x0000;
const AFFECTED_CLASS: u16 = 0x0002;
const COMMAND_FIELD: u16 = 0x0100;
const MESSAGE_ID: u16 = 0x0110;
const RESPONDED_TO: u16 = 0x0120;
const PRIORITY: u16 = 0x0700;
const DATA_SET_TYPE: u16 = 0x0800;
const STATUS: u16 = 0x0900;
const OFFENDING_ELEMENT: u16 = 0x0901;
const ERROR_COMMENT: u16 = 0x0902;
const AFFECTED_INSTANCE: u16 = 0x1000;

/// The elements of a command set that we ask about.
#[derive(Debug, Default)]
pub(crate) struct CommandSet {
    pub(crate) field: u16,
    pub(crate) data_follows: bool,
    pub(crate) message_id: Option<u16>,
    pub(crate) responded_to: Option<u16>,
    pub(crate) status: Option<u16>,
    pub(crate) comment: Option<Phi<String>>,
    /// None if it is absent or not a UID: both are answered alike.
    pub(crate) class: Option<Uid<SopClass>>,
    pub(crate) instance: Option<Uid<SopInstance>>,
}

impl CommandSet {
    /// Reads a whole command set. Order and group length are not insisted on, some senders get them wrong; an element that
    /// stands twice is refused, since the second could contradict the first.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Violation> {
        let mut seen = Vec::with_capacity(16);
        let (mut field, mut data_set_type) = (None, None);
        let mut set = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (element, value) = next_element(&mut rest)?;
            if seen.contains(&element) {
                return Err(Violation::invalid("a command set with an element that stands twice"));
            }
            if seen.len() == MAX_ELEMENTS {
                return Err(Violation::invalid("a command set with too many elements"));
            }
            seen.push(element);
            match element {
                AFFECTED_CLASS => set.class = Uid::from_wire(value).ok(),
                COMMAND_FIELD => field = Some(us(value)?),
                MESSAGE_ID => set.message_id = Some(us(value)?),
                RESPONDED_TO => set.responded_to = Some(us(value)?),
                DATA_SET_TYPE => data_set_type = Some(us(value)?),
                STATUS => set.status = Some(us(value)?),
                ERROR_COMMENT => set.comment = Some(comment(value)),
                AFFECTED_INSTANCE => set.instance = Uid::from_wire(value).ok(),
                _ => {}
            }
        }
        set.field = field.ok_or(Violation::invalid("a command set without a command field"))?;
        let kind = data_set_type.ok_or(Violation::invalid("a command set without a data set type"))?;
        set.data_follows = kind != NO_DATA_SET;
        Ok(set)
    }
}

fn next_element<'a>(rest: &mut &'a [u8]) -> Result<(u16, &'a [u8]), Violation> {
    let truncated = Violation::invalid("a command set that ends inside an element");
    let ([group_low, group_high, element_low, element_high, length @ ..], after) =
        rest.split_first_chunk::<8>().ok_or(truncated)?;
    if (*group_low, *group_high) != (0, 0) {
        return Err(Violation::invalid("a command set with an element of another group"));
    }
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| truncated)?;
    let (value, after) = after.split_at_checked(length).ok_or(truncated)?;
    *rest = after;
    Ok((u16::from_le_bytes([*element_low, *element_high]), value))
}

fn us(value: &[u8]) -> Result<u16, Violation> {
    let value =
        value.try_into().map_err(|_| Violation::invalid("a command set with a number that is not two bytes"))?;
    Ok(u16::from_le_bytes(value))
}

/// A peer's words, which may hold patient data; control characters would break a terminal.
fn comment(value: &[u8]) -> Phi<String> {
    let printable = value.iter().filter(|byte| matches!(byte, b' '..=b'~')).take(MAX_COMMENT);
    Phi::new(printable.map(|byte| char::from(*byte)).collect::<String>().trim().to_owned())
}

/// A C-STORE-RQ, PS3.7 §9.3.1.1.
pub(crate) fn store_request(message_id: u16, class: &Uid<SopClass>, instance: &Uid<SopInstance>) -> Vec<u8> {
    Writer::new()
        .ui(AFFECTED_CLASS, class.as_str())
        .us(COMMAND_FIELD, C_STORE_RQ)
        .us(MESSAGE_ID, message_id)
        .us(PRIORITY, MEDIUM)
        .us(DATA_SET_TYPE, DATA_SET)
        .ui(AFFECTED_INSTANCE, instance.as_str())
        .finish()
}

/// A C-ECHO-RQ, PS3.7 §9.3.5.1.
pub(crate) fn echo_request(message_id: u16) -> Vec<u8> {
    Writer::new()
        .ui(AFFECTED_CLASS, model::sop_class::VERIFICATION)
        .us(COMMAND_FIELD, C_ECHO_RQ)
        .us(MESSAGE_ID, message_id)
        .us(DATA_SET_TYPE, NO_DATA_SET)
        .finish()
}

/// Any response without a data set: PS3.7 §9.3.1.2 (C-STORE-RSP), §9.3.5.2 (C-ECHO-RSP).
pub(crate) struct Response<'a> {
    /// The command field of the request.
    pub(crate) request: u16,
    pub(crate) message_id: u16,
    pub(crate) class: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) comment: &'static str,
    pub(crate) offending: &'static [u32],
}

impl Response<'_> {
    /// Status 0 and nothing more.
    pub(crate) fn success(request: u16, message_id: u16) -> Self {
        Self { request, message_id, class: None, instance: None, status: 0, comment: "", offending: &[] }
    }

    pub(crate) fn failure(request: u16, message_id: u16, refusal: &StoreRefusal) -> Self {
        Self {
            status: refusal.status.code(),
            comment: refusal.comment,
            offending: refusal.offending,
            ..Self::success(request, message_id)
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        if let Some(class) = self.class {
            writer = writer.ui(AFFECTED_CLASS, class);
        }
        writer = writer
            .us(COMMAND_FIELD, self.request | RESPONSE)
            .us(RESPONDED_TO, self.message_id)
            .us(DATA_SET_TYPE, NO_DATA_SET)
            .us(STATUS, self.status);
        if !self.offending.is_empty() {
            writer = writer.at(OFFENDING_ELEMENT, self.offending);
        }
        if !self.comment.is_empty() {
            writer = writer.lo(ERROR_COMMENT, self.comment);
        }
        if let Some(instance) = self.instance {
            writer = writer.ui(AFFECTED_INSTANCE, instance);
        }
        writer.finish()
    }
}

/// Writes elements in the order given, which must be ascending.
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(Vec::with_capacity(256)).element(GROUP_LENGTH, &[0; 4])
    }

    fn element(mut self, element: u16, value: &[u8]) -> Self {
        self.0.extend([0, 0]);
        self.0.extend(element.to_le_bytes());
        self.0.extend(u32::try_from(value.len()).expect("values we write are short").to_le_bytes());
        self.0.extend(value);
        self
    }

    fn us(self, element: u16, value: u16) -> Self {
        self.element(element, &value.to_le_bytes())
    }

    fn ui(self, element: u16, uid: &str) -> Self {
        self.text(element, uid, 0)
    }

    fn lo(self, element: u16, text: &str) -> Self {
        let end = text.char_indices().nth(MAX_COMMENT).map_or(text.len(), |(at, _)| at);
        self.text(element, &text[..end], b' ')
    }

    fn text(self, element: u16, text: &str, padding: u8) -> Self {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(padding);
        }
        self.element(element, &value)
    }

    fn at(self, element: u16, tags: &[u32]) -> Self {
        let halves = tags.iter().flat_map(|tag| [(tag >> 16) as u16, (tag & 0xFFFF) as u16]);
        let value: Vec<u8> = halves.flat_map(u16::to_le_bytes).collect();
        self.element(element, &value)
    }

    /// Fills in the group length: the bytes after its own 12.
    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 12).expect("command sets we write are short");
        self.0[8..12].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// The P-DATA-TF PDUs of a command set, none longer than the peer takes, fragments even (PS3.8 Annex E).
pub(crate) fn command_pdus(context: u8, command: &[u8], peer_max_length: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(command.len() + 12);
    let mut fragments = command.chunks(max_fragment(peer_max_length)).peekable();
    while let Some(fragment) = fragments.next() {
        let last = if fragments.peek().is_none() { LAST } else { 0 };
        out.extend(pdu(PduType::PData, |out| {
            let length = u32::try_from(fragment.len() + 2).expect("a fragment is bounded by MAX_FRAGMENT_PDU");
            out.extend(length.to_be_bytes());
            out.extend([context, COMMAND | last]);
            out.extend(fragment);
        }));
    }
    out
}

/// The longest P-DATA-TF PDU that we send to a peer that takes more, or any length: longer ones gain nothing.
const MAX_FRAGMENT_PDU: u32 = 256 * 1024;

/// Bytes of data in one PDV of one PDU that such a peer takes: even, and at least 2 although a peer may claim less.
pub(crate) fn max_fragment(peer_max_length: u32) -> usize {
    let length = if peer_max_length == 0 { MAX_FRAGMENT_PDU } else { peer_max_length.min(MAX_FRAGMENT_PDU) };
    let room = (length as usize).saturating_sub(PDV_HEADER_LENGTH) & !1;
    room.max(2)
}

#[cfg(test)]
mod tests;
