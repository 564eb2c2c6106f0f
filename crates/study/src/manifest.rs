use model::{
    Digest, InstanceName, Series, SopClass, SopInstance, SpiffeId, Study, Tenant, Timestamp, TransferSyntax, Uid,
};
use serde::{Deserialize, Serialize};

use crate::Reason;

/// One object of the archive as its index row tells it. A SOP instance that was sent again with other bytes has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldInstance {
    /// The four UIDs.
    pub name: InstanceName,
    /// The encoding of the data set, as received.
    pub transfer_syntax: Uid<TransferSyntax>,
    /// Bytes of the data set, without the Part 10 header.
    pub size: u64,
    /// SHA-256 of the data set, without the Part 10 header.
    pub digest: Digest,
    /// The object's key.
    pub object: String,
    /// When the receiver committed it.
    pub received_at: Timestamp,
    /// Who sent it.
    pub sender: SpiffeId,
    /// The revision of the access table that allowed it.
    pub table_revision: u64,
}

/// Everything that one generation of a study holds. Published as `docs/schema/manifest.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which schema this follows.
    pub schema: Schema,
    /// Who owns the study.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study: Uid<Study>,
    /// 1 for the first time that the study became stable; late instances open the next one.
    pub generation: u64,
    /// When the generation was closed.
    pub created_at: Timestamp,
    /// Why it was closed.
    pub reason: Reason,
    /// Sums over `instances`.
    pub counts: Counts,
    /// Every object of the study, sorted by series, instance and time of receipt.
    pub instances: Vec<ManifestInstance>,
}

/// The schema's name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// The first and only one.
    #[serde(rename = "portcullis.manifest/1")]
    Manifest1,
}

/// Sums over the instances of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// SOP instances, each counted once however often it was revised.
    pub instances: u64,
    /// Objects, all revisions.
    pub objects: u64,
    /// Data set bytes of the current revisions: what a reader of the study will fetch, Part 10 headers apart.
    pub bytes: u64,
    /// Series with at least one instance.
    pub series: u64,
}

/// One object in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestInstance {
    /// Series Instance UID.
    pub series: Uid<Series>,
    /// SOP Instance UID.
    pub instance: Uid<SopInstance>,
    /// SOP Class UID.
    pub class: Uid<SopClass>,
    /// Transfer Syntax UID.
    pub transfer_syntax: Uid<TransferSyntax>,
    /// Bytes of the data set.
    pub size: u64,
    /// SHA-256 of the data set, 64 lower-case hex digits.
    pub sha256: Digest,
    /// The object's key.
    pub object: String,
    /// When it was committed.
    pub received_at: Timestamp,
    /// Who sent it.
    pub sender: SpiffeId,
    /// Whether this is the revision to read.
    pub current: bool,
    /// 1 for the first bytes seen under this UID, counted up by time of receipt.
    pub revision: u64,
}

/// Writes down what a generation holds. An instance is known by its series and SOP Instance UID, as in the index; the
/// newest receipt is current, and of two at the same millisecond the one with the larger digest.
#[must_use]
pub fn manifest(
    tenant: &Tenant,
    study: &Uid<Study>,
    generation: u64,
    mut held: Vec<HeldInstance>,
    reason: Reason,
    now: Timestamp,
) -> Manifest {
    held.sort_by(|a, b| {
        let key = |held: &HeldInstance| (held.received_at, held.digest);
        (&a.name.series, &a.name.instance).cmp(&(&b.name.series, &b.name.instance)).then_with(|| key(a).cmp(&key(b)))
    });
    let same_instance =
        |a: &HeldInstance, b: &HeldInstance| (&a.name.series, &a.name.instance) == (&b.name.series, &b.name.instance);
    let counts = Counts {
        instances: held.chunk_by(same_instance).count() as u64,
        objects: held.len() as u64,
        bytes: held.chunk_by(same_instance).filter_map(<[_]>::last).map(|current| current.size).sum(),
        series: held.chunk_by(|a, b| a.name.series == b.name.series).count() as u64,
    };
    let instances = held.chunk_by(same_instance).flat_map(revisions).collect();
    Manifest {
        schema: Schema::Manifest1,
        tenant: tenant.clone(),
        study: study.clone(),
        generation,
        created_at: now,
        reason,
        counts,
        instances,
    }
}

