//! One agent: asked until it answers, then listened to for as long as anybody wants to know.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use model::TrustDomain;
use spiffe::transport::Endpoint as Address;
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::trouble::Trouble;
use super::{Given, Material, Problem, Seen, Workload};
use crate::config::Endpoint;

impl Workload {
    /// Asks until the agent answers and keeps listening. `hint` chooses among several SVIDs; the first is ours without one.
    ///
    /// # Errors
    /// When there is no usable answer within `patience`, or asking again cannot help; with what to check.
    pub(crate) async fn start(endpoint: &Endpoint, hint: Option<&str>, patience: Duration) -> Result<Self, Problem> {
        Self::start_at(Pace::default(), endpoint, hint, patience).await
    }

    pub(super) async fn start_at(
        pace: Pace,
        endpoint: &Endpoint,
        hint: Option<&str>,
        patience: Duration,
    ) -> Result<Self, Problem> {
        let agent = Agent { address: address(endpoint), hint: hint.map(ToOwned::to_owned), pace };
        let (line, first) = agent.first(patience).await.map_err(|trouble| {
            format!("identity.workload_api: no SVID from the SPIFFE agent at {endpoint}: {trouble}")
        })?;
        let (sender, given) = watch::channel(Some(Arc::new(first)));
        let seen = Arc::new(Seen::now());
        let desk = Desk { given: sender, seen: seen.clone(), reported: None };
        tokio::spawn(agent.keep_listening(line, desk));
        Ok(Self { given, seen })
    }
}

fn address(endpoint: &Endpoint) -> Address {
    match endpoint {
        Endpoint::Unix(path) => Address::Unix(path.clone()),
        Endpoint::Loopback(address) => Address::Tcp { host: address.ip(), port: address.port() },
    }
}

/// How fast things go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The first answer to a call must come within this: the standard says "without delay" (SPIFFE Workload API §4.3).
    pub(super) answer: Duration,
    /// A stream that was silent for so long is opened again, because an agent that hangs is silent too.
    pub(super) refresh: Duration,
    /// Before the first try to reach an agent that went away. It doubles with each try.
    pub(super) first_pause: Duration,
    /// Tries are never further apart: a bundle that was withdrawn while the agent restarted is in force after this.
    pub(super) longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            refresh: Duration::from_secs(60),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl Pace {
    fn pauses(self) -> impl Iterator<Item = Duration> {
        std::iter::successors(Some(self.first_pause), move |pause| Some((*pause * 2).min(self.longest_pause)))
    }
}

struct Agent {
    address: Address,
    hint: Option<String>,
    pace: Pace,
}

/// An open FetchX509SVID call. The connection lives as long as the client.
struct Line {
    updates: Pin<Box<dyn Stream<Item = Result<X509Context, WorkloadApiError>> + Send>>,
    _client: WorkloadApiClient,
}

