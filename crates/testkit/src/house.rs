//! The real `portcullis` binary as a child process on ports of its own choosing.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No wait in a test may be longer: generous for a loaded machine, and only ever reached by a failure.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How often a file or the process table is looked at while waiting for a state; output lines wake the waiter instead.
const POLL: Duration = Duration::from_millis(20);

/// How to start a [`House`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the house keeps its things; a temporary directory when absent.
    pub dir: Option<PathBuf>,
    /// `receive --config FILE` instead of `dev`.
    pub config: Option<PathBuf>,
    /// Further arguments, after the usual ones (`dev` waits one second for a study to be quiet unless they say otherwise).
    pub args: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// What to run instead of [`binary`]: a script that changes something about the process and becomes it.
    pub program: Option<PathBuf>,
}

/// A running gateway. Dropping it kills it.
pub struct House {
    child: Child,
    home: Home,
    options: Options,
    output: Arc<Output>,
    addr: SocketAddr,
    admin: SocketAddr,
}

enum Home {
    Temporary(TempDir),
    Kept(PathBuf),
}

/// Certificate and key files of one party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Lines of the child's stdout and stderr, in the order in which they were read.
#[derive(Default)]
struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    /// Streams that came to their end: after two nothing more is said.
    ended: u8,
}

impl House {
    /// Starts it and waits until it says on which ports it listens.
    ///
    /// # Panics
    /// When the binary is missing, ends early, or says nothing within [`DEADLINE`]; with everything it said.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let home = match &options.dir {
            Some(dir) => Home::Kept(dir.clone()),
            None => Home::Temporary(TempDir::new().expect("a temporary directory can be made")),
        };
        Self::start_in(home, options)
    }

    fn start_in(home: Home, options: Options) -> Self {
        let mut child = command(home.path(), &options).spawn().expect("the portcullis binary starts");
        let output = Arc::new(Output::default());
        output.follow(child.stdout.take().expect("stdout is piped"));
        output.follow(child.stderr.take().expect("stderr is piped"));
        // The house exists before anything is awaited, so that a failed start still kills the child.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut house = Self { child, home, options, output, addr: nowhere, admin: nowhere };
        house.addr = house.wait_for("the line `listening on`", |lines| announced(lines, "listening on "));
        house.admin = house.wait_for("the line `admin on`", |lines| announced(lines, "admin on http://"));
        house
    }

    /// Where DICOM is spoken.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where health and metrics are served over plain HTTP.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the house keeps its things.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// The files of a development SVID: `hospital-a`, `hospital-b` or `receiver`.
    #[must_use]
    pub fn cert(&self, name: &str) -> CertFiles {
        let certs = self.dir().join("certs");
        CertFiles { cert: certs.join(format!("{name}.pem")), key: certs.join(format!("{name}.key")) }
    }

    /// The root certificate of a development trust domain: `hospital-a.invalid`.
    #[must_use]
    pub fn ca(&self, domain: &str) -> PathBuf {
        self.dir().join("certs").join(domain).join("ca.pem")
    }

    /// Every complete line of the audit log.
    #[must_use]
    pub fn audit(&self) -> Vec<serde_json::Value> {
        json_lines(&self.dir().join("audit.jsonl"))
    }

    /// Every complete line of the published events.
    #[must_use]
    pub fn events(&self) -> Vec<serde_json::Value> {
        json_lines(&self.dir().join("events.jsonl"))
    }

    /// Everything it has said so far on stdout and stderr.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Waits until the lines said so far hold what is looked for.
    ///
    /// # Panics
    /// When they do not within [`DEADLINE`], or the process has ended and never will.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut said = self.output.lock();
        loop {
            if let Some(found) = look(&said.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.ended == 2 || left.is_zero() {
                let why = if said.ended == 2 { "the process has ended" } else { "time is up" };
                let lines = said.lines.join("\n");
                drop(said);
                panic!("waited for {what}, but {why}; it said:\n{lines}");
            }
            said = self.output.changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// SIGKILL: what a power failure or the kernel's memory killer does. Waits until the process is gone.
    pub fn kill(&mut self) {
        // A child that has already ended is killed enough.
        let _ = self.child.kill();
        self.child.wait().expect("our own child can be waited for");
    }

    /// SIGTERM, as a container's end begins; waits for the process to end by itself.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`].
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_terminate();
        self.wait_for_exit()
    }

    /// SIGTERM without waiting: for tests that look at what happens meanwhile.
    ///
    /// # Panics
    /// When the process cannot be signalled.
    pub fn signal_terminate(&self) {
        // The standard library has no SIGTERM and this workspace no unsafe code; POSIX has kill(1).
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill(1) is there").success(), "the process takes SIGTERM");
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`].
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        eventually("the process has ended", || self.child.try_wait().expect("our own child can be waited for"))
    }

    /// Kills what is left of it and starts it again with the same options on the same directory; ports change.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.kill();
        let kept = Home::Kept(self.dir().to_owned());
        let home = std::mem::replace(&mut self.home, kept);
        let options = std::mem::take(&mut self.options);
        drop(self);
        Self::start_in(home, options)
    }

    /// The largest resident set so far, in bytes (`VmHWM` of proc(5)).
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM");
        let kib = line.trim().strip_suffix(" kB").expect("proc(5) counts in kB");
        kib.parse::<u64>().expect("a number") * 1024
    }

    /// CPU time used so far in user and kernel mode (`utime` + `stime` of proc(5)).
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        /// USER_HZ: 100 on every Linux that Rust runs on, whatever the kernel's own tick.
        const TICKS_PER_SECOND: u64 = 100;
        let stat = self.proc("stat");
        // The second field is the program's name in brackets and may hold anything; the rest begins with field 3.
        let (_, rest) = stat.rsplit_once(") ").expect("proc(5) puts the name in brackets");
        let ticks: u64 = rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the process is running")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Home {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the lines of one stream on a thread that ends with it.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                output.lock().lines.push(line);
                output.changed.notify_all();
            }
            output.lock().ended += 1;
            output.changed.notify_all();
        });
    }
}

/// Asks until there is an answer: for states that nobody announces, such as a file on disk.
///
/// # Panics
/// When there is none within [`DEADLINE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// The binary under test: `PORTCULLIS_BIN`, or `portcullis` in the target directory of this test executable, which lies
/// one directory below (`target/debug/deps`).
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("a running program has a path");
        test.ancestors().nth(2).expect("a test lies in target/*/deps").join("portcullis")
    };
    let path = std::env::var_os("PORTCULLIS_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build` first or set PORTCULLIS_BIN", path.display());
    path
}

