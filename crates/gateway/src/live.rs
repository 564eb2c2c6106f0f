//! The table and the certificates in force, and the loop that keeps them fresh.
//!
//! Files are read again every `access.poll` (and on SIGHUP) and compared by digest: that sees an atomic rename and a symlink
//! swap alike. What cannot be used leaves the previous set in force, and says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use access::{Identity, Rejection, Rules, Strictness, Table, Trust, TrustBundles, VerifiedPeer};
use arc_swap::ArcSwap;
use model::{Digest, Hasher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::audit::{AuditLog, Decision, Subject, Verdict};
use crate::config::{Config, RuleSet, Source};
use crate::house::now;
use crate::telemetry;

/// What is in force now.
pub(crate) struct Live {
    table: ArcSwap<Table>,
    trust: ArcSwap<Trust>,
    /// Of the files that the first `trust` was made of: what changed while the gateway started has changed too.
    loaded: Digest,
    /// Counts changes; every association watches it.
    changes: watch::Sender<u64>,
    /// Milliseconds since the epoch when the table was last read and found good.
    table_seen: AtomicI64,
}

/// Text of a problem for the person who starts or runs the gateway.
type Problem = String;

impl Live {
    /// Reads everything once.
    ///
    /// # Errors
    /// When anything is missing or broken: a gateway does not start with half of its trust.
    pub(crate) fn load(config: &Config) -> Result<Self, Problem> {
        let table = read_table(config)?.parse()?;
        for warning in table.warnings() {
            tracing::info!(table = %config.access.table.display(), "{warning}");
        }
        let files = TrustFiles::read(config)?;
        let trust = files.parse(config)?;
        let (id, end) = (trust.identity().id(), trust.identity().not_after());
        if end <= now() {
            return Err(format!(
                "our own certificate for {id} has expired at {end}; every caller would refuse it: renew it"
            ));
        }
        let live = Self {
            table: ArcSwap::from_pointee(table),
            trust: ArcSwap::from_pointee(trust),
            loaded: files.digest(),
            changes: watch::Sender::new(0),
            table_seen: AtomicI64::new(now().as_millis()),
        };
        live.gauge();
        Ok(live)
    }

    /// Today's table.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Today's certificates.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    /// Judges a peer again if the certificates in force are not those that vouched for it last.
    ///
    /// # Errors
    /// The rule that is broken by now.
    pub(crate) fn still_trusts(&self, peer: &VerifiedPeer, vouched: &mut Arc<Trust>) -> Result<(), Rejection> {
        let trust = self.trust();
        if !Arc::ptr_eq(&trust, vouched) {
            trust.recheck(peer, now())?;
            *vouched = trust;
        }
        Ok(())
    }

    /// Wakes when table or certificates changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Sets the metrics that tell age and revision.
    pub(crate) fn gauge(&self) {
        let now = now();
        let age = now.as_millis() - self.table_seen.load(Ordering::Relaxed);
        let left = self.trust.load().identity().not_after().since(now);
        #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
        {
            metrics::gauge!(telemetry::POLICY_REVISION).set(self.table.load().revision() as f64);
            metrics::gauge!(telemetry::POLICY_AGE).set(age as f64 / 1000.0);
        }
        metrics::gauge!(telemetry::SVID_REMAINING).set(left.as_secs_f64());
    }

    /// Looks for changes until the process ends.
    pub(crate) async fn keep_fresh(&self, config: &Config, audit: &AuditLog) {
        let mut poll = tokio::time::interval(config.access.poll);
        let mut hang_up = signal(SignalKind::hangup()).expect("the runtime handles signals");
        let mut trust_digest = self.loaded;
        // Each broken state is reported once, not at every poll.
        let mut reported: [Option<Problem>; 2] = [None, None];
        loop {
            tokio::select! {
                _ = poll.tick() => {}
                _ = hang_up.recv() => tracing::info!("SIGHUP: looking at table and certificates"),
            }
            let table = self.refresh_table(config, audit).await;
            report("access table", table.err(), &mut reported[0], audit).await;
            let trust = self.refresh_trust(config, &mut trust_digest, audit).await;
            report("certificates", trust.err(), &mut reported[1], audit).await;
        }
    }

    async fn refresh_table(&self, config: &Config, audit: &AuditLog) -> Result<(), Problem> {
        let text = read_table(config)?;
        let current = self.table();
        if text.digest() != current.digest() {
            let table = text.parse()?;
            if table.revision() < current.revision() {
                let (new, old) = (table.revision(), current.revision());
                return Err(format!("revision {new} is older than revision {old} in force; raise `revision`"));
            }
            let verdict = Verdict::new(Subject::Policy, Decision::Note, "policy_changed").policy(&table);
            let verdict = verdict.detail(differences(&current, &table));
            tracing::info!(from = current.revision(), to = table.revision(), "the access table changed");
            // In force first: a withdrawal waits for nothing, not even the audit log.
            self.table.store(Arc::new(table));
            self.changes.send_modify(|count| *count += 1);
            audit.record(verdict).await;
        }
        self.table_seen.store(now().as_millis(), Ordering::Relaxed);
        Ok(())
    }

    async fn refresh_trust(&self, config: &Config, digest: &mut Digest, audit: &AuditLog) -> Result<(), Problem> {
        let files = TrustFiles::read(config)?;
        if *digest != files.digest() {
            self.trust.store(Arc::new(files.parse(config)?));
            *digest = files.digest();
            tracing::info!("certificates were loaded again");
            self.changes.send_modify(|count| *count += 1);
            audit.record(Verdict::new(Subject::Policy, Decision::Note, "certificates_changed")).await;
        }
        Ok(())
    }
}

async fn report(what: &'static str, problem: Option<Problem>, reported: &mut Option<Problem>, audit: &AuditLog) {
    if let Some(problem) = &problem {
        metrics::counter!(telemetry::RELOAD_FAILURES, "what" => what).increment(1);
        if reported.as_ref() != Some(problem) {
            tracing::error!("{what}: {problem}; the previous ones stay in force");
            let verdict = Verdict::new(Subject::Policy, Decision::Note, "reload_failed");
            audit.record(verdict.detail(format!("{what}: {problem}"))).await;
        }
    }
    *reported = problem;
}

/// Which rows came, went and changed, by id.
fn differences(old: &Table, new: &Table) -> String {
    let named = |word: &str, ids: Vec<&str>| format!("{word}: [{}]", ids.join(", "));
    let find = |table: &'_ Table, id: &str| table.rows().iter().find(|row| row.id() == id).cloned();
    let added = new.rows().iter().filter(|row| find(old, row.id()).is_none()).map(|row| row.id()).collect();
    let removed = old.rows().iter().filter(|row| find(new, row.id()).is_none()).map(|row| row.id()).collect();
    let other = |row: &&Arc<access::Row>| find(old, row.id()).is_some_and(|before| before != **row);
    let changed = new.rows().iter().filter(other).map(|row| row.id()).collect();
    [named("added", added), named("removed", removed), named("changed", changed)].join(", ")
}

struct TableText<'c> {
    text: String,
    path: &'c Path,
}

