//! What is noticed and does not decide: rows in observe mode, the shadow table, an identity behind a new VPC endpoint.

use std::sync::Arc;

use access::{Denial, Grant, Permit, Question};

use crate::audit::{Decision, Subject, Verdict};
use crate::clock::now;
use crate::house::House;
use crate::line::Line;
use crate::telemetry;

/// Writes down what would have been denied, were the row not in observe mode.
pub(crate) async fn denials(line: &Line, about: Subject, grant: &Grant, observed: &[Denial]) {
    for denial in observed {
        metrics::counter!(telemetry::AUTHZ_OBSERVED, "reason" => denial.code.as_str()).increment(1);
        tracing::info!(reason = denial.code.as_str(), "would be denied, were the row not in observe mode: {denial}");
        line.record(Verdict::denial(about, Decision::Observe, denial).grant(grant)).await;
    }
}

/// After an association was granted: what observe mode let through, and what the shadow table says.
pub(crate) async fn association(house: &House, line: &Line, grant: &Arc<Grant>) {
    denials(line, Subject::Association, grant, grant.observed()).await;
    shadow(house, line, grant, Subject::Association, Question::of_grant(grant)).await;
}

/// After an instance was permitted.
pub(crate) async fn permit(house: &House, line: &Line, permit: &Permit) {
    shadow(house, line, permit.grant(), Subject::Instance, Question::of_permit(permit)).await;
}

/// The table in force said yes: a shadow table that says no, or yes to another tenant, is worth a line.
async fn shadow(house: &House, line: &Line, grant: &Grant, about: Subject, question: Question) {
    let Some(shadow) = house.live.registry.in_force().shadow.clone() else { return };
    let (reason, detail) = match shadow.answer(&question, now()).verdict {
        Ok(row) if row.tenant() == grant.tenant() => return,
        Ok(row) => ("shadow_tenant", format!("row {:?} would write to another tenant", row.id())),
        Err(denial) => ("shadow_deny", denial.to_string()),
    };
    metrics::counter!(telemetry::SHADOW_DIFFERENCES, "reason" => reason).increment(1);
    tracing::info!(reason, "the shadow table says otherwise: {detail}");
    line.record(Verdict::new(about, Decision::Observe, reason).grant(grant).detail(detail)).await;
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
