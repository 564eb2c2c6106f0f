//! Audit messages on their way to the repository: RFC 5424 over TLS (PS3.15 A.6). Nothing here ever holds up a decision, and
//! the JSON log stays the record: what the repository misses stands there.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use transport::{Post, PostError};

use super::dicom::{Collector, Message, Outcome, Teller};
use super::verdict::Verdict;
use crate::answer::told;
use crate::config;
use crate::house::House;
use crate::telemetry;

/// Verdicts on their way to become messages: a task that never waits takes them, so this is slack for a busy moment.
const VERDICTS: usize = 4096;
/// Messages kept while the repository is away, about 2 KB each. Later ones are lost to it, and counted.
const MESSAGES: usize = 4096;
/// Before the first try after a connection was lost; doubled with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What was said so shortly before a connection was lost may not have been heard, and is said again. Repositories know
/// messages that come twice.
const UNSURE: Duration = Duration::from_secs(5);
/// Of those, at most so many.
const MOST_UNSURE: usize = 256;
/// At the end what is still to be sent has this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// Facility 10 (security), severity 5 (notice) and 4 (warning): PS3.15 A.6.
const NOTICE: u8 = 10 * 8 + 5;
const WARNING: u8 = 10 * 8 + 4;

/// The repository as configured.
pub(super) struct Repository {
    address: String,
    identity: access::Repository,
}

impl Repository {
    pub(super) fn read(config: &config::Syslog) -> Result<Self, String> {
        let config::Syslog { address, ca, server_name } = config;
        if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return Err(format!("address = {address:?} is not host:port, such as \"audit.example:6514\""));
        }
        let issuer = fs::read(ca).map_err(|error| format!("cannot read {}: {error}", ca.display()))?;
        let identity =
            access::Repository::new(&issuer, server_name).map_err(|error| format!("{}: {error}", ca.display()))?;
        Ok(Self { address: address.clone(), identity })
    }
}

/// Where verdicts are handed over.
#[derive(Clone)]
pub(super) struct Sender(mpsc::Sender<Option<Box<Verdict>>>);

impl Sender {
    /// Hands one over, or loses it: never waits.
    pub(super) fn tell(&self, verdict: &Verdict) {
        if self.0.try_send(Some(Box::new(verdict.clone()))).is_err() {
            metrics::counter!(telemetry::REPOSITORY_LOST).increment(1);
        }
    }
}

/// The way to the repository.
pub(super) struct Forwarder {
    end: mpsc::Sender<Option<Box<Verdict>>>,
    state: State,
}

enum State {
    Ready(Box<(Repository, mpsc::Receiver<Option<Box<Verdict>>>)>),
    Running(JoinHandle<()>),
    Over,
}

impl Forwarder {
    pub(super) fn to(repository: Repository) -> (Sender, Self) {
        let (sender, verdicts) = mpsc::channel(VERDICTS);
        let state = State::Ready(Box::new((repository, verdicts)));
        (Sender(sender.clone()), Self { end: sender, state })
    }

    /// Begins to send. Our identity is asked for at each connection, so that it follows a reload.
    pub(super) fn begin(&mut self, house: &Arc<House>) {
        let State::Ready(ready) = std::mem::replace(&mut self.state, State::Over) else { return };
        let (repository, verdicts) = *ready;
        let teller =
            Teller { name: house.config.receiver.name.clone(), id: house.live.trust().identity().id().to_string() };
        let (outbox, messages) = mpsc::channel(MESSAGES);
        let house = house.clone();
        let delivery = Delivery { repository, house, host: host(), unsure: VecDeque::new(), again: VecDeque::new() };
        self.state = State::Running(tokio::spawn(async move {
            tokio::join!(collect(verdicts, Collector::new(teller), outbox), delivery.run(messages));
        }));
    }

    /// Sends what is left, if the repository is there.
    pub(super) async fn finish(self) {
        let State::Running(mut running) = self.state else { return };
        let farewell = async {
            let _ = self.end.send(None).await;
            let _ = (&mut running).await;
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            running.abort();
        }
    }
}

/// Until the end is handed over; never waits for the repository.
async fn collect(
    mut verdicts: mpsc::Receiver<Option<Box<Verdict>>>,
    mut collector: Collector,
    outbox: mpsc::Sender<Message>,
) {
    while let Some(Some(verdict)) = verdicts.recv().await {
        for message in collector.take(&verdict) {
            if outbox.try_send(message).is_err() {
                metrics::counter!(telemetry::REPOSITORY_LOST).increment(1);
            }
        }
    }
}

