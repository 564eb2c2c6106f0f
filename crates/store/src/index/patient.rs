//! Whose instance it is, as the index compares it: one patient for each study, without the patient's name or number.

use model::{Attribute, Digest, Hasher, Promoted, Study, Tenant, Uid};

/// Begins what is hashed, so that no other digest of this program is ever the same.
const WHAT: &str = "portcullis.patient/1";

/// SHA-256 over tenant, study, Patient ID (0010,0020) and Issuer of Patient ID (0010,0021), the latter being the row's if
/// the data set has none. What is missing counts as an empty value: it is another patient than one who has a number.
///
/// Tenant and study are in it so that one patient's studies cannot be told by equal digests. It is still pseudonymous data:
/// Patient IDs are few enough to be tried one by one. So it stays in the index, and is part of no key, log or error.
pub(crate) fn patient(tenant: &Tenant, study: &Uid<Study>, promoted: &Promoted) -> Digest {
    let value = |attribute| significant(promoted.get(attribute).unwrap_or_default());
    let parts =
        [WHAT, tenant.as_str(), study.as_str(), value(Attribute::PatientId), value(Attribute::IssuerOfPatientId)];
    let mut hasher = Hasher::new();
    for part in parts {
        // Its length first: where one part ends and the next begins is part of what is hashed.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

/// PS3.5 §6.2: spaces around an LO are not significant.
pub(crate) fn significant(value: &str) -> &str {
    value.trim_matches([' ', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(tenant: &str, study: &str, id: Option<&str>, issuer: Option<&str>) -> Digest {
        let values = [(Attribute::PatientId, id), (Attribute::IssuerOfPatientId, issuer)];
        let values = values.into_iter().filter_map(|(attribute, value)| Some((attribute, value?.to_owned())));
        let tenant = Tenant::parse(tenant).expect("valid");
        patient(&tenant, &Uid::parse(study).expect("valid"), &Promoted::new(values.collect()))
    }

    #[test]
    fn one_patient_is_one_digest_within_a_study() {
        let one = digest("a", "1.2", Some("4711"), Some("H"));
        let cases = [
            ("written again", digest("a", "1.2", Some("4711"), Some("H")), true),
            ("padded", digest("a", "1.2", Some(" 4711 "), Some("H\0")), true),
            ("another number", digest("a", "1.2", Some("4712"), Some("H")), false),
            ("another issuer", digest("a", "1.2", Some("4711"), Some("G")), false),
            ("no issuer", digest("a", "1.2", Some("4711"), None), false),
            ("no number", digest("a", "1.2", None, Some("H")), false),
            ("the letters elsewhere", digest("a", "1.2", Some("4711H"), None), false),
            ("upper and lower case differ", digest("a", "1.2", Some("4711"), Some("h")), false),
            ("another study", digest("a", "1.3", Some("4711"), Some("H")), false),
            ("another tenant", digest("b", "1.2", Some("4711"), Some("H")), false),
        ];
        for (case, other, same) in cases {
            assert_eq!(one == other, same, "{case}");
        }
        assert_eq!(digest("a", "1.2", None, None), digest("a", "1.2", Some(""), Some("  ")), "missing is empty");
    }
}
