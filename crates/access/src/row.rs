use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use model::{
    AeTitle, Encoding, OnConflict, OnDuplicate, OnPatientConflict, SopClass, SpiffeId, Tenant, Timestamp,
    TransferSyntax, Uid, transfer_syntax,
};

use crate::quota::Limits;
use crate::window::Windows;

/// One row that allows: who, in whose name, and what. Everything that it does not say is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub(crate) id: String,
    pub(crate) rev: Option<u64>,
    pub(crate) identity: Subject,
    pub(crate) tenant: Tenant,
    pub(crate) what: Columns,
    pub(crate) standing: Standing,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) windows: Option<Windows>,
    pub(crate) posture_ok_until: Option<Timestamp>,
    pub(crate) min_tls: Option<MinTls>,
    pub(crate) max_svid_lifetime: Option<Duration>,
    pub(crate) require_vpce: bool,
    pub(crate) observes: bool,
    pub(crate) coerce_issuer: Option<String>,
    pub(crate) binds_study: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) on_patient_conflict: OnPatientConflict,
    pub(crate) on_duplicate: OnDuplicate,
    pub(crate) quiet: Option<Duration>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) max_instance_bytes: Option<u64>,
    pub(crate) notes: Notes,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $from:expr;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(&self) -> $type { let get: fn(&Self) -> $type = $from; get(self) })*
    };
}

impl Row {
    getters! {
        /// Its name, unique in the table.
        id: &str = |row| &row.id;
        /// Its own revision, if the writer counts them.
        rev: Option<u64> = |row| row.rev;
        /// Whom it names.
        identity: &Subject = |row| &row.identity;
        /// Whose archive it writes to.
        tenant: &Tenant = |row| &row.tenant;
        /// Whether it is in force.
        standing: &Standing = |row| &row.standing;
        /// It allows nothing earlier.
        not_before: Option<Timestamp> = |row| row.not_before;
        /// It allows nothing later.
        valid_until: Option<Timestamp> = |row| row.valid_until;
        /// The weekly times at which it allows anything; `None` is always.
        windows: Option<&Windows> = |row| row.windows.as_ref();
        /// Until when the caller's machine is known to be in order; it allows nothing later.
        posture_ok_until: Option<Timestamp> = |row| row.posture_ok_until;
        /// Whether its constraints refuse nothing and are only told: observe mode.
        observes: bool = |row| row.observes;
        /// The oldest TLS version that it takes.
        min_tls: Option<MinTls> = |row| row.min_tls;
        /// The longest validity of an SVID that it takes, where that is less than the house's own.
        max_svid_lifetime: Option<Duration> = |row| row.max_svid_lifetime;
        /// What to do with other bytes under a UID that is already held.
        on_conflict: OnConflict = |row| row.on_conflict;
        /// What to do with another patient's instance in a study that is already held.
        on_patient_conflict: OnPatientConflict = |row| row.on_patient_conflict;
        /// What to do with the same bytes again.
        on_duplicate: OnDuplicate = |row| row.on_duplicate;
        /// Whether it may only add to studies that its own tenant wrote first.
        binds_study: bool = |row| row.binds_study;
        /// How long no instance may come before a study is stable, if not the house's own span.
        quiet: Option<Duration> = |row| row.quiet;
        /// When a study is called stable although instances still come, if not the house's own span.
        max_wait: Option<Duration> = |row| row.max_wait;
        /// How many associations it may have at once: for the gateway, which counts them.
        max_associations: Option<u32> = |row| row.limits.max_associations.map(std::num::NonZeroU32::get);
        /// Everything that the gateway counts for it.
        limits: &Limits = |row| &row.limits;
        /// The largest data set in bytes: for the gateway, which sees them pass.
        max_instance_bytes: Option<u64> = |row| row.max_instance_bytes;
        /// Who answers for it.
        owner: Option<&str> = |row| row.notes.owner.as_deref();
        /// Whom to call.
        contact: Option<&str> = |row| row.notes.contact.as_deref();
        /// The change that brought it.
        ticket: Option<&str> = |row| row.notes.ticket.as_deref();
        /// Who wrote it.
        created_by: Option<&str> = |row| row.notes.created_by.as_deref();
        /// Who approved it.
        approved_by: Option<&str> = |row| row.notes.approved_by.as_deref();
        /// When it was last changed.
        updated_at: Option<Timestamp> = |row| row.notes.updated_at;
        /// When a person must look at it again.
        review_by: Option<Timestamp> = |row| row.notes.review_by;
    }
}

