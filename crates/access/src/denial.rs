/// The access table does not allow it: nobody misbehaved, it is just not allowed.
///
/// Its text names rows and columns of the table and no value that a peer supplied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.as_str())]
pub struct Denial {
    /// Which column or condition did not hold.
    pub code: DenialCode,
    /// The row that decided, if one did.
    pub row: Option<String>,
    /// A sentence for the audit record.
    pub detail: String,
}

impl Denial {
    /// A denial: also for what the gateway counts (quotas) or knows (an old table). `detail` must hold no value that a
    /// peer supplied.
    #[must_use]
    pub fn of(code: DenialCode, row: Option<&str>, detail: impl Into<String>) -> Self {
        Self { code, row: row.map(Into::into), detail: detail.into() }
    }

    /// Whether a live association may go on until its next message (CV-5, CV-12): less is allowed than was granted, its time
    /// has run out, or nothing new may be decided; the commit gate asks again about what is in flight. Anything else ends it
    /// where it is (CV-4).
    #[must_use]
    pub fn can_wait(&self) -> bool {
        use DenialCode::*;
        matches!(self.code, PolicyNarrowed | WindowClosed | SvidExpired | Posture | PolicyStale)
    }

    /// Whether the caller is one that the table knows, so that the answer may help it (1/1/7, 1/1/3). When false, the
    /// answer must be 1/1/1: no row, suspended, outside its window, a deny row, from the wrong place, or nobody at all.
    #[must_use]
    pub fn knows_caller(&self) -> bool {
        use DenialCode::*;
        !matches!(
            self.code,
            KillSwitch
                | PolicyStale
                | NoRow
                | DenyRow
                | AutoSuspended
                | RowSuspended
                | RowExpired
                | RowNotYet
                | OutsideWindow
                | Posture
                | VpceMissing
                | Vpce
                | Source
                | PolicyRevoked
        )
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $doc:literal;)*) => {
        /// Why it is not allowed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DenialCode {
            $(#[doc = $doc] $name,)*
        }

        impl DenialCode {
            /// Every code. The order is that in which the columns are asked: the later, the nearer it came to being allowed.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The reason code, as audit records and metrics have it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

codes! {
    PolicyStale = "policy_stale", "The table has not been read for longer than is allowed.";
    KillSwitch = "kill_switch", "The table's kill switch is on.";
    NoRow = "no_row", "No row names this identity.";
    DenyRow = "deny_row", "A deny row matches.";
    AutoSuspended = "auto_suspended", "The identity is suspended for a while, after too many denials.";
    RowSuspended = "row_suspended", "The row is suspended.";
    RowExpired = "row_expired", "`valid_until` has passed.";
    RowNotYet = "row_not_yet", "`not_before` has not come.";
    SvidExpired = "svid_expired", "The SVID has expired since the handshake.";
    OutsideWindow = "outside_window", "It is outside the row's `windows`.";
    Posture = "posture", "The row's `posture_ok_until` has passed.";
    SvidLifetime = "svid_lifetime", "The SVID is valid for longer than the row's `max_svid_lifetime`.";
    MinTls = "min_tls", "The connection has an older TLS version than the row's `min_tls`.";
    VpceMissing = "vpce_missing", "The row asks for a VPC endpoint and the connection shows none.";
    Vpce = "vpce", "The connection came through a VPC endpoint that the row does not list.";
    Source = "source", "The connection came from an address that the row does not list.";
    CalledAet = "called_aet", "The called AE title is not in the row.";
    CallingAet = "calling_aet", "The calling AE title is not in the row.";
    Operation = "operation", "The operation is not in the row.";
    SopClass = "sop_class", "The SOP class is not in the row, or was not accepted for this association.";
    TransferSyntax = "transfer_syntax", "The transfer syntax is not in the row, or was not accepted for this association.";
    Modality = "modality", "The modality is not in the row.";
    PatientIssuer = "patient_issuer", "The issuer of the Patient ID is not in the row.";
    Institution = "institution", "The institution is not in the row.";
    InstanceSize = "instance_size", "The instance is larger than the row's `max_instance_bytes`.";
    StudyBinding = "study_binding", "The study is another tenant's, and the row says `study_binding = \"own\"`.";
    PatientConflict = "patient_conflict", "The study holds another patient, and the row says to refuse that.";
    Associations = "associations", "The row's `max_associations` are open already.";
    Rate = "rate", "Instances come faster than the row's `max_rate`.";
    InstancesDay = "instances_day", "The row's `max_instances_day` have come today.";
    BytesDay = "bytes_day", "The row's `max_bytes_day` have come today.";
    TenantAssociations = "tenant_associations", "The tenant's `max_associations` are open already.";
    TenantRate = "tenant_rate", "Instances of the tenant come faster than its `max_rate`.";
    TenantInstancesDay = "tenant_instances_day", "The tenant's `max_instances_day` have come today.";
    TenantBytesDay = "tenant_bytes_day", "The tenant's `max_bytes_day` have come today.";
    PolicyRevoked = "policy_revoked", "The row that allowed the association is gone, suspended or another's, or a deny row matches it.";
    PolicyNarrowed = "policy_narrowed", "The table still knows the association and allows less than was granted: its row covers it no longer, or no context is left.";
    WindowClosed = "window_closed", "The row's window has closed while the association was alive.";
}
