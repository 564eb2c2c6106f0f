//! The promises of the design, each against the real binary: a file per promise, its name the promise.
//!
//! Run them with `./tests/run`, which brings the witnesses (DCMTK, pydicom, pynetdicom) and says where the binary is. No
//! test here sleeps for a fixed time: it waits for a state and fails when the state does not come.

mod support;

mod access_verbs;
mod audit;
mod bad_input;
mod changes_in_between;
mod duplicates;
mod endings;
mod in_flight;
mod interleavings;
mod keys;
mod limbo;
mod many;
mod observe;
mod p1_success_is_durable;
mod p2_no_row_nothing;
mod p3_withdrawn_stops;
mod p4_tenants_apart;
mod p5_bit_for_bit;
mod p6_memory_bounded;
mod p7_stable_once;
mod p8_no_patient_data;
mod profiles;
mod proxy;
mod quotas;
mod signed_table;
mod strangers;
mod study_rules;
mod table_columns;
mod threats;
mod tls;
mod trust_reload;
mod verbs;
mod verbs_unhappy;
mod workload;

/// The locks of the files that `interleavings` includes from the gateway.
mod sync {
    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}