fn read_table(config: &Config) -> Result<TableText<'_>, Problem> {
    let path = &config.access.table;
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(TableText { text, path })
}

impl TableText<'_> {
    fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    fn parse(&self) -> Result<Table, Problem> {
        Table::parse(&self.text).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Everything that trust is made of, as bytes.
struct TrustFiles {
    chain: Vec<u8>,
    key: Vec<u8>,
    bundles: Vec<Vec<u8>>,
}

impl TrustFiles {
    fn read(config: &Config) -> Result<Self, Problem> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let Source::Files { chain, key } = config.identity.source()? else {
            return Err("identity.workload_api: this gateway does not ask agents".to_owned());
        };
        key_is_private(key)?;
        let bundles = config.trust.iter().filter_map(|trusted| trusted.bundle.as_deref());
        Ok(Self { chain: read(chain)?, key: read(key)?, bundles: bundles.map(read).collect::<Result<_, _>>()? })
    }

    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for part in [&self.chain, &self.key].into_iter().chain(&self.bundles) {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finish()
    }

    fn parse(&self, config: &Config) -> Result<Trust, Problem> {
        let identity =
            Identity::from_pem(&self.chain, &self.key).map_err(|error| format!("identity.chain: {error}"))?;
        let domains = config.trust.iter().map(|trusted| trusted.domain.clone());
        let bundles = TrustBundles::new(domains.zip(self.bundles.iter().map(Vec::as_slice)))
            .map_err(|error| format!("[[trust]]: {error}"))?;
        let strictness = match config.identity.rules {
            RuleSet::Compatible => Strictness::Compatible,
            RuleSet::Strict => Strictness::Strict,
        };
        let rules =
            Rules { max_svid_lifetime: config.identity.max_svid_lifetime, strictness, ..access::Rules::default() };
        Trust::new(identity, bundles, rules).map_err(|error| error.to_string())
    }
}

/// A private key that others can read is not private (T-17).
fn key_is_private(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::PermissionsExt;
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
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::pki;

    const GATEWAY: &str = r#"
        [identity]
        chain = "certs/receiver.pem"
        key = "certs/receiver.key"
        [[trust]]
        domain = "hospital-a.invalid"
        bundle = "certs/hospital-a.invalid/ca.pem"
        [access]
        table = "access.toml"
        poll = "20ms"
        [archive]
        dir = "."
        [audit]
        file = "audit.jsonl"
    "#;

    #[tokio::test]
    async fn a_bundle_that_changes_while_the_gateway_starts_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |part: &str| dir.path().join(part);
        pki::ensure(&at("certs"), SystemTime::now()).expect("it is writable");
        fs::write(at("access.toml"), "revision = 1\n").expect("it is writable");
        fs::write(at("gateway.toml"), GATEWAY).expect("it is writable");
        let config = Config::load(&at("gateway.toml"), std::iter::empty()).expect("valid");
        let live = Live::load(&config).expect("everything is there");
        // Between reading everything and the first look for changes.
        fs::remove_dir_all(at("certs/hospital-a.invalid")).expect("it is there");
        pki::ensure(&at("certs"), SystemTime::now()).expect("it is writable");
        let (audit, _writer) = AuditLog::open(&at("audit.jsonl")).expect("it is writable");
        let mut changes = live.watch();
        let seen = async {
            tokio::select! {
                () = live.keep_fresh(&config, &audit) => unreachable!("it never ends"),
                changed = changes.changed() => changed.expect("the table and certificates are there"),
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the new bundle is seen");
    }
}
