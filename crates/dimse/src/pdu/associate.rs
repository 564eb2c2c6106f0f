//! A-ASSOCIATE-RQ and -AC, PS3.8 §9.3.2 and §9.3.3, with the user information of PS3.7 Annex D.3.3.

use model::{AeTitle, ContextAnswer, ContextResult, ProposedContext, SopClass, TransferSyntax, Uid};

use super::items::{Fields, Items, counted, item, pdu};
use super::{PduType, Violation};
use crate::limits::{Implementation, Limits, MAX_CONTEXTS};
use crate::requestor::Request;

/// PS3.7 §A.2.1, the only application context there is.
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// PS3.8 §9.3.2: bit 0 is version 1. Only that bit may be tested.
const PROTOCOL_VERSION: u16 = 1;
/// What a peer takes that does not say its maximum length, against PS3.8 §D.1.1: the customary 16 KiB.
const CUSTOMARY_MAX_LENGTH: u32 = 16 * 1024;
/// PS3.4 §B.3.1: Storage Level 2 (full), signatures unspecified, no coercion, each before a reserved byte.
const STORAGE_LEVEL_2: [u8; 6] = [2, 0, 0, 0, 0, 0];

const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
const PROPOSED_CONTEXT_ITEM: u8 = 0x20;
const ANSWERED_CONTEXT_ITEM: u8 = 0x21;
const ABSTRACT_SYNTAX_ITEM: u8 = 0x30;
const TRANSFER_SYNTAX_ITEM: u8 = 0x40;
const USER_INFORMATION_ITEM: u8 = 0x50;
const MAX_LENGTH_ITEM: u8 = 0x51;
const IMPLEMENTATION_CLASS_ITEM: u8 = 0x52;
const OPERATIONS_WINDOW_ITEM: u8 = 0x53;
const ROLE_ITEM: u8 = 0x54;
const IMPLEMENTATION_VERSION_ITEM: u8 = 0x55;
const EXTENDED_NEGOTIATION_ITEM: u8 = 0x56;

/// What an A-ASSOCIATE-RQ says.
pub(crate) struct AssociateRq {
    version: u16,
    /// Bytes 11–74, which the answer repeats untested (PS3.8 Table 9-17).
    echo: [u8; 64],
    /// None if the field holds no AE title.
    pub(crate) called: Option<AeTitle>,
    pub(crate) calling: Option<AeTitle>,
    application_context: bool,
    pub(crate) contexts: Vec<ProposedContext>,
    /// Contexts whose syntaxes are not UIDs, with their answer: one odd context is no reason to lose the others.
    unusable: Vec<ContextAnswer>,
    /// More than [`Limits`] lets us hold.
    pub(crate) beyond_limits: bool,
    pub(crate) user: UserInformation,
}

impl AssociateRq {
    /// Reads everything after the PDU header.
    pub(crate) fn parse(body: &[u8], limits: &Limits) -> Result<Self, Violation> {
        let mut fields = Fields(body);
        let (version, _reserved) = (fields.u16()?, fields.u16()?);
        let echo = fields.array::<64>()?;
        let title = |at: usize| AeTitle::parse(&echo[at..at + 16]).ok();
        let mut request = Self {
            version,
            echo,
            called: title(0),
            calling: title(16),
            application_context: false,
            contexts: Vec::new(),
            unusable: Vec::new(),
            beyond_limits: false,
            user: UserInformation::default(),
        };
        request.items(Items(fields.0), limits)?;
        Ok(request)
    }

    fn items(&mut self, items: Items<'_>, limits: &Limits) -> Result<(), Violation> {
        let mut seen = ContextIds::default();
        let mut once = Once::default();
        for next in items {
            match next? {
                (APPLICATION_CONTEXT_ITEM, name) => {
                    once.check(APPLICATION_CONTEXT_ITEM)?;
                    self.application_context = trimmed(name) == APPLICATION_CONTEXT.as_bytes();
                }
                (PROPOSED_CONTEXT_ITEM, value) => self.context(value, &mut seen, limits)?,
                (USER_INFORMATION_ITEM, value) => {
                    once.check(USER_INFORMATION_ITEM)?;
                    self.user = UserInformation::parse(value)?;
                }
                // PS3.8 §9.3.1: items that are not known are ignored.
                _ => {}
            }
        }
        Ok(())
    }

