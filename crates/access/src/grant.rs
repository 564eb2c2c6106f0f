use std::sync::Arc;

use model::{
    ContextAnswer, ContextResult, Proposal, ProposedContext, SopClass, Tenant, Timestamp, TransferSyntax, Uid,
};
use model::{sop_class, transfer_syntax};

use crate::constraint::is_storage;
use crate::decide::{Judgement, Origin, note};
use crate::denial::{Denial, DenialCode};
use crate::row::{Operation, Row};
use crate::table::Table;
use crate::tls::VerifiedPeer;

/// The second key: one row allows this caller this association, with the contexts that are answered here.
///
/// It may be that no context is accepted: see [`Grant::accepted`].
#[derive(Debug)]
pub struct Grant {
    peer: Arc<VerifiedPeer>,
    origin: Origin,
    proposal: Proposal,
    row: Arc<Row>,
    contexts: Vec<ContextAnswer>,
    echo: bool,
    commit: bool,
    observed: Vec<Denial>,
    table_revision: u64,
}

impl Table {
    /// D2: whether one single row allows these AE titles, and which of the proposed contexts.
    ///
    /// # Errors
    /// When no row does, or a deny row matches.
    pub fn grant(
        &self,
        peer: Arc<VerifiedPeer>,
        origin: Origin,
        proposal: Proposal,
        now: Timestamp,
    ) -> Result<Grant, Denial> {
        let mut judged = self.choose(peer.caller(), &origin, &proposal.called, &proposal.calling, now)?;
        let door = judged.afresh();
        let mut contexts = Vec::with_capacity(proposal.contexts.len());
        for proposed in &proposal.contexts {
            let (result, observed) = answer(&door, proposed);
            note(&mut judged.observed, observed);
            contexts.push(ContextAnswer { id: proposed.id, result });
        }
        let may = |operation| door.afresh().operation(operation).is_ok();
        let (echo, commit) = (may(Operation::Echo), may(Operation::Commit));
        let (row, observed, table_revision) = (Arc::clone(judged.row), judged.observed, self.revision());
        Ok(Grant { peer, origin, proposal, row, contexts, echo, commit, observed, table_revision })
    }

    /// Asks again, of this newer table, whether a live association is still allowed. A deny row that also asks about what is
    /// only known of a context or an instance ends it when it leaves no context; else those instances are refused.
    ///
    /// # Errors
    /// With one of `kill_switch`, `policy_revoked`, `policy_narrowed`, `window_closed`, `posture` and `svid_expired`.
    pub fn still_grants(&self, grant: &Grant, now: Timestamp) -> Result<(), Denial> {
        let judged = self.same_row(grant, now)?;
        let mut lost = None;
        for (class, syntax) in grant.accepted_contexts() {
            match still_accepts(&judged, class, syntax) {
                Ok(()) => return Ok(()),
                Err(denial) => lost = lost.or(Some(denial)),
            }
        }
        lost.map_or(Ok(()), |first| {
            let detail = format!("no context of the association is allowed any more: {}", first.detail);
            Err(Denial { code: DenialCode::PolicyNarrowed, detail, ..first })
        })
    }

    /// Whether today's table still lets C-ECHO be done on a live association.
    ///
    /// # Errors
    /// When the association itself is no longer allowed, or the operation is not.
    pub fn permit_echo(&self, grant: &Grant, now: Timestamp) -> Result<(), Denial> {
        self.same_row(grant, now)?.operation(Operation::Echo)
    }

    /// Today's version of the row that made the grant, if it still covers the association for the same tenant.
    pub(crate) fn same_row<'t>(&'t self, grant: &'t Grant, now: Timestamp) -> Result<Judgement<'t>, Denial> {
        self.kill_switch()?;
        let (id, caller) = (&grant.row.id, grant.peer.caller());
        if now > caller.not_after {
            return Err(Denial::of(DenialCode::SvidExpired, Some(id), "the SVID has expired"));
        }
        let revoked = |detail: &str| Denial::of(DenialCode::PolicyRevoked, Some(id), detail);
        if !self.candidates(&caller.id).iter().any(|row| row.id == *id) {
            return Err(revoked("the row that allowed the association is gone, or another speaks for the caller"));
        }
        let Proposal { called, calling, .. } = &grant.proposal;
        match self.choose(caller, &grant.origin, called, calling, now) {
            Ok(judged) if judged.row.id == *id && judged.row.tenant == grant.row.tenant => Ok(judged),
            Ok(_) => Err(revoked("the association would now belong to another row or tenant")),
            Err(denial) => Err(while_alive(denial)),
        }
    }
}

