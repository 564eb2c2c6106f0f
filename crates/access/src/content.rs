use model::{Attribute, InstanceHead, Phi};

/// What a data set says about itself, as far as rows ask: without insignificant spaces, and what is empty is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    modality: Option<String>,
    issuer: Option<Phi<String>>,
    institution: Option<Phi<String>>,
}

impl Content {
    /// From the values of Modality (0008,0060), Issuer of Patient ID (0010,0021) and Institution Name (0008,0080).
    #[must_use]
    pub fn new(modality: Option<&str>, issuer: Option<&str>, institution: Option<&str>) -> Self {
        // PS3.5 §6.2: spaces around a CS or LO are not significant; a NUL is how some senders pad.
        let own = |value: Option<&str>| {
            let value = value.map(|written| written.trim_matches([' ', '\0']));
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        Self { modality: own(modality), issuer: own(issuer).map(Phi::new), institution: own(institution).map(Phi::new) }
    }

    /// From the head of a data set.
    #[must_use]
    pub fn of(head: &InstanceHead) -> Self {
        let said = |attribute| head.said.get(attribute);
        Self::new(head.modality.as_deref(), said(Attribute::IssuerOfPatientId), said(Attribute::InstitutionName))
    }

    pub(crate) fn modality(&self) -> Option<&str> {
        self.modality.as_deref()
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_ref().map(|issuer| issuer.reveal().as_str())
    }

    pub(crate) fn institution(&self) -> Option<&str> {
        self.institution.as_ref().map(|institution| institution.reveal().as_str())
    }
}
