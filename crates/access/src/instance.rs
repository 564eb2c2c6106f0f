use std::sync::Arc;
use std::time::Duration;

use model::{
    AeTitle, InstanceClaim, InstanceHead, InstanceName, OnConflict, OnDuplicate, OnPatientConflict, SpiffeId, Tenant,
    Timestamp, TransferSyntax, Uid,
};

use crate::decide::denied_by;
use crate::denial::{Denial, DenialCode};
use crate::grant::Grant;
use crate::row::{DenyRow, Row};
use crate::table::Table;

/// The third key: this C-STORE may go on, by what its command says.
#[derive(Debug)]
pub struct Permit {
    grant: Arc<Grant>,
    claim: InstanceClaim,
    row: Arc<Row>,
    /// Deny rows that ask about the data set itself.
    vetoes: Vec<Arc<DenyRow>>,
    table_revision: u64,
}

/// The data set is not what its command said, or its content is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Its SOP class is not that of the command: 0xA900.
    #[error("the data set has another SOP class than the command")]
    Class,
    /// Its SOP instance is not that of the command: 0xA900.
    #[error("the data set has another SOP instance than the command")]
    Instance,
    /// The row does not allow it: 0x0124.
    #[error("the data set is not allowed")]
    NotAllowed(#[source] Denial),
}

/// The fourth key: data set and command agree, and the row allows them. Only with it are bytes kept.
#[derive(Debug)]
pub struct AuthorisedInstance {
    grant: Arc<Grant>,
    row: Arc<Row>,
    /// Shared with the clearance, which is for this very instance and not for another of the same name.
    name: Arc<InstanceName>,
    transfer_syntax: Uid<TransferSyntax>,
    modality: Option<String>,
    table_revision: u64,
}

/// The fifth key: the store may commit this one instance now. It is made for one commit and cannot be copied.
#[derive(Debug)]
pub struct Cleared {
    name: Arc<InstanceName>,
    revision: u64,
    expires: Timestamp,
}

impl Table {
    /// D3, for each C-STORE-RQ: whether today's table lets this instance be stored on this association.
    ///
    /// # Errors
    /// When the association itself is no longer allowed, or class or transfer syntax are not.
    pub fn permit(&self, grant: &Arc<Grant>, claim: InstanceClaim, now: Timestamp) -> Result<Permit, Denial> {
        let row = self.same_row(grant, now)?;
        let refuse = |code, detail: &str| Err(Denial::new(code, Some(&row.id), detail));
        let mut of_class = grant.accepted_contexts().filter(|(class, _)| **class == claim.class).peekable();
        if of_class.peek().is_none() {
            return refuse(DenialCode::SopClass, "the association has no accepted context for the SOP class");
        }
        if !of_class.any(|(_, syntax)| *syntax == claim.transfer_syntax) {
            return refuse(DenialCode::TransferSyntax, "no context was accepted with the transfer syntax");
        }
        self.may_store(row, grant.peer(), &claim.class, &claim.transfer_syntax, now)?;
        let vetoes = self.vetoes(grant.peer(), now).filter(|deny| deny.what.modalities.is_some()).cloned().collect();
        Ok(Permit { grant: Arc::clone(grant), claim, row: Arc::clone(row), vetoes, table_revision: self.revision() })
    }
}

impl Permit {
    /// What the command said.
    #[must_use]
    pub fn claim(&self) -> &InstanceClaim {
        &self.claim
    }

    /// D4: whether the data set says what the command said, and the row allows its modality.
    ///
    /// # Errors
    /// When they contradict each other, or it does not.
    pub fn confirm(self, head: InstanceHead) -> Result<AuthorisedInstance, Contradiction> {
        let InstanceHead { name, modality, .. } = head;
        if name.class != self.claim.class {
            return Err(Contradiction::Class);
        }
        if name.instance != self.claim.instance {
            return Err(Contradiction::Instance);
        }
        // PS3.5 §6.2: spaces around a CS are not significant.
        let modality = modality.map(|written| written.trim_matches([' ', '\0']).to_owned());
        may_have_modality(&self.row, &self.vetoes, modality.as_deref()).map_err(Contradiction::NotAllowed)?;
        Ok(AuthorisedInstance {
            grant: self.grant,
            row: self.row,
            name: Arc::new(name),
            transfer_syntax: self.claim.transfer_syntax,
            modality,
            table_revision: self.table_revision,
        })
    }
}

