//! Why the agent gave nothing, in words for the person who runs the gateway.

use std::error::Error;
use std::io::ErrorKind;

use spiffe::WorkloadApiError;
use spiffe::transport::{GrpcStatusCode, TransportError};

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It cannot be reached, or does not speak. It may come back.
    #[error("{0}")]
    Away(String),
    /// The system does not let us speak to it.
    #[error("we may not open the socket; check its owner and mode and those of the directories above it")]
    NotAllowed,
    /// It speaks, and has nothing for us: what it gave before is withdrawn.
    #[error(
        "the agent has no identity for this process ({0}); check that a registration entry has this agent as parent and \
         selectors that fit this process (user, container, pod)"
    )]
    Denied(String),
    /// It has SVIDs for us, but not ours.
    #[error("the agent offers no SVID with the hint {hint:?}, only {offered}; check identity.svid_hint")]
    NoSuchHint {
        /// As configured.
        hint: String,
        /// SPIFFE IDs with their hints.
        offered: String,
    },
    /// Its answer breaks the standard.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
    /// Asking again cannot help (SPIFFE Workload Endpoint §6).
    #[error("what answers there is no SPIFFE Workload API ({0}); check the address")]
    NotAnAgent(String),
}

impl Trouble {
    /// Whether the agent has said that what it gave before must no longer be used (SPIFFE Workload API §5.2.1).
    pub(super) fn withdraws(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::NoSuchHint { .. })
    }

    /// Whether there is no point in asking again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::NotAnAgent(_))
    }
}

impl From<WorkloadApiError> for Trouble {
    fn from(error: WorkloadApiError) -> Self {
        match error {
            WorkloadApiError::NoIdentityIssued => Self::Denied("no identity issued".to_owned()),
            WorkloadApiError::PermissionDenied(says) => Self::Denied(says),
            WorkloadApiError::Transport(TransportError::Status(status)) => match status.code() {
                GrpcStatusCode::InvalidArgument | GrpcStatusCode::Unimplemented => Self::NotAnAgent(status.to_string()),
                _ => Self::Away(status.to_string()),
            },
            WorkloadApiError::Transport(error) => unreached(&error),
            // What is left are contents: a missing field, a certificate or a name that cannot be parsed.
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// The system's reason is at the end of a chain of transport errors that all say "transport error".
fn unreached(error: &TransportError) -> Trouble {
    let chain = std::iter::successors(Some(error as &dyn Error), |error| (*error).source());
    let system = chain.filter_map(|error| error.downcast_ref::<std::io::Error>()).last();
    match system.map(std::io::Error::kind) {
        Some(ErrorKind::PermissionDenied) => Trouble::NotAllowed,
        Some(ErrorKind::NotFound) => Trouble::Away(
            "there is no such socket; check the path, and that the agent runs and shares it with us".to_owned(),
        ),
        Some(ErrorKind::ConnectionRefused) => {
            Trouble::Away("nobody listens there; check that the agent runs".to_owned())
        }
        _ => Trouble::Away(system.map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_says_what_to_check() {
        let system = |kind: ErrorKind| TransportError::connect(std::io::Error::from(kind)).into();
        let status = |code| TransportError::status(code, "because").into();
        for (name, error, says) in [
            ("socket kept from us", system(ErrorKind::PermissionDenied), "owner and mode"),
            ("no socket", system(ErrorKind::NotFound), "no such socket"),
            ("nobody", system(ErrorKind::ConnectionRefused), "nobody listens"),
            ("something else", system(ErrorKind::BrokenPipe), "broken pipe"),
            ("no header", status(GrpcStatusCode::InvalidArgument), "no SPIFFE Workload API"),
            ("another service", status(GrpcStatusCode::Unimplemented), "no SPIFFE Workload API"),
            ("starting", status(GrpcStatusCode::Unavailable), "because"),
            ("no entry", WorkloadApiError::PermissionDenied("not you".to_owned()), "registration entry"),
            ("no entry in SPIRE", WorkloadApiError::NoIdentityIssued, "registration entry"),
            ("contents", WorkloadApiError::EmptyResponse, "cannot be used"),
        ] {
            let trouble = Trouble::from(error);
            assert!(trouble.to_string().contains(says), "{name}: {trouble}");
            assert_eq!(trouble.withdraws(), says == "registration entry", "{name}");
            assert_eq!(trouble.is_final(), says == "no SPIFFE Workload API", "{name}");
        }
    }
}
