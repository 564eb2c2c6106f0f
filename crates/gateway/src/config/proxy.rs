use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use access::Cidr;
use serde::{Deserialize, Deserializer};

use super::Receiver;

/// Whether a load balancer is in front that speaks the PROXY protocol, version 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// Nobody sends a header; one that comes is refused.
    #[default]
    Off,
    /// Every connection has one, and comes from the load balancer.
    Required,
}

/// Mode and networks must agree: neither may be forgotten.
pub(super) fn check(receiver: &Receiver) -> Result<(), String> {
    let networks = &receiver.proxy_networks;
    match receiver.proxy_protocol {
        ProxyProtocol::Off if networks.is_empty() => Ok(()),
        ProxyProtocol::Off => {
            Err("receiver.proxy_networks is set while receiver.proxy_protocol is \"off\": set it to \
                                   \"required\", or remove the networks"
                .to_owned())
        }
        ProxyProtocol::Required if networks.is_empty() => Err(
            "receiver.proxy_protocol is \"required\" and receiver.proxy_networks is empty: name the load balancer's \
                 subnets, such as [\"10.0.1.0/24\"]"
                .to_owned(),
        ),
        ProxyProtocol::Required => check_required(receiver),
    }
}

fn check_required(receiver: &Receiver) -> Result<(), String> {
    if let Some(network) = receiver.proxy_networks.iter().find(|network| is_everywhere(network)) {
        return Err(format!(
            "receiver.proxy_networks has {network}, which is everybody: name the load balancer's subnets, or any caller \
             could claim any address"
        ));
    }
    if receiver.proxy_timeout > receiver.handshake_timeout {
        return Err(
            "receiver.proxy_timeout is longer than receiver.handshake_timeout, which covers it: shorten the one \
                    or lengthen the other"
                .to_owned(),
        );
    }
    Ok(())
}

fn is_everywhere(network: &Cidr) -> bool {
    let ends = |low: IpAddr, high: IpAddr| network.contains(low) && network.contains(high);
    ends(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into())
        || ends(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into())
}

/// For serde: a list of `address/bits`.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cidr>, D::Error> {
    let parse = |text: String| {
        let problem = || format!("{text:?} is not a network such as 10.0.1.0/24 (bits beyond the prefix must be zero)");
        Cidr::parse(&text).ok_or_else(problem).map_err(serde::de::Error::custom)
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MINIMAL, parse};
    use super::*;

    #[test]
    fn the_load_balancer_is_named_exactly_when_its_header_is_required() {
        let problem = |section: &str| {
            let config = parse(&format!("{MINIMAL}\n[receiver]\n{section}"), &[]).expect(section);
            config.check().err()
        };
        const NETWORKS: &str = "proxy_networks = [\"10.0.1.0/24\", \"2001:db8::/64\"]\n";
        const REQUIRED: &str = "proxy_protocol = \"required\"\n";
        assert_eq!(problem("proxy_protocol = \"off\""), None);
        assert_eq!(problem(&format!("{REQUIRED}{NETWORKS}")), None);
        assert_eq!(problem("handshake_timeout = \"1s\""), None, "without a header its time means nothing");
        for (section, advice) in [
            (REQUIRED.to_owned(), "name the load balancer's subnets"),
            (NETWORKS.to_owned(), "remove the networks"),
            (format!("{REQUIRED}proxy_networks = [\"10.0.1.0/24\", \"0.0.0.0/0\"]"), "0.0.0.0/0, which is everybody"),
            (format!("{REQUIRED}proxy_networks = [\"::/0\"]"), "::/0, which is everybody"),
            (format!("{REQUIRED}{NETWORKS}handshake_timeout = \"4s\""), "lengthen the other"),
            (format!("{REQUIRED}{NETWORKS}proxy_timeout = \"0s\""), "proxy_timeout must not be zero"),
        ] {
            let problem = problem(&section);
            assert!(problem.as_ref().is_some_and(|text| text.contains(advice)), "{section}: {problem:?}");
        }
        for (name, section) in [
            ("an address", "proxy_networks = [\"10.0.1.7\"]"),
            ("host bits", "proxy_networks = [\"10.0.1.7/24\"]"),
            ("a mode that there is not", "proxy_protocol = \"auto\""),
        ] {
            assert!(parse(&format!("{MINIMAL}\n[receiver]\n{section}"), &[]).is_err(), "{name}");
        }
        let overridden = parse(MINIMAL, &[("PORTCULLIS__RECEIVER__PROXY_PROTOCOL", "required")]).expect("valid");
        assert_eq!(overridden.receiver.proxy_protocol, ProxyProtocol::Required);
    }
}
