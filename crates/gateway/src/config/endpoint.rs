//! Where a SPIFFE agent serves the Workload API (SPIFFE Workload Endpoint §4).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A Unix socket, or a TCP port of this host. Private keys come over it in the clear, so nothing further away is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Endpoint {
    /// `unix:/run/spire/agent.sock`
    Unix(PathBuf),
    /// `tcp:127.0.0.1:8081`. Whoever takes the port while the agent is away is believed: prefer a socket.
    Loopback(SocketAddr),
}

/// The text is no endpoint that may be asked for private keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Another scheme, or none.
    #[error("a Workload API endpoint is unix:/absolute/path or tcp:127.0.0.1:PORT")]
    Scheme,
    /// `unix:` with a host, a relative or empty path, or characters that mean something in a URI.
    #[error(
        "after unix: comes an absolute path without host, query, fragment or percent sign: unix:/run/spire/agent.sock"
    )]
    Path,
    /// `tcp:` without IP address and port, or with more.
    #[error("after tcp: come an IP address and a port and nothing else: tcp:127.0.0.1:8081")]
    Address,
    /// Another host.
    #[error(
        "private keys come over this connection in the clear: only a unix: socket or a loopback address may be asked"
    )]
    Remote,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // An empty authority may be written or left out; any other is a host.
            let path = path.strip_prefix("//").unwrap_or(path);
            let plain = path.starts_with('/') && !path.starts_with("//") && !path.ends_with('/');
            return if plain && !path.contains(['?', '#', '%', '\0']) {
                Ok(Self::Unix(path.into()))
            } else {
                Err(EndpointError::Path)
            };
        }
        let address = text.strip_prefix("tcp:").ok_or(EndpointError::Scheme)?;
        let address = address.strip_prefix("//").unwrap_or(address);
        let address: SocketAddr = address.parse().map_err(|_| EndpointError::Address)?;
        if address.port() == 0 {
            return Err(EndpointError::Address);
        }
        if address.ip().is_loopback() { Ok(Self::Loopback(address)) } else { Err(EndpointError::Remote) }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_of_this_host_is_an_endpoint() {
        let unix = |path: &str| Ok(Endpoint::Unix(path.into()));
        let loopback = |address: &str| Ok(Endpoint::Loopback(address.parse().expect("an address")));
        for (name, text, expected) in [
            ("short", "unix:/run/spire/agent.sock", unix("/run/spire/agent.sock")),
            ("empty authority", "unix:///run/spire/agent.sock", unix("/run/spire/agent.sock")),
            ("space", "unix:/run/my agent.sock", unix("/run/my agent.sock")),
            ("host", "unix://run/spire/agent.sock", Err(EndpointError::Path)),
            ("four slashes", "unix:////run/agent.sock", Err(EndpointError::Path)),
            ("relative", "unix:agent.sock", Err(EndpointError::Path)),
            ("no path", "unix:", Err(EndpointError::Path)),
            ("root", "unix:///", Err(EndpointError::Path)),
            ("query", "unix:/agent.sock?x", Err(EndpointError::Path)),
            ("fragment", "unix:/agent.sock#x", Err(EndpointError::Path)),
            ("escape", "unix:/agent%2esock", Err(EndpointError::Path)),
            ("loopback", "tcp:127.0.0.1:8081", loopback("127.0.0.1:8081")),
            ("loopback as URI", "tcp://127.0.0.1:8081", loopback("127.0.0.1:8081")),
            ("loopback, version 6", "tcp://[::1]:8081", loopback("[::1]:8081")),
            ("another host", "tcp:10.0.0.7:8081", Err(EndpointError::Remote)),
            ("every host", "tcp:0.0.0.0:8081", Err(EndpointError::Remote)),
            ("link-local", "tcp:169.254.170.2:80", Err(EndpointError::Remote)),
            ("a name", "tcp:localhost:8081", Err(EndpointError::Address)),
            ("no port", "tcp:127.0.0.1", Err(EndpointError::Address)),
            ("port 0", "tcp:127.0.0.1:0", Err(EndpointError::Address)),
            ("a path after the port", "tcp:127.0.0.1:8081/x", Err(EndpointError::Address)),
            ("another scheme", "http://127.0.0.1:8081", Err(EndpointError::Scheme)),
            ("upper case", "UNIX:/agent.sock", Err(EndpointError::Scheme)),
            ("a path alone", "/run/spire/agent.sock", Err(EndpointError::Scheme)),
            ("nothing", "", Err(EndpointError::Scheme)),
        ] {
            assert_eq!(text.parse::<Endpoint>(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["unix:/run/spire/agent.sock", "tcp:127.0.0.1:8081", "tcp:[::1]:8081"] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!(endpoint.to_string(), text);
        }
    }
}
