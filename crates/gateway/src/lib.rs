//! The gateway: configuration, one association top to bottom, the loops, the admin listener and the verbs.
//!
//! This room knows the order of the corridor (ARCHITECTURE.md) and nothing else: what a certificate proves is `access`'s
//! business, what bytes mean is `dimse`'s, what is durable is `store`'s. Start with `session.rs`.

pub mod admin;
mod answer;
pub mod audit;
pub mod config;
pub mod house;
mod intake;
mod line;
mod live;
pub mod pki;
pub mod receive;
pub mod sample;
pub mod send;
mod session;
mod stabilise;
pub mod telemetry;
pub mod verb;
#[cfg_attr(feature = "workload-api", expect(dead_code, reason = "live.rs does not ask an agent yet"))]
mod workload;
