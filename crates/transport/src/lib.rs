//! Sockets and TLS: from a listening port to a connection whose peer has proven who it is.
//!
//! A connection slot is taken before `accept`, so a flood waits in the kernel and not in our memory. The handshake runs
//! in the task that was spawned for the connection, under one deadline, so one stalled peer never holds up another.
//! Behind a load balancer, its PROXY v2 header is read first: exactly, and never by guessing whether there is one.
//! This room moves bytes: it reads no DICOM, asks no table and decides nothing about who may do what.

mod balancer;
mod connection;
mod first_bytes;
mod listener;
pub mod proxy;
mod socket;
mod strangers;
mod syslog;

pub use balancer::LoadBalancer;
pub use connection::{Connection, DialError, dial};
pub use first_bytes::FirstBytes;
pub(crate) use first_bytes::TLS_HANDSHAKE;
pub use listener::{Incoming, Listener, Refused, RefusedBecause};
pub use syslog::{Post, PostError, post};
