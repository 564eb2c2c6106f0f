//! Reads what is in force from files and from a SPIFFE agent, and looks again every `access.poll`, on SIGHUP, and when the
//! agent has something new.
//!
//! Files are compared by digest: that sees an atomic rename and a symlink swap alike. What cannot be used leaves the previous
//! set in force, says so, and counts toward its greatest age (CV-9, CV-11).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{BundleSource, DenyList, DenyRow, Identity, Row, Rules, Strictness, Table, Trust, TrustBundles};
use model::{Digest, Hasher, Timestamp, TrustDomain};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::audit::{AuditLog, Decision, Subject, Verdict};
use crate::clock::{self, Jump};
use crate::config::{Config, Profile, RuleSet, Source as Origin, TrustedDomain};
use crate::live::{Freshness, InForce, Live, Moment, Source};
use crate::suspend::Suspensions;
use crate::telemetry;
use crate::workload::{Material, Workload};

/// Text of a problem for the person who starts or runs the gateway.
pub(crate) type Problem = String;

/// Reads everything once.
///
/// # Errors
/// When anything is missing or broken: a gateway does not start with half of its trust.
pub(crate) async fn load(config: &Config, patience: Duration) -> Result<(Live, Watcher), Problem> {
    let agent = match config.identity.source()? {
        Origin::Files { .. } => None,
        Origin::Agent { endpoint, hint } => Some(Workload::start(endpoint, hint, patience).await?),
    };
    let moment = Moment::now();
    let text = TableText::read(config, &config.access.table)?;
    let table = text.parse(config)?;
    for warning in table.warnings(moment.wall) {
        tracing::info!(table = %config.access.table.display(), "{warning}");
    }
    if let Some(warning) = open_to_others(config) {
        tracing::warn!("{warning}");
    }
    let shadow = config.access.shadow.as_deref().map(|path| TableText::read(config, path)).transpose()?;
    let shadow_digest = shadow.as_ref().map(TableText::digest);
    let shadow = shadow.map(|text| text.parse(config)).transpose()?.map(Arc::new);
    let files = TrustFiles::read(config, agent.as_ref())?;
    let trust = files.parse(config, None)?;
    remark(&trust, moment.wall);
    let (id, end) = (trust.identity().id(), trust.identity().not_after());
    if end <= moment.wall {
        return Err(format!(
            "our own certificate for {id} has expired at {end}; every caller would refuse it: renew it"
        ));
    }
    let in_force = InForce { table: Arc::new(table), trust: Arc::new(trust), shadow, since: moment.at };
    let freshness = Freshness::new(config.staleness(), config.access.max_staleness, moment.at);
    let (table, trust) = (text.digest(), files.digest());
    let watcher = Watcher { table, shadow: shadow_digest, trust, agent, reported: BTreeMap::new(), jump: None };
    let live = Live::new(in_force, freshness, Suspensions::new(config.auto_suspend()));
    gauge(&live, moment);
    Ok((live, watcher))
}

/// Sets the metrics that tell age and revision.
pub(crate) fn gauge(live: &Live, moment: Moment) {
    let in_force = live.registry.in_force();
    let left = in_force.trust.identity().not_after().since(moment.wall);
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    {
        metrics::gauge!(telemetry::POLICY_REVISION).set(in_force.table.revision() as f64);
        metrics::gauge!(telemetry::ROWS_OVERDUE).set(in_force.table.overdue_reviews(moment.wall) as f64);
    }
    let age = |source| live.freshness().age(source, moment.at).as_secs_f64();
    metrics::gauge!(telemetry::POLICY_AGE).set(age(Source::Table));
    metrics::gauge!(telemetry::TRUST_AGE).set(age(Source::Certificates));
    metrics::gauge!(telemetry::SVID_REMAINING).set(left.as_secs_f64());
}

/// Looks for changes. It knows by digest what was read last, so what changed while the gateway started has changed too.
pub(crate) struct Watcher {
    table: Digest,
    shadow: Option<Digest>,
    trust: Digest,
    agent: Option<Workload>,
    /// By what is read: each broken state is reported once, not at every look.
    reported: BTreeMap<&'static str, Problem>,
    jump: Option<Jump>,
}

