//! A SPIFFE agent: the Workload API over gRPC on a Unix socket, written from the standard and not with the library that the
//! gateway uses, so that the two check each other.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway::pki::{Issued, certificates};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::pki::Pki;

/// An agent on a socket. Dropping it ends it.
pub struct Agent {
    socket: PathBuf,
    says: watch::Sender<Says>,
    calls: Arc<Calls>,
    running: Option<Runtime>,
}

/// Of FetchX509SVID.
#[derive(Default)]
struct Calls {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// What the agent gives: the whole of an X509SVIDResponse. Each change is a new message on every open stream.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// In this order; the first is the default.
    pub svids: Vec<OfferedSvid>,
    /// `(SPIFFE ID of a trust domain, its roots, DER)`. Twice the same key is possible, as on the wire.
    pub federated: Vec<(String, Vec<Vec<u8>>)>,
}

/// One X509SVID message.
#[derive(Clone)]
pub struct OfferedSvid {
    /// As said beside the certificate.
    pub id: String,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, DER.
    pub key: Vec<u8>,
    /// The roots of its trust domain, DER.
    pub bundle: Vec<Vec<u8>>,
    /// Empty for none.
    pub hint: String,
}

impl std::fmt::Debug for OfferedSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfferedSvid").field("id", &self.id).field("hint", &self.hint).finish_non_exhaustive()
    }
}

impl OfferedSvid {
    /// What was issued, with the roots (PEM) of its trust domain.
    ///
    /// # Panics
    /// When the key is not PEM of a PKCS#8 key.
    #[must_use]
    pub fn of(id: &str, issued: &Issued, roots: &str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("an issued key is PKCS#8");
        Self {
            id: id.to_owned(),
            chain: certificates(&issued.chain_pem),
            key: key.secret_pkcs8_der().to_vec(),
            bundle: certificates(roots),
            hint: String::new(),
        }
    }

    /// A fresh SVID from a test PKI.
    #[must_use]
    pub fn from_pki(pki: &Pki, id: &str) -> Self {
        let domain = id.trim_start_matches("spiffe://").split('/').next().unwrap_or_default();
        Self::of(id, &pki.issue(id), pki.authority(domain).pem())
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self }
    }
}

impl Offer {
    /// One SVID.
    #[must_use]
    pub fn of(svid: OfferedSvid) -> Self {
        Self { svids: vec![svid], federated: Vec::new() }
    }

    /// One more domain that the agent's own federates with; its roots as PEM.
    #[must_use]
    pub fn federated_with(mut self, domain: &str, roots: &str) -> Self {
        self.federated.push((format!("spiffe://{domain}"), certificates(roots)));
        self
    }

    /// X509SVIDResponse.
    fn svids_message(&self) -> Vec<u8> {
        let svids = self.svids.iter().flat_map(|svid| {
            let fields = [
                field(1, svid.id.as_bytes()),
                field(2, &svid.chain.concat()),
                field(3, &svid.key),
                field(4, &svid.bundle.concat()),
                field(5, svid.hint.as_bytes()),
            ];
            field(1, &fields.concat())
        });
        let federated = self.federated.iter().flat_map(|(domain, roots)| entry(3, domain, roots));
        svids.chain(federated).collect()
    }

    /// X509BundlesResponse.
    fn bundles_message(&self) -> Vec<u8> {
        let own = self.svids.iter().flat_map(|svid| {
            let end = svid.id["spiffe://".len()..].find('/').map_or(svid.id.len(), |at| at + "spiffe://".len());
            entry(2, &svid.id[..end], &svid.bundle)
        });
        let federated = self.federated.iter().flat_map(|(domain, roots)| entry(2, domain, roots));
        own.chain(federated).collect()
    }
}

/// What the agent answers to everybody.
#[derive(Debug, Clone)]
enum Says {
    Gives(Offer),
    /// A gRPC status and its message.
    Refuses(u8, &'static str),
    /// Takes calls and never answers.
    Nothing,
}

/// gRPC status codes.
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;

impl Agent {
    /// Listens on a socket that is not there yet.
    ///
    /// # Panics
    /// When the socket cannot be made.
    #[must_use]
    pub fn start(socket: &Path, offer: Offer) -> Self {
        let (says, _) = watch::channel(Says::Gives(offer));
        let mut agent = Self { socket: socket.to_owned(), says, calls: Arc::default(), running: None };
        agent.come_back();
        agent
    }

    /// What a client is configured with: `unix:/…`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// FetchX509SVID calls so far, refused ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.begun.load(Ordering::SeqCst)
    }

    /// Those that are open now.
    #[must_use]
    pub fn open_calls(&self) -> u64 {
        let ended = self.calls.ended.load(Ordering::SeqCst);
        self.calls() - ended
    }

    /// Gives something else from now on.
    pub fn offer(&self, offer: Offer) {
        self.says.send_replace(Says::Gives(offer));
    }

