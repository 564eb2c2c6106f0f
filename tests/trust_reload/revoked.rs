//! CV-7: a revocation list or the deny-list that changes ends whom it names, live and new, and nobody else.

use std::fs;
use std::path::Path;

use gateway::limbo::{Mint, Profile, Vector, accepted, refused};
use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Peer, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use super::{
    A_BUNDLE, A_ID, B_ID, ENDED, Half, POLL, Site, assert_ended, assert_shut_out, leaf, sender, stores, svid, taken,
};
use crate::limbo;
use crate::support::archive::rows;
use crate::support::{SUCCESS, audited, portcullis, said, stdout};

/// The serial number of who shows this leaf, as the log has it.
fn serial(house: &House, leaf: &str) -> String {
    let line = audited(house, &[("reason", "granted"), ("leaf_sha256", leaf)]);
    line["serial"].as_str().expect("the log has the serial number").to_owned()
}

#[test]
fn a_new_revocation_list_ends_whom_it_names_and_nobody_else() {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\"\ncrls = [\"a.crl\"]"));
    site.revoke("a.crl", 3600, &[]);
    let house = site.house(&[]);
    // Two SVIDs of one identity.
    let (named, other, b) = (svid(&house, A_ID), svid(&house, A_ID), svid(&house, B_ID));
    let (mut idle, mut busy) = (sender(&house, &named, A_ID), sender(&house, &named, A_ID));
    let (mut same, mut else_where) = (sender(&house, &other, A_ID), sender(&house, &b, B_ID));
    stores(&mut idle, 1);
    let half = Half::of(&mut busy, 2);
    taken(&house, "certificates_changed", || site.revoke("a.crl", 3600, &[&serial(&house, &leaf(&named))]));
    assert_ended(&house, &mut idle, &named, "revoked");
    half.finish(&mut busy);
    assert_eq!(busy.outcome(), ENDED, "also in the middle of an instance");
    assert_shut_out(&house, &named, A_ID, "revoked");
    stores(&mut same, 3);
    stores(&mut else_where, 4);
    stores(&mut sender(&house, &other, A_ID), 5);
    assert!(rows(house.dir()).iter().all(|row| row.held.name.instance.as_str() != half.instance.uid));
}

/// What a client of the limbo suite shows.
fn vector(mint: &Mint, id: &str) -> Vector {
    let case = refused().into_iter().chain(accepted()).find(|case| case.id() == id).expect("it is in the suite");
    mint.mint(&case, limbo::now()).expect("minted")
}

fn present(house: &House, vector: &Vector) -> Associated {
    show(house, vector).map_or(Associated::Closed, |(_, answer)| answer)
}

fn show(house: &House, vector: &Vector) -> Option<(Peer, Associated)> {
    let stranger = Stranger::new(&vector.chain, vector.key_pem.as_deref(), Tls::V13);
    let mut peer = Peer::connect_as(house.addr(), &stranger).ok()?;
    let answer = peer.associate("LIMBO", "CT1", sample_contexts());
    Some((peer, answer))
}

#[test]
fn a_new_revocation_list_that_names_an_intermediate_ends_everybody_below_it_and_nobody_else() {
    let mint = Mint::new(limbo::now()).expect("keys can be made");
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = limbo::furnish(&mint, Profile::Compatible, home.path());
    let lists = |domain: &str| {
        let at = mint.bundles().iter().position(|bundle| bundle.domain.as_str() == domain).expect("it is in the suite");
        home.path().join(format!("{at}.crl"))
    };
    // Another domain's list in the place of the domain's own: it counts for nobody.
    let own = fs::read(lists("listed.invalid")).expect("it was written");
    fs::copy(lists("partial.invalid"), lists("listed.invalid")).expect("ours");
    let env = vec![(POLL.0.to_owned(), POLL.1.to_owned())];
    let dir = Some(home.path().to_owned());
    let house = House::start(Options { dir, config: Some(config), env, ..Options::default() });
    let below = vector(&mint, "V-32/intermediate-revoked");
    let (itself, good) = (vector(&mint, "V-32/leaf-revoked"), vector(&mint, "good/lists"));
    let [mut under, mut named, mut same] = [&below, &itself, &good].map(|vector| {
        let (peer, answer) = show(&house, vector).expect("nobody is revoked yet");
        assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
        peer
    });
    taken(&house, "certificates_changed", || put(&lists("listed.invalid"), &own));
    for (peer, vector) in [(&mut under, &below), (&mut named, &itself)] {
        assert_eq!(peer.outcome(), ENDED);
        let leaf = model::Digest::of(&vector.chain[0]).to_string();
        audited(&house, &[("decision", "terminate"), ("reason", "revoked"), ("leaf_sha256", &leaf)]);
        assert_eq!(present(&house, vector), Associated::Closed);
        audited(&house, &[("event", "connection"), ("reason", "revoked"), ("leaf_sha256", &leaf)]);
    }
    assert_eq!(same.echo(), SUCCESS, "of the same domain, under another intermediate");
    assert!(matches!(present(&house, &good), Associated::Accepted(_)));
}

fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).expect("ours");
}

/// How a deny-list names a certificate, by what `portcullis certs show` prints of it: its leaf; its issuer and serial number; its
/// identity.
fn entries(site: &Site, chain_pem: &str) -> [String; 3] {
    site.put("shown.pem", chain_pem);
    let output = portcullis(&["certs", "show", site.path("shown.pem").to_str().expect("a path of text"), "--json"]);
    let shown: serde_json::Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", said(&output)));
    let text = |key: &str| {
        let found = find(&shown, key).unwrap_or_else(|| panic!("{key} in {shown}"));
        found.as_str().expect("text").to_owned()
    };
    [
        format!("leaf_sha256 = \"{}\"", text("sha256")),
        format!("issuer_sha256 = \"{}\"\nserial = \"{}\"", text("issuer_sha256"), text("serial")),
        format!("spiffe_id = \"{}\"", text("spiffe_id")),
    ]
}

/// The first value of that key, however deep.
fn find<'v>(value: &'v serde_json::Value, key: &str) -> Option<&'v serde_json::Value> {
    match value {
        serde_json::Value::Object(members) => {
            members.get(key).or_else(|| members.values().find_map(|member| find(member, key)))
        }
        serde_json::Value::Array(all) => all.iter().find_map(|one| find(one, key)),
        _ => None,
    }
}

#[test]
fn each_kind_of_entry_of_the_deny_list_ends_whom_it_names_and_nobody_else() {
    let site = Site::trusting(&format!("bundle = \"{A_BUNDLE}\""));
    site.put("deny.toml", "# nobody\n");
    let house = site.house(&[("PORTCULLIS__ACCESS__DENY_LIST", "deny.toml")]);
    let (named, other, b) = (svid(&house, A_ID), svid(&house, A_ID), svid(&house, B_ID));
    let mut elsewhere = sender(&house, &b, B_ID);
    let mut number = 0;
    for (entry, the_whole_identity) in entries(&site, &named.chain_pem).iter().zip([false, false, true]) {
        let (mut live, mut same) = (sender(&house, &named, A_ID), sender(&house, &other, A_ID));
        let text = format!("[[deny]]\n{entry}\nreason = \"the key was seen elsewhere\"\nticket = \"SEC-7\"\n");
        taken(&house, "certificates_changed", || site.put("deny.toml", text));
        assert_ended(&house, &mut live, &named, "revoked");
        assert_shut_out(&house, &named, A_ID, "revoked");
        if the_whole_identity {
            assert_ended(&house, &mut same, &other, "revoked");
            assert_shut_out(&house, &other, A_ID, "revoked");
        } else {
            number += 1;
            stores(&mut same, number);
            assert_eq!(sender(&house, &other, A_ID).echo(), SUCCESS, "{entry}");
        }
        number += 1;
        stores(&mut elsewhere, number);
        let said = house.audit().iter().any(|line| line["detail"].as_str().is_some_and(|text| text.contains("SEC-7")));
        assert!(said, "the log says why");
        taken(&house, "certificates_changed", || site.put("deny.toml", format!("# nobody, {number}\n")));
        eventually("who is taken off the list is let in again", || super::associate(&house, &named, A_ID).ok());
    }
}
