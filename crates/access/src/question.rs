//! A question that a person or a shadow table asks, answered by the code that judges live peers. No key is cut here.

use std::sync::Arc;

use model::{AeTitle, SopClass, Timestamp, TransferSyntax, Uid};

use crate::caller::Caller;
use crate::content::Content;
use crate::decide::{Judgement, Origin, pick};
use crate::denial::{Denial, DenialCode};
use crate::row::{DenyRow, Effect, Operation, Row};
use crate::table::Table;
use crate::veto::{Known, Objection};

/// Whether a caller may do something, as far as it is known what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub caller: Caller,
    /// Where it calls from.
    pub origin: Origin,
    /// The AE title that it calls.
    pub called: AeTitle,
    /// The AE title that it gives itself.
    pub calling: AeTitle,
    /// What it wants to do. What follows is only asked of an instance to store.
    pub operation: Operation,
    /// The class of the instance; `None`: may it store anything at all?
    pub class: Option<Uid<SopClass>>,
    /// The transfer syntax of the instance; `None`: not asked.
    pub syntax: Option<Uid<TransferSyntax>>,
    /// What the data set says; `None`: not asked.
    pub content: Option<Content>,
    /// Bytes of the data set; `None`: not asked.
    pub size: Option<u64>,
}

/// What the table says to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The row that allows it, or why it is not allowed.
    pub verdict: Result<Arc<Row>, Denial>,
    /// What the row would have refused if it did not only observe.
    pub observed: Vec<Denial>,
}

/// What one row says to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFinding {
    /// The row's id.
    pub row: String,
    /// Whether it is a row that allows or one that denies.
    pub effect: Effect,
    /// Whom it names; `everybody` for a deny row that names nobody.
    pub subject: String,
    /// What it says.
    pub outcome: RowOutcome,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is the row that allows it; with what it would have refused if it did not only observe.
    Decides(Vec<Denial>),
    /// It would allow it, if no deny row matched.
    Allows,
    /// It is a deny row and matches: in which columns.
    Denies(String),
    /// The first of its constraints that fails, in the words of the audit record. For a deny row: why it does not match.
    Fails(Denial),
    /// It has nothing to say, and why; a deny row also when it waits for something that the question does not say.
    NotAsked(String),
}

impl Table {
    /// Answers by the same functions that cut the keys.
    #[must_use]
    pub fn answer(&self, question: &Question, now: Timestamp) -> Answer {
        answered(self.judge(question, now))
    }

    /// D1 as a question: whether this caller's association request is read at all.
    ///
    /// # Errors
    /// As [`Table::admit`].
    pub fn hears(&self, caller: &Caller, origin: &Origin, now: Timestamp) -> Result<(), Denial> {
        pick(self.at_door(caller, origin, now)?).map(|_| ())
    }

    /// As [`Table::answer`], of the association alone (D1, D2): what it is for is not asked.
    #[must_use]
    pub fn answer_association(&self, question: &Question, now: Timestamp) -> Answer {
        let Question { caller, origin, called, calling, .. } = question;
        answered(self.choose(caller, origin, called, calling, now))
    }

    fn judge<'t>(&'t self, question: &'t Question, now: Timestamp) -> Result<Judgement<'t>, Denial> {
        let Question { caller, origin, called, calling, operation, .. } = question;
        let mut judged = self.choose(caller, origin, called, calling, now)?;
        if *operation != Operation::Store {
            judged.operation(*operation)?;
            return Ok(judged);
        }
        match &question.class {
            Some(class) => judged.class(class)?,
            None => judged.operation(Operation::Store)?,
        }
        question.syntax.as_ref().map_or(Ok(()), |syntax| judged.syntax(syntax))?;
        question.content.as_ref().map_or(Ok(()), |content| judged.content(content))?;
        question.size.map_or(Ok(()), |bytes| judged.size(bytes))?;
        Ok(judged)
    }