impl Watcher {
    /// Looks until the process ends. It returns only when nobody tells us any more what the agent says (CV-10).
    pub(crate) async fn keep_fresh(mut self, live: &Live, config: &Config, audit: &AuditLog) {
        let mut poll = tokio::time::interval(config.access.poll);
        let mut hang_up = signal(SignalKind::hangup()).expect("the runtime handles signals");
        let mut agent = self.agent.as_ref().map(Workload::watch);
        loop {
            tokio::select! {
                _ = poll.tick() => {}
                told = hear(agent.as_mut()) => if told.is_err() { return },
                _ = hang_up.recv() => tracing::info!("SIGHUP: looking at table and certificates"),
            }
            self.look(live, config, audit);
        }
    }

    /// Waits for nothing: a withdrawal that has been read must not be kept from its callers, not even by an audit log that
    /// takes no more.
    fn look(&mut self, live: &Live, config: &Config, audit: &AuditLog) {
        self.look_at_the_clock(live, config, audit);
        for source in Source::ALL {
            let read = match source {
                Source::Table => self.refresh_table(live, config, audit),
                Source::Certificates => self.refresh_trust(live, config, audit),
            };
            if read.is_ok() {
                live.freshness().seen(source, self.last_heard(source));
            }
            self.report(source.as_str(), read.err(), audit);
        }
        // Last, and not counted as a source: what decides nothing holds up nothing.
        if let Some(path) = &config.access.shadow {
            let read = self.refresh_shadow(live, config, path);
            self.report("shadow table", read.err(), audit);
        }
    }

    /// When a source that was read and is good was good last: an agent that is away has nothing new to say.
    fn last_heard(&self, source: Source) -> Instant {
        let silent = match (source, &self.agent) {
            (Source::Certificates, Some(agent)) => agent.age(),
            _ => Duration::ZERO,
        };
        Instant::now().checked_sub(silent).unwrap_or_else(Instant::now)
    }

    /// A clock that was set is reported once; under the strict profile nothing is decided by it any more, not even when it is
    /// right again: a restart is a person's word that it is.
    fn look_at_the_clock(&mut self, live: &Live, config: &Config, audit: &AuditLog) {
        let jump = clock::jump();
        if let Some(jump) = jump
            && config.profile == Profile::Strict
        {
            live.freshness().bar(jump.to_string());
        }
        if let Some(jump) = jump
            && self.jump.is_none()
        {
            metrics::counter!(telemetry::CLOCK_JUMPS).increment(1);
            tracing::error!("{jump}");
            let verdict = Verdict::new(Subject::Policy, Decision::Note, "clock_jumped").detail(jump.to_string());
            audit.record_without_waiting(verdict.alert("clock_jumped"));
        }
        self.jump = jump;
    }

    fn refresh_table(&mut self, live: &Live, config: &Config, audit: &AuditLog) -> Result<(), Problem> {
        let text = TableText::read(config, &config.access.table)?;
        if text.digest() == self.table {
            return Ok(());
        }
        let (current, table) = (live.registry.in_force(), text.parse(config)?);
        may_follow(&current.table, &table, config)?;
        let verdict = Verdict::new(Subject::Policy, Decision::Note, "policy_changed").policy(&table);
        let verdict = verdict.detail(differences(&current.table, &table));
        let (from, to) = (current.table.revision(), table.revision());
        // In force first: a withdrawal waits for nothing, not even the audit log.
        live.registry.publish(InForce { table: Arc::new(table), since: Instant::now(), ..InForce::clone(&current) });
        self.table = text.digest();
        tracing::info!(from, to, "the access table changed");
        audit.record_without_waiting(verdict);
        Ok(())
    }

    fn refresh_shadow(&mut self, live: &Live, config: &Config, path: &Path) -> Result<(), Problem> {
        let text = TableText::read(config, path)?;
        if self.shadow != Some(text.digest()) {
            let shadow = Some(Arc::new(text.parse(config)?));
            let current = live.registry.in_force();
            live.registry.publish(InForce { shadow, ..InForce::clone(&current) });
            self.shadow = Some(text.digest());
            tracing::info!("the shadow table changed");
        }
        Ok(())
    }

