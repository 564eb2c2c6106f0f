//! One row that allows, asked column by column. Whether an answer refuses is decided in `decide`; `explain` shows the same answers.

use std::collections::BTreeSet;

use model::{AeTitle, SopClass, Timestamp, TransferSyntax, Uid, sop_class};

use crate::caller::Caller;
use crate::content::Content;
use crate::decide::Origin;
use crate::denial::{Denial, DenialCode};
use crate::row::{Choice, Columns, MinTls, Operation, Row, Standing};
use crate::window::Windows;

impl Row {
    /// Whether the row counts for this caller at all. Never only observed: a row that is suspended grants nothing.
    pub(crate) fn in_force(&self, caller: &Caller, now: Timestamp) -> Result<(), Denial> {
        in_force(&self.standing, self.not_before, self.valid_until, now)
            .map_err(|(code, why)| self.denial(code, why))?;
        if now > caller.not_after {
            return Err(self.denial(DenialCode::SvidExpired, "the SVID has expired"));
        }
        Ok(())
    }

    /// The columns that can be asked before DICOM begins.
    pub(crate) fn fails_at_door(&self, caller: &Caller, origin: &Origin, now: Timestamp) -> Vec<Denial> {
        let vpces = self.what.vpces.as_ref();
        let unlisted = vpces.zip(origin.vpce.as_ref()).is_some_and(|(listed, own)| !listed.contains(own));
        let lifetime = caller.not_after.since(caller.not_before);
        self.failing(&[
            (!within(self.windows.as_ref(), now), DenialCode::OutsideWindow, "it is outside the row's windows"),
            (
                self.posture_ok_until.is_some_and(|end| now > end),
                DenialCode::Posture,
                "the row's posture_ok_until has passed",
            ),
            (
                self.max_svid_lifetime.is_some_and(|most| lifetime > most),
                DenialCode::SvidLifetime,
                "the SVID is valid for longer than the row's max_svid_lifetime",
            ),
            (self.min_tls == Some(MinTls::Tls13) && !caller.tls13, DenialCode::MinTls, "the row asks for TLS 1.3"),
            (
                (self.require_vpce || vpces.is_some()) && origin.vpce.is_none(),
                DenialCode::VpceMissing,
                "the row asks for a VPC endpoint and none is known",
            ),
            (unlisted, DenialCode::Vpce, "the row does not list the VPC endpoint"),
            (
                self.what.cidrs.is_some() && !self.what.has_network(origin),
                DenialCode::Source,
                "the row does not list the caller's network",
            ),
        ])
    }

    /// The AE titles.
    pub(crate) fn fails_titles(&self, called: &AeTitle, calling: &AeTitle) -> Vec<Denial> {
        self.failing(&[
            (!lists(&self.what.called, called), DenialCode::CalledAet, "the row does not list the called AE title"),
            (!lists(&self.what.calling, calling), DenialCode::CallingAet, "the row does not list the calling AE title"),
        ])
    }

    /// The operation.
    pub(crate) fn fails_operation(&self, operation: Operation) -> Vec<Denial> {
        self.failing(&[(!self.what.allows(operation), DenialCode::Operation, "the row does not list the operation")])
    }

    /// Never only observed: even for `*`, a C-STORE on the context that was accepted for C-ECHO is no instance.
    pub(crate) fn is_storage(&self, class: &Uid<SopClass>) -> Result<(), Denial> {
        if is_storage(class) {
            return Ok(());
        }
        Err(self.denial(DenialCode::SopClass, "it is no storage SOP class"))
    }

    /// The class of an instance.
    pub(crate) fn fails_class(&self, class: &Uid<SopClass>) -> Vec<Denial> {
        self.failing(&[(
            !lists(&self.what.classes, class),
            DenialCode::SopClass,
            "the row does not list the SOP class",
        )])
    }

    /// Its transfer syntax.
    pub(crate) fn fails_syntax(&self, syntax: &Uid<TransferSyntax>) -> Vec<Denial> {
        self.failing(&[(
            !self.what.allows_syntax(syntax),
            DenialCode::TransferSyntax,
            "the row does not list the transfer syntax",
        )])
    }

    /// What its data set says. An issuer that is missing is the one that the row assigns, if it does.
    pub(crate) fn fails_content(&self, content: &Content) -> Vec<Denial> {
        let issuer = content.issuer().or(self.coerce_issuer.as_deref());
        let unlisted = |listed: &Option<BTreeSet<String>>, own: Option<&str>| {
            listed.as_ref().is_some_and(|listed| !own.is_some_and(|own| listed.contains(own)))
        };
        self.failing(&[
            (
                unlisted(&self.what.modalities, content.modality()),
                DenialCode::Modality,
                "the row does not list the modality",
            ),
            (
                unlisted(&self.what.issuers, issuer),
                DenialCode::PatientIssuer,
                "the row does not list the issuer of the Patient ID",
            ),
            (
                unlisted(&self.what.institutions, content.institution()),
                DenialCode::Institution,
                "the row does not list the institution",
            ),
        ])
    }

    /// How many bytes its data set has, so far.
    pub(crate) fn fails_size(&self, bytes: u64) -> Vec<Denial> {
        match self.max_instance_bytes {
            Some(most) if bytes > most => {
                vec![
                    self.denial(
                        DenialCode::InstanceSize,
                        format!("the data set is larger than the row's {most} bytes"),
                    ),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn failing(&self, asked: &[(bool, DenialCode, &str)]) -> Vec<Denial> {
        let failing = asked.iter().filter(|(fails, _, _)| *fails);
        failing.map(|(_, code, detail)| self.denial(*code, *detail)).collect()
    }

    fn denial(&self, code: DenialCode, detail: impl Into<String>) -> Denial {
        Denial::of(code, Some(&self.id), detail)
    }
}

impl Columns {
    fn has_network(&self, origin: &Origin) -> bool {
        self.cidrs.as_ref().is_some_and(|listed| listed.iter().any(|net| net.contains(origin.address())))
    }
}

pub(crate) fn in_force(
    standing: &Standing,
    not_before: Option<Timestamp>,
    valid_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), (DenialCode, &'static str)> {
    if !standing.in_force(now) {
        return Err((DenialCode::RowSuspended, "the row is suspended"));
    }
    if valid_until.is_some_and(|end| now > end) {
        return Err((DenialCode::RowExpired, "the row's valid_until has passed"));
    }
    if not_before.is_some_and(|begin| now < begin) {
        return Err((DenialCode::RowNotYet, "the row's not_before has not come"));
    }
    Ok(())
}

pub(crate) fn within(windows: Option<&Windows>, now: Timestamp) -> bool {
    windows.is_none_or(|windows| windows.contains(now))
}

/// Whether a column is populated and has this value.
fn lists<T: Ord>(column: &Option<Choice<T>>, value: &T) -> bool {
    column.as_ref().is_some_and(|choice| choice.covers(value))
}

/// Whether an abstract syntax can be a storage class: the ones of the standard are known, any other is private.
pub(crate) fn is_storage(class: &Uid<SopClass>) -> bool {
    !class.as_str().starts_with("1.2.840.10008.") || sop_class::keyword(class).is_some()
}