    /// What each row of the table says, those that deny first. The question is allowed exactly when one row
    /// [decides](RowOutcome::Decides); a denial that names a row of an allow is that row's [failure](RowOutcome::Fails).
    #[must_use]
    pub fn explain(&self, question: &Question, now: Timestamp) -> Vec<RowFinding> {
        let answer = self.answer(question, now);
        let denying = self.deny_rows().iter().map(|row| RowFinding {
            row: row.id().to_owned(),
            effect: Effect::Deny,
            subject: row.identity().map_or_else(|| "everybody".to_owned(), ToString::to_string),
            outcome: self.unless_killed(|| said_by_deny_row(row, question, now)),
        });
        let allowing = self.rows().iter().map(|row| RowFinding {
            row: row.id().to_owned(),
            effect: Effect::Allow,
            subject: row.identity().to_string(),
            outcome: self.unless_killed(|| self.said_by_row(row, question, &answer, now)),
        });
        denying.chain(allowing).collect()
    }

    fn unless_killed(&self, outcome: impl FnOnce() -> RowOutcome) -> RowOutcome {
        match self.kill_switch() {
            Ok(()) => outcome(),
            Err(denial) => RowOutcome::NotAsked(denial.detail),
        }
    }

    fn said_by_row(&self, row: &Arc<Row>, question: &Question, answer: &Answer, now: Timestamp) -> RowOutcome {
        let caller = &question.caller;
        if !row.identity.covers(&caller.id) {
            let detail = "the row names another identity";
            return RowOutcome::Fails(Denial::of(DenialCode::NoRow, Some(&row.id), detail));
        }
        if !self.candidates(&caller.id).iter().any(|candidate| candidate.id == row.id) {
            return RowOutcome::NotAsked("a row that names the identity more exactly speaks for it".to_owned());
        }
        if answer.verdict.as_ref().is_ok_and(|chosen| chosen.id == row.id) {
            return RowOutcome::Decides(answer.observed.clone());
        }
        match failure(row, question, now) {
            Some(denial) => RowOutcome::Fails(denial),
            None => RowOutcome::Allows,
        }
    }
}

fn answered(judged: Result<Judgement<'_>, Denial>) -> Answer {
    match judged {
        Ok(judged) => Answer { verdict: Ok(Arc::clone(judged.row)), observed: judged.observed },
        Err(denial) => Answer { verdict: Err(denial), observed: Vec::new() },
    }
}

/// The first constraint of a row that fails.
fn failure(row: &Row, question: &Question, now: Timestamp) -> Option<Denial> {
    let Question { caller, origin, called, calling, operation, .. } = question;
    let storing = *operation == Operation::Store;
    let class = question.class.as_ref().filter(|_| storing);
    let syntax = question.syntax.as_ref().filter(|_| storing);
    let content = question.content.as_ref().filter(|_| storing);
    let size = question.size.filter(|_| storing);
    let failing = [
        row.in_force(caller, now).err().into_iter().collect(),
        row.fails_at_door(caller, origin, now),
        row.fails_titles(called, calling),
        row.fails_operation(*operation),
        class.and_then(|class| row.is_storage(class).err()).into_iter().collect(),
        class.map(|class| row.fails_class(class)).unwrap_or_default(),
        syntax.map(|syntax| row.fails_syntax(syntax)).unwrap_or_default(),
        content.map(|content| row.fails_content(content)).unwrap_or_default(),
        size.map(|bytes| row.fails_size(bytes)).unwrap_or_default(),
    ];
    failing.into_iter().flatten().next()
}

fn said_by_deny_row(row: &DenyRow, question: &Question, now: Timestamp) -> RowOutcome {
    if let Err(silent) = row.concerns(&question.caller.id, now) {
        return RowOutcome::Fails(silent);
    }
    let known = Known {
        origin: &question.origin,
        titles: Some((&question.called, &question.calling)),
        operation: Some(question.operation),
        class: question.class.as_ref(),
        syntax: question.syntax.as_ref(),
        content: question.content.as_ref(),
    };
    match row.objects(&known) {
        Objection::Denies(denial) => RowOutcome::Denies(denial.detail),
        Objection::Waits(columns) => {
            let columns = columns.join(", ");
            RowOutcome::NotAsked(format!("the deny row matches so far, and the question does not say: {columns}"))
        }
        Objection::Silent(column) => {
            let detail = format!("the deny row does not match: {column}");
            RowOutcome::Fails(Denial::of(DenialCode::DenyRow, Some(row.id()), detail))
        }
    }
}
