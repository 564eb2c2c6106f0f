//! When a study is quiet, and what is then said about it: the due time, the manifest and the event.
//!
//! PS3.4 B.4: closing an association means nothing, so a study is stable when nobody saw an instance of it for a while.
//! This room computes; it never reads the clock, a file or the index, and nothing that it writes holds patient data.

mod activity;
mod event;
mod manifest;

pub use activity::{Activity, DEFAULT_MAX_WAIT, DEFAULT_QUIET, Reason};
pub use event::{Event, EventType, StableStudy};
pub use manifest::{Counts, HeldInstance, Manifest, ManifestInstance, Schema, manifest};

#[cfg(test)]
mod schema_tests;
