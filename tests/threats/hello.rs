//! TLS handshakes made by hand (RFC 5246 §7.4.1.2, RFC 8446 §4.1.2): what no honest library would say.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use testkit::peer::plain;

/// TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, which the receiver takes.
pub(crate) const GOOD_SUITE: u16 = 0xC02C;

/// How the receiver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// ServerHello: the version, the suite and the compression that it chose.
    Hello { version: u16, suite: u16, compression: u8 },
    /// A fatal alert: its description (RFC 8446 §6.2).
    Alert(u8),
    /// It closed without a word.
    Closed,
}

/// A ClientHello of TLS 1.2 that is good, but for what is changed.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) record_version: u16,
    pub(crate) version: u16,
    pub(crate) suites: Vec<u16>,
    pub(crate) compressions: Vec<u8>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    pub(crate) fn good() -> Self {
        let extensions = vec![
            // extended_master_secret (RFC 7627)
            (23, vec![]),
            // supported_groups: secp256r1
            (10, vec![0, 2, 0, 23]),
            // ec_point_formats: uncompressed
            (11, vec![1, 0]),
            // signature_algorithms: ecdsa_secp256r1_sha256
            (13, vec![0, 2, 4, 3]),
        ];
        let (record_version, version) = (0x0301, 0x0303);
        Self { record_version, version, suites: vec![GOOD_SUITE], compressions: vec![0], extensions }
    }

    pub(crate) fn without(mut self, extension: u16) -> Self {
        self.extensions.retain(|(known, _)| *known != extension);
        self
    }

    pub(crate) fn with(mut self, extension: u16, value: &[u8]) -> Self {
        self.extensions.push((extension, value.to_vec()));
        self
    }

    /// The handshake message, without its record.
    pub(crate) fn message(&self) -> Vec<u8> {
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, value)| [&kind.to_be_bytes()[..], &two(value.len()), value].concat())
            .collect();
        let body = [
            &self.version.to_be_bytes()[..],
            &[0x5A; 32],
            &[0],
            &two(suites.len()),
            &suites,
            &[u8::try_from(self.compressions.len()).expect("few")],
            &self.compressions,
            &two(extensions.len()),
            &extensions,
        ]
        .concat();
        [&[1, 0], &two(body.len())[..], &body].concat()
    }

    /// In one record.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        record(22, self.record_version, &self.message())
    }
}

/// A record of that type.
pub(crate) fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    [&[kind], &version.to_be_bytes()[..], &two(body.len()), body].concat()
}

fn two(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("short").to_be_bytes()
}

/// Sends these bytes and no more, and reads the first record of the answer.
pub(crate) fn answer_to(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = plain(address).expect("it listens");
    // A receiver that has closed already has said all it wanted.
    let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    // A reset is an end as good as any.
    let _ = socket.read_to_end(&mut said);
    match said.as_slice() {
        [] => Answer::Closed,
        [21, _, _, 0, 2, 2, description, ..] => Answer::Alert(*description),
        // Type, version and length of the record; type and length of the message.
        [22, _, _, _, _, 2, _, _, _, high, low, rest @ ..] => {
            let session = usize::from(rest[32]);
            let [suite_high, suite_low, compression, ..] = rest[33 + session..] else { panic!("half a ServerHello") };
            let (version, suite) = (u16::from_be_bytes([*high, *low]), u16::from_be_bytes([suite_high, suite_low]));
            Answer::Hello { version, suite, compression }
        }
        _ => panic!("neither alert nor ServerHello: {said:02X?}"),
    }
}