    fn refresh_trust(&mut self, live: &Live, config: &Config, audit: &AuditLog) -> Result<(), Problem> {
        let files = TrustFiles::read(config, self.agent.as_ref())?;
        if self.trust == files.digest() {
            return Ok(());
        }
        let current = live.registry.in_force();
        let trust = Arc::new(files.parse(config, Some(&current.trust))?);
        bundles_may_follow(current.trust.bundles(), trust.bundles())?;
        remark(&trust, clock::now());
        live.registry.publish(InForce { trust, since: Instant::now(), ..InForce::clone(&current) });
        self.trust = files.digest();
        tracing::info!("certificates were loaded again");
        audit.record_without_waiting(Verdict::new(Subject::Policy, Decision::Note, "certificates_changed"));
        Ok(())
    }

    fn report(&mut self, what: &'static str, problem: Option<Problem>, audit: &AuditLog) {
        let Some(problem) = problem else {
            self.reported.remove(what);
            return;
        };
        metrics::counter!(telemetry::RELOAD_FAILURES, "what" => what).increment(1);
        if self.reported.get(what) != Some(&problem) {
            tracing::error!("{what}: {problem}; the previous ones stay in force");
            let verdict = Verdict::new(Subject::Policy, Decision::Note, "reload_failed").alert("reload_failed");
            audit.record_without_waiting(verdict.detail(format!("{what}: {problem}")));
            self.reported.insert(what, problem);
        }
    }
}

/// Whether a table may take the place of another: its revision never goes back, and under the strict profile it names every
/// change.
fn may_follow(current: &Table, next: &Table, config: &Config) -> Result<(), Problem> {
    let (new, old) = (next.revision(), current.revision());
    if new < old {
        return Err(format!("revision {new} is older than revision {old} in force; raise `revision`"));
    }
    if new == old && config.profile == Profile::Strict {
        return Err(format!("it changed and is still revision {new}; the strict profile wants `revision` raised"));
    }
    Ok(())
}

/// A SPIFFE bundle says which version it is; an older one would bring back keys that were withdrawn.
fn bundles_may_follow(current: &TrustBundles, next: &TrustBundles) -> Result<(), Problem> {
    let older = next.domains().find(|domain| next.sequence(domain) < current.sequence(domain));
    older.map_or(Ok(()), |domain| {
        Err(format!("the bundle of {domain} has a lower spiffe_sequence than the one in force, or none"))
    })
}

/// What is legal about bundles and lists, and perhaps not meant.
fn remark(trust: &Trust, now: Timestamp) {
    for remark in trust.bundles().remarks(now) {
        tracing::warn!("{remark}");
    }
}

/// What is different, by the names of rows and tenants.
fn differences(old: &Table, new: &Table) -> String {
    let rows = |table: &Table| -> BTreeMap<String, Line> {
        let allowing = table.rows().iter().map(|row| (row.id().to_owned(), Line::Allow(row.clone())));
        let denying = table.deny_rows().iter().map(|row| (row.id().to_owned(), Line::Deny(row.clone())));
        allowing.chain(denying).collect()
    };
    let (before, after) = (rows(old), rows(new));
    let added = after.keys().filter(|id| !before.contains_key(*id)).map(String::as_str).collect();
    let removed = before.keys().filter(|id| !after.contains_key(*id)).map(String::as_str).collect();
    let changed = after.iter().filter(|(id, row)| before.get(*id).is_some_and(|before| before != *row));
    let changed = changed.map(|(id, _)| id.as_str()).collect();
    let revision = format!("revision: {} → {}", old.revision(), new.revision());
    let mut text = [revision, named("added", added), named("removed", removed), named("changed", changed)].join(", ");
    let limited: BTreeSet<_> = old.limited_tenants().chain(new.limited_tenants()).collect();
    let other = limited.into_iter().filter(|tenant| old.tenant_limits(tenant) != new.tenant_limits(tenant));
    let other: Vec<_> = other.map(|tenant| tenant.as_str()).collect();
    if !other.is_empty() {
        text = format!("{text}, {}", named("tenants", other));
    }
    if old.is_killed() != new.is_killed() {
        text += if new.is_killed() { ", kill_switch: on" } else { ", kill_switch: off" };
    }
    text
}

/// Names told of one change; the digest of the table says the rest. A record has a longest line.
const MOST_NAMED: usize = 50;

