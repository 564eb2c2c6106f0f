//! `gateway.toml`: what was written, checked and put in its units. Unknown keys are refused.
//!
//! Every key may be overridden from the environment as `PORTCULLIS__SECTION__KEY`. Paths are relative to the file.

mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::Cidr;
use model::TrustDomain;
use serde::Deserialize;

pub use self::proxy::ProxyProtocol;
use crate::suspend::Measure;

pub use self::endpoint::{Endpoint, EndpointError};

mod endpoint;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How strict the house is where there is a choice.
    #[serde(default)]
    pub profile: Profile,
    /// Where the gateway listens, and how much it takes on.
    #[serde(default)]
    pub receiver: Receiver,
    /// Our own SVID.
    pub identity: Identity,
    /// Whose certificates are believed: one bundle per trust domain, never merged.
    pub trust: Vec<TrustedDomain>,
    /// Who may do what.
    pub access: Access,
    /// Where objects and index are.
    pub archive: Archive,
    /// When a study is called stable.
    #[serde(default)]
    pub stabiliser: Stabiliser,
    /// Where verdicts are written.
    pub audit: Audit,
    /// Limits and timers of the DICOM upper layer.
    #[serde(default)]
    pub dicom: Dicom,
}

/// A name for a set of choices (A-4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// What the standards demand, and help for senders that are set up wrongly.
    #[default]
    Baseline,
    /// Every choice is made for refusing: see [`Config::profile_lines`].
    Strict,
}

impl Profile {
    /// Its name, as in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Strict => "strict",
        }
    }
}

