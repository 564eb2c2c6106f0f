//! The verbs of the command line: each reads its arguments, calls one room, and tells a person what happened.

pub mod certs;
pub mod dev;
pub mod receive;
pub mod send;
pub mod studies;