fn command(dir: &Path, options: &Options) -> Command {
    let mut args: Vec<OsString> = Vec::new();
    if let Some(config) = &options.config {
        args.extend(["receive".into(), "--config".into(), config.into()]);
    } else {
        args.extend(["dev".into(), "--dir".into(), dir.into()]);
        args.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(OsString::from));
        if !options.args.iter().any(|arg| arg.starts_with("--quiet")) {
            args.extend(["--quiet", "1s"].map(OsString::from));
        }
    }
    let mut command = Command::new(options.program.clone().unwrap_or_else(binary));
    command.args(args).args(&options.args).envs(options.env.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn announced(lines: &[String], prefix: &str) -> Option<SocketAddr> {
    let mut rest = lines.iter().filter_map(|line| line.split_once(prefix)).map(|(_, rest)| rest);
    rest.find_map(|rest| rest.split_whitespace().next()?.trim_end_matches('/').parse().ok())
}

/// A last line without its newline is still being written and is left out; so is a line that a killed process left behind, when
/// the next one says so.
fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let complete: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    let explained = |at: usize| complete.get(at + 1).is_some_and(|next| next.contains("\"log_recovered\""));
    let value = |(at, line): (usize, &&str)| match serde_json::from_str(line) {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(explained(at), "every line is one JSON value: {error}");
            None
        }
    };
    complete.iter().enumerate().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_the_line_that_announces_it() {
        let lines = ["starting", "  listening on 127.0.0.1:4104", "admin on http://127.0.0.1:9104/healthz is up"];
        let lines = lines.map(str::to_owned);
        assert_eq!(announced(&lines, "listening on "), Some(SocketAddr::from(([127, 0, 0, 1], 4104))));
        assert_eq!(announced(&lines[..1], "listening on "), None);
        let lines = ["admin on http://127.0.0.1:9104".to_owned()];
        assert_eq!(announced(&lines, "admin on http://"), Some(SocketAddr::from(([127, 0, 0, 1], 9104))));
    }

    #[test]
    fn a_line_still_being_written_is_not_read() {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("x.jsonl");
        assert!(json_lines(&path).is_empty());
        std::fs::write(&path, "{\"a\":1}\n{\"a\":").expect("writable");
        assert_eq!(json_lines(&path), [serde_json::json!({"a": 1})]);
        std::fs::write(&path, "{\"a\":\n{\"reason\":\"log_recovered\"}\n").expect("writable");
        assert_eq!(json_lines(&path), [serde_json::json!({"reason": "log_recovered"})]);
    }

    #[test]
    fn eventually_asks_again_until_there_is_an_answer() {
        let mut asked = 0;
        assert_eq!(
            eventually("three", || {
                asked += 1;
                (asked == 3).then_some(asked)
            }),
            3
        );
    }
}