/// `[receiver]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    /// A name for this receiver in the index, unique among receivers that share it.
    pub name: String,
    /// The DICOM TLS port (2762 is the registered one).
    pub listen: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`, in the clear: keep it on loopback or behind a security group.
    pub admin: SocketAddr,
    /// TCP connections at a time, handshakes included. Each costs about 100 KiB.
    pub max_connections: usize,
    /// Of those, connections of one identity, so that nobody can take them all; half of them when it is left out.
    pub max_connections_per_identity: Option<usize>,
    /// Of those, connections whose handshake is not complete. One more ends the oldest of them, so that peers who connect and
    /// say nothing never lock anybody out.
    pub max_handshakes: usize,
    /// Associations at a time; one more gets A-ASSOCIATE-RJ 2/3/2. Each costs up to about 1 MiB while an instance streams.
    pub max_associations: usize,
    /// The TLS handshake must be complete by then, and the PROXY header before it.
    #[serde(with = "model::span")]
    pub handshake_timeout: Duration,
    /// `off` or `required`: whether each connection begins with a PROXY v2 header. It is never guessed (P-1).
    pub proxy_protocol: ProxyProtocol,
    /// With `required`: the load balancer's subnets. Nobody else may connect (P-10).
    #[serde(deserialize_with = "proxy::networks")]
    pub proxy_networks: Vec<Cidr>,
    /// With `required`: the header must be complete by then.
    #[serde(with = "model::span")]
    pub proxy_timeout: Duration,
    /// After SIGTERM, instances in flight have this long. Below the 120 s after which Fargate kills.
    #[serde(with = "model::span")]
    pub drain: Duration,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            name: "receiver-1".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 2762)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 512,
            max_connections_per_identity: None,
            max_handshakes: 128,
            max_associations: 256,
            handshake_timeout: Duration::from_secs(10),
            proxy_protocol: ProxyProtocol::Off,
            proxy_networks: Vec::new(),
            proxy_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(105),
        }
    }
}

impl Receiver {
    /// Connections that one identity may have at a time.
    pub(crate) fn most_of_one_identity(&self) -> usize {
        self.max_connections_per_identity.unwrap_or(self.max_connections / 2).max(1)
    }
}

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// PEM file: our certificate, then intermediates. With `key`, or neither and `workload_api` instead.
    pub chain: Option<PathBuf>,
    /// PEM file: the private key, readable by nobody else.
    pub key: Option<PathBuf>,
    /// The SPIFFE agent that gives us certificate, key and bundles; `SPIFFE_ENDPOINT_SOCKET` when nothing else is said.
    pub workload_api: Option<Endpoint>,
    /// Which SVID of the agent is ours, when it has several; the first when absent (SPIFFE Workload API §5.3).
    pub svid_hint: Option<String>,
    /// The longest life that a caller's certificate may have (V-29).
    #[serde(with = "model::span", default = "Identity::default_lifetime")]
    pub max_svid_lifetime: Duration,
    /// `compatible` or `strict`: whether what the X509-SVID standard only recommends is demanded (V-19, V-23, V-24), and
    /// whether a revocation status that is not known is a refusal (V-32). The profile decides when it is left out.
    pub rules: Option<RuleSet>,
}

/// Where our certificate and key come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'c> {
    /// `identity.chain` and `identity.key`.
    Files {
        /// PEM: our certificate, then intermediates.
        chain: &'c Path,
        /// PEM: the private key.
        key: &'c Path,
    },
    /// `identity.workload_api`.
    Agent {
        /// Where it is asked.
        endpoint: &'c Endpoint,
        /// `identity.svid_hint`.
        hint: Option<&'c str>,
    },
}

/// Where a process finds its SPIFFE agent if nothing else is configured (SPIFFE Workload Endpoint §4).
const ENDPOINT_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

impl Identity {
    fn default_lifetime() -> Duration {
        access::Rules::default().max_svid_lifetime
    }

    /// Where our certificate and key come from: files or an agent, never both.
    ///
    /// # Errors
    /// When that is not clear, with what to write.
    pub fn source(&self) -> Result<Source<'_>, String> {
        match (&self.chain, &self.key, &self.workload_api) {
            (Some(_), Some(_), None) if self.svid_hint.is_some() => {
                Err("identity.svid_hint chooses among the SVIDs of identity.workload_api; with chain and key remove it"
                    .to_owned())
            }
            (Some(chain), Some(key), None) => Ok(Source::Files { chain, key }),
            (None, None, Some(endpoint)) => Ok(Source::Agent { endpoint, hint: self.svid_hint.as_deref() }),
            (None, None, None) => Err(format!(
                "identity: give chain and key (PEM files), or workload_api (a SPIFFE agent, also as {ENDPOINT_VARIABLE})"
            )),
            (_, _, Some(_)) => {
                Err("identity: chain and key, or workload_api, but not both: who we are must have one answer"
                    .to_owned())
            }
            (_, _, None) => Err("identity: chain and key belong together; one of them is missing".to_owned()),
        }
    }

    /// Takes the agent's address from the environment when the file says nothing about where our SVID comes from.
    fn fall_back(&mut self, endpoint: Option<&str>) -> Result<(), String> {
        let silent = self.chain.is_none() && self.key.is_none() && self.workload_api.is_none();
        let Some(endpoint) = endpoint.filter(|_| silent) else { return Ok(()) };
        self.workload_api = Some(endpoint.parse().map_err(|error| format!("{ENDPOINT_VARIABLE}: {error}"))?);
        Ok(())
    }
}

/// How the V rules are read where X509-SVID says SHOULD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSet {
    /// SHOULD is tolerated when absent.
    #[default]
    Compatible,
    /// SHOULD is MUST.
    Strict,
}

/// `[[trust]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedDomain {
    /// The trust domain, such as `hospital-a.example`.
    pub domain: TrustDomain,
    /// File with the root certificates of that domain: PEM, or a SPIFFE bundle (JWKS). When absent, what the agent of
    /// `identity.workload_api` says they are; the agent never adds a domain that is not listed here.
    pub bundle: Option<PathBuf>,
    /// Files with revocation lists of that domain's authorities, PEM or DER.
    #[serde(default)]
    pub crls: Vec<PathBuf>,
}

/// `[access]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The authorisation table.
    pub table: PathBuf,
    /// How often table and certificates are looked at again: a right withdrawn stops a live association within this and 1 s.
    #[serde(with = "model::span", default = "Access::default_poll")]
    pub poll: Duration,
    /// Table and certificates that could not be read or used for this long are stale (CV-9).
    #[serde(with = "model::span", default = "Access::default_staleness")]
    pub max_staleness: Duration,
    /// What is done then. Strict when it is left out.
    pub staleness: Option<Staleness>,
    /// A second table that decides nothing: where it would have decided otherwise is written down.
    pub shadow: Option<PathBuf>,
    /// PEM file with the Ed25519 public key that the table must be signed with, in `TABLE.sig` beside it.
    pub verify_key: Option<PathBuf>,
    /// Certificates and identities that are refused whoever vouches for them.
    pub deny_list: Option<PathBuf>,
    /// When an identity that is denied again and again is suspended. The profile decides when it is left out.
    pub auto_suspend: Option<AutoSuspend>,
}

