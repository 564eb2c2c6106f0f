//! The one place where a refusal becomes a wire answer (design: "status and failure mapping lives in one function").
//! Refusals are named by who is at fault.

use std::error::Error;

use access::{Contradiction, Denial, DenialCode, Rejection};
use dimse::dataset::DataSetError;
use dimse::{Reject, StoreRefusal, status};
use store::Failure;

use crate::config::Profile;
use crate::end::distrusted;

/// Why an instance is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not allowed: by the table of now.
    #[error("{0}")]
    Denied(Denial),
    /// The caller's certificate is no longer accepted.
    #[error("the caller's certificate is no longer accepted: {0}")]
    Distrusted(Rejection),
    /// The peer's data set says other than its command.
    #[error("{0}")]
    Contradicted(#[source] Contradiction),
    /// The peer's data set cannot be understood.
    #[error("{0}")]
    NotUnderstood(DataSetError),
    /// The peer's command cannot be answered with anything better.
    #[error("the C-STORE request is not valid")]
    Malformed(StoreRefusal),
    /// Our store is away, full or read-only.
    #[error("{0}")]
    Store(#[source] Failure),
    /// Our audit log cannot be written, and the strict profile takes nothing that cannot be accounted for.
    #[error("the audit log cannot be written")]
    Unaudited,
    /// We are going away.
    #[error("the receiver is shutting down")]
    Draining,
}

/// An error with its causes, for the log: the system's own words say whether a disk is full or read-only.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // An error that is shown as its cause says it once.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The answer to a C-STORE that is refused.
pub(crate) fn refuse_store(refusal: &Refusal) -> StoreRefusal {
    let plain = |status, comment| StoreRefusal { status, comment, offending: &[] };
    match refusal {
        Refusal::Denied(denial) if is_for_now(denial.code) => {
            plain(status::OUT_OF_RESOURCES, "over quota or not decidable now, send again later")
        }
        Refusal::Denied(denial) if denial.code == DenialCode::SopClass => {
            plain(status::NOT_AUTHORISED, "SOP class not authorised for this identity")
        }
        Refusal::Denied(_)
        | Refusal::Distrusted(_)
        | Refusal::Contradicted(Contradiction::NotAllowed(_))
        | Refusal::Store(Failure::NotCleared) => plain(status::NOT_AUTHORISED, "not authorised"),
        Refusal::Contradicted(Contradiction::Class) => StoreRefusal {
            status: status::DATA_SET_MISMATCH,
            comment: "SOP Class UID of data set and command differ",
            offending: &[0x0008_0016],
        },
        Refusal::Contradicted(Contradiction::Instance) => StoreRefusal {
            status: status::DATA_SET_MISMATCH,
            comment: "SOP Instance UID of data set and command differ",
            offending: &[0x0008_0018],
        },
        Refusal::NotUnderstood(_) => plain(status::CANNOT_UNDERSTAND, "the data set cannot be parsed"),
        Refusal::Malformed(answer) => *answer,
        Refusal::Store(Failure::Conflict) => {
            plain(status::DUPLICATE_INSTANCE, "other bytes are held under this SOP Instance UID")
        }
        Refusal::Store(Failure::AlreadyHeld) => plain(status::DUPLICATE_INSTANCE, "this instance is already held"),
        Refusal::Store(Failure::ForeignStudy) => plain(status::NOT_AUTHORISED, "not authorised for this study"),
        Refusal::Store(Failure::PatientConflict) => {
            plain(status::NOT_AUTHORISED, "the study is held with another Patient ID")
        }
        Refusal::Store(_) => plain(status::OUT_OF_RESOURCES, "the archive is not available, send again later"),
        Refusal::Unaudited => plain(status::OUT_OF_RESOURCES, "the archive is not available, send again later"),
        Refusal::Draining => plain(status::OUT_OF_RESOURCES, "the receiver is shutting down, send again"),
    }
}

/// A denial that time heals: the sender may send the same again (PS3.4 Table B.2-1, A7xx).
fn is_for_now(code: DenialCode) -> bool {
    use DenialCode::*;
    matches!(code, PolicyStale | Rate | InstancesDay | BytesDay | TenantRate | TenantInstancesDay | TenantBytesDay)
}

impl Refusal {
    /// The denial, if the table or a quota refuses.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Denied(denial) | Self::Contradicted(Contradiction::NotAllowed(denial)) => Some(denial),
            _ => None,
        }
    }

    /// What of the table is against it: also where only the archive could tell.
    pub(crate) fn denial_code(&self) -> Option<DenialCode> {
        match self {
            Self::Store(Failure::ForeignStudy) => Some(DenialCode::StudyBinding),
            Self::Store(Failure::PatientConflict) => Some(DenialCode::PatientConflict),
            other => other.denial().map(|denial| denial.code),
        }
    }

    /// The reason code for the audit log and metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Denied(denial) | Self::Contradicted(Contradiction::NotAllowed(denial)) => denial.code.as_str(),
            Self::Distrusted(rejection) => distrusted(rejection),
            Self::Store(Failure::NotCleared) => "not_cleared",
            Self::Contradicted(_) => "data_set_mismatch",
            Self::NotUnderstood(_) => "cannot_understand",
            Self::Malformed(_) => "malformed_request",
            Self::Store(Failure::Conflict) => "duplicate_instance",
            Self::Store(Failure::AlreadyHeld) => "already_held",
            Self::Store(Failure::ForeignStudy) => DenialCode::StudyBinding.as_str(),
            Self::Store(Failure::PatientConflict) => DenialCode::PatientConflict.as_str(),
            Self::Store(_) => "store_failed",
            Self::Unaudited => "audit_unavailable",
            Self::Draining => "shutdown",
        }
    }
}

/// The answer to an association request that the table denies: a stranger learns nothing; an identity with a row is helped,
/// but not under the strict profile.
pub(crate) fn reject(denial: &Denial, profile: Profile) -> Reject {
    match denial.code {
        DenialCode::PolicyStale => Reject::Congestion,
        _ if !denial.knows_caller() || profile == Profile::Strict => Reject::NoReason,
        DenialCode::CalledAet => Reject::CalledAeTitle,
        DenialCode::CallingAet => Reject::CallingAeTitle,
        _ => Reject::NoReason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspend;

    #[test]
    fn what_only_the_archive_could_tell_counts_against_its_sender_too() {
        for failure in [Failure::ForeignStudy, Failure::PatientConflict] {
            let refusal = Refusal::Store(failure);
            let code = refusal.denial_code().unwrap_or_else(|| panic!("{refusal}"));
            assert!(suspend::counts(code), "{refusal}");
            assert_eq!(code.as_str(), refusal.code());
        }
        for failure in [Failure::Conflict, Failure::AlreadyHeld, Failure::NotCleared] {
            assert_eq!(Refusal::Store(failure).denial_code(), None, "not the sender's doing, or asked elsewhere");
        }
    }
}
