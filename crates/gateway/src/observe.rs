//! What is noticed and does not decide: rows in observe mode, the shadow table, an identity behind a new VPC endpoint.

use std::sync::Arc;

use access::{AuthorisedInstance, Caller, Denial, DenialCode, Grant, Operation, Origin, Question, Table};
use model::{Proposal, sop_class};

use crate::audit::{Decision, Subject, Verdict};
use crate::clock::now;
use crate::house::House;
use crate::line::Line;
use crate::telemetry;

/// After an association was granted: what observe mode let through, and what the shadow table says.
pub(crate) async fn association(house: &House, line: &Line, grant: &Grant) {
    let Some(context) = grant.proposal().contexts.first() else { return };
    denials(line, Subject::Association, grant, grant.observed()).await;
    let echo = context.abstract_syntax.as_str() == sop_class::VERIFICATION;
    let operation = if echo { Operation::Echo } else { Operation::Store };
    shadow(house, line, grant, Subject::Association, || question_of(grant, operation)).await;
}

/// After an instance was stored.
pub(crate) async fn instance(house: &House, line: &Line, instance: &AuthorisedInstance, size: u64) {
    let grant = instance.grant();
    let observed = instance.observed().iter().cloned().chain(instance.observed_size(size));
    // What the association was told of already is not said again for each of its instances.
    let news: Vec<Denial> = observed.filter(|denial| !grant.observed().contains(denial)).collect();
    denials(line, Subject::Instance, grant, &news).await;
    let question = || Question {
        class: Some(instance.name().class.clone()),
        syntax: Some(instance.transfer_syntax().clone()),
        content: Some(instance.content().clone()),
        size: Some(size),
        ..question_of(grant, Operation::Store)
    };
    shadow(house, line, grant, Subject::Instance, question).await;
}

/// Writes down what would have been denied, were the row not in observe mode.
async fn denials(line: &Line, about: Subject, grant: &Grant, observed: &[Denial]) {
    for denial in observed {
        metrics::counter!(telemetry::AUTHZ_OBSERVED, "reason" => denial.code.as_str()).increment(1);
        tracing::info!(reason = denial.code.as_str(), "would be denied, were the row not in observe mode: {denial}");
        let verdict = Verdict::denial(about, Decision::Observe, denial).grant(grant).titles(grant.proposal());
        line.record(verdict).await;
    }
}

/// The table in force said yes: a shadow table that says no, or yes to another tenant, is worth a line.
/// The question is put together only if there is somebody to ask.
async fn shadow(house: &House, line: &Line, grant: &Grant, about: Subject, question: impl FnOnce() -> Question) {
    let Some(shadow) = house.live.registry.in_force().shadow.clone() else { return };
    let (reason, detail) = match shadow.answer(&question(), now()).verdict {
        Ok(row) if row.tenant() == grant.tenant() => return,
        Ok(row) => ("shadow_tenant", format!("row {:?} would write to another tenant", row.id())),
        Err(denial) => ("shadow_deny", denial.to_string()),
    };
    metrics::counter!(telemetry::SHADOW_DIFFERENCES, "reason" => reason).increment(1);
    tracing::info!(reason, "the shadow table says otherwise: {detail}");
    line.record(Verdict::new(about, Decision::Observe, reason).grant(grant).detail(detail)).await;
}

/// The association was denied: a shadow table that would have let it in is worth a line too.
pub(crate) async fn refused_association(house: &House, line: &Line, proposal: &Proposal, denial: &Denial) {
    let Some(shadow) = shadow_of(house, denial) else { return };
    let question = question(line.peer().caller(), line.origin(), proposal, Operation::Store);
    let Ok(row) = shadow.answer(&question, now()).verdict else { return };
    shadow_allows(line, format!("row {:?} of the shadow table would allow it", row.id())).await;
}

/// The caller was denied before its request was read: a shadow table that would have it read is worth a line too.
pub(crate) async fn refused_connection(house: &House, line: &Line, denial: &Denial) {
    let Some(shadow) = shadow_of(house, denial) else { return };
    if shadow.admit(line.peer(), line.origin(), now()).is_ok() {
        shadow_allows(line, "the shadow table has a row in force for the identity".to_owned()).await;
    }
}

/// The shadow table, if it was the table in force that denied: what else denies would deny beside any table.
fn shadow_of(house: &House, denial: &Denial) -> Option<Arc<Table>> {
    let by_table = !matches!(denial.code, DenialCode::AutoSuspended | DenialCode::PolicyStale);
    house.live.registry.in_force().shadow.clone().filter(|_| by_table)
}

async fn shadow_allows(line: &Line, detail: String) {
    metrics::counter!(telemetry::SHADOW_DIFFERENCES, "reason" => "shadow_allow").increment(1);
    line.record(Verdict::new(Subject::Association, Decision::Observe, "shadow_allow").detail(detail)).await;
}

fn question_of(grant: &Grant, operation: Operation) -> Question {
    question(grant.peer().caller(), grant.origin(), grant.proposal(), operation)
}

/// What is known when the association is asked for.
fn question(caller: &Caller, origin: &Origin, proposal: &Proposal, operation: Operation) -> Question {
    Question {
        caller: caller.clone(),
        origin: origin.clone(),
        called: proposal.called.clone(),
        calling: proposal.calling.clone(),
        operation,
        class: None,
        syntax: None,
        content: None,
        size: None,
    }
}

/// An identity that is seen behind a second VPC endpoint: perhaps one key in two places.
pub(crate) fn endpoint(house: &House, grant: &Grant, verdict: Verdict) -> Verdict {
    let Some(vpce) = &grant.origin().vpce else { return verdict };
    if !house.endpoints.is_new(grant.peer().id(), vpce) {
        return verdict;
    }
    metrics::counter!(telemetry::NEW_ENDPOINTS).increment(1);
    tracing::warn!(vpce, "this identity was seen behind another VPC endpoint before: is its key in two places?");
    verdict.alert("new_vpce")
}