impl Access {
    fn default_poll() -> Duration {
        Duration::from_secs(5)
    }

    fn default_staleness() -> Duration {
        Duration::from_secs(300)
    }
}

/// What is done when table or certificates are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Staleness {
    /// Nothing new is allowed: associations are rejected for the time being, instances refused with 0xA700.
    Strict,
    /// What was read last stays in force, with an alarm.
    BestEffort,
}

/// `[access.auto_suspend]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoSuspend {
    /// So many denials that are the sender's own doing; 0 is never.
    pub denials: u32,
    /// Within this.
    #[serde(with = "model::span")]
    pub window: Duration,
    /// Suspend the identity for this.
    #[serde(with = "model::span")]
    pub ttl: Duration,
}

impl AutoSuspend {
    /// Whether it suspends later, or for less, than the strict profile does.
    fn is_looser(self) -> bool {
        let strict = Self::default();
        self.denials == 0
            || self.denials > strict.denials
            || self.window < strict.window && self.denials >= strict.denials
    }
}

impl Default for AutoSuspend {
    fn default() -> Self {
        Self { denials: 50, window: Duration::from_secs(60), ttl: Duration::from_secs(900) }
    }
}

/// `[archive]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Directory of the embedded archive: `objects/` and `index.sqlite` are in it.
    pub dir: PathBuf,
}

/// `[stabiliser]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stabiliser {
    /// A study is stable when nothing came for this long, unless its row says otherwise.
    #[serde(with = "model::span")]
    pub quiet: Duration,
    /// A study that never falls quiet is published after this long all the same.
    #[serde(with = "model::span")]
    pub max_wait: Duration,
    /// Events, one JSON line each.
    pub events: PathBuf,
}

impl Default for Stabiliser {
    fn default() -> Self {
        Self { quiet: study::DEFAULT_QUIET, max_wait: study::DEFAULT_MAX_WAIT, events: PathBuf::from("events.jsonl") }
    }
}

/// `[audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Verdicts, one JSON line each.
    pub file: PathBuf,
    /// `clear` or `hmac`: whether UIDs stand in the log as they are.
    #[serde(default)]
    pub uids: UidForm,
    /// The key for `hmac`, at least 32 bytes, readable by nobody else.
    pub uid_key: Option<PathBuf>,
    /// Where DICOM audit messages go besides.
    pub syslog: Option<Syslog>,
}

/// How UIDs stand in the audit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UidForm {
    /// As they are.
    #[default]
    Clear,
    /// As keyed digests; object keys are left out.
    Hmac,
}

/// `[audit.syslog]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// `host:port` of the audit repository; 6514 is the registered port.
    pub address: String,
    /// PEM file: the issuer of the repository's certificate.
    pub ca: PathBuf,
    /// The DNS name or IP address in the repository's certificate.
    pub server_name: String,
}

/// `[dicom]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dicom {
    /// The P-DATA PDU length that we advertise, in bytes.
    pub max_pdu_length: u32,
    /// ARTIM (PS3.8 §9.1.5): the association request must come within this, and the peer must close within this.
    #[serde(with = "model::span")]
    pub artim: Duration,
    /// An association between two messages may be silent this long.
    #[serde(with = "model::span")]
    pub idle: Duration,
    /// A sender in the middle of a message may be silent this long.
    #[serde(with = "model::span")]
    pub stall: Duration,
    /// An association ends at a message boundary when it is this old; the sender opens a new one.
    #[serde(with = "model::span")]
    pub max_association_age: Duration,
    /// An instance that is in the middle when the association's time is up may go on for this long.
    #[serde(with = "model::span")]
    pub boundary_grace: Duration,
    /// So long before its certificate ends, a sender is sent away between two messages, to come back with its new one (CV-3).
    #[serde(with = "model::span")]
    pub rotate_hint: Duration,
    /// Refusals for lack of a right that an association may collect before it is aborted.
    pub max_denials: u32,
    /// Bytes of a data set held while its identifying UIDs have not come yet.
    pub max_head: usize,
    /// Bytes of DICOM JSON that are indexed for an instance; the object always has every byte.
    pub max_metadata: usize,
}

