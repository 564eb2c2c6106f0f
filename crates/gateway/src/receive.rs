//! The receiver from start to end: build everything, then bind, run, drain.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Trust;
use anyhow::{Context as _, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use store::{Archive, EventLog, LocalOptions, OpenError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::{Incoming, Listener, LoadBalancer, Refused, RefusedBecause};

use crate::audit::{AuditLog, AuditWriter, Decision, Subject, Verdict};
use crate::config::{Config, ProxyProtocol, Receiver as Door};
use crate::crowd::{self, Refusals};
use crate::house::{Arrivals, Endpoints, House};
use crate::live::Live;
use crate::quotas::Quotas;
use crate::reload::{self, Watcher};
use crate::workload::{PATIENCE, PATIENCE_OF_A_CHECK};
use crate::{admin, audit, clock, session, stabilise, telemetry};

/// A receiver whose configuration, certificates, table and archive are in order, and whose ports are bound.
pub struct Receiver {
    house: Arc<House>,
    listener: Listener,
    admin: TcpListener,
    metrics: PrometheusHandle,
    events: EventLog,
    audit: AuditWriter,
    watcher: Watcher,
    signals: Signals,
}

/// Everything that a receiver needs, read and opened.
pub struct Checked {
    live: Live,
    watcher: Watcher,
    archive: Archive,
    config: Config,
}

impl Checked {
    /// Reads and opens everything that a receiver needs, and binds nothing.
    ///
    /// # Errors
    /// With the part that is not in order and what to do about it.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let (live, watcher) = reload::load(&config, PATIENCE).await.map_err(|problem| anyhow!(problem))?;
        let options = LocalOptions {
            receiver: config.receiver.name.clone(),
            quiet: config.stabiliser.quiet,
            max_wait: config.stabiliser.max_wait,
        };
        let archive = Archive::open_local(&config.archive.dir, options)
            .await
            .with_context(|| format!("the archive in {} cannot be used", config.archive.dir.display()))?;
        Ok(Self { live, watcher, archive, config })
    }

    /// Validates everything for `--check`, also beside a receiver that is running, and tells what would be in force.
    ///
    /// # Errors
    /// As [`Checked::build`], and when the audit or event log cannot be written.
    pub async fn probe(config: Config) -> anyhow::Result<Vec<String>> {
        let (live, _) = reload::load(&config, PATIENCE_OF_A_CHECK).await.map_err(|problem| anyhow!(problem))?;
        let archive = match Archive::open_local(&config.archive.dir, LocalOptions::default()).await {
            Ok(_) => String::new(),
            Err(OpenError::InUse { .. }) => " (in use by a receiver that is running)".to_owned(),
            Err(error) => {
                let dir = config.archive.dir.display().to_string();
                return Err(error).with_context(|| format!("the archive in {dir} cannot be used"));
            }
        };
        audit::check(&config.audit)?;
        for (what, path) in [("audit", &config.audit.file), ("event", &config.stabiliser.events)] {
            let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            opened.with_context(|| format!("the {what} log {} cannot be written", path.display()))?;
        }
        Ok(summary(&live, &config, &archive))
    }
}

/// What is in force, a line each.
fn summary(live: &Live, config: &Config, archive: &str) -> Vec<String> {
    let (table, trust) = (live.table(), live.trust());
    let domains: Vec<_> = trust.bundles().domains().map(ToString::to_string).collect();
    let identity = trust.identity();
    let mut lines = vec![
        format!("identity   {} until {}", identity.id(), identity.not_after()),
        format!("trusts     {}", domains.join(", ")),
        format!(
            "table      {} rows that allow, {} that deny, revision {}, sha256 {}",
            table.rows().len(),
            table.deny_rows().len(),
            table.revision(),
            table.digest()
        ),
        format!("archive    {}{archive}", config.archive.dir.display()),
        format!("listen     {} (DICOM over mutual TLS)", config.receiver.listen),
        format!("proxy      {}", proxy_mode(&config.receiver)),
        format!("admin      {} (/healthz /readyz /metrics)", config.receiver.admin),
    ];
    lines.push(format!("profile    {}", config.profile.as_str()));
    lines.extend(config.profile_lines().into_iter().map(|line| format!("           {line}")));
    lines.extend(revocation_lines(&trust, config));
    lines.extend(trust.bundles().remarks(clock::now()).into_iter().map(|remark| format!("warning    {remark}")));
    lines.extend(reload::open_to_others(config).map(|warning| format!("warning    {warning}")));
    lines.extend(table.warnings(clock::now()).into_iter().map(|warning| format!("warning    {warning}")));
    lines
}

fn proxy_mode(door: &Door) -> String {
    match load_balancer(door) {
        None => "off (a PROXY header is refused)".to_owned(),
        Some(LoadBalancer { networks, timeout }) => {
            let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
            let timeout = model::span::format(timeout);
            format!("v2 required, within {timeout}, only from {}", networks.join(", "))
        }
    }
}

/// Revocation lists and the deny-list, a line each.
fn revocation_lines(trust: &Trust, config: &Config) -> Vec<String> {
    let lists = trust
        .bundles()
        .crls()
        .map(|list| format!("revoked    {}: {} certificates, until {}", list.domain, list.revoked, list.next_update));
    let denied = config
        .access
        .deny_list
        .as_ref()
        .map(|path| format!("denied     {} entries in {}", trust.bundles().deny_list().len(), path.display()));
    lists.chain(denied).collect()
}

impl Receiver {
    /// Opens audit and event log and binds the ports.
    ///
    /// # Errors
    /// When a file cannot be written or a port is taken.
    pub async fn bind(checked: Checked, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let Checked { live, watcher, archive, config } = checked;
        let (audit, writer) = AuditLog::begin(&config.audit).context("the audit log cannot be used")?;
        let events = EventLog::open(&config.stabiliser.events)
            .with_context(|| format!("the event log {} cannot be written", config.stabiliser.events.display()))?;
        let listen = config.receiver.listen;
        let listener = Listener::bind(listen, config.receiver.max_connections, config.receiver.max_handshakes)
            .await
            .with_context(|| format!("cannot listen on {listen}; is another receiver running?"))?;
        let listener = match load_balancer(&config.receiver) {
            Some(balancer) => listener.behind(balancer),
            None => listener,
        };
        let admin = TcpListener::bind(config.receiver.admin)
            .await
            .with_context(|| format!("cannot listen on {} (admin); choose another --admin", config.receiver.admin))?;
        let house = Arc::new(House {
            config,
            live,
            archive: Arc::new(archive),
            audit,
            quotas: Arc::new(Quotas::default()),
            endpoints: Endpoints::default(),
            callers: Arc::default(),
            refusals: Refusals::default(),
            arrivals: Arrivals::default(),
            stable: broadcast::Sender::new(STABLE_BACKLOG),
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
        });
        // Before anybody is told the address: who knows it may end us.
        let signals = Signals::taken();
        Ok(Self { house, listener, admin, metrics, events, audit: writer, watcher, signals })
    }

    /// The DICOM address, with the port that the system chose when 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The admin address.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// What associations share: to drain it from outside, and to look at the archive.
    #[must_use]
    pub fn house(&self) -> Arc<House> {
        self.house.clone()
    }

    /// Serves until SIGTERM, SIGINT or a drain from outside; then ends in good order.
    ///
    /// # Errors
    /// When something that must never stop did stop.
    pub async fn run(self) -> anyhow::Result<()> {
        self.run_watched_by(|watcher, house| async move {
            watcher.keep_fresh(&house.live, &house.config, &house.audit).await;
        })
        .await
    }

    /// As [`Receiver::run`], with what keeps table and certificates fresh: when that ends, however it ends, so does the
    /// receiver (CV-10).
    async fn run_watched_by<W>(self, watch: impl FnOnce(Watcher, Arc<House>) -> W) -> anyhow::Result<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let Self { house, listener, admin, metrics, events, mut audit, watcher, signals } = self;
        audit.attend(&house);
        let start = Verdict::new(Subject::Startup, Decision::Note, "startup").policy(&house.live.table());
        let start = start.profile(house.config.profile.as_str());
        house.audit.record(start.detail(concat!("portcullis ", env!("CARGO_PKG_VERSION")))).await;
        let mut admin = tokio::spawn(admin::serve(admin, house.clone(), metrics));
        let mut stabiliser = tokio::spawn(stabilise::run(house.clone(), events));
        let mut watcher = tokio::spawn(watch(watcher, house.clone()));
        let associations = TaskTracker::new();
        let ended = tokio::select! {
            () = take_callers(&house, &listener, &associations, signals) => Ok(()),
            // A dead watcher must not look like "no change" (CV-10); nor may the others die quietly.
            _ = &mut watcher => Err(Died { code: "watcher_dead", what: "watcher of table and certificates" }),
            _ = &mut stabiliser => Err(Died { code: "stabiliser_dead", what: "stabiliser" }),
            _ = &mut admin => Err(Died { code: "admin_dead", what: "admin listener" }),
        };
        drop(listener);
        // Not ready from here on, whatever the reason. Without a watcher nothing may be decided any more.
        house.drain.cancel();
        if ended.is_err() {
            house.halt.cancel();
        }
        wind_down(&house, associations).await;
        watcher.abort();
        house.halt.cancel();
        // A client that never finishes its request must not hold up the end.
        let _ = tokio::time::timeout(LAST_WORDS, async { tokio::join!(&mut stabiliser, &mut admin) }).await;
        stabiliser.abort();
        admin.abort();
        let last = match &ended {
            Ok(()) => Verdict::new(Subject::Shutdown, Decision::Note, "shutdown"),
            Err(died) => {
                Verdict::new(Subject::Shutdown, Decision::Note, died.code).detail(died.to_string()).alert(died.code)
            }
        };
        house.audit.record(last).await;
        audit.finish().await;
        Ok(ended?)
    }
}

