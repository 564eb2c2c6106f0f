//! Sockets and TLS: from a listening port to a connection whose peer has proven who it is.
//!
//! A connection slot is taken before `accept`, so a flood waits in the kernel and not in our memory. The handshake runs
//! in the task that was spawned for the connection, under one deadline, so one stalled peer never holds up another.
//! This room moves bytes: it reads no DICOM, asks no table and knows no reason of its own to refuse anybody.

mod connection;
mod first_bytes;
mod listener;
mod socket;
mod strangers;
mod syslog;

pub use connection::{Connection, DialError, dial};
pub use first_bytes::FirstBytes;
pub use listener::{Incoming, Listener, Refused, RefusedBecause};
pub use syslog::{Post, PostError, post};