/// One row that denies, to those whom it names: it wins over every row that allows.
///
/// It speaks while it is in force and within `not_before`, `valid_until` and `windows`. Then it denies what every one of its
/// other populated columns matches, as soon as the last of them can be asked; an attribute that a request should have by
/// then and has not counts as a match. With no such column it denies everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRow {
    pub(crate) id: String,
    /// None: everybody.
    pub(crate) identity: Option<Subject>,
    pub(crate) what: Columns,
    pub(crate) standing: Standing,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) windows: Option<Windows>,
    pub(crate) notes: Notes,
}

impl DenyRow {
    getters! {
        /// Its name, unique in the table.
        id: &str = |row| &row.id;
        /// Whom it names; `None` is everybody.
        identity: Option<&Subject> = |row| row.identity.as_ref();
        /// Whether it is in force.
        standing: &Standing = |row| &row.standing;
        /// Why it is there.
        ticket: Option<&str> = |row| row.notes.ticket.as_deref();
    }
}

/// Whom a row names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// This identity, byte for byte.
    Exact(SpiffeId),
    /// Every identity below this path; ends with `/` and has at least one whole segment.
    Prefix(String),
}

impl Subject {
    pub(crate) fn covers(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(own) => own == id,
            Self::Prefix(prefix) => id.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => f.pad(id.as_str()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Whether a row is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is.
    #[default]
    Enabled,
    /// It is not.
    Suspended {
        /// Why, for the operator.
        reason: Option<String>,
        /// When it comes into force again; `None` is never by itself.
        until: Option<Timestamp>,
    },
}

impl Standing {
    pub(crate) fn in_force(&self, now: Timestamp) -> bool {
        match self {
            Self::Enabled => true,
            Self::Suspended { until, .. } => until.is_some_and(|until| until <= now),
        }
    }
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It allows what all of its columns allow.
    Allow,
    /// It denies.
    Deny,
}

impl Effect {
    /// As it is written in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The oldest TLS version that a row takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[allow(missing_docs, reason = "each is the version of its name")]
pub enum MinTls {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// What people want to know about a row; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Notes {
    pub(crate) owner: Option<String>,
    pub(crate) contact: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) approved_by: Option<String>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) review_by: Option<Timestamp>,
}

/// The columns that rows of both kinds have. `None`: not populated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Columns {
    pub(crate) called: Option<Choice<AeTitle>>,
    pub(crate) calling: Option<Choice<AeTitle>>,
    pub(crate) classes: Option<Choice<Uid<SopClass>>>,
    pub(crate) syntaxes: Option<Choice<Uid<TransferSyntax>>>,
    pub(crate) modalities: Option<BTreeSet<String>>,
    pub(crate) issuers: Option<BTreeSet<String>>,
    pub(crate) institutions: Option<BTreeSet<String>>,
    pub(crate) operations: Option<BTreeSet<Operation>>,
    pub(crate) vpces: Option<BTreeSet<String>>,
    pub(crate) cidrs: Option<Vec<Cidr>>,
}

impl Columns {
    /// Whether nothing is populated.
    pub(crate) fn is_bare(&self) -> bool {
        *self == Self::default()
    }

    /// For a row that allows: an unpopulated column allows nothing.
    pub(crate) fn allows(&self, operation: Operation) -> bool {
        self.operations.as_ref().is_some_and(|operations| operations.contains(&operation))
    }

