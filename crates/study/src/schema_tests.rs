//! The published schemas name exactly the fields that are written.

use std::collections::BTreeSet;

use model::{Digest, InstanceName, SpiffeId, Tenant, Timestamp, Uid};
use serde_json::Value;

use crate::{HeldInstance, Reason, StableStudy, manifest};

const MANIFEST: &str = include_str!("../../../docs/schema/manifest.schema.json");
const EVENT: &str = include_str!("../../../docs/schema/event.schema.json");

fn stable() -> StableStudy {
    let held = HeldInstance {
        name: InstanceName {
            study: Uid::parse("1.2").expect("valid"),
            series: Uid::parse("1.3").expect("valid"),
            instance: Uid::parse("1.4").expect("valid"),
            class: Uid::parse("1.5").expect("valid"),
        },
        transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").expect("valid"),
        size: 3,
        digest: Digest::of(b"abc"),
        object: "instances/a/1.2/1.3/1.4/ba78.dcm".to_owned(),
        received_at: Timestamp::from_seconds(1),
        sender: SpiffeId::parse("spiffe://a.example/ct1").expect("valid"),
        table_revision: 7,
    };
    let tenant = Tenant::parse("a").expect("valid");
    let study = Uid::parse("1.2").expect("valid");
    StableStudy::new(manifest(&tenant, &study, 1, vec![held], Reason::Quiet, Timestamp::from_seconds(2)))
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

/// Both lists of the schema, `properties` and `required`, must be the names written: nothing is optional.
fn assert_described(what: &str, written: &Value, schema: &Value) {
    assert_eq!(names(&schema["properties"]), names(written), "{what}: properties");
    let required = schema["required"].as_array().expect("a list");
    let required: BTreeSet<_> = required.iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
    assert_eq!(required, names(written), "{what}: required");
    assert_eq!(schema["additionalProperties"], Value::Bool(false), "{what}");
}

#[test]
fn the_manifest_schema_describes_what_is_written() {
    let schema: Value = serde_json::from_str(MANIFEST).expect("the schema is JSON");
    let written: Value = serde_json::from_slice(stable().bytes()).expect("a manifest is JSON");
    assert_described("manifest", &written, &schema);
    assert_described("counts", &written["counts"], &schema["properties"]["counts"]);
    assert_described("instance", &written["instances"][0], &schema["$defs"]["instance"]);
    assert_eq!(schema["properties"]["schema"]["const"], written["schema"]);
}

#[test]
fn the_event_schema_describes_what_is_written() {
    let schema: Value = serde_json::from_str(EVENT).expect("the schema is JSON");
    let written = serde_json::to_value(stable().event()).expect("an event is JSON");
    assert_described("event", &written, &schema);
    assert_eq!(schema["properties"]["type"]["const"], written["type"]);
}