fn still_accepts<'a>(
    judged: &Judgement<'a>,
    class: &'a Uid<SopClass>,
    syntax: &'a Uid<TransferSyntax>,
) -> Result<(), Denial> {
    let mut judged = judged.afresh();
    if class.as_str() == sop_class::VERIFICATION {
        return judged.operation(Operation::Echo);
    }
    judged.class(class)?;
    judged.syntax(syntax)
}

/// One context, on its own (PS3.8 §9.3.3.2), and what is only observed about it.
fn answer<'a>(door: &Judgement<'a>, proposed: &'a ProposedContext) -> (ContextResult, Vec<Denial>) {
    let class = &proposed.abstract_syntax;
    let echo = class.as_str() == sop_class::VERIFICATION;
    if !echo && !is_storage(class) {
        return (ContextResult::AbstractSyntaxNotSupported, Vec::new());
    }
    let mut judged = door.afresh();
    let allowed = match echo {
        true => judged.operation(Operation::Echo),
        false => judged.class(class),
    };
    if allowed.is_err() {
        return (ContextResult::UserRejection, Vec::new());
    }
    let offered = proposed.transfer_syntaxes.iter();
    let taken = match echo {
        true => offered.filter(|syntax| is_plain(syntax)).map(|syntax| (syntax, Vec::new())).next(),
        false => favourite(&judged, offered),
    };
    match taken {
        Some((syntax, more)) => (ContextResult::Accepted(syntax.clone()), [judged.observed, more].concat()),
        None => (ContextResult::TransferSyntaxesNotSupported, Vec::new()),
    }
}

/// C-ECHO has no data set, so the two that every peer knows are always good.
fn is_plain(syntax: &Uid<TransferSyntax>) -> bool {
    matches!(syntax.as_str(), transfer_syntax::IMPLICIT_LITTLE | transfer_syntax::EXPLICIT_LITTLE)
}

/// The first syntax that the row lists; if it lists none, the first that it only observes.
fn favourite<'p>(
    judged: &Judgement<'p>,
    offered: impl Iterator<Item = &'p Uid<TransferSyntax>>,
) -> Option<(&'p Uid<TransferSyntax>, Vec<Denial>)> {
    let mut observed = None;
    for syntax in offered {
        let mut judged = judged.afresh();
        match judged.syntax(syntax) {
            Ok(()) if judged.observed.is_empty() => return Some((syntax, Vec::new())),
            Ok(()) => observed = observed.or(Some((syntax, judged.observed))),
            Err(_) => {}
        }
    }
    observed
}

/// What a denial means for an association that was allowed before.
fn while_alive(denial: Denial) -> Denial {
    use DenialCode::*;
    let code = match denial.code {
        NoRow | RowSuspended | DenyRow => PolicyRevoked,
        RowExpired | RowNotYet | OutsideWindow => WindowClosed,
        KillSwitch | SvidExpired | Posture => denial.code,
        _ => PolicyNarrowed,
    };
    Denial { code, ..denial }
}

impl Grant {
    /// The row that allows it, as it was then.
    #[must_use]
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// Whose archive is written to.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.row.tenant
    }

    /// One answer for each proposed context, in the order proposed.
    #[must_use]
    pub fn contexts(&self) -> &[ContextAnswer] {
        &self.contexts
    }

    /// How many contexts are accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted_contexts().count()
    }

    /// Who called.
    #[must_use]
    pub fn peer(&self) -> &VerifiedPeer {
        &self.peer
    }

    /// Where it called from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What it proposed.
    #[must_use]
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// The revision of the table that decided.
    #[must_use]
    pub fn table_revision(&self) -> u64 {
        self.table_revision
    }

    /// Whether C-ECHO is allowed.
    #[must_use]
    pub fn allows_echo(&self) -> bool {
        self.echo
    }

    /// Whether storage commitment may be asked for.
    #[must_use]
    pub fn allows_commit(&self) -> bool {
        self.commit
    }

    /// What its row would have refused if it did not only observe; empty for a row that is enforced.
    #[must_use]
    pub fn observed(&self) -> &[Denial] {
        &self.observed
    }

    /// Class and transfer syntax of each accepted context.
    pub(crate) fn accepted_contexts(&self) -> impl Iterator<Item = (&Uid<SopClass>, &Uid<TransferSyntax>)> {
        self.proposal.contexts.iter().zip(&self.contexts).filter_map(|(proposed, answer)| match &answer.result {
            ContextResult::Accepted(syntax) => Some((&proposed.abstract_syntax, syntax)),
            _ => None,
        })
    }
}