    /// As above. `*` leaves deflated syntaxes out: a few bytes of them can become gigabytes, so they must be listed.
    pub(crate) fn allows_syntax(&self, syntax: &Uid<TransferSyntax>) -> bool {
        self.syntaxes.as_ref().is_some_and(|choice| {
            choice.lists(syntax) || choice.any && transfer_syntax::encoding(syntax) != Encoding::Deflated
        })
    }
}

/// An operation that a row can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// C-ECHO.
    Echo,
    /// C-STORE.
    Store,
    /// Storage commitment.
    Commit,
}

/// A list of values, perhaps with `*` among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice<T> {
    pub(crate) any: bool,
    pub(crate) of: BTreeSet<T>,
}

impl<T: Ord> Choice<T> {
    pub(crate) fn covers(&self, value: &T) -> bool {
        self.any || self.lists(value)
    }

    pub(crate) fn lists(&self, value: &T) -> bool {
        self.of.contains(value)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self.any, other.any) {
            (true, true) => true,
            (true, false) => !other.of.is_empty(),
            (false, true) => !self.of.is_empty(),
            (false, false) => !self.of.is_disjoint(&other.of),
        }
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u32,
}

impl Cidr {
    /// Parses `192.0.2.0/24` or `2001:db8::/32`; bits beyond the prefix must be zero, as a slip of the pen is likely then. IPv4
    /// must be written as such: a network of mapped addresses (`::ffff:192.0.2.0/120`) would never match.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let plain = !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
        let network = Self { address: address.parse().ok()?, bits: bits.parse().ok().filter(|_| plain)? };
        let width = if network.address.is_ipv4() { 32 } else { 128 };
        let host_bits = wide(network.address) & !network.mask();
        let mapped = network.address.to_canonical() != network.address;
        (network.bits <= width && host_bits == 0 && !mapped).then_some(network)
    }

    /// Whether this address is one of the network's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv4 peer on a dual-stack socket comes as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && wide(address) & self.mask() == wide(self.address)
    }

    /// Whether every address of the other network is one of its own.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }

    /// The counted bits, at the top.
    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128_u32.saturating_sub(self.bits)).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The address at the top of 128 bits.
fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(four.to_bits()) << 96,
        IpAddr::V6(six) => six.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Cidr {
        Cidr::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_bits() {
        for (network, address, inside) in [
            ("192.0.2.0/24", "192.0.2.0", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "192.0.1.255", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("192.0.2.0/24", "::ffff:192.0.3.9", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.7", false),
            ("2001:db8::/32", "2001:db8:ffff::", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("2001:db8::1/128", "2001:db8::", false),
            ("c000:200::/24", "192.0.2.0", false),
        ] {
            assert_eq!(net(network).contains(address.parse().expect("an address")), inside, "{network} {address}");
        }
    }

    #[test]
    fn only_exactly_this_form_is_a_network() {
        for text in ["192.0.2.128/25", "0.0.0.0/0", "192.0.2.7/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            assert_eq!(net(text).to_string(), text);
        }
        for text in [
            "",
            "/",
            "192.0.2.0",
            "192.0.2.0/",
            "/24",
            "192.0.2.0/24/1",
            "192.0.2.0/+24",
            "192.0.2.0/-1",
            "192.0.2.0/ 24",
            "192.0.2.1/31",
            "192.0.2.0/33",
            "0.0.0.0/33",
            "::/129",
            "::1/127",
            "2001:db9::/31",
            "::ffff:192.0.2.0/120",
            "192.0.2/24",
            "192.0.2.0/4294967296",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_network_covers_itself_and_what_is_within_it() {
        for (wide, narrow, covers) in [
            ("192.0.2.0/24", "192.0.2.0/24", true),
            ("192.0.2.0/24", "192.0.2.128/25", true),
            ("192.0.2.0/24", "192.0.3.0/25", false),
            ("192.0.2.0/25", "192.0.2.0/24", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(net(wide).covers(&net(narrow)), covers, "{wide} {narrow}");
        }
    }
}
