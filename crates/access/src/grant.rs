use std::sync::Arc;

use model::{
    ContextAnswer, ContextResult, Proposal, ProposedContext, SopClass, Tenant, Timestamp, TransferSyntax, Uid,
};
use model::{sop_class, transfer_syntax};

use crate::decide::{Origin, is_storage};
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
        let row = Arc::clone(self.choose(&peer, &origin, &proposal.called, &proposal.calling, now)?);
        let answer = |proposed: &ProposedContext| ContextAnswer {
            id: proposed.id,
            result: self.answer(&row, &peer, proposed, now),
        };
        let contexts = proposal.contexts.iter().map(answer).collect();
        let echo = self.may(Operation::Echo, &row, &peer, now).is_ok();
        let commit = self.may(Operation::Commit, &row, &peer, now).is_ok();
        let table_revision = self.revision();
        Ok(Grant { peer, origin, proposal, row, contexts, echo, commit, table_revision })
    }

    /// Asks again, of this newer table, whether a live association is still allowed.
    ///
    /// # Errors
    /// With one of `policy_revoked`, `policy_narrowed`, `window_closed` and `svid_expired`.
    pub fn still_grants(&self, grant: &Grant, now: Timestamp) -> Result<(), Denial> {
        let row = self.same_row(grant, now)?;
        let mut accepted = grant.accepted_contexts().peekable();
        let had_some = accepted.peek().is_some();
        if had_some && !accepted.any(|(class, syntax)| self.still_accepts(row, &grant.peer, class, syntax, now)) {
            let detail = "the row no longer allows any context of the association";
            return Err(Denial::new(DenialCode::PolicyNarrowed, Some(&row.id), detail));
        }
        Ok(())
    }

    /// Today's version of the row that made the grant, if it still covers the association for the same tenant.
    pub(crate) fn same_row(&self, grant: &Grant, now: Timestamp) -> Result<&Arc<Row>, Denial> {
        let id = &grant.row.id;
        if now > grant.peer.svid().not_after() {
            return Err(Denial::new(DenialCode::SvidExpired, Some(id), "the SVID has expired"));
        }
        let revoked = |detail: &str| Denial::new(DenialCode::PolicyRevoked, Some(id), detail);
        if !self.rows().iter().any(|row| row.id == *id && row.identity.covers(grant.peer.id())) {
            return Err(revoked("the row that allowed the association is gone"));
        }
        let Proposal { called, calling, .. } = &grant.proposal;
        match self.choose(&grant.peer, &grant.origin, called, calling, now) {
            Ok(row) if row.id == *id && row.tenant == grant.row.tenant => Ok(row),
            Ok(_) => Err(revoked("the association would now belong to another row or tenant")),
            Err(denial) => Err(while_alive(denial)),
        }
    }

    fn still_accepts(
        &self,
        row: &Row,
        peer: &VerifiedPeer,
        class: &Uid<SopClass>,
        syntax: &Uid<TransferSyntax>,
        now: Timestamp,
    ) -> bool {
        if class.as_str() == sop_class::VERIFICATION {
            return self.may(Operation::Echo, row, peer, now).is_ok();
        }
        self.may_store(row, peer, class, syntax, now).is_ok()
    }

    /// One context, on its own (PS3.8 §9.3.3.2).
    fn answer(&self, row: &Row, peer: &VerifiedPeer, proposed: &ProposedContext, now: Timestamp) -> ContextResult {
        let class = &proposed.abstract_syntax;
        let echo = class.as_str() == sop_class::VERIFICATION;
        if !echo && !is_storage(class) {
            return ContextResult::AbstractSyntaxNotSupported;
        }
        let allowed = match echo {
            true => self.may(Operation::Echo, row, peer, now),
            false => self.may_store_class(row, peer, class, now),
        };
        if allowed.is_err() {
            return ContextResult::UserRejection;
        }
        let takes = |syntax: &&Uid<TransferSyntax>| match echo {
            // C-ECHO has no data set, so the two that every peer knows are always good.
            true => matches!(syntax.as_str(), transfer_syntax::IMPLICIT_LITTLE | transfer_syntax::EXPLICIT_LITTLE),
            false => self.may_store(row, peer, class, syntax, now).is_ok(),
        };
        match proposed.transfer_syntaxes.iter().find(takes) {
            Some(syntax) => ContextResult::Accepted(syntax.clone()),
            None => ContextResult::TransferSyntaxesNotSupported,
        }
    }
}

/// What a denial means for an association that was allowed before.
fn while_alive(denial: Denial) -> Denial {
    use DenialCode::*;
    let code = match denial.code {
        NoRow | RowSuspended | DenyRow => PolicyRevoked,
        RowExpired | RowNotYet => WindowClosed,
        SvidExpired => SvidExpired,
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

    /// The earlier of the SVID's end and the row's `valid_until`: nothing is committed after it.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        let svid = self.peer.svid().not_after();
        self.row.valid_until.map_or(svid, |row| row.min(svid))
    }

    /// Class and transfer syntax of each accepted context.
    pub(crate) fn accepted_contexts(&self) -> impl Iterator<Item = (&Uid<SopClass>, &Uid<TransferSyntax>)> {
        self.proposal.contexts.iter().zip(&self.contexts).filter_map(|(proposed, answer)| match &answer.result {
            ContextResult::Accepted(syntax) => Some((&proposed.abstract_syntax, syntax)),
            _ => None,
        })
    }
}