fn named(word: &str, names: Vec<&str>) -> String {
    let more = names.len().saturating_sub(MOST_NAMED);
    let told = names.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { format!("{word}: [{told}]") } else { format!("{word}: [{told} and {more} more]") }
}

/// A row of either kind.
#[derive(PartialEq)]
enum Line {
    Allow(Arc<Row>),
    Deny(Arc<DenyRow>),
}

/// A table as it stands in its file, with its signature where one is demanded.
struct TableText<'c> {
    text: String,
    path: &'c Path,
    signed: Option<Signed>,
}

struct Signed {
    signature: Vec<u8>,
    key: Vec<u8>,
}

impl<'c> TableText<'c> {
    fn read(config: &Config, path: &'c Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let signed = config.access.verify_key.as_deref().map(|key| {
            let signature = read(&signature_of(path))?;
            Ok::<_, Problem>(Signed { signature, key: read(key)? })
        });
        Ok(Self { text, path, signed: signed.transpose()? })
    }

    /// Of everything that is read: a signature that is put right changes something too.
    fn digest(&self) -> Digest {
        let signature = self.signed.as_ref().map(|signed| [&signed.signature, &signed.key]);
        digest([self.text.as_bytes()].into_iter().chain(signature.into_iter().flatten().map(Vec::as_slice)))
    }

    fn parse(&self, config: &Config) -> Result<Table, Problem> {
        let blame = |problem: String| format!("{}: {problem}", self.path.display());
        if let Some(Signed { signature, key }) = &self.signed {
            access::verify_table_signature(self.text.as_bytes(), signature, key)
                .map_err(|error| blame(error.to_string()))?;
        }
        let table = Table::parse(&self.text).map_err(|error| blame(error.to_string()))?;
        if config.profile == Profile::Strict
            && let Some(problem) = open_to_others(config)
        {
            return Err(format!("the strict profile refuses it: {problem}"));
        }
        if config.profile == Profile::Strict
            && let problems @ [_, ..] = table.strict_problems().as_slice()
        {
            return Err(blame(format!("the strict profile refuses it: {}", problems.join("; "))));
        }
        Ok(table)
    }
}

/// Who can write the table decides who may do what. A signature says better than a mode who that was.
pub(crate) fn open_to_others(config: &Config) -> Option<Problem> {
    let table = &config.access.table;
    let mode = std::fs::metadata(table).ok()?.permissions().mode();
    let open = config.access.verify_key.is_none() && mode & 0o022 != 0;
    let (path, mode) = (table.display(), mode & 0o777);
    open.then(|| {
        format!("{path}: others than its owner can write this table (mode {mode:o}); chmod go-w {path}, or sign it")
    })
}

