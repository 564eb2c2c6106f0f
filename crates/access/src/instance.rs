use std::sync::Arc;
use std::time::Duration;

use model::{
    AeTitle, InstanceClaim, InstanceHead, InstanceName, OnConflict, OnDuplicate, OnPatientConflict, SpiffeId, Tenant,
    Timestamp, TransferSyntax, Uid,
};

use crate::content::Content;
use crate::decide::{may_say, settle};
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
    observed: Vec<Denial>,
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
    content: Content,
    observed: Vec<Denial>,
    table_revision: u64,
}

/// The fifth key: the store may commit this one instance now. It is made for one commit and cannot be copied.
#[derive(Debug)]
pub struct Cleared {
    name: Arc<InstanceName>,
    revision: u64,
    expires: Timestamp,
    observed: Vec<Denial>,
}

impl Table {
    /// D3, for each C-STORE-RQ: whether today's table lets this instance be stored on this association.
    ///
    /// # Errors
    /// When the association itself is no longer allowed, or class or transfer syntax are not.
    pub fn permit(&self, grant: &Arc<Grant>, claim: InstanceClaim, now: Timestamp) -> Result<Permit, Denial> {
        let mut judged = self.same_row(grant, now)?;
        let refuse = |code, detail: &str| Err(Denial::of(code, Some(&judged.row.id), detail));
        let mut of_class = grant.accepted_contexts().filter(|(class, _)| **class == claim.class).peekable();
        if of_class.peek().is_none() {
            return refuse(DenialCode::SopClass, "the association has no accepted context for the SOP class");
        }
        if !of_class.any(|(_, syntax)| *syntax == claim.transfer_syntax) {
            return refuse(DenialCode::TransferSyntax, "no context was accepted with the transfer syntax");
        }
        judged.class(&claim.class)?;
        judged.syntax(&claim.transfer_syntax)?;
        let vetoes = self.vetoes(grant.peer().caller(), now).filter(|deny| deny.asks_content()).cloned().collect();
        let (row, observed) = (Arc::clone(judged.row), judged.observed);
        Ok(Permit { grant: Arc::clone(grant), claim, row, vetoes, observed, table_revision: self.revision() })
    }
}

impl Permit {
    /// Today's version of the row that allows it.
    #[must_use]
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// What the command said.
    #[must_use]
    pub fn claim(&self) -> &InstanceClaim {
        &self.claim
    }

    /// What the row would have refused so far if it did not only observe: everything that today's table says about the
    /// association and the command, also what [`Grant::observed`] had already.
    #[must_use]
    pub fn observed(&self) -> &[Denial] {
        &self.observed
    }

    /// D4: whether the data set says what the command said, and the row allows its modality, issuer and institution.
    ///
    /// # Errors
    /// When they contradict each other, or it does not.
    pub fn confirm(mut self, head: InstanceHead) -> Result<AuthorisedInstance, Contradiction> {
        if head.name.class != self.claim.class {
            return Err(Contradiction::Class);
        }
        if head.name.instance != self.claim.instance {
            return Err(Contradiction::Instance);
        }
        let content = Content::of(&head);
        may_say(&self.row, &self.vetoes, &content, &mut self.observed).map_err(Contradiction::NotAllowed)?;
        Ok(AuthorisedInstance {
            grant: self.grant,
            row: self.row,
            name: Arc::new(head.name),
            transfer_syntax: self.claim.transfer_syntax,
            content,
            observed: self.observed,
            table_revision: self.table_revision,
        })
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

    /// What its data set says, as far as rows ask.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
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

    /// What to do when its study holds another patient's instances.
    #[must_use]
    pub fn on_patient_conflict(&self) -> OnPatientConflict {
        self.row.on_patient_conflict
    }

    /// What to do when these very bytes are held already.
    #[must_use]
    pub fn on_duplicate(&self) -> OnDuplicate {
        self.row.on_duplicate
    }

    /// Whether it may only be added to a study that its tenant wrote first.
    #[must_use]
    pub fn binds_study(&self) -> bool {
        self.row.binds_study
    }

    /// The issuer of the Patient ID that the row assigns because the data set names none. It is for the index: the stored
    /// bytes are those that were sent.
    #[must_use]
    pub fn assigned_issuer(&self) -> Option<&str> {
        self.row.coerce_issuer.as_deref().filter(|_| self.content.issuer().is_none())
    }

    /// What the row would have refused if it did not only observe; all but the size, which is not known yet.
    #[must_use]
    pub fn observed(&self) -> &[Denial] {
        &self.observed
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
    /// When there are more than the row's `max_instance_bytes`, unless it only observes.
    pub fn allows_size(&self, bytes: u64) -> Result<(), Denial> {
        settle(&self.row, self.row.fails_size(bytes), &mut Vec::new())
    }

    /// What [`AuthorisedInstance::allows_size`] would have refused if the row did not only observe.
    #[must_use]
    pub fn observed_size(&self, bytes: u64) -> Option<Denial> {
        let mut observed = Vec::new();
        settle(&self.row, self.row.fails_size(bytes), &mut observed).ok()?;
        observed.pop()
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
        let mut judged = table.same_row(&self.grant, now)?;
        judged.class(&self.name.class)?;
        judged.syntax(&self.transfer_syntax)?;
        judged.content(&self.content)?;
        let (revision, expires) = (table.revision(), judged.expires());
        Ok(Cleared { name: Arc::clone(&self.name), revision, expires, observed: judged.observed })
    }
}

impl Cleared {
    /// The revision of the table that cleared it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What the row would have refused by then if it did not only observe; all but the size.
    #[must_use]
    pub fn observed(&self) -> &[Denial] {
        &self.observed
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