impl Agent {
    async fn first(&self, patience: Duration) -> Result<(Line, Material), Trouble> {
        let deadline = Instant::now() + patience;
        let mut pauses = self.pace.pauses();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(self.pace.answer);
            let trouble = match self.call(left).await {
                Ok(answered) => return Ok(answered),
                Err(trouble) => trouble,
            };
            let pause = pauses.next().unwrap_or(self.pace.longest_pause);
            if trouble.is_final() || Instant::now() + pause >= deadline {
                return Err(trouble);
            }
            sleep(pause).await;
        }
    }

    /// Opens a call and takes the first answer.
    async fn call(&self, limit: Duration) -> Result<(Line, Material), Trouble> {
        let ask = async {
            let client = WorkloadApiClient::connect(self.address.clone()).await?;
            let mut line = Line { updates: Box::pin(client.stream_x509_contexts().await?), _client: client };
            let first = self.next(&mut line).await?;
            Ok((line, first))
        };
        let silent = || Trouble::Away(format!("it says nothing; an agent that is well answers within {limit:.0?}"));
        timeout(limit, ask).await.map_err(|_| silent())?
    }

    async fn next(&self, line: &mut Line) -> Result<Material, Trouble> {
        match line.updates.next().await {
            Some(context) => material(&context?, self.hint.as_deref()),
            None => Err(Trouble::Away("it ended the call".to_owned())),
        }
    }

    async fn keep_listening(self, mut line: Line, mut desk: Desk) {
        loop {
            let nobody_listens = desk.given.clone();
            tokio::select! {
                () = nobody_listens.closed() => return,
                again = self.listen(line, &mut desk) => line = again,
            }
        }
    }

    /// Listens until the stream ends or was silent for too long, and opens another.
    async fn listen(&self, mut line: Line, desk: &mut Desk) -> Line {
        while let Ok(answer) = timeout(self.pace.refresh, self.next(&mut line)).await {
            match answer {
                Ok(material) => desk.take(material),
                // An agent that was restarted is usually back before anybody needs to know.
                Err(Trouble::Away(_)) => {
                    sleep(self.pace.first_pause).await;
                    break;
                }
                Err(trouble) => {
                    desk.report(&trouble);
                    sleep(self.pace.first_pause).await;
                    break;
                }
            }
        }
        drop(line);
        let mut pauses = self.pace.pauses();
        loop {
            match self.call(self.pace.answer).await {
                Ok((line, material)) => {
                    desk.take(material);
                    return line;
                }
                Err(trouble) => desk.report(&trouble),
            }
            sleep(pauses.next().unwrap_or(self.pace.longest_pause)).await;
        }
    }
}

/// Where answers are laid out for whoever watches.
struct Desk {
    given: watch::Sender<Given>,
    seen: Arc<Seen>,
    /// The kind of trouble that was logged last: each is logged when it begins, not at every try.
    reported: Option<Discriminant<Trouble>>,
}

impl Desk {
    fn take(&mut self, material: Material) {
        self.seen.again();
        if self.reported.take().is_some() {
            tracing::info!("the SPIFFE agent answers again");
        }
        self.given.send_if_modified(|given| {
            let news = given.as_deref() != Some(&material);
            if news {
                *given = Some(Arc::new(material));
            }
            news
        });
    }

    fn report(&mut self, trouble: &Trouble) {
        let kind = discriminant(trouble);
        let known = self.reported.replace(kind) == Some(kind);
        if trouble.withdraws() {
            self.seen.again();
            self.given.send_if_modified(|given| given.take().is_some());
            if !known {
                tracing::error!("SPIFFE agent: {trouble}; our SVID and the bundles that it gave are withdrawn");
            }
        } else if !known {
            let age = self.seen.age().as_secs();
            tracing::warn!(age, "SPIFFE agent: {trouble}; what it gave last stays in force");
        }
    }
}

/// Our SVID and every bundle of an answer.
fn material(context: &X509Context, hint: Option<&str>) -> Result<Material, Trouble> {
    let svid = match hint {
        // The first of several with the same hint counts (SPIFFE Workload API §5.2.1).
        Some(hint) => context.svids().iter().find(|svid| svid.hint() == Some(hint)),
        None => context.default_svid(),
    };
    let svid = svid.ok_or_else(|| no_such_hint(context, hint.unwrap_or_default()))?;
    let ders = |certificates: &[spiffe::Certificate]| certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
    let bundles = context.bundle_set().iter().map(|(domain, bundle)| {
        let domain = TrustDomain::parse(domain.as_str()).map_err(|error| Trouble::Unusable(error.to_string()))?;
        Ok((domain, ders(bundle.authorities())))
    });
    // Sorted by name, so that the same answer in another order is no news.
    let bundles: BTreeMap<TrustDomain, Vec<Vec<u8>>> = bundles.collect::<Result<_, Trouble>>()?;
    Ok(Material {
        chain: ders(svid.cert_chain()),
        key: Zeroizing::new(svid.private_key().as_bytes().to_vec()),
        bundles: bundles.into_iter().collect(),
    })
}

fn no_such_hint(context: &X509Context, hint: &str) -> Trouble {
    let offered = context.svids().iter().map(|svid| format!("{} ({:?})", svid.spiffe_id(), svid.hint().unwrap_or("")));
    Trouble::NoSuchHint { hint: hint.to_owned(), offered: offered.collect::<Vec<_>>().join(", ") }
}
