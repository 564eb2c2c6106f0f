//! Promise 4: "A tenant can neither read, overwrite nor merge into another tenant's study, even with the same UIDs."

use std::fs;

use serde_json::Value;
use testkit::house::{House, eventually};

use crate::support::archive::{assert_rows_have_objects, files, rows, study};
use crate::support::instance::Instance;
use crate::support::{SUCCESS, associated, associated_b, audited, house};

#[test]
fn the_same_uids_of_two_tenants_stay_two_studies() {
    let cases = [("the same bytes", 5), ("other bytes", 6)];
    for (name, seed) in cases {
        let house = house();
        let ours = Instance::numbered(1).with_pixels(1000, 5);
        let theirs = Instance::numbered(1).with_pixels(1000, seed);
        let (mut a, mut b) = (associated(&house), associated_b(&house));
        assert_eq!(a.store(&ours.claim(), &ours.data_set()), SUCCESS, "{name}");
        assert_eq!(b.store(&theirs.claim(), &theirs.data_set()), SUCCESS, "{name}");
        assert_eq!(a.store(&ours.claim(), &ours.data_set()), SUCCESS, "{name}");

        let alert = audited(&house, &[("event", "instance"), ("alert", "cross_tenant_uid")]);
        assert_eq!(alert["tenant"], "hospital-b", "{name}: the second tenant raises it");
        let rows = rows(house.dir());
        assert_eq!(rows.len(), 2, "{name}: one row each");
        assert_rows_have_objects(house.dir(), &rows);
        for (tenant, instance) in [("hospital-a", &ours), ("hospital-b", &theirs)] {
            let held = study(house.dir(), tenant, &instance.study);
            assert_eq!(held.len(), 1, "{name}");
            assert_eq!(held[0].held.digest, model::Digest::of(&instance.data_set()), "{name}: {tenant} has its own");
            assert_manifest_is_of_one_tenant(&house, tenant, &instance.study, name);
        }
        assert_eq!(files(house.dir(), "instances").len(), 2, "{name}: an object each, even of equal bytes");
    }
}

fn assert_manifest_is_of_one_tenant(house: &House, tenant: &str, study: &str, name: &str) {
    let event = eventually("the tenant's own event", || {
        house.events().into_iter().find(|event| event["tenant"] == tenant && event["study"] == study)
    });
    assert_eq!(event["instances"], 1, "{name}");
    let key = event["manifest"].as_str().expect("an event names its manifest");
    let own = format!("manifests/{tenant}/{study}/");
    assert!(key.starts_with(&own), "{name}: {key}");
    let text = fs::read_to_string(house.dir().join("objects").join(key)).expect("the manifest is there");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest is JSON");
    let objects: Vec<_> = manifest["instances"].as_array().expect("a list").iter().map(|one| &one["object"]).collect();
    let own = format!("instances/{tenant}/");
    assert!(objects.iter().all(|key| key.as_str().is_some_and(|key| key.starts_with(&own))), "{name}: {objects:?}");
}
