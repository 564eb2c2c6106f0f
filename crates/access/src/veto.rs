//! Rows that deny: one matches when every column that it has matches, as Istio's rules do. What is not known yet makes it
//! wait for the door where it is; what should be known there and is missing counts as a match.

use std::collections::BTreeSet;

use model::{AeTitle, SopClass, SpiffeId, Timestamp, TransferSyntax, Uid};

use crate::constraint::{in_force, within};
use crate::content::Content;
use crate::decide::Origin;
use crate::denial::{Denial, DenialCode};
use crate::row::{DenyRow, Operation};

/// What is known of a request so far: every door adds to it, so that a row which matched once matches at every later door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) origin: &'a Origin,
    /// The called and the calling AE title.
    pub(crate) titles: Option<(&'a AeTitle, &'a AeTitle)>,
    pub(crate) operation: Option<Operation>,
    /// This and what follows is only ever known of a store.
    pub(crate) class: Option<&'a Uid<SopClass>>,
    pub(crate) syntax: Option<&'a Uid<TransferSyntax>>,
    pub(crate) content: Option<&'a Content>,
}

impl<'a> Known<'a> {
    /// Before DICOM begins.
    pub(crate) fn at_door(origin: &'a Origin) -> Self {
        Self { origin, titles: None, operation: None, class: None, syntax: None, content: None }
    }

    /// Whether it is known that there is no instance, so that nothing of one will ever be known.
    fn is_without_instance(&self) -> bool {
        self.operation.is_some_and(|operation| operation != Operation::Store)
    }
}

/// What a deny row says to what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Objection {
    /// Every column matches.
    Denies(Denial),
    /// Nothing speaks against a match, and these columns ask for something that is not known yet.
    Waits(Vec<&'static str>),
    /// This column does not match: it denies nothing, whatever else will be known.
    Silent(&'static str),
}

impl DenyRow {
    /// Whether it speaks about this caller at this time; if not, why not.
    pub(crate) fn concerns(&self, id: &SpiffeId, now: Timestamp) -> Result<(), Denial> {
        let silent = |(code, why): (DenialCode, &str)| Denial::of(code, Some(&self.id), why);
        if !self.identity.as_ref().is_none_or(|subject| subject.covers(id)) {
            return Err(silent((DenialCode::NoRow, "the row names another identity")));
        }
        in_force(&self.standing, self.not_before, self.valid_until, now).map_err(silent)?;
        if !within(self.windows.as_ref(), now) {
            return Err(silent((DenialCode::OutsideWindow, "it is outside the row's windows")));
        }
        Ok(())
    }

    /// Asks all of its columns.
    pub(crate) fn objects(&self, known: &Known<'_>) -> Objection {
        let columns = self.matches(known);
        let asked = || columns.iter().filter_map(|(column, answer)| Some((*column, (*answer)?)));
        if let Some((column, _)) = asked().find(|(_, answer)| *answer == Answer::No) {
            return Objection::Silent(column);
        }
        let waiting: Vec<_> = asked().filter(|(_, answer)| *answer == Answer::Unknown).map(|(name, _)| name).collect();
        if !waiting.is_empty() {
            return Objection::Waits(waiting);
        }
        let names: Vec<_> = asked().map(|(name, _)| name).collect();
        let what = if names.is_empty() { "everything".to_owned() } else { names.join(", ") };
        Objection::Denies(Denial::of(DenialCode::DenyRow, Some(&self.id), format!("a deny row matches: {what}")))
    }

    /// The denial, if it matches by what is known.
    pub(crate) fn stops(&self, known: &Known<'_>) -> Option<Denial> {
        match self.objects(known) {
            Objection::Denies(denial) => Some(denial),
            Objection::Waits(_) | Objection::Silent(_) => None,
        }
    }

    /// Every column with its answer, in the order in which their attributes become known; `None` is not populated.
    fn matches(&self, known: &Known<'_>) -> [(&'static str, Option<Answer>); 10] {
        let what = &self.what;
        let (vpce, address) = (known.origin.vpce.as_ref(), known.origin.address());
        let (called, calling) = (known.titles.map(|titles| titles.0), known.titles.map(|titles| titles.1));
        let of_instance =
            |answer: Option<Answer>| answer.map(|it| if known.is_without_instance() { Answer::No } else { it });
        let said = |listed: &Option<BTreeSet<String>>, own: fn(&Content) -> Option<&str>| {
            of_instance(ask(listed, known.content, |listed, content| {
                own(content).is_none_or(|own| listed.contains(own))
            }))
        };
        [
            ("source_vpce", ask(&what.vpces, Some(vpce), |listed, vpce| vpce.is_none_or(|own| listed.contains(own)))),
            ("source_cidrs", ask(&what.cidrs, Some(address), |listed, own| listed.iter().any(|net| net.contains(own)))),
            ("called_aets", ask(&what.called, called, |choice, title| choice.covers(title))),
            ("calling_aets", ask(&what.calling, calling, |choice, title| choice.covers(title))),
            ("operations", ask(&what.operations, known.operation, |listed, own| listed.contains(&own))),
            ("sop_classes", of_instance(ask(&what.classes, known.class, |choice, class| choice.covers(class)))),
            ("transfer_syntaxes", of_instance(ask(&what.syntaxes, known.syntax, |choice, own| choice.covers(own)))),
            ("modalities", said(&what.modalities, Content::modality)),
            ("patient_issuers", said(&what.issuers, Content::issuer)),
            ("institutions", said(&what.institutions, Content::institution)),
        ]
    }
}

/// What a populated column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Unknown,
}

fn ask<C, T>(column: &Option<C>, attribute: Option<T>, matches: impl FnOnce(&C, T) -> bool) -> Option<Answer> {
    let column = column.as_ref()?;
    let Some(attribute) = attribute else { return Some(Answer::Unknown) };
    Some(if matches(column, attribute) { Answer::Yes } else { Answer::No })
}
