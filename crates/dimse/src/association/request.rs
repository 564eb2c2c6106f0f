//! Sta3: an association was asked for and waits for its answer.

use std::marker::PhantomData;

use model::{AeTitle, ContextAnswer, ContextResult, Proposal};

use super::Association;
use crate::limits::{Implementation, Limits};
use crate::pdu::{AssociateRq, Reject, write_ac};
use crate::requestor::AcceptedContext;

/// A received A-ASSOCIATE-RQ, consumed by accepting or rejecting it.
#[must_use = "an association request must be answered"]
pub struct AssociationRequest<R> {
    request: Box<AssociateRq>,
    proposal: Proposal,
    limits: Limits,
    implementation: Implementation,
    receipt: PhantomData<fn(R)>,
}

impl<R> AssociationRequest<R> {
    pub(super) fn new(
        mut request: AssociateRq,
        called: AeTitle,
        calling: AeTitle,
        limits: Limits,
        implementation: Implementation,
    ) -> Self {
        let proposal = Proposal { called, calling, contexts: std::mem::take(&mut request.contexts) };
        Self { request: Box::new(request), proposal, limits, implementation, receipt: PhantomData }
    }

    /// What is put to the access table. A context whose syntaxes are not UIDs is left out of it, and refused.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// The longest P-DATA-TF that the peer takes, in bytes; 0 means any.
    pub fn max_pdu_length(&self) -> u32 {
        self.request.user.max_length
    }

    /// The peer's Implementation Class UID: digits and dots only. None if it sent none or something else.
    pub fn implementation_class(&self) -> Option<&str> {
        self.request.user.implementation_class.as_deref()
    }

    /// The peer's Implementation Version Name: at most 16 printable characters. None if it sent none or something else.
    pub fn implementation_version(&self) -> Option<&str> {
        self.request.user.implementation_version.as_deref()
    }

    /// Why it must be refused whatever the table says: another protocol version or another application context.
    pub fn objection(&self) -> Option<Reject> {
        if !self.request.is_version_1() {
            return Some(Reject::ProtocolVersion);
        }
        (!self.request.is_dicom()).then_some(Reject::ApplicationContext)
    }

    /// The association, and the A-ASSOCIATE-AC that opens it. A proposed context without an answer is refused, and one
    /// cannot be accepted with a transfer syntax that was not proposed.
    pub fn accept(self, answers: &[ContextAnswer]) -> (Association<R>, Vec<u8>) {
        let answers = self.request.settle(&self.proposal.contexts, answers);
        let max_length = self.limits.max_pdu_length;
        let bytes = write_ac(&self.request, &self.proposal.contexts, &answers, max_length, self.implementation);
        let accepted = self.proposal.contexts.into_iter().zip(answers).filter_map(|(context, answer)| {
            let ContextResult::Accepted(transfer_syntax) = answer.result else { return None };
            Some(AcceptedContext { id: context.id, class: context.abstract_syntax, transfer_syntax })
        });
        (Association::new(self.limits, accepted.collect(), self.request.user.max_length), bytes)
    }

    /// The A-ASSOCIATE-RJ; nothing more is read from the peer.
    pub fn reject(self, why: Reject) -> Vec<u8> {
        why.bytes()
    }
}
