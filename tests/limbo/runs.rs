//! Asking the verifier, and asking a receiver.

use std::collections::HashMap;

use access::{DenyList, TrustBundles};
use gateway::limbo::{Case, Expected, Mint, Profile};
use model::Digest;
use serde_json::Value;
use tempfile::TempDir;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Peer, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use super::{house, now, over_a_socket, page};

/// Connections at a time when the pairs are run.
const THREADS: usize = 4;

/// What the verifier says to a vector that is minted now: `accept` if it finds exactly the right identity, or a code.
pub(crate) fn judge(mint: &Mint, case: &Case) -> String {
    let vector = mint.mint(case, now()).expect("minted");
    let chain: Vec<&[u8]> = vector.chain.iter().map(Vec::as_slice).collect();
    match access::verify(&chain, &bundles(mint), &case.profile().rules(), vector.at, case.purpose()) {
        Ok(svid) => identified(case, svid.id().as_str()),
        Err(rejection) => rejection.code.as_str().to_owned(),
    }
}

fn identified(case: &Case, found: &str) -> String {
    match case.expected() {
        Expected::Accept(id) if id == found => "accept".to_owned(),
        _ => format!("accepted as {found}"),
    }
}

fn bundles(mint: &Mint) -> TrustBundles {
    let bundles = mint.bundles();
    let crls = bundles.iter().filter_map(|bundle| Some((bundle.domain.clone(), bundle.crls.as_deref()?.as_bytes())));
    let trusted = TrustBundles::new(bundles.iter().map(|bundle| (bundle.domain.clone(), bundle.pem.as_bytes())));
    let trusted = trusted.and_then(|trusted| trusted.with_crls(crls)).expect("usable");
    trusted.with_deny_list(DenyList::parse(&mint.deny_list()).expect("well-formed"))
}

/// A house, and how much of its audit log was read.
pub(crate) struct Receiver {
    house: House,
    read: usize,
    _home: TempDir,
}

impl Receiver {
    pub(crate) fn start(mint: &Mint, profile: Profile) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self { house: house(mint, profile, home.path()), read: 0, _home: home }
    }

    /// What the receiver says to a vector that is minted now, by its audit log.
    pub(crate) fn judge(&mut self, mint: &Mint, case: &Case, version: Tls) -> String {
        let leaf = show(&self.house, mint, case, version);
        let verdict = eventually(case.id(), || {
            let all = self.house.audit();
            let at = (self.read..all.len()).find(|at| is_verdict(&all[*at]))?;
            self.read = at + 1;
            Some(all[at].clone())
        });
        // What is refused before the chain is looked at has no digest.
        if let (Some(found), Some(leaf)) = (verdict["leaf_sha256"].as_str(), leaf) {
            assert_eq!(found, leaf.to_string(), "{}: the verdict is about this leaf", case.id());
        }
        let reason = verdict["reason"].as_str().expect("a verdict has a reason").to_owned();
        if verdict["event"] == "connection" {
            let told = |lines: &[String]| lines.iter().any(|line| line.contains(&reason)).then_some(());
            self.house.wait_for("a log line with the reason", told);
            return reason;
        }
        match reason.as_str() {
            "granted" => {
                identified(case, verdict["spiffe_id"].as_str().expect("a granted association has an identity"))
            }
            _ => reason,
        }
    }
}

/// An answer to a certificate: the connection was refused, or its association was judged.
fn is_verdict(line: &Value) -> bool {
    match line["event"].as_str() {
        Some("connection") => line["decision"] == "deny",
        Some("association") => line["decision"] == "allow" || line["decision"] == "deny",
        _ => false,
    }
}

/// Connects, and asks for an association where that is possible. Gives the digest of the leaf.
fn show(house: &House, mint: &Mint, case: &Case, version: Tls) -> Option<Digest> {
    let vector = mint.mint(case, now()).expect("minted");
    let stranger = Stranger::new(&vector.chain, vector.key_pem.as_deref(), version);
    if let Ok(mut peer) = Peer::connect_as(house.addr(), &stranger) {
        let answer = peer.associate("LIMBO", "CT1", sample_contexts());
        let good = matches!(case.expected(), Expected::Accept(_));
        assert_eq!(matches!(answer, Associated::Accepted(_)), good, "{}: {answer:?}", case.id());
    }
    vector.chain.first().map(|der| Digest::of(der))
}

/// Shows every pair that can be shown to the receiver of its profile over TLS 1.3. Gives how many were shown, how many of them
/// were refused by one of their codes, and what is wrong with the others.
pub(crate) fn run_pairs(
    mint: &Mint,
    pairs: &[Case],
    compatible: Receiver,
    strict: Receiver,
) -> (usize, usize, Vec<String>) {
    // Of a chain that is too large the log has no digest to find it by: it is refused unread.
    let shown = |case: &&Case| over_a_socket(case) && !case.rules().contains(&"V-2");
    let (mut tried, mut wrong) = (0, Vec::new());
    for (profile, mut receiver) in [(Profile::Compatible, compatible), (Profile::Strict, strict)] {
        let cases: Vec<&Case> = pairs.iter().filter(|case| case.profile() == profile).filter(shown).collect();
        tried += cases.len();
        let leaves = show_all(&receiver.house, mint, &cases);
        assert!(receiver.house.terminate().success());
        let audit = receiver.house.audit();
        let found: HashMap<&str, &str> = audit
            .iter()
            .filter(|line| is_verdict(line))
            .filter_map(|line| Some((line["leaf_sha256"].as_str()?, line["reason"].as_str()?)))
            .collect();
        for (leaf, case) in &leaves {
            let reason = found.get(leaf.as_str()).copied().unwrap_or("no verdict");
            if !page::is_right(case, reason) {
                wrong.push(format!("{}: {reason}", case.id()));
            }
        }
    }
    (tried, tried - wrong.len(), wrong)
}

/// Shows them, several at a time. Gives each by the digest of its leaf.
fn show_all<'c>(house: &House, mint: &Mint, cases: &[&'c Case]) -> HashMap<String, &'c Case> {
    let run = |part: &[&'c Case]| {
        let leaf = |case: &&'c Case| show(house, mint, case, Tls::V13).map(|leaf| (leaf.to_string(), *case));
        part.iter().filter_map(leaf).collect::<Vec<_>>()
    };
    let parts: Vec<_> = cases.chunks(cases.len().div_ceil(THREADS)).collect();
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || run(part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}