fn may_have_modality(row: &Row, vetoes: &[Arc<DenyRow>], modality: Option<&str>) -> Result<(), Denial> {
    let missing_matches = |listed: &std::collections::BTreeSet<String>| modality.is_none_or(|own| listed.contains(own));
    if let Some(deny) = vetoes.iter().find(|deny| deny.what.modalities.as_ref().is_some_and(missing_matches)) {
        return Err(denied_by(deny));
    }
    match (&row.what.modalities, modality) {
        (Some(listed), own) if !own.is_some_and(|own| listed.contains(own)) => {
            Err(Denial::new(DenialCode::Modality, Some(&row.id), "the row does not list the modality"))
        }
        _ => Ok(()),
    }
}

impl AuthorisedInstance {
    /// Its four UIDs.
    #[must_use]
    pub fn name(&self) -> &InstanceName {
        &self.name
    }

    /// Whose it is: from the row, never from the data set.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.row.tenant
    }

    /// How its data set is written.
    #[must_use]
    pub fn transfer_syntax(&self) -> &Uid<TransferSyntax> {
        &self.transfer_syntax
    }

    /// The association it came on.
    #[must_use]
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// What to do with other bytes under its UID.
    #[must_use]
    pub fn on_conflict(&self) -> OnConflict {
        self.row.on_conflict
    }

    /// Whether only the tenant that was first to write a study may add to it.
    #[must_use]
    pub fn binds_study(&self) -> bool {
        self.row.binds_study
    }

    /// What to do when its study holds another patient's instances.
    #[must_use]
    pub fn on_patient_conflict(&self) -> OnPatientConflict {
        self.row.on_patient_conflict
    }

    /// What to do when its very bytes are held.
    #[must_use]
    pub fn on_duplicate(&self) -> OnDuplicate {
        self.row.on_duplicate
    }

    /// The issuer that its Patient ID gets in the index if the data set has none.
    #[must_use]
    pub fn assigned_issuer(&self) -> Option<&str> {
        self.row.assigned_issuer.as_deref()
    }

    /// The row's own quiet time.
    #[must_use]
    pub fn quiet(&self) -> Option<Duration> {
        self.row.quiet
    }

    /// The row's own longest wait.
    #[must_use]
    pub fn max_wait(&self) -> Option<Duration> {
        self.row.max_wait
    }

    /// Whether the row allows a data set of so many bytes. To be asked while they pass.
    ///
    /// # Errors
    /// When there are more than the row's `max_instance_bytes`.
    pub fn allows_size(&self, bytes: u64) -> Result<(), Denial> {
        match self.row.max_instance_bytes {
            Some(most) if bytes > most => {
                let detail = format!("the data set is larger than the row's {most} bytes");
                Err(Denial::new(DenialCode::InstanceSize, Some(&self.row.id), detail))
            }
            _ => Ok(()),
        }
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> &SpiffeId {
        self.grant.peer().id()
    }

    /// The AE title that was called.
    #[must_use]
    pub fn called(&self) -> &AeTitle {
        &self.grant.proposal().called
    }

    /// The AE title that the sender gave itself.
    #[must_use]
    pub fn calling(&self) -> &AeTitle {
        &self.grant.proposal().calling
    }

    /// The revision of the table that permitted it.
    #[must_use]
    pub fn table_revision(&self) -> u64 {
        self.table_revision
    }

    /// D5, the commit gate: whether today's table still allows it at `now`.
    ///
    /// # Errors
    /// When anything that was asked before no longer holds.
    pub fn clear(&self, table: &Table, now: Timestamp) -> Result<Cleared, Denial> {
        let peer = self.grant.peer();
        let row = table.same_row(&self.grant, now)?;
        table.may_store(row, peer, &self.name.class, &self.transfer_syntax, now)?;
        let vetoes: Vec<_> = table.vetoes(peer, now).cloned().collect();
        may_have_modality(row, &vetoes, self.modality.as_deref())?;
        let svid = peer.svid().not_after();
        let expires = row.valid_until.map_or(svid, |end| end.min(svid));
        Ok(Cleared { name: Arc::clone(&self.name), revision: table.revision(), expires })
    }
}

impl Cleared {
    /// The revision of the table that cleared it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether this clearance is for this very instance.
    #[must_use]
    pub fn is_for(&self, instance: &AuthorisedInstance) -> bool {
        Arc::ptr_eq(&self.name, &instance.name)
    }

    /// The last moment at which it may be used, by the SVID and the row.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}
