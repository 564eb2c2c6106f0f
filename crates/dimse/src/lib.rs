//! DICOM bytes: the upper layer of PS3.8, the messages of PS3.7, and the data set of PS3.5 while it arrives.
//!
//! Everything here is sans-IO. The caller fills an [`Inbox`] from its socket and asks for the next thing; what is to be
//! sent comes back as bytes. This room never reads a socket, a file or the clock, never decides who may do what, never
//! allocates by a length that a peer declared, and never holds a data set: its bytes are handed on as they arrive.
//! A thing that must be answered is consumed by answering, and Success costs a receipt ([`Association::stored`]).

mod association;
mod command;
pub mod dataset;
mod inbox;
pub mod limits;
pub mod part10;
mod pdu;
mod requestor;
pub mod status;

pub use association::{
    Acceptor, Association, AssociationRequest, EchoRequest, Event, MalformedStore, Opening, StoreRequest, Unheard,
    UnsupportedRequest,
};
pub use inbox::Inbox;
pub use limits::{Implementation, Limits};
pub use pdu::{Abort, Reject, Violation};
pub use requestor::{AcceptedContext, Answer, Reply, Request, Requested, Requestor};
pub use status::{FailureStatus, StoreRefusal};
