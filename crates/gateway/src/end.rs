//! How an association ended, and what the peer is told of it.

use std::io;
use std::time::Duration;

use access::{Denial, Rejection, RejectionCode};
use dimse::{Abort, Violation};
use model::Timestamp;

use crate::audit::Decision;
use crate::live::Fallen;

/// How an association ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("released")]
    Released,
    #[error("rejected")]
    Rejected,
    #[error("the peer aborted")]
    PeerAborted(Abort),
    #[error("the peer closed the connection without a release")]
    PeerGone,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("{0}")]
    Violated(Violation),
    #[error("no association request within {} s", .0.as_secs())]
    NoRequest(Duration),
    #[error("nothing said for {} s between two messages", .0.as_secs())]
    Idle(Duration),
    #[error("nothing said for {} s in the middle of a message", .0.as_secs())]
    Stalled(Duration),
    #[error("less than 4 KiB/s for a minute in the middle of a message")]
    TooSlow,
    #[error("the right was withdrawn: {0}")]
    Withdrawn(Denial),
    #[error("the caller's certificate is no longer accepted: {0}")]
    Distrusted(Rejection),
    #[error("the caller's certificate ends at {0}; the sender may come again with a new one")]
    Expiring(Timestamp),
    #[error("more refusals than an association may collect")]
    TooManyDenials,
    #[error("the association is older than {} s; the sender may open a new one", .0.as_secs())]
    TooOld(Duration),
    #[error("the receiver is shutting down")]
    Shutdown,
}

impl End {
    /// The reason code for the audit log and metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::PeerAborted(_) => "peer_aborted",
            Self::PeerGone | Self::Broken(_) => "connection_lost",
            Self::Violated(_) => "protocol_violation",
            Self::NoRequest(_) => "artim",
            Self::Idle(_) => "idle",
            Self::Stalled(_) => "stalled",
            Self::TooSlow => "slow",
            Self::Withdrawn(denial) => denial.code.as_str(),
            Self::Distrusted(rejection) => distrusted(rejection),
            Self::Expiring(_) => "svid_expiring",
            Self::TooManyDenials => "too_many_denials",
            Self::TooOld(_) => "max_age",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the peer is told: nothing when it is gone or knows already. A broken protocol is the provider's to abort
    /// (PS3.8 §9.3.8), everything else is ours, the user's.
    pub(crate) fn abort(&self) -> Option<Abort> {
        match self {
            Self::Released | Self::Rejected | Self::PeerAborted(_) | Self::PeerGone | Self::Broken(_) => None,
            // Sta2, Evt18: the connection is just closed (PS3.8 Table 9-10, AA-2).
            Self::NoRequest(_) => None,
            Self::Violated(violation) => Some(violation.abort()),
            _ => Some(Abort::user()),
        }
    }

    /// The denial that ended it, if one did.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Withdrawn(denial) => Some(denial),
            _ => None,
        }
    }

    pub(crate) fn decision(&self) -> Decision {
        match self {
            Self::Released | Self::Rejected | Self::PeerAborted(_) | Self::PeerGone | Self::Broken(_) => Decision::Note,
            _ => Decision::Terminate,
        }
    }
}

/// The reason code for a peer whose certificate was good and is not any more: what is revoked or has expired has a name of its
/// own, any other rule is broken by a change of bundles (CV-6).
pub(crate) fn distrusted(rejection: &Rejection) -> &'static str {
    match rejection.code {
        RejectionCode::Revoked | RejectionCode::RevocationUnknown => rejection.code.as_str(),
        RejectionCode::Expired => "svid_expired",
        _ => "bundle_changed",
    }
}

impl From<Fallen> for End {
    fn from(fallen: Fallen) -> Self {
        match fallen {
            Fallen::Withdrawn(denial) => Self::Withdrawn(denial),
            Fallen::Distrusted(rejection) => Self::Distrusted(rejection),
        }
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation)
    }
}
