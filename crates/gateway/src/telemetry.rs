//! Logs and metrics: human lines on a terminal, JSON elsewhere, and the name of every metric in one place.

use std::io::IsTerminal;

use clap::ValueEnum;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// TCP connections accepted.
pub const CONNECTIONS: &str = "portcullis_connections_total";
/// Connections that ended before an association, by `reason`.
pub const CONNECTIONS_REFUSED: &str = "portcullis_connections_refused_total";
/// Connections by which a load balancer looked whether somebody is there.
pub const HEALTH_PROBES: &str = "portcullis_health_probes_total";
/// Associations open now.
pub const ASSOCIATIONS_OPEN: &str = "portcullis_associations_open";
/// Associations accepted.
pub const ASSOCIATIONS: &str = "portcullis_associations_total";
/// Associations that ended, by `reason`.
pub const ASSOCIATIONS_ENDED: &str = "portcullis_associations_ended_total";
/// Decisions that allowed.
pub const AUTHZ_ALLOW: &str = "portcullis_authz_allow_total";
/// Decisions that denied, by `reason`.
pub const AUTHZ_DENY: &str = "portcullis_authz_deny_total";
/// Live associations ended by a decision, by `reason`.
pub const AUTHZ_TERMINATE: &str = "portcullis_authz_terminate_total";
/// C-STORE answers, by `status` and `outcome`.
pub const INSTANCES: &str = "portcullis_instances_total";
/// Data set bytes stored.
pub const BYTES: &str = "portcullis_stored_bytes_total";
/// From C-STORE-RQ to C-STORE-RSP.
pub const STORE_SECONDS: &str = "portcullis_store_seconds";
/// Study UIDs that a second tenant used.
pub const CROSS_TENANT: &str = "portcullis_cross_tenant_uid_total";
/// Stable study generations published.
pub const STUDIES_STABLE: &str = "portcullis_studies_stable_total";
/// Revision of the access table in force.
pub const POLICY_REVISION: &str = "portcullis_policy_revision";
/// Since the access table was last read and found good.
pub const POLICY_AGE: &str = "portcullis_policy_age_seconds";
/// Reloads that failed and left the previous set in force, by `what`.
pub const RELOAD_FAILURES: &str = "portcullis_reload_failures_total";
/// What our own certificate has left.
pub const SVID_REMAINING: &str = "portcullis_svid_remaining_seconds";
/// Attempts to write the audit log that failed. Lines are kept meanwhile.
pub const AUDIT_FAILURES: &str = "portcullis_audit_failures_total";
/// Verdicts for which there was no room while the audit log could not be written.
pub const AUDIT_LOST: &str = "portcullis_audit_lost_total";
/// 1 while the audit repository (syslog) is connected, else 0.
pub const REPOSITORY_UP: &str = "portcullis_audit_repository_up";
/// Audit messages for which there was no room while the repository was away.
pub const REPOSITORY_LOST: &str = "portcullis_audit_repository_lost_total";

/// Rows of the access table whose review_by has passed.
pub const ROWS_OVERDUE: &str = "portcullis_authz_rows_overdue_review";
/// Since certificates, bundles and revocation lists were last read and found good.
pub const TRUST_AGE: &str = "portcullis_trust_age_seconds";
/// Denials that a row in observe mode let pass, by `reason`.
pub const AUTHZ_OBSERVED: &str = "portcullis_authz_observed_total";
/// Decisions that the shadow table would have made otherwise, by `reason`.
pub const SHADOW_DIFFERENCES: &str = "portcullis_shadow_differences_total";
/// Identities suspended for being denied too often.
pub const AUTO_SUSPENDED: &str = "portcullis_auto_suspended_total";
/// Identities seen behind a VPC endpoint that is new for them.
pub const NEW_ENDPOINTS: &str = "portcullis_new_endpoint_total";
/// Times that the system clock was found set.
pub const CLOCK_JUMPS: &str = "portcullis_clock_jumps_total";
/// Age of associations at their end.
pub const ASSOCIATION_AGE: &str = "portcullis_association_age_seconds";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Human lines on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends logs to standard error. `PORTCULLIS_LOG` filters as tracing's EnvFilter does (`info`, `gateway=debug`).
pub fn begin_logs(format: LogFormat, default_level: &str) {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| EnvFilter::new(default_level));
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if human {
        let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false);
        registry.with(layer).init();
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_target(false)).init();
    }
}

/// Installs the recorder and describes every metric.
///
/// # Errors
/// When a recorder is already installed.
pub fn begin_metrics() -> anyhow::Result<PrometheusHandle> {
    const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];
    const AGES: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 180.0, 300.0, 600.0, 900.0];
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Full(STORE_SECONDS.to_owned()), &SECONDS)?;
    let builder = builder.set_buckets_for_metric(Matcher::Full(ASSOCIATION_AGE.to_owned()), &AGES)?;
    let handle = builder.install_recorder()?;
    describe_counter!(CONNECTIONS, "TCP connections accepted");
    describe_counter!(CONNECTIONS_REFUSED, "Connections that ended before an association, by reason");
    describe_counter!(HEALTH_PROBES, "Connections by which a load balancer looked whether somebody is there");
    describe_gauge!(ASSOCIATIONS_OPEN, "Associations open now");
    describe_counter!(ASSOCIATIONS, "Associations accepted");
    describe_counter!(ASSOCIATIONS_ENDED, "Associations ended, by reason");
    describe_counter!(AUTHZ_ALLOW, "Decisions that allowed");
    describe_counter!(AUTHZ_DENY, "Decisions that denied, by reason");
    describe_counter!(AUTHZ_TERMINATE, "Live associations ended by a decision, by reason");
    describe_counter!(INSTANCES, "C-STORE answers, by status and outcome");
    describe_counter!(BYTES, Unit::Bytes, "Data set bytes stored");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "From C-STORE-RQ to C-STORE-RSP");
    describe_counter!(CROSS_TENANT, "Study UIDs that a second tenant used");
    describe_counter!(STUDIES_STABLE, "Stable study generations published");
    describe_gauge!(POLICY_REVISION, "Revision of the access table in force");
    describe_gauge!(POLICY_AGE, Unit::Seconds, "Since the access table was last read and found good");
    describe_counter!(RELOAD_FAILURES, "Reloads that left the previous set in force, by what");
    describe_gauge!(SVID_REMAINING, Unit::Seconds, "What our own certificate has left");
    describe_counter!(AUDIT_FAILURES, "Attempts to write the audit log that failed");
    describe_counter!(AUDIT_LOST, "Verdicts for which there was no room while the audit log could not be written");
    describe_gauge!(REPOSITORY_UP, "1 while the audit repository is connected");
    describe_counter!(REPOSITORY_LOST, "Audit messages for which there was no room while the repository was away");
    describe_gauge!(ROWS_OVERDUE, "Rows of the access table whose review_by has passed");
    describe_gauge!(
        TRUST_AGE,
        Unit::Seconds,
        "Since certificates, bundles and revocation lists were last read and found good"
    );
    describe_counter!(AUTHZ_OBSERVED, "Denials that a row in observe mode let pass, by reason");
    describe_counter!(SHADOW_DIFFERENCES, "Decisions that the shadow table would have made otherwise, by reason");
    describe_counter!(AUTO_SUSPENDED, "Identities suspended for being denied too often");
    describe_counter!(NEW_ENDPOINTS, "Identities seen behind a VPC endpoint that is new for them");
    describe_counter!(CLOCK_JUMPS, "Times that the system clock was found set");
    describe_histogram!(ASSOCIATION_AGE, Unit::Seconds, "Age of associations at their end");
    Ok(handle)
}