/// Something ended that must never end while anybody is served.
#[derive(Debug, thiserror::Error)]
#[error("the {what} died; nobody is served without it")]
struct Died {
    /// The reason in the audit log.
    code: &'static str,
    what: &'static str,
}

/// Who must be in front of the DICOM port, if anybody.
fn load_balancer(door: &Door) -> Option<LoadBalancer> {
    let (networks, timeout) = (door.proxy_networks.clone(), door.proxy_timeout);
    (door.proxy_protocol == ProxyProtocol::Required).then_some(LoadBalancer { networks, timeout })
}

/// Loops that were told to end have this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Events kept for a watcher inside the process that is slow.
const STABLE_BACKLOG: usize = 256;

/// Accepts until the house drains.
async fn take_callers(house: &Arc<House>, listener: &Listener, associations: &TaskTracker, signals: Signals) {
    let stop = stop_signal(house, signals);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            incoming = listener.accept() => match incoming {
                Ok(incoming) => {
                    metrics::counter!(telemetry::CONNECTIONS).increment(1);
                    associations.spawn(answer_the_door(house.clone(), incoming));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of descriptors: trying again at once would spin.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Before the next try after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The signals that end a receiver. From when they are taken on, none is lost and none kills.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn taken() -> Self {
        let taken = |kind| signal(kind).expect("the runtime handles signals");
        // The watcher looks when it begins; a SIGHUP before that need only not kill.
        drop(taken(SignalKind::hangup()));
        Self { terminate: taken(SignalKind::terminate()), interrupt: taken(SignalKind::interrupt()) }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn stop_signal(house: &House, mut signals: Signals) {
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = house.drain.cancelled() => return,
    };
    tracing::info!(signal, "draining: instances in flight may finish; a second signal ends them");
    house.drain.cancel();
    let halt = house.halt.clone();
    tokio::spawn(async move {
        signals.next().await;
        halt.cancel();
    });
}

/// Steps 2 to 4 in a task of its own, then the association.
async fn answer_the_door(house: Arc<House>, incoming: Incoming) {
    // In before anything is decided, so that what changes during the handshake is heard of after it.
    let guest = house.enter();
    let limit = house.config.receiver.handshake_timeout;
    match incoming.handshake(&guest.vouched, limit, clock::now()).await {
        Ok(connection) => {
            let (id, most) = (connection.peer().id().clone(), house.config.receiver.most_of_one_identity());
            match house.callers.hold(&id, most) {
                Some(_held) => session::attend(house, connection, guest).await,
                None => too_many_of_one(&house, connection).await,
            }
        }
        Err(refused) => turned_away(&house, refused).await,
    }
}

/// D1: one identity must not take every connection from the others. The request is not waited for.
async fn too_many_of_one(house: &House, mut connection: transport::Connection) {
    metrics::counter!(telemetry::CONNECTIONS_REFUSED, "reason" => "connection_limit").increment(1);
    tracing::warn!(peer = %connection.peer().id(), "connection refused: this identity has as many as it may");
    let verdict = Verdict::new(Subject::Connection, Decision::Deny, "connection_limit");
    let verdict =
        verdict.detail("the identity has as many connections as receiver.max_connections_per_identity allows");
    house.audit.record(verdict.peer(connection.peer(), connection.origin())).await;
    connection.close().await;
}

async fn turned_away(house: &House, Refused { origin, because }: Refused) {
    if let RefusedBecause::HealthCheck = because {
        metrics::counter!(telemetry::HEALTH_PROBES).increment(1);
        return tracing::debug!(peer = %origin.socket, "{because}");
    }
    let (source, vpce) = (origin.source.map(tracing::field::display), origin.vpce.as_deref());
    metrics::counter!(telemetry::CONNECTIONS_REFUSED, "reason" => because.code()).increment(1);
    tracing::warn!(peer = %origin.socket, source, vpce, reason = because.code(), "connection refused: {because}");
    let verdict = match &because {
        RefusedBecause::Certificate(rejection) => Verdict::rejection(rejection),
        other => {
            match house.refusals.one_more(Instant::now()) {
                crowd::Line::Folded => return,
                crowd::Line::Written { folded: 0 } => {}
                crowd::Line::Written { folded } => {
                    let detail = format!("{folded} refused connections were counted and not written one by one");
                    let verdict = Verdict::new(Subject::Connection, Decision::Note, "refusals_folded").detail(detail);
                    house.audit.record(verdict.alert("connection_flood")).await;
                }
            }
            Verdict::new(Subject::Connection, Decision::Deny, other.code()).detail(other.to_string())
        }
    };
    house.audit.record(verdict.origin(&origin)).await;
}

/// Instances in flight may finish until the drain time is up; then associations end where they are.
async fn wind_down(house: &House, associations: TaskTracker) {
    associations.close();
    if tokio::time::timeout(house.config.receiver.drain, associations.wait()).await.is_err() {
        tracing::warn!(left = associations.len(), "the drain time is up; what is in flight is dropped unacknowledged");
        house.halt.cancel();
        associations.wait().await;
    }
}

#[cfg(test)]
mod tests;