struct Delivery {
    repository: Repository,
    house: Arc<House>,
    host: String,
    /// Said a moment ago.
    unsure: VecDeque<(Instant, Vec<u8>)>,
    /// To be said again.
    again: VecDeque<Vec<u8>>,
}

impl Delivery {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let (mut pause, mut away) = (FIRST_PAUSE, false);
        loop {
            let problem = match self.connect().await {
                Ok(post) => {
                    tracing::info!(repository = %self.repository.address, "the audit repository is connected");
                    metrics::gauge!(telemetry::REPOSITORY_UP).set(1.0);
                    (pause, away) = (FIRST_PAUSE, false);
                    let Err(problem) = self.deliver(post, &mut messages).await else { return };
                    problem
                }
                Err(problem) => problem,
            };
            metrics::gauge!(telemetry::REPOSITORY_UP).set(0.0);
            // Once for each time that it is away, not for each try.
            if !std::mem::replace(&mut away, true) {
                let repository = &self.repository.address;
                tracing::error!(%repository, "the audit repository is away: {problem}; trying again until it works");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<Post, String> {
        let trust = self.house.live.trust();
        let call = self.repository.identity.call(trust.identity()).map_err(|error| told(&error))?;
        transport::post(&self.repository.address, &call).await.map_err(|error| told(&error))
    }

    /// Says what there is to say until the connection is lost (an error) or nothing more will come.
    async fn deliver(&mut self, mut post: Post, messages: &mut mpsc::Receiver<Message>) -> Result<(), String> {
        let outcome = loop {
            if let Some(text) = self.again.pop_front() {
                match self.say(&mut post, text).await {
                    Ok(()) => continue,
                    Err(error) => break Err(error),
                }
            }
            tokio::select! {
                biased;
                ended = post.ended() => break Err(ended),
                message = messages.recv() => match message {
                    Some(message) => self.again.push_back(syslog(&message, &self.host)),
                    None => break Ok(()),
                },
            }
        };
        match outcome {
            Ok(()) => {
                post.close().await;
                Ok(())
            }
            Err(error) => {
                let unheard = self.unsure.drain(..).filter(|(said, _)| said.elapsed() < UNSURE).map(|(_, text)| text);
                self.again = unheard.chain(std::mem::take(&mut self.again)).collect();
                Err(told(&error))
            }
        }
    }

    async fn say(&mut self, post: &mut Post, text: Vec<u8>) -> Result<(), PostError> {
        let said = post.say(&text).await;
        // What could not be said is as unsure as what was said last.
        self.unsure.push_back((Instant::now(), text));
        while self.unsure.len() > MOST_UNSURE || self.unsure.front().is_some_and(|(said, _)| said.elapsed() >= UNSURE) {
            self.unsure.pop_front();
        }
        said
    }
}

/// RFC 5424 §6: the header, no structured data, a byte order mark because it is UTF-8, the message.
fn syslog(message: &Message, host: &str) -> Vec<u8> {
    let priority = if message.outcome == Outcome::Success { NOTICE } else { WARNING };
    let process = std::process::id();
    let Message { at, xml, .. } = message;
    format!("<{priority}>1 {at} {host} portcullis {process} DICOM+RFC3881 - \u{FEFF}{xml}").into_bytes()
}

/// The name of this machine, as far as a syslog header may have it (RFC 5424 §6.2.4).
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Subject};

    #[test]
    fn a_message_has_the_header_of_rfc_5424() {
        let teller = Teller { name: "receiver-1".to_owned(), id: "spiffe://gateway.example/r".to_owned() };
        let start = Verdict::new(Subject::Startup, Decision::Note, "startup");
        let message = Collector::new(teller).take(&start).remove(0);
        let text = String::from_utf8(syslog(&message, "gate")).expect("UTF-8");
        let fields: Vec<_> = text.splitn(8, ' ').collect();
        assert_eq!(
            (fields[0], fields[2], fields[3], fields[5], fields[6]),
            ("<85>1", "gate", "portcullis", "DICOM+RFC3881", "-")
        );
        assert!(fields[7].starts_with("\u{FEFF}<?xml "), "{text}");
        let refused = Message { outcome: Outcome::MinorFailure, ..message };
        assert!(syslog(&refused, "gate").starts_with(b"<84>1 "));
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        let of = |address: &str| config::Syslog {
            address: address.to_owned(),
            ca: "/nowhere.pem".into(),
            server_name: "a.example".to_owned(),
        };
        for (address, said) in [("audit.example", "host:port"), (":6514", "host:port"), ("a:1", "nowhere.pem")] {
            let problem = Repository::read(&of(address)).map(drop).expect_err(address);
            assert!(problem.contains(said), "{address}: {problem}");
        }
    }
}