    fn context(&mut self, value: &[u8], seen: &mut ContextIds, limits: &Limits) -> Result<(), Violation> {
        let mut fields = Fields(value);
        let [id, _, _, _] = fields.array()?;
        seen.add(id)?;
        let (class, names) = syntaxes(Items(fields.0), limits)?;
        if names.len() > limits.max_transfer_syntaxes
            || self.contexts.len() + self.unusable.len() >= limits.max_contexts
        {
            self.beyond_limits = true;
            return Ok(());
        }
        let transfer_syntaxes: Vec<_> = names.into_iter().flat_map(Uid::from_wire).collect();
        match Uid::from_wire(class) {
            Ok(abstract_syntax) if !transfer_syntaxes.is_empty() => {
                self.contexts.push(ProposedContext { id, abstract_syntax, transfer_syntaxes });
            }
            Ok(_) => self.unusable.push(ContextAnswer { id, result: ContextResult::TransferSyntaxesNotSupported }),
            Err(_) => self.unusable.push(ContextAnswer { id, result: ContextResult::AbstractSyntaxNotSupported }),
        }
        Ok(())
    }

    pub(crate) fn is_version_1(&self) -> bool {
        self.version & PROTOCOL_VERSION != 0
    }

    pub(crate) fn is_dicom(&self) -> bool {
        self.application_context
    }

    /// One answer for every proposed context. What was not answered is refused, and what was not proposed is not accepted.
    /// `contexts` are those of this request; their answers come first and in their order.
    pub(crate) fn settle(&self, contexts: &[ProposedContext], answers: &[ContextAnswer]) -> Vec<ContextAnswer> {
        let settled = contexts.iter().map(|context| {
            let result = match answers.iter().find(|answer| answer.id == context.id).map(|answer| &answer.result) {
                None => ContextResult::UserRejection,
                Some(ContextResult::Accepted(syntax)) if !context.transfer_syntaxes.contains(syntax) => {
                    ContextResult::TransferSyntaxesNotSupported
                }
                Some(result) => result.clone(),
            };
            ContextAnswer { id: context.id, result }
        });
        settled.chain(self.unusable.iter().cloned()).collect()
    }
}

/// The one abstract syntax of a context and its transfer syntaxes, of which one more than allowed tells that there are more.
fn syntaxes<'a>(items: Items<'a>, limits: &Limits) -> Result<(&'a [u8], Vec<&'a [u8]>), Violation> {
    let mut class = None;
    let mut names = Vec::new();
    for next in items {
        match next? {
            (ABSTRACT_SYNTAX_ITEM, _) if class.is_some() => {
                return Err(Violation::invalid("a presentation context with two abstract syntaxes"));
            }
            (ABSTRACT_SYNTAX_ITEM, name) => class = Some(name),
            (TRANSFER_SYNTAX_ITEM, name) if names.len() <= limits.max_transfer_syntaxes => names.push(name),
            _ => {}
        }
    }
    Ok((class.ok_or(Violation::invalid("a presentation context without an abstract syntax"))?, names))
}

/// What an A-ASSOCIATE-AC says.
pub(crate) struct AssociateAc {
    /// Context id and its transfer syntax; None if it was not accepted.
    pub(crate) contexts: Vec<(u8, Option<Uid<TransferSyntax>>)>,
    pub(crate) user: UserInformation,
}

