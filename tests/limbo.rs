//! svid-limbo: every vector against the verifier and, over a real socket, against the receiver. The page docs/svid-limbo.md is
//! what was observed.

mod page;
mod resumption;
mod runs;

use std::path::{Path, PathBuf};

use gateway::limbo::{self, Case, Expected, Mint, Profile};
use gateway::pki::{SVID_LIFETIME, write_pair};
use model::{SpiffeId, Timestamp};
use testkit::house::{House, Options};
use testkit::pki::{Pki, RECEIVER};
use testkit::stranger::Tls;

use self::page::{Observed, Pairs, Row};
use self::runs::{Receiver, judge, run_pairs};

#[test]
fn each_vector_is_answered_by_the_receiver_as_by_the_verifier_and_the_page_says_so() {
    let mint = Mint::new(now()).expect("keys can be made");
    let (mut compatible, mut strict) =
        (Receiver::start(&mint, Profile::Compatible), Receiver::start(&mint, Profile::Strict));
    let mut rows = Vec::new();
    for case in limbo::refused().iter().chain(&limbo::accepted()) {
        let receiver = if case.profile() == Profile::Strict { &mut strict } else { &mut compatible };
        let observed = Observed {
            function: judge(&mint, case),
            sockets: over_a_socket(case)
                .then(|| [Tls::V13, Tls::V12].map(|version| receiver.judge(&mint, case, version))),
        };
        rows.push(Row { case: case.clone(), observed });
    }
    let wrong: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let pairs = limbo::pairs();
    let functions = pairs.iter().filter(|case| page::is_right(case, &judge(&mint, case))).count();
    let (tried, right, wrong) = run_pairs(&mint, &pairs, compatible, strict);
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
    page::assert_current(&rows, &Pairs { all: pairs.len(), functions, tried, right });
}

/// Whether a client can show it, the receiver has keys for it, and it is still true when it gets there.
fn over_a_socket(case: &Case) -> bool {
    case.purpose() == access::Purpose::Client && !case.to_the_second()
}

pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// A receiver that trusts the bundles of the suite, has their revocation lists and the deny-list, and knows every identity of
/// theirs.
fn house(mint: &Mint, profile: Profile, dir: &Path) -> House {
    let config = Some(furnish(mint, profile, dir));
    House::start(Options { dir: Some(dir.to_owned()), config, ..Options::default() })
}

/// Writes everything that such a receiver needs. The revocation lists of the bundle with that number are in `NUMBER.crl`.
pub(crate) fn furnish(mint: &Mint, profile: Profile, dir: &Path) -> PathBuf {
    let bundles = mint.bundles();
    let mut gateway = format!(
        "[receiver]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [identity]\nchain = \"receiver.pem\"\nkey = \"receiver.key\"\nrules = \"{}\"\n\
         [access]\ntable = \"access.toml\"\ndeny_list = \"deny.toml\"\n[archive]\ndir = \".\"\n[audit]\nfile = \"audit.jsonl\"\n",
        profile.as_str()
    );
    let mut table = "revision = 1\n".to_owned();
    let domains: Vec<_> = bundles.iter().map(|bundle| format!("{:?}", bundle.domain.as_str())).collect();
    table += &format!("allow_prefix = [{}]\n", domains.join(", "));
    for (number, bundle) in bundles.iter().enumerate() {
        std::fs::write(dir.join(format!("{number}.pem")), &bundle.pem).expect("ours");
        gateway += &format!("[[trust]]\ndomain = \"{}\"\nbundle = \"{number}.pem\"\n", bundle.domain);
        if let Some(lists) = &bundle.crls {
            std::fs::write(dir.join(format!("{number}.crl")), lists).expect("ours");
            gateway += &format!("crls = [\"{number}.crl\"]\n");
        }
        table += &format!(
            "[[row]]\nid = \"{number}\"\neffect = \"allow\"\nprefix = \"spiffe://{}/svid/\"\ntenant = \"t{number}\"\n\
             called_aets = [\"LIMBO\"]\ncalling_aets = [\"*\"]\noperations = [\"echo\", \"store\"]\n\
             sop_classes = [\"*\"]\ntransfer_syntaxes = [\"*\"]\nowner = \"limbo\"\n",
            bundle.domain
        );
    }
    std::fs::write(dir.join("deny.toml"), mint.deny_list()).expect("ours");
    let id = SpiffeId::parse(RECEIVER).expect("a valid ID");
    let issued = Pki::new().authority("gateway.invalid").issue(&id, SVID_LIFETIME, std::time::SystemTime::now());
    write_pair(&issued.expect("an SVID"), &id, &dir.join("receiver.pem"), &dir.join("receiver.key")).expect("ours");
    let config = dir.join("gateway.toml");
    std::fs::write(&config, gateway).and_then(|()| std::fs::write(dir.join("access.toml"), table)).expect("ours");
    config
}

/// What a vector should be answered with, as the page writes it.
fn expected(case: &Case) -> String {
    match case.expected() {
        Expected::Accept(_) => "accept".to_owned(),
        Expected::Reject(codes) => codes[0].as_str().to_owned(),
    }
}