/// `access.toml.sig` beside `access.toml`.
fn signature_of(table: &Path) -> std::path::PathBuf {
    let mut name = table.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Everything that trust is made of, as bytes.
struct TrustFiles {
    own: Own,
    /// For each trust domain; none where the agent has it.
    bundles: Vec<Option<Vec<u8>>>,
    /// For each trust domain.
    crls: Vec<Vec<Vec<u8>>>,
    deny_list: Option<Vec<u8>>,
}

/// Our own SVID.
enum Own {
    Files {
        chain: Vec<u8>,
        key: Vec<u8>,
    },
    /// None: the agent has withdrawn what it gave.
    Agent(Option<Arc<Material>>),
}

impl TrustFiles {
    fn read(config: &Config, agent: Option<&Workload>) -> Result<Self, Problem> {
        let own = match (config.identity.source()?, agent) {
            (Origin::Files { chain, key }, _) => {
                key_is_private(key)?;
                Own::Files { chain: read(chain)?, key: read(key)? }
            }
            (Origin::Agent { .. }, agent) => Own::Agent(agent.and_then(Workload::material)),
        };
        let bundle = |trusted: &TrustedDomain| trusted.bundle.as_deref().map(read).transpose();
        let crls = |trusted: &TrustedDomain| trusted.crls.iter().map(|path| read(path)).collect::<Result<_, _>>();
        Ok(Self {
            own,
            bundles: config.trust.iter().map(bundle).collect::<Result<_, _>>()?,
            crls: config.trust.iter().map(crls).collect::<Result<_, _>>()?,
            deny_list: config.access.deny_list.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> Digest {
        let mut parts: Vec<&[u8]> = Vec::new();
        match &self.own {
            Own::Files { chain, key } => parts.extend([chain.as_slice(), key]),
            Own::Agent(None) => parts.push(b"withdrawn"),
            Own::Agent(Some(given)) => {
                parts.extend(given.chain.iter().map(Vec::as_slice));
                parts.push(&given.key);
                for (domain, roots) in &given.bundles {
                    parts.push(domain.as_str().as_bytes());
                    parts.extend(roots.iter().map(Vec::as_slice));
                }
            }
        }
        let files = self.bundles.iter().flatten().chain(self.crls.iter().flatten()).chain(&self.deny_list);
        digest(parts.into_iter().chain(files.map(Vec::as_slice)))
    }

    fn parse(&self, config: &Config, current: Option<&Trust>) -> Result<Trust, Problem> {
        let strictness = match config.rules() {
            RuleSet::Compatible => Strictness::Compatible,
            RuleSet::Strict => Strictness::Strict,
        };
        let rules =
            Rules { max_svid_lifetime: config.identity.max_svid_lifetime, strictness, ..access::Rules::default() };
        let domains = || config.trust.iter().map(|trusted| trusted.domain.clone());
        let crls = domains()
            .zip(&self.crls)
            .flat_map(|(domain, files)| files.iter().map(move |file| (domain.clone(), file.as_slice())));
        let mut bundles = TrustBundles::of(domains().zip(&self.bundles).map(|(domain, file)| {
            let source = match file {
                Some(file) => BundleSource::of_file(file),
                None => self.own.usable_roots(&domain),
            };
            (domain, source)
        }))
        .and_then(|bundles| bundles.with_crls(crls))
        .map_err(|error| format!("[[trust]]: {error} ({})", error.code()))?;
        if let (Some(text), Some(path)) = (&self.deny_list, &config.access.deny_list) {
            let blame = |problem: String| format!("{}: {problem}", path.display());
            let text = std::str::from_utf8(text).map_err(|error| blame(error.to_string()))?;
            bundles = bundles.with_deny_list(DenyList::parse(text).map_err(|error| blame(error.to_string()))?);
        }
        Trust::new(self.own.identity(current)?, bundles, rules).map_err(|error| error.to_string())
    }
}

impl Own {
    fn identity(&self, current: Option<&Trust>) -> Result<Identity, Problem> {
        match (self, current) {
            (Self::Files { chain, key }, _) => {
                Identity::from_pem(chain, key).map_err(|error| format!("identity.chain: {error}"))
            }
            (Self::Agent(Some(given)), _) => Identity::from_der(given.chain.clone(), given.key.to_vec())
                .map_err(|error| format!("identity.workload_api: {error}")),
            // Nothing can be shown in its place, and nobody is let in: no domain of the agent's has a root any more.
            (Self::Agent(None), Some(current)) => Ok(current.identity().clone()),
            (Self::Agent(None), None) => Err("the SPIFFE agent gives this process no SVID".to_owned()),
        }
    }

    /// What the agent says the roots of a domain are: none of a domain that it does not name. A domain whose roots cannot be
    /// used has none either (V-16), so that one broken federated bundle does not keep what another domain has withdrawn.
    fn usable_roots(&self, domain: &TrustDomain) -> BundleSource<'_> {
        let Self::Agent(Some(given)) = self else { return BundleSource::Der(&[]) };
        let roots = BundleSource::Der(given.bundle(domain).unwrap_or_default());
        match TrustBundles::of([(domain.clone(), roots)]) {
            Ok(_) => roots,
            Err(error) => {
                tracing::error!("the SPIFFE agent: {error}; nobody of that domain is let in");
                BundleSource::Der(&[])
            }
        }
    }
}

/// Waits for the agent to say something new; for ever, if there is none.
async fn hear(agent: Option<&mut watch::Receiver<Option<Arc<Material>>>>) -> Result<(), watch::error::RecvError> {
    match agent {
        Some(agent) => agent.changed().await,
        None => std::future::pending().await,
    }
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finish()
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A private key that others can read is not private (T-17).
fn key_is_private(path: &Path) -> Result<(), Problem> {
    let mode = std::fs::metadata(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(format!("{path}: others can read this private key (mode {:o}); chmod 600 {path}", mode & 0o777));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
