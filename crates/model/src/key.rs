//! The one place where object keys and row keys are written.
//!
//! Every part is a validated UID, a tenant name, a digest or a number: no other value of a data set ever becomes a key.

use crate::{Digest, InstanceName, Study, Tenant, Uid};

/// Objects of the archive proper.
pub const INSTANCES: &str = "instances";
/// Objects that a row's `on_conflict = "quarantine"` keeps apart.
pub const QUARANTINE: &str = "quarantine";
/// Manifests of stable studies, written by the stabiliser only.
pub const MANIFESTS: &str = "manifests";

/// `instances/{tenant}/{study}/{series}/{sop}/{id}.dcm`; `id` is the short form of the data set's digest.
#[must_use]
pub fn instance(tenant: &Tenant, name: &InstanceName, digest: &Digest) -> String {
    under(INSTANCES, tenant, name, digest)
}

/// `quarantine/{tenant}/{study}/{series}/{sop}/{id}.dcm`.
#[must_use]
pub fn quarantine(tenant: &Tenant, name: &InstanceName, digest: &Digest) -> String {
    under(QUARANTINE, tenant, name, digest)
}

/// `manifests/{tenant}/{study}/{generation}-{id}.json`: named by content too, so that a stabiliser that died between
/// manifest and row never stands in the way of the next one.
#[must_use]
pub fn manifest(tenant: &Tenant, study: &Uid<Study>, generation: u64, digest: &Digest) -> String {
    format!("{MANIFESTS}/{tenant}/{study}/{generation:06}-{}.json", &digest.short()[..16])
}

fn under(prefix: &str, tenant: &Tenant, name: &InstanceName, digest: &Digest) -> String {
    format!("{prefix}/{tenant}/{}/{}/{}/{}.dcm", name.study, name.series, name.instance, digest.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_the_layout_promises() {
        let tenant = Tenant::parse("hospital-a").expect("valid");
        let name = InstanceName {
            study: Uid::parse("1.2").expect("valid"),
            series: Uid::parse("1.3").expect("valid"),
            instance: Uid::parse("1.4").expect("valid"),
            class: Uid::parse("1.5").expect("valid"),
        };
        let digest = Digest::of(b"abc");
        assert_eq!(
            instance(&tenant, &name, &digest),
            "instances/hospital-a/1.2/1.3/1.4/ba7816bf8f01cfea414140de5dae2223.dcm"
        );
        assert_eq!(manifest(&tenant, &name.study, 1, &digest), "manifests/hospital-a/1.2/000001-ba7816bf8f01cfea.json");
    }
}