impl Default for Dicom {
    fn default() -> Self {
        Self {
            max_pdu_length: dimse::limits::MAX_PDU_LENGTH,
            artim: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            stall: Duration::from_secs(30),
            max_association_age: Duration::from_secs(900),
            boundary_grace: Duration::from_secs(120),
            rotate_hint: Duration::from_secs(60),
            max_denials: 100,
            max_head: dimse::dataset::Limits::default().head,
            max_metadata: dimse::dataset::Limits::default().metadata,
        }
    }
}

/// The environment as far as it is text: a variable that is none cannot be meant for us.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The configuration cannot be used. The text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not TOML, or not of this shape.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// With line and column where TOML gives them.
        problem: String,
    },
}

impl Config {
    /// Reads a file; environment overrides come from `environment` as `(name, value)`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let malformed = |problem| ConfigError::Malformed { path: path.to_owned(), problem };
        let environment: Vec<_> = environment.collect();
        let endpoint = environment.iter().find(|(name, _)| name == ENDPOINT_VARIABLE).map(|(_, value)| value.clone());
        let mut config = Self::parse(&text, environment.into_iter()).map_err(malformed)?;
        config.identity.fall_back(endpoint.as_deref()).map_err(malformed)?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        config.check().map_err(malformed)?;
        Ok(config)
    }

    fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let overrides: Vec<_> = environment.filter(|(name, _)| name.starts_with(OVERRIDE)).collect();
        if overrides.is_empty() {
            // Straight from the text, so that an error can show its line.
            return toml::from_str(text).map_err(|error| error.to_string());
        }
        let document: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        // "7" may be meant for a number or for a text: the key decides.
        let told = |error: toml::de::Error| format!("with {OVERRIDE}… from the environment: {error}");
        let with = |typed| overridden(document.clone(), &overrides, typed)?.try_into().map_err(told);
        with(Typed::Guessed).or_else(|error| with(Typed::Text).map_err(|_| error))
    }

    fn resolve(&mut self, base: &Path) {
        let trusted = self.trust.iter_mut();
        let bundles = trusted.flat_map(|trusted| trusted.bundle.iter_mut().chain(&mut trusted.crls));
        let identity = [&mut self.identity.chain, &mut self.identity.key].into_iter().filter_map(Option::as_mut);
        let Access { table, shadow, verify_key, deny_list, .. } = &mut self.access;
        let optional = [shadow, verify_key, deny_list].into_iter().flatten();
        let others = [table, &mut self.archive.dir, &mut self.stabiliser.events, &mut self.audit.file];
        let audit = self.audit.syslog.iter_mut().map(|syslog| &mut syslog.ca).chain(&mut self.audit.uid_key);
        for path in bundles.chain(identity).chain(optional).chain(others).chain(audit) {
            *path = base.join(&*path);
        }
    }

    /// How the V rules are read.
    #[must_use]
    pub fn rules(&self) -> RuleSet {
        self.identity.rules.unwrap_or(match self.profile {
            Profile::Baseline => RuleSet::Compatible,
            Profile::Strict => RuleSet::Strict,
        })
    }

    /// What is done when table or certificates are stale.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        self.access.staleness.unwrap_or(Staleness::Strict)
    }

    pub(crate) fn auto_suspend(&self) -> Option<Measure> {
        let strict = (self.profile == Profile::Strict).then(AutoSuspend::default);
        let AutoSuspend { denials, window, ttl } = self.access.auto_suspend.or(strict)?;
        (denials > 0).then_some(Measure { denials, window, ttl })
    }

    /// What the profile comes to, a line each, for `receive --check`.
    #[must_use]
    pub fn profile_lines(&self) -> Vec<String> {
        let strict = self.profile == Profile::Strict;
        let say = |what: &str, strictly: &str, otherwise: &str| {
            format!("{what}: {}", if strict { strictly } else { otherwise })
        };
        let rules = match self.rules() {
            RuleSet::Strict => "strict (V-19, V-23, V-24; revocation status not known or list expired: refused)",
            RuleSet::Compatible => "compatible (what is listed as revoked is refused)",
        };
        let staleness = match self.staleness() {
            Staleness::Strict => "nothing new is allowed",
            Staleness::BestEffort => "the last ones stay in force",
        };
        let suspend = self.auto_suspend().map_or("never".to_owned(), |Measure { denials, window, ttl }| {
            format!("after {denials} denials within {} s, for {} s", window.as_secs(), ttl.as_secs())
        });
        vec![
            format!("certificate rules: {rules}"),
            format!("table or certificates not read for {} s: {staleness}", self.access.max_staleness.as_secs()),
            say(
                "table rows",
                "must name owner, contact, ticket and who wrote and approved them",
                "are warned about when nobody owns them",
            ),
            say("observe mode", "refused", "allowed, and warned about"),
            say("a changed table of the same revision", "refused", "accepted"),
            say("a table that others can write, unsigned", "refused", "accepted, and warned about"),
            say("wrong AE title", "rejected like a stranger, 1/1/1", "told which: 1/1/7 or 1/1/3"),
            say(
                "audit log cannot be written",
                "C-STORE is refused with 0xA700",
                "an error and a metric; nothing is refused",
            ),
            say("Success is said", "after the audit record is durable too", "after object and index row are durable"),
            say(
                "the system's clock is set",
                "nothing new is allowed until a restart",
                "an alarm; time never goes back",
            ),
            format!("an identity is suspended: {suspend}"),
        ]
    }

    fn strict_is_strict(&self) -> Result<(), String> {
        let (poll, stale) = (Access::default_poll(), Access::default_staleness());
        let looser = [
            ("identity.max_svid_lifetime", self.identity.max_svid_lifetime > Identity::default_lifetime()),
            ("access.poll", self.access.poll > poll),
            ("access.max_staleness", self.access.max_staleness > stale),
            ("access.auto_suspend", self.access.auto_suspend.is_some_and(AutoSuspend::is_looser)),
            ("identity.rules", self.rules() != RuleSet::Strict),
            ("access.staleness", self.staleness() != Staleness::Strict),
            ("access.auto_suspend", self.auto_suspend().is_none()),
        ];
        match looser.iter().find(|(_, looser)| self.profile == Profile::Strict && *looser) {
            Some((key, _)) => {
                Err(format!("{key} is looser than the strict profile: leave it out, or use profile = \"baseline\""))
            }
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.strict_is_strict()?;
        if self.trust.is_empty() {
            return Err("no [[trust]] section: no caller could ever prove who it is".to_owned());
        }
        let from_files = matches!(self.identity.source()?, Source::Files { .. });
        if let Some(trusted) = self.trust.iter().find(|trusted| from_files && trusted.bundle.is_none()) {
            let domain = &trusted.domain;
            return Err(format!(
                "[[trust]] {domain}: give bundle (a PEM file), or identity.workload_api to ask an agent"
            ));
        }
        let Receiver { max_connections, max_handshakes, max_associations, .. } = self.receiver;
        if max_handshakes == 0 || max_associations == 0 || max_connections > MAX_CONNECTIONS {
            return Err(format!("receiver: the limits must be between 1 and {MAX_CONNECTIONS}"));
        }
        if max_connections < max_associations.saturating_add(max_handshakes) {
            return Err(
                "receiver.max_connections is below max_associations and max_handshakes together: strangers could \
                        take every connection"
                    .to_owned(),
            );
        }
        proxy::check(&self.receiver)?;
        if !(MIN_PDU_LENGTH..=MAX_PDU_LENGTH).contains(&self.dicom.max_pdu_length) {
            return Err(format!("dicom.max_pdu_length must be between {MIN_PDU_LENGTH} and {MAX_PDU_LENGTH}"));
        }
        let zero = [
            ("access.poll", self.access.poll),
            ("access.max_staleness", self.access.max_staleness),
            ("receiver.handshake_timeout", self.receiver.handshake_timeout),
            ("receiver.proxy_timeout", self.receiver.proxy_timeout),
            ("dicom.artim", self.dicom.artim),
            ("dicom.idle", self.dicom.idle),
            ("dicom.stall", self.dicom.stall),
            ("dicom.max_association_age", self.dicom.max_association_age),
            ("stabiliser.quiet", self.stabiliser.quiet),
        ]
        .into_iter()
        .find(|(_, span)| span.is_zero());
        if let Some((key, _)) = zero {
            return Err(format!("{key} must not be zero"));
        }
        if self.access.max_staleness < self.access.poll * 2 {
            return Err(
                "access.max_staleness must be at least twice access.poll, or every look would come too late".to_owned()
            );
        }
        Ok(())
    }
}