impl AssociateAc {
    /// Reads everything after the PDU header. The version, the titles and the application context are not tested
    /// (PS3.8 §9.3.3).
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields(body);
        let _untested = fields.array::<68>()?;
        let mut answer = Self { contexts: Vec::new(), user: UserInformation::default() };
        let mut seen = ContextIds::default();
        let mut once = Once::default();
        for next in Items(fields.0) {
            match next? {
                (ANSWERED_CONTEXT_ITEM, value) => answer.contexts.push(Self::context(value, &mut seen)?),
                (USER_INFORMATION_ITEM, value) => {
                    once.check(USER_INFORMATION_ITEM)?;
                    answer.user = UserInformation::parse(value)?;
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    fn context(value: &[u8], seen: &mut ContextIds) -> Result<(u8, Option<Uid<TransferSyntax>>), Violation> {
        let mut fields = Fields(value);
        let [id, _, result, _] = fields.array()?;
        seen.add(id)?;
        if result != 0 {
            // PS3.8 §9.3.3.2: the transfer syntax of a refused context is not significant.
            return Ok((id, None));
        }
        for next in Items(fields.0) {
            if let (TRANSFER_SYNTAX_ITEM, name) = next? {
                let syntax = Uid::from_wire(name).map_err(|_| {
                    Violation::invalid("an accepted presentation context with an invalid transfer syntax")
                })?;
                return Ok((id, Some(syntax)));
            }
        }
        Err(Violation::invalid("an accepted presentation context without a transfer syntax"))
    }
}

/// PS3.7 Annex D.3.3, as far as we answer it. 57H (common extended negotiation) and 58H (user identity) need no answer: the
/// certificate is the identity here, and §D.3.3.7 lets an acceptor that does not take the identity stay silent.
pub(crate) struct UserInformation {
    /// 0 means no limit (PS3.8 §D.1).
    pub(crate) max_length: u32,
    pub(crate) implementation_class: Option<Box<str>>,
    pub(crate) implementation_version: Option<Box<str>>,
    operations_window: bool,
    /// The class, and whether the requestor proposed to be its SCU.
    roles: Vec<(Uid<SopClass>, bool)>,
    extended: Vec<Uid<SopClass>>,
}

impl Default for UserInformation {
    fn default() -> Self {
        Self {
            max_length: CUSTOMARY_MAX_LENGTH,
            implementation_class: None,
            implementation_version: None,
            operations_window: false,
            roles: Vec::new(),
            extended: Vec::new(),
        }
    }
}

impl UserInformation {
    fn parse(value: &[u8]) -> Result<Self, Violation> {
        let mut user = Self::default();
        let mut once = Once::default();
        for next in Items(value) {
            let (kind, value) = next?;
            match kind {
                MAX_LENGTH_ITEM | OPERATIONS_WINDOW_ITEM => {
                    once.check(kind)?;
                    user.number(kind, Fields(value).u32()?);
                }
                IMPLEMENTATION_CLASS_ITEM => {
                    once.check(kind)?;
                    user.implementation_class = Uid::<SopClass>::from_wire(value).ok().map(|uid| uid.as_str().into());
                }
                IMPLEMENTATION_VERSION_ITEM => {
                    once.check(kind)?;
                    // The grammar of an AE title is that of this name (PS3.7 §D.3.3.2.3), and keeps it printable.
                    user.implementation_version = AeTitle::parse(value).ok().map(|name| name.as_str().into());
                }
                ROLE_ITEM => user.role(value)?,
                EXTENDED_NEGOTIATION_ITEM => user.extended(value)?,
                _ => {}
            }
        }
        Ok(user)
    }

    fn number(&mut self, kind: u8, number: u32) {
        match kind {
            MAX_LENGTH_ITEM => self.max_length = number,
            _ => self.operations_window = true,
        }
    }

    fn role(&mut self, value: &[u8]) -> Result<(), Violation> {
        let mut fields = Fields(value);
        let class = Uid::from_wire(fields.counted()?);
        let [scu, _scp] = fields.array()?;
        // Beyond one item per context there is nothing to answer; the first for a class counts.
        if let Ok(class) = class
            && self.roles.len() < MAX_CONTEXTS
            && !self.roles.iter().any(|(known, _)| *known == class)
        {
            self.roles.push((class, scu == 1));
        }
        Ok(())
    }

    fn extended(&mut self, value: &[u8]) -> Result<(), Violation> {
        if let Ok(class) = Uid::from_wire(Fields(value).counted()?)
            && self.extended.len() < MAX_CONTEXTS
            && !self.extended.contains(&class)
        {
            self.extended.push(class);
        }
        Ok(())
    }
}

/// Writes the A-ASSOCIATE-AC that gives these answers, as [`AssociateRq::settle`] made them for `contexts`.
pub(crate) fn write_ac(
    request: &AssociateRq,
    contexts: &[ProposedContext],
    answers: &[ContextAnswer],
    max_length: u32,
    implementation: Implementation,
) -> Vec<u8> {
    pdu(PduType::AssociateAc, |out| {
        out.extend(PROTOCOL_VERSION.to_be_bytes());
        out.extend([0, 0]);
        out.extend(request.echo);
        write_text(out, APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT);
        for answer in answers {
            write_answer(out, answer);
        }
        item(out, USER_INFORMATION_ITEM, |out| {
            write_user(out, max_length, implementation);
            write_negotiated(out, &request.user, contexts, answers);
        });
    })
}

fn write_answer(out: &mut Vec<u8>, answer: &ContextAnswer) {
    item(out, ANSWERED_CONTEXT_ITEM, |out| {
        out.extend([answer.id, 0, answer.result.code(), 0]);
        // The sub-item is mandatory even where it is not significant (PS3.8 Table 9-18).
        let syntax = match &answer.result {
            ContextResult::Accepted(syntax) => syntax.as_str(),
            _ => model::transfer_syntax::IMPLICIT_LITTLE,
        };
        write_text(out, TRANSFER_SYNTAX_ITEM, syntax);
    });
}

fn write_negotiated(
    out: &mut Vec<u8>,
    user: &UserInformation,
    contexts: &[ProposedContext],
    answers: &[ContextAnswer],
) {
    let accepted = |class: &Uid<SopClass>| {
        contexts.iter().zip(answers).any(|(context, answer)| {
            context.abstract_syntax == *class && matches!(answer.result, ContextResult::Accepted(_))
        })
    };
    if user.operations_window {
        // One operation at a time: never more than was proposed, since 0 means any number (PS3.7 §D.3.3.3).
        item(out, OPERATIONS_WINDOW_ITEM, |out| out.extend([0, 1, 0, 1]));
    }
    for (class, scu) in user.roles.iter().filter(|(class, _)| accepted(class)) {
        item(out, ROLE_ITEM, |out| {
            counted(out, |out| out.extend(class.as_str().as_bytes()));
            out.extend([u8::from(*scu), 0]);
        });
    }
    let storage = |class: &&Uid<SopClass>| class.as_str() != model::sop_class::VERIFICATION && accepted(class);
    for class in user.extended.iter().filter(storage) {
        item(out, EXTENDED_NEGOTIATION_ITEM, |out| {
            counted(out, |out| out.extend(class.as_str().as_bytes()));
            out.extend(STORAGE_LEVEL_2);
        });
    }
}

/// Writes an A-ASSOCIATE-RQ.
pub(crate) fn write_rq(request: &Request) -> Vec<u8> {
    pdu(PduType::AssociateRq, |out| {
        out.extend(PROTOCOL_VERSION.to_be_bytes());
        out.extend([0, 0]);
        out.extend(request.called.padded());
        out.extend(request.calling.padded());
        out.extend([0; 32]);
        write_text(out, APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT);
        for context in &request.contexts {
            item(out, PROPOSED_CONTEXT_ITEM, |out| {
                out.extend([context.id, 0, 0, 0]);
                write_text(out, ABSTRACT_SYNTAX_ITEM, context.abstract_syntax.as_str());
                for syntax in &context.transfer_syntaxes {
                    write_text(out, TRANSFER_SYNTAX_ITEM, syntax.as_str());
                }
            });
        }
        item(out, USER_INFORMATION_ITEM, |out| write_user(out, request.max_pdu_length, Implementation::PORTCULLIS));
    })
}

fn write_user(out: &mut Vec<u8>, max_length: u32, implementation: Implementation) {
    item(out, MAX_LENGTH_ITEM, |out| out.extend(max_length.to_be_bytes()));
    write_text(out, IMPLEMENTATION_CLASS_ITEM, implementation.class_uid);
    write_text(out, IMPLEMENTATION_VERSION_ITEM, implementation.version);
}

/// UIDs in PDUs are not padded (PS3.8 Annex F).
fn write_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    item(out, kind, |out| out.extend(text.as_bytes()));
}

/// Without the padding that some peers add all the same.
fn trimmed(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    &name[..end]
}

/// Presentation context ids are odd and unique (PS3.8 §9.3.2.2), hence 128 at most: a bit for each.
#[derive(Default, Clone, Copy)]
pub(crate) struct ContextIds(u128);

impl ContextIds {
    pub(crate) fn add(&mut self, id: u8) -> Result<(), Violation> {
        if id.is_multiple_of(2) {
            return Err(Violation::invalid("a presentation context id that is not odd"));
        }
        if self.contains(id) {
            return Err(Violation::invalid("a presentation context id that is used twice"));
        }
        self.0 |= 1 << (id / 2);
        Ok(())
    }

    pub(crate) fn contains(self, id: u8) -> bool {
        !id.is_multiple_of(2) && self.0 & 1 << (id / 2) != 0
    }
}

/// Items that may stand only once: the second could contradict the first.
#[derive(Default)]
struct Once(u128);

impl Once {
    fn check(&mut self, kind: u8) -> Result<(), Violation> {
        let bit = 1 << (kind & 0x7F);
        if self.0 & bit != 0 {
            return Err(Violation::invalid("an item that may stand only once, twice"));
        }
        self.0 |= bit;
        Ok(())
    }
}
