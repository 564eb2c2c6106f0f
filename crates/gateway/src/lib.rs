//! The gateway: configuration, one association top to bottom, the loops, the admin listener and the verbs.
//!
//! This room knows the order of the corridor (ARCHITECTURE.md) and nothing else: what a certificate proves is `access`'s
//! business, what bytes mean is `dimse`'s, what is durable is `store`'s. Start with `session.rs`.

pub mod admin;
mod answer;
pub mod audit;
pub mod clock;
pub mod config;
mod crowd;
mod end;
pub mod house;
mod intake;
mod life;
pub mod limbo;
mod line;
mod live;
mod observe;
pub mod pki;
mod quotas;
pub mod receive;
mod registry;
mod reload;
pub mod sample;
pub mod secrecy;
pub mod send;
mod session;
mod stabilise;
mod suspend;
pub mod telemetry;
mod tenure;
pub mod verb;
mod workload;

/// The locks of what is tested under every interleaving: `tests/interleavings.rs` puts shuttle's in their place.
mod sync {
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}