/// More than one process has descriptors and memory for.
const MAX_CONNECTIONS: usize = 100_000;
/// Below this a PDU is mostly header; DCMTK refuses to send to such a peer.
const MIN_PDU_LENGTH: u32 = 4 * 1024;
/// What a peer sends in one PDU never has to be held at once, but more than this gains nothing.
const MAX_PDU_LENGTH: u32 = 1024 * 1024;

const OVERRIDE: &str = "PORTCULLIS__";

/// How the text of an override is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Typed {
    /// A whole number or truth value is one.
    Guessed,
    Text,
}

/// `PORTCULLIS__DICOM__IDLE=60s` sets `idle` in `[dicom]`. Lists cannot be overridden.
fn overridden(mut document: toml::Table, overrides: &[(String, String)], typed: Typed) -> Result<toml::Table, String> {
    for (name, value) in overrides {
        let path = name[OVERRIDE.len()..].to_lowercase();
        let Some((section, key)) = path.split_once("__") else {
            return Err(format!("{name}: an override is called {OVERRIDE}SECTION__KEY"));
        };
        let table = document.entry(section).or_insert_with(|| toml::Table::new().into()).as_table_mut();
        let table = table.ok_or_else(|| format!("{name}: [{section}] is not a section that can be overridden"))?;
        let number = || value.parse::<i64>().map(toml::Value::from).ok();
        let truth = || value.parse::<bool>().map(toml::Value::from).ok();
        let guessed = if typed == Typed::Guessed { number().or_else(truth) } else { None };
        table.insert(key.to_owned(), guessed.unwrap_or_else(|| value.clone().into()));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const MINIMAL: &str = r#"
        [identity]
        chain = "r.pem"
        key = "r.key"
        [[trust]]
        domain = "hospital-a.invalid"
        bundle = "a.pem"
        [access]
        table = "access.toml"
        [archive]
        dir = "."
        [audit]
        file = "audit.jsonl"
    "#;

    pub(super) fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        Config::parse(text, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_is_left_out_has_a_sane_default() {
        let config = parse(MINIMAL, &[]).expect("valid");
        assert_eq!(config.receiver.listen.port(), 2762);
        assert!(config.receiver.admin.ip().is_loopback());
        assert_eq!(config.stabiliser.quiet, Duration::from_secs(60));
        config.check().expect("the defaults agree with each other");
    }

    const FROM_AGENT: &str = r#"
        [identity]
        workload_api = "unix:/run/spire/agent.sock"
        [[trust]]
        domain = "hospital-a.invalid"
        [access]
        table = "access.toml"
        [archive]
        dir = "."
        [audit]
        file = "audit.jsonl"
    "#;

    #[test]
    fn who_we_are_comes_from_files_or_from_an_agent() {
        let files = parse(MINIMAL, &[]).expect("valid");
        let (chain, key) = (Path::new("r.pem"), Path::new("r.key"));
        assert_eq!(files.identity.source(), Ok(Source::Files { chain, key }));
        let agent = parse(FROM_AGENT, &[("PORTCULLIS__IDENTITY__SVID_HINT", "receiver")]).expect("valid");
        let endpoint = Endpoint::Unix("/run/spire/agent.sock".into());
        assert_eq!(agent.identity.source(), Ok(Source::Agent { endpoint: &endpoint, hint: Some("receiver") }));
        agent.check().expect("an agent has the bundles too");
    }

    #[test]
    fn who_we_are_has_one_answer() {
        let agent = "workload_api = \"unix:/run/spire/agent.sock\"";
        for (name, identity, says) in [
            ("nothing", "", "give chain and key"),
            ("a chain alone", "chain = \"r.pem\"", "belong together"),
            ("a key alone", "key = \"r.key\"", "belong together"),
            ("both", &format!("chain = \"r.pem\"\nkey = \"r.key\"\n{agent}"), "not both"),
            ("an agent and a key", &format!("key = \"r.key\"\n{agent}"), "not both"),
            ("a hint for files", "chain = \"r.pem\"\nkey = \"r.key\"\nsvid_hint = \"x\"", "svid_hint"),
        ] {
            let config = parse(&FROM_AGENT.replace(agent, identity), &[]).expect(name);
            let problem = config.check().expect_err(name);
            assert!(problem.contains(says), "{name}: {problem}");
        }
        assert!(parse(&FROM_AGENT.replace("unix:/run", "https://run"), &[]).is_err(), "an agent elsewhere");
    }

    #[test]
    fn a_trust_domain_without_a_bundle_needs_an_agent() {
        let without = MINIMAL.replace("bundle = \"a.pem\"", "");
        let problem = parse(&without, &[]).expect("valid").check().expect_err("nobody can be believed");
        assert!(problem.contains("hospital-a.invalid"), "{problem}");
    }

    #[test]
    fn the_agent_of_the_environment_is_the_last_resort() {
        let mut identity = parse(MINIMAL, &[]).expect("valid").identity;
        identity.fall_back(Some("unix:/env.sock")).expect("an endpoint");
        assert_eq!(identity.workload_api, None, "the file has said it");
        let silent = FROM_AGENT.replace("workload_api = \"unix:/run/spire/agent.sock\"", "");
        let mut identity = parse(&silent, &[]).expect("valid").identity;
        identity.fall_back(None).expect("nothing to take");
        assert!(identity.source().is_err());
        assert!(identity.fall_back(Some("tcp:10.0.0.7:1")).is_err(), "another host");
        identity.fall_back(Some("unix:/env.sock")).expect("an endpoint");
        assert_eq!(identity.workload_api, Some(Endpoint::Unix("/env.sock".into())));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = parse(
            MINIMAL,
            &[("PORTCULLIS__RECEIVER__LISTEN", "127.0.0.1:0"), ("PORTCULLIS__DICOM__MAX_DENIALS", "7"), ("HOME", "/")],
        )
        .expect("valid");
        assert_eq!(config.receiver.listen.port(), 0);
        assert_eq!(config.dicom.max_denials, 7);
        let named = parse(MINIMAL, &[("PORTCULLIS__RECEIVER__NAME", "7")]).expect("a name may be a number");
        assert_eq!(named.receiver.name, "7");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let with = |more: &str| format!("{MINIMAL}\n{more}");
        assert!(parse(&with("[dicom]\nidel = \"3s\""), &[]).is_err(), "misspelt key");
        assert!(parse(&with("[dicom]\nidle = 3"), &[]).is_err(), "span without a unit");
        assert!(parse(MINIMAL, &[("PORTCULLIS__DICOM__IDEL", "3s")]).is_err(), "misspelt override");
        assert!(parse(MINIMAL, &[("PORTCULLIS__TRUST__DOMAIN", "x")]).is_err(), "override of a list");
        assert!(parse(&MINIMAL.replace("hospital-a.invalid", "Hospital A"), &[]).is_err(), "not a trust domain");
    }

    #[test]
    fn the_strict_profile_makes_every_choice_and_lets_none_be_loosened() {
        let strict = parse(&format!("profile = \"strict\"\n{MINIMAL}"), &[]).expect("valid");
        strict.check().expect("nothing contradicts it");
        assert_eq!((strict.rules(), strict.staleness()), (RuleSet::Strict, Staleness::Strict));
        assert!(strict.auto_suspend().is_some());
        for (name, from, to) in [
            ("rules", "key = \"r.key\"", "key = \"r.key\"\nrules = \"compatible\""),
            ("staleness", "table = \"access.toml\"", "table = \"access.toml\"\nstaleness = \"best-effort\""),
            ("lifetime", "key = \"r.key\"", "key = \"r.key\"\nmax_svid_lifetime = \"30d\""),
            ("poll", "table = \"access.toml\"", "table = \"access.toml\"\npoll = \"1m\""),
            ("suspension in name only", "[archive]", "[access.auto_suspend]\ndenials = 1000000\n[archive]"),
            ("suspension", "[archive]", "[access.auto_suspend]\ndenials = 0\n[archive]"),
        ] {
            let text = MINIMAL.replace(from, to);
            let loose = parse(&format!("profile = \"strict\"\n{text}"), &[]).expect(name);
            assert!(loose.check().is_err_and(|problem| problem.contains("looser")), "{name}");
            parse(&text, &[]).expect(name).check().expect(name);
        }
        assert_ne!(strict.profile_lines(), parse(MINIMAL, &[]).expect("valid").profile_lines());
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        for (name, section) in [
            ("stale before the next look", "[access]\ntable = \"a\"\npoll = \"10s\"\nmax_staleness = \"15s\""),
            ("limits", "[receiver]\nmax_connections = 1\nmax_associations = 2"),
            ("PDU", "[dicom]\nmax_pdu_length = 0"),
            ("zero", "[dicom]\nartim = \"0s\""),
        ] {
            let minimal = if section.starts_with("[access]") {
                MINIMAL.replace("[access]", "").replace("table = \"access.toml\"", "")
            } else {
                MINIMAL.to_owned()
            };
            let config = parse(&format!("{minimal}\n{section}"), &[]).expect(name);
            assert!(config.check().is_err(), "{name}");
        }
    }
}
