use crate::{Phi, Series, SopClass, SopInstance, Study, TransferSyntax, Uid};

/// What a C-STORE-RQ says is coming: the command's word, which the data set must confirm (PS3.7 §9.3.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceClaim {
    /// Affected SOP Class UID (0000,0002).
    pub class: Uid<SopClass>,
    /// Affected SOP Instance UID (0000,1000).
    pub instance: Uid<SopInstance>,
    /// The transfer syntax negotiated for the presentation context it came on.
    pub transfer_syntax: Uid<TransferSyntax>,
}

/// The four UIDs by which the archive knows an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceName {
    /// Study Instance UID (0020,000D).
    pub study: Uid<Study>,
    /// Series Instance UID (0020,000E).
    pub series: Uid<Series>,
    /// SOP Instance UID (0008,0018).
    pub instance: Uid<SopInstance>,
    /// SOP Class UID (0008,0016).
    pub class: Uid<SopClass>,
}

/// What the data set itself says at its head, read before a byte of it is kept.
#[derive(Debug, Clone)]
pub struct InstanceHead {
    /// The UIDs that the data set carries.
    pub name: InstanceName,
    /// Modality (0008,0060) as written, for rows that narrow by it.
    pub modality: Option<String>,
    /// The promoted attributes found so far: issuer, institution and patient stand before the last UID in tag order, so
    /// they are among them if the data set has them. Patient data.
    pub said: Promoted,
}

/// What the data set says about itself, for the index: everything but bulk data. Patient data.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// One DICOM JSON object (PS3.18 Annex F), UTF-8.
    pub json: Phi<Vec<u8>>,
    /// False when an element was left out because a limit was reached; the object still has every byte.
    pub complete: bool,
    /// The attributes that people search by.
    pub promoted: Promoted,
}

/// Attributes that get a column of their own in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the attribute of its name in PS3.6")]
pub enum Attribute {
    StudyDate,
    StudyTime,
    AccessionNumber,
    Modality,
    Manufacturer,
    InstitutionName,
    StudyDescription,
    SeriesDescription,
    PatientName,
    PatientId,
    IssuerOfPatientId,
    PatientBirthDate,
    PatientSex,
    BodyPartExamined,
    StudyId,
    SeriesNumber,
    InstanceNumber,
    NumberOfFrames,
    Rows,
    Columns,
}

impl Attribute {
    /// Every promoted attribute with its tag (PS3.6) and the name of its column, in tag order.
    pub const ALL: [(Self, u32, &'static str); 20] = [
        (Self::StudyDate, 0x0008_0020, "study_date"),
        (Self::StudyTime, 0x0008_0030, "study_time"),
        (Self::AccessionNumber, 0x0008_0050, "accession_number"),
        (Self::Modality, 0x0008_0060, "modality"),
        (Self::Manufacturer, 0x0008_0070, "manufacturer"),
        (Self::InstitutionName, 0x0008_0080, "institution_name"),
        (Self::StudyDescription, 0x0008_1030, "study_description"),
        (Self::SeriesDescription, 0x0008_103E, "series_description"),
        (Self::PatientName, 0x0010_0010, "patient_name"),
        (Self::PatientId, 0x0010_0020, "patient_id"),
        (Self::IssuerOfPatientId, 0x0010_0021, "issuer_of_patient_id"),
        (Self::PatientBirthDate, 0x0010_0030, "patient_birth_date"),
        (Self::PatientSex, 0x0010_0040, "patient_sex"),
        (Self::BodyPartExamined, 0x0018_0015, "body_part_examined"),
        (Self::StudyId, 0x0020_0010, "study_id"),
        (Self::SeriesNumber, 0x0020_0011, "series_number"),
        (Self::InstanceNumber, 0x0020_0013, "instance_number"),
        (Self::NumberOfFrames, 0x0028_0008, "number_of_frames"),
        (Self::Rows, 0x0028_0010, "rows"),
        (Self::Columns, 0x0028_0011, "columns"),
    ];

    /// The attribute with this tag, if it is a promoted one.
    #[must_use]
    pub fn of_tag(tag: u32) -> Option<Self> {
        Self::ALL.binary_search_by_key(&tag, |(_, known, _)| *known).ok().map(|at| Self::ALL[at].0)
    }
}

/// Values of the promoted attributes: decoded to UTF-8, first value only where there are several. Patient data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promoted(Phi<Vec<(Attribute, String)>>);

impl Promoted {
    /// From the values found, at most one for each attribute.
    #[must_use]
    pub fn new(values: Vec<(Attribute, String)>) -> Self {
        Self(Phi::new(values))
    }

    /// The same with this value, instead of the one that the attribute had.
    #[must_use]
    pub fn with(self, attribute: Attribute, value: String) -> Self {
        let mut values = self.0.into_revealed();
        values.retain(|(known, _)| *known != attribute);
        values.push((attribute, value));
        Self::new(values)
    }

    /// The value of one attribute.
    #[must_use]
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        self.0.reveal().iter().find(|(known, _)| *known == attribute).map(|(_, value)| value.as_str())
    }
}

/// What the row wants when other bytes come under a SOP Instance UID that is already held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// Keep both; the newest is current.
    #[default]
    Revise,
    /// Refuse with 0x0111, duplicate SOP instance.
    Reject,
    /// Keep the new bytes apart, under `quarantine/`.
    Quarantine,
}

/// What the row wants when a study already holds instances of another patient (another Patient ID or issuer of it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPatientConflict {
    /// Keep it like any other; nothing is compared.
    #[default]
    Accept,
    /// Refuse it.
    Reject,
    /// Keep it apart, under `quarantine/`.
    Quarantine,
}

/// What the row wants when the same bytes come again under a SOP Instance UID that is already held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// Success, and nothing is written.
    #[default]
    Idempotent,
    /// Refuse with 0x0111, duplicate SOP instance.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoted_attributes_are_in_tag_order_so_that_they_can_be_found() {
        assert!(Attribute::ALL.is_sorted_by_key(|(_, tag, _)| *tag));
        for (attribute, tag, _) in Attribute::ALL {
            assert_eq!(Attribute::of_tag(tag), Some(attribute));
        }
        assert_eq!(Attribute::of_tag(0x7FE0_0010), None);
    }

    #[test]
    fn patient_data_does_not_show_in_debug() {
        let promoted = Promoted::new(vec![(Attribute::PatientName, "DOE^JANE".to_owned())]);
        assert!(!format!("{promoted:?}").contains("DOE"));
        assert_eq!(promoted.get(Attribute::PatientName), Some("DOE^JANE"));
    }

    #[test]
    fn a_value_takes_the_place_of_the_one_before() {
        let promoted = Promoted::new(vec![(Attribute::PatientId, "1".to_owned())]);
        let promoted = promoted.with(Attribute::IssuerOfPatientId, "H".to_owned());
        let promoted = promoted.with(Attribute::PatientId, "2".to_owned());
        assert_eq!(promoted.get(Attribute::PatientId), Some("2"));
        assert_eq!(promoted.get(Attribute::IssuerOfPatientId), Some("H"));
    }
}
