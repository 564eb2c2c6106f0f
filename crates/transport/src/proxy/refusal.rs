use crate::FirstBytes;

/// The rule of the PROXY protocol that a connection broke. Whoever is at the other end learns none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyRefusal {
    /// P-10: it does not come from the load balancer. Nothing was read of it.
    #[error(
        "the connection is not from one of receiver.proxy_networks: only the load balancer may connect to this port"
    )]
    SourceNetwork,
    /// P-2: the header did not come in time.
    #[error("no complete PROXY header within receiver.proxy_timeout")]
    Timeout,
    /// The connection ended in the middle of the header.
    #[error("the connection ended in the middle of the PROXY header")]
    Truncated,
    /// P-3: there is no header.
    #[error("no PROXY v2 header: turn it on at the load balancer, and let nobody come past it")]
    Signature,
    /// P-3: a header of version 1.
    #[error("a PROXY header of version 1: set the load balancer to version 2")]
    V1,
    /// P-3: a version that there is not.
    #[error("the PROXY header has another version than 2")]
    Version,
    /// P-3: neither LOCAL nor PROXY.
    #[error("the command of the PROXY header is neither LOCAL nor PROXY")]
    Command,
    /// P-3: an address family or protocol that there is not.
    #[error("the address family and protocol of the PROXY header are none of the specification's")]
    Family,
    /// P-4: longer than any load balancer's.
    #[error("the PROXY header is longer than 1024 bytes")]
    TooLong,
    /// Shorter than the addresses of its family.
    #[error("the PROXY header is too short for its addresses")]
    Address,
    /// P-4: the TLVs do not fill the header exactly.
    #[error("the TLVs of the PROXY header do not fill it exactly")]
    Tlv,
    /// P-5: a wrong checksum, two, or one of another length than four bytes.
    #[error("the checksum of the PROXY header is wrong, or not the only one")]
    Crc,
    /// P-6: a VPC endpoint that is none, or a second one.
    #[error("the VPC endpoint of the PROXY header is malformed, or not the only one")]
    Vpce,
    /// P-8: the caller sent a header of its own, to be taken for somebody else.
    #[error("a second PROXY header: the caller behind the load balancer tried to speak for it")]
    Duplicate,
    /// P-8: what follows the header is not TLS.
    #[error("after the PROXY header: {0}")]
    NotTls(FirstBytes),
}

impl ProxyRefusal {
    /// The reason code for the audit log and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SourceNetwork => "proxy_source_network",
            Self::Timeout => "proxy_timeout",
            Self::Truncated => "proxy_truncated",
            Self::Signature => "proxy_signature",
            Self::V1 => "proxy_v1",
            Self::Version => "proxy_version",
            Self::Command => "proxy_command",
            Self::Family => "proxy_family",
            Self::TooLong => "proxy_too_long",
            Self::Address => "proxy_address",
            Self::Tlv => "proxy_tlv",
            Self::Crc => "proxy_crc",
            Self::Vpce => "proxy_vpce",
            Self::Duplicate => "proxy_header_duplicate",
            Self::NotTls(_) => "proxy_not_tls",
        }
    }
}