    /// Gives the same with a change.
    ///
    /// # Panics
    /// When it gives nothing now.
    pub fn amend(&self, change: impl FnOnce(&mut Offer)) {
        self.says.send_modify(|says| match says {
            Says::Gives(offer) => change(offer),
            _ => panic!("the agent gives nothing that could be changed"),
        });
    }

    /// A new certificate and key for the default SVID.
    pub fn rotate(&self, svid: OfferedSvid) {
        self.amend(|offer| offer.svids[0] = svid);
    }

    /// No longer federates with a domain.
    pub fn withdraw(&self, domain: &str) {
        let key = format!("spiffe://{domain}");
        self.amend(|offer| offer.federated.retain(|(named, _)| *named != key));
    }

    /// The registration entry is gone: everybody is refused, also on open streams.
    pub fn deny(&self) {
        self.says.send_replace(Says::Refuses(PERMISSION_DENIED, "no identity issued"));
    }

    /// Takes calls and says nothing.
    pub fn fall_silent(&self) {
        self.says.send_replace(Says::Nothing);
    }

    /// The agent ends: connections break, and the socket is gone.
    pub fn go_away(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        if let Some(running) = self.running.take() {
            // May be called from inside another runtime, where waiting is not allowed.
            running.shutdown_background();
        }
    }

    /// The agent starts again on the same socket and gives what it gave.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn come_back(&mut self) {
        self.go_away();
        let running = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).expect("the socket can be made");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let (says, calls) = (self.says.subscribe(), self.calls.clone());
        running.spawn(async move {
            let listener = UnixListener::from_std(listener).expect("the runtime takes the socket");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, says.clone(), calls.clone()));
            }
        });
        self.running = Some(running);
    }

    /// Sets the mode of the socket, such as 0o000 to keep everybody but root out.
    ///
    /// # Panics
    /// When the agent is away.
    pub fn set_mode(&self, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&self.socket, mode).expect("the socket is ours");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// One connection: each request in a task of its own.
async fn serve(stream: UnixStream, says: watch::Receiver<Says>, calls: Arc<Calls>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, says.clone(), calls.clone()));
    }
}

/// One call. What goes wrong here is the client having left.
async fn answer(
    request: Request<h2::RecvStream>,
    respond: SendResponse<bytes::Bytes>,
    mut says: watch::Receiver<Says>,
    calls: Arc<Calls>,
) {
    let ending;
    let message: fn(&Offer) -> Vec<u8> = match request.uri().path() {
        "/SpiffeWorkloadAPI/FetchX509SVID" => {
            calls.begun.fetch_add(1, Ordering::SeqCst);
            ending = Some(Ending(calls));
            Offer::svids_message
        }
        "/SpiffeWorkloadAPI/FetchX509Bundles" => {
            ending = None;
            Offer::bundles_message
        }
        _ => return refuse(respond, UNIMPLEMENTED, "unknown method"),
    };
    let _ending: Option<Ending> = ending;
    // Against requests forged on behalf of a server of this host (SPIFFE Workload Endpoint §3).
    if request.headers().get("workload.spiffe.io").is_none_or(|marked| marked != "true") {
        return refuse(respond, INVALID_ARGUMENT, "security header missing");
    }
    let Some(mut stream) = begin(respond) else { return };
    loop {
        let now = says.borrow_and_update().clone();
        match now {
            Says::Gives(offer) => {
                if stream.send_data(framed(&message(&offer)).into(), false).is_err() {
                    return;
                }
            }
            Says::Refuses(status, why) => {
                let _ = stream.send_trailers(trailers(status, why));
                return;
            }
            Says::Nothing => {}
        }
        tokio::select! {
            changed = says.changed() => if changed.is_err() { return },
            // The client has left.
            _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return,
        }
    }
}

/// Counts the end of a call, also of one whose runtime ends.
struct Ending(Arc<Calls>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn begin(mut respond: SendResponse<bytes::Bytes>) -> Option<SendStream<bytes::Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a valid head");
    respond.send_response(head, false).ok()
}

fn refuse(respond: SendResponse<bytes::Bytes>, status: u8, why: &'static str) {
    let Some(mut stream) = begin(respond) else { return };
    if stream.send_trailers(trailers(status, why)).is_err() {
        stream.send_reset(Reason::CANCEL);
    }
}

fn trailers(status: u8, why: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    trailers.insert("grpc-message", HeaderValue::from_static(why));
    trailers
}

/// A gRPC message: not compressed, length, bytes.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a test's answer is small");
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// A protobuf field of wire type 2 (length-delimited). An empty one is left out, as proto3 does.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return Vec::new();
    }
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    bytes.extend_from_slice(content);
    bytes
}

/// An entry of `map<string, bytes>`.
fn entry(number: u8, key: &str, roots: &[Vec<u8>]) -> Vec<u8> {
    field(number, &[field(1, key.as_bytes()), field(2, &roots.concat())].concat())
}
