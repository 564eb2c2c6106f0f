//! What the tests of promises are made of: a PKI, the real binary as a child process on port 0, and a
//! scripted sender that can also misbehave. Never part of a release.
//!
//! Nothing here sleeps for a fixed time: every wait is for a state, ends as soon as it is reached, and panics with what
//! was seen instead when it is not. A failure in here is a failed test, so functions panic with a sentence.

pub mod house;
pub mod memory;
pub mod peer;
pub mod pki;
pub mod relay;
pub mod stranger;
pub mod workload;

/// Synthetic instances.
pub use gateway::sample as samples;
