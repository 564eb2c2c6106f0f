//! Keeps what was authorised: objects, the index over them, and the outbox of events.
//!
//! The only door in is [`Archive::begin`], which wants an `AuthorisedInstance`, and the only way to a [`Receipt`] is
//! [`Sealed::commit`], which wants the `Cleared` of the commit gate and answers when bytes *and* index row are durable.
//! This room never decides who may store, never changes a byte of a data set, and never overwrites or deletes an object.
//! SQLite and the file system live here and nowhere else; no type of theirs leaves the room.

mod archive;
mod events;
mod failure;
mod gzip;
mod index;
mod keep;
mod objects;
mod reader;
mod sealed;
mod upload;

#[cfg(test)]
mod tests;

pub use archive::{Archive, LocalOptions};
pub use events::EventLog;
pub use failure::{Failure, OpenError};
pub use index::{Apart, DueStudy, Settled, Snapshot, StoredInstance, StudyState, StudySummary};
pub use objects::Soundness;
pub use reader::Reader;
pub use sealed::{AskAgain, Outcome, Receipt, Sealed};
pub use upload::Upload;
