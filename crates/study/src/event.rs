use model::{Digest, Study, Tenant, Timestamp, Uid, key};
use serde::{Deserialize, Serialize};

use crate::Manifest;

/// A generation with its manifest in its final bytes: what step 16 of the corridor gives to step 17.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StableStudy {
    manifest: Manifest,
    bytes: Vec<u8>,
    digest: Digest,
}

/// Tells a reader that a study became stable. Has no patient data. Published as `docs/schema/event.schema.json`.
///
/// Delivered at least once; a repetition has the same `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `evt-` and the first 32 hex digits of SHA-256 of `{tenant}#{study}#{generation}`.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who owns the study.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study: Uid<Study>,
    /// Which time it became stable, from 1.
    pub generation: u64,
    /// SOP instances, each counted once.
    pub instances: u64,
    /// Data set bytes of the current revisions.
    pub bytes: u64,
    /// The key of the manifest.
    pub manifest: String,
    /// SHA-256 of the manifest's bytes.
    pub manifest_sha256: Digest,
    /// When the generation was closed.
    pub occurred_at: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// A study became stable, for the first time or once more.
    #[serde(rename = "study.stable")]
    StudyStable,
}

impl StableStudy {
    /// Fixes the manifest's bytes and with them its digest and key.
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        let bytes = manifest.to_bytes();
        let digest = Digest::of(&bytes);
        Self { manifest, bytes, digest }
    }

    /// What the generation holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's JSON text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`StableStudy::bytes`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The key under which the manifest is kept.
    #[must_use]
    pub fn key(&self) -> String {
        key::manifest(&self.manifest.tenant, &self.manifest.study, self.manifest.generation, &self.digest)
    }

    /// The event that says so, equal each time that it is asked for.
    #[must_use]
    pub fn event(&self) -> Event {
        let manifest = &self.manifest;
        Event {
            id: event_id(&manifest.tenant, &manifest.study, manifest.generation),
            event_type: EventType::StudyStable,
            tenant: manifest.tenant.clone(),
            study: manifest.study.clone(),
            generation: manifest.generation,
            instances: manifest.counts.instances,
            bytes: manifest.counts.bytes,
            manifest: self.key(),
            manifest_sha256: self.digest,
            occurred_at: manifest.created_at,
        }
    }
}

/// Two stabilisers that close the same generation must name the event alike, so the id depends on nothing else.
fn event_id(tenant: &Tenant, study: &Uid<Study>, generation: u64) -> String {
    format!("evt-{}", Digest::of(format!("{tenant}#{study}#{generation}").as_bytes()).short())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, manifest};

    fn stable(tenant: &str, generation: u64, second: i64) -> StableStudy {
        let tenant = Tenant::parse(tenant).expect("valid");
        let study = Uid::parse("1.2").expect("valid");
        let now = Timestamp::from_seconds(second);
        StableStudy::new(manifest(&tenant, &study, generation, vec![], Reason::Quiet, now))
    }

    #[test]
    fn the_event_id_depends_on_tenant_study_and_generation_only() {
        let id = stable("a", 1, 10).event().id;
        // printf 'a#1.2#1' | sha256sum
        assert_eq!(id, "evt-b0934168026554ed5c290723bcfe3a9b");
        assert_eq!(stable("a", 1, 99).event().id, id);
        assert_ne!(stable("a", 2, 10).event().id, id);
        assert_ne!(stable("b", 1, 10).event().id, id);
    }

    #[test]
    fn the_event_names_the_manifest_by_key_and_digest() {
        let stable = stable("a", 3, 10);
        let event = stable.event();
        assert_eq!(event.manifest_sha256, Digest::of(&stable.manifest().to_bytes()));
        assert_eq!(event.manifest, stable.key());
        assert!(event.manifest.starts_with("manifests/a/1.2/000003-"));
    }

    #[test]
    fn an_event_is_json_with_the_published_names() {
        let event = stable("a", 1, 10).event();
        let json = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(json["type"], "study.stable");
        assert_eq!(json["occurred_at"], "1970-01-01T00:00:10.000Z");
        assert_eq!(serde_json::from_value::<Event>(json).expect("own output"), event);
    }
}