/// The revisions of one instance, oldest first.
fn revisions(of_one: &[HeldInstance]) -> impl Iterator<Item = ManifestInstance> {
    of_one.iter().zip(1..).map(|(held, revision)| ManifestInstance {
        series: held.name.series.clone(),
        instance: held.name.instance.clone(),
        class: held.name.class.clone(),
        transfer_syntax: held.transfer_syntax.clone(),
        size: held.size,
        sha256: held.digest,
        object: held.object.clone(),
        received_at: held.received_at,
        sender: held.sender.clone(),
        current: revision == of_one.len() as u64,
        revision,
    })
}

impl Manifest {
    /// The JSON text: the same bytes for the same manifest, whoever writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a manifest has only text, numbers and lists");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(series: &str, instance: &str, bytes: &str, second: i64) -> HeldInstance {
        HeldInstance {
            name: InstanceName {
                study: Uid::parse("1.2").expect("valid"),
                series: Uid::parse(series).expect("valid"),
                instance: Uid::parse(instance).expect("valid"),
                class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").expect("valid"),
            },
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").expect("valid"),
            size: bytes.len() as u64,
            digest: Digest::of(bytes.as_bytes()),
            object: format!("instances/a/1.2/{series}/{instance}/{bytes}.dcm"),
            received_at: Timestamp::from_seconds(second),
            sender: SpiffeId::parse("spiffe://a.example/ct1").expect("valid"),
            table_revision: 7,
        }
    }

    fn manifest_of(held: Vec<HeldInstance>) -> Manifest {
        let tenant = Tenant::parse("a").expect("valid");
        let study = Uid::parse("1.2").expect("valid");
        manifest(&tenant, &study, 1, held, Reason::Quiet, Timestamp::from_seconds(1_000))
    }

    #[test]
    fn the_newest_revision_is_current_and_older_ones_are_listed() {
        let manifest = manifest_of(vec![
            held("1.3", "1.9", "one", 10),
            held("1.3", "1.4", "newer!", 30),
            held("1.3", "1.4", "old", 20),
            held("1.30", "1.4", "another series", 5),
        ]);
        let listed: Vec<_> = manifest
            .instances
            .iter()
            .map(|i| (i.series.as_str(), i.instance.as_str(), i.size, i.revision, i.current))
            .collect();
        assert_eq!(
            listed,
            [
                ("1.3", "1.4", 3, 1, false),
                ("1.3", "1.4", 6, 2, true),
                ("1.3", "1.9", 3, 1, true),
                ("1.30", "1.4", 14, 1, true)
            ]
        );
        assert_eq!(manifest.counts, Counts { instances: 3, objects: 4, bytes: 6 + 3 + 14, series: 2 });
    }

    #[test]
    fn of_two_receipts_in_one_millisecond_the_larger_digest_is_current() {
        let (one, other) = (held("1.3", "1.4", "x", 10), held("1.3", "1.4", "y", 10));
        let larger = one.digest.max(other.digest);
        for held in [vec![one.clone(), other.clone()], vec![other, one]] {
            let manifest = manifest_of(held);
            let current: Vec<_> = manifest.instances.iter().filter(|i| i.current).map(|i| i.sha256).collect();
            assert_eq!(current, [larger]);
        }
    }

    #[test]
    fn the_order_of_the_rows_does_not_show_in_the_bytes() {
        let mut rows: Vec<_> = (0..50).map(|n| held("1.3", &format!("1.{}", n % 20), &format!("{n}"), n)).collect();
        let forward = manifest_of(rows.clone()).to_bytes();
        rows.reverse();
        assert_eq!(manifest_of(rows).to_bytes(), forward);
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written_and_refuses_what_it_does_not_know() {
        let manifest = manifest_of(vec![held("1.3", "1.4", "old", 20)]);
        let text = String::from_utf8(manifest.to_bytes()).expect("JSON is UTF-8");
        assert_eq!(serde_json::from_str::<Manifest>(&text).expect("own output"), manifest);
        assert!(text.starts_with(r#"{"schema":"portcullis.manifest/1","tenant":"a","study":"1.2","generation":1,"#));
        for (name, changed) in [
            ("another schema", text.replace("manifest/1", "manifest/2")),
            ("another field", text.replacen('{', r#"{"patient":"x","#, 1)),
            ("another reason", text.replace(r#""quiet""#, r#""bored""#)),
        ] {
            assert_ne!(changed, text, "{name}");
            assert!(serde_json::from_str::<Manifest>(&changed).is_err(), "{name}");
        }
    }

    #[test]
    fn an_empty_study_has_an_empty_manifest() {
        assert_eq!(manifest_of(vec![]).counts, Counts::default());
    }
}
