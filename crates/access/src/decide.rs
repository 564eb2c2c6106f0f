//! Which row decides: the precedence of access-table.md, the same whatever the order of the rows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{AeTitle, SopClass, Timestamp, TransferSyntax, Uid, sop_class};

use crate::denial::{Denial, DenialCode};
use crate::row::{Choice, DenyRow, MinTls, Operation, Row};
use crate::table::Table;
use crate::tls::VerifiedPeer;

/// Where a connection came from. What a PROXY header claims may narrow a grant and never makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The other end of the socket.
    pub socket: SocketAddr,
    /// The caller's own address, as a load balancer claims it.
    pub source: Option<SocketAddr>,
    /// The VPC endpoint, as a load balancer claims it.
    pub vpce: Option<String>,
}

impl Origin {
    fn address(&self) -> IpAddr {
        self.source.unwrap_or(self.socket).ip()
    }
}

impl Table {
    /// D1: whether this identity has a row that is in force for it, before a byte of DICOM is read.
    ///
    /// # Errors
    /// Why not: of several rows, the one that came nearest to being in force.
    pub fn admit(&self, peer: &VerifiedPeer, origin: &Origin, now: Timestamp) -> Result<(), Denial> {
        self.live_rows(peer, origin, now).map(|_| ())
    }

    /// The one row that allows this caller these AE titles.
    pub(crate) fn choose(
        &self,
        peer: &VerifiedPeer,
        origin: &Origin,
        called: &AeTitle,
        calling: &AeTitle,
        now: Timestamp,
    ) -> Result<&Arc<Row>, Denial> {
        let live = self.live_rows(peer, origin, now)?;
        for deny in self.vetoes(peer, now) {
            if lists(deny.what.called.as_ref(), called) || lists(deny.what.calling.as_ref(), calling) {
                return Err(denied_by(deny));
            }
        }
        let called_by: Vec<_> = live.into_iter().filter(|row| lists(row.what.called.as_ref(), called)).collect();
        let Some(first) = called_by.first().copied() else {
            return Err(Denial::new(DenialCode::CalledAet, None, "no row of this identity lists the called AE title"));
        };
        let row = called_by.into_iter().find(|row| lists(row.what.calling.as_ref(), calling));
        row.ok_or_else(|| {
            Denial::new(DenialCode::CallingAet, Some(&first.id), "the row does not list the calling AE title")
        })
    }

    /// The deny rows that speak about this caller now.
    pub(crate) fn vetoes(&self, peer: &VerifiedPeer, now: Timestamp) -> impl Iterator<Item = &Arc<DenyRow>> {
        self.deny_rows().iter().filter(move |row| row.concerns(peer.id(), now))
    }

    /// Whether `row` and no deny row lets this class be stored in this syntax.
    pub(crate) fn may_store(
        &self,
        row: &Row,
        peer: &VerifiedPeer,
        class: &Uid<SopClass>,
        syntax: &Uid<TransferSyntax>,
        now: Timestamp,
    ) -> Result<(), Denial> {
        self.may_store_class(row, peer, class, now)?;
        if !row.what.allows_syntax(syntax) {
            return Err(Denial::new(
                DenialCode::TransferSyntax,
                Some(&row.id),
                "the row does not list the transfer syntax",
            ));
        }
        let veto = self.vetoes(peer, now).find(|deny| lists(deny.what.syntaxes.as_ref(), syntax));
        veto.map_or(Ok(()), |deny| Err(denied_by(deny)))
    }

    /// As [`Table::may_store`], before the transfer syntax is known.
    pub(crate) fn may_store_class(
        &self,
        row: &Row,
        peer: &VerifiedPeer,
        class: &Uid<SopClass>,
        now: Timestamp,
    ) -> Result<(), Denial> {
        self.may(Operation::Store, row, peer, now)?;
        // Even for "*": a C-STORE on the context that was accepted for C-ECHO is no instance.
        if !is_storage(class) {
            return Err(Denial::new(DenialCode::SopClass, Some(&row.id), "it is no storage SOP class"));
        }
        if !lists(row.what.classes.as_ref(), class) {
            return Err(Denial::new(DenialCode::SopClass, Some(&row.id), "the row does not list the SOP class"));
        }
        let veto = self.vetoes(peer, now).find(|deny| lists(deny.what.classes.as_ref(), class));
        veto.map_or(Ok(()), |deny| Err(denied_by(deny)))
    }

    /// Whether `row` and no deny row lets this operation be done.
    pub(crate) fn may(
        &self,
        operation: Operation,
        row: &Row,
        peer: &VerifiedPeer,
        now: Timestamp,
    ) -> Result<(), Denial> {
        if !row.what.allows(operation) {
            return Err(Denial::new(DenialCode::Operation, Some(&row.id), "the row does not list the operation"));
        }
        let veto = self.vetoes(peer, now).find(|deny| deny.what.allows(operation));
        veto.map_or(Ok(()), |deny| Err(denied_by(deny)))
    }

    fn live_rows(&self, peer: &VerifiedPeer, origin: &Origin, now: Timestamp) -> Result<Vec<&Arc<Row>>, Denial> {
        if let Some(deny) = self.vetoes(peer, now).find(|deny| denies_connection(deny, origin)) {
            return Err(denied_by(deny));
        }
        let (mut live, mut nearest) = (Vec::new(), Denial::new(DenialCode::NoRow, None, "no row names this identity"));
        for row in self.candidates(peer.id()) {
            match in_force(row, peer, origin, now) {
                Ok(()) => live.push(row),
                Err(denial) if denial.code > nearest.code => nearest = denial,
                Err(_) => {}
            }
        }
        if live.is_empty() { Err(nearest) } else { Ok(live) }
    }
}

/// Whether a column is populated and has this value.
fn lists<T: Ord>(column: Option<&Choice<T>>, value: &T) -> bool {
    column.is_some_and(|choice| choice.covers(value))
}

/// Whether a deny row stops the whole connection. Its other columns are asked when their attributes are due.
fn denies_connection(deny: &DenyRow, origin: &Origin) -> bool {
    let vpce =
        deny.what.vpces.as_ref().is_some_and(|listed| origin.vpce.as_ref().is_none_or(|own| listed.contains(own)));
    let source = deny.what.cidrs.as_ref().is_some_and(|listed| listed.iter().any(|net| net.contains(origin.address())));
    deny.what.is_bare() || vpce || source
}

/// Whether an abstract syntax can be a storage class: the ones of the standard are known, any other is private.
pub(crate) fn is_storage(class: &Uid<SopClass>) -> bool {
    !class.as_str().starts_with("1.2.840.10008.") || sop_class::keyword(class).is_some()
}

pub(crate) fn denied_by(deny: &DenyRow) -> Denial {
    Denial::new(DenialCode::DenyRow, Some(&deny.id), "a deny row matches")
}

/// Every column of the row that can be asked before DICOM begins.
fn in_force(row: &Row, peer: &VerifiedPeer, origin: &Origin, now: Timestamp) -> Result<(), Denial> {
    let refuse = |code, detail: &str| Err(Denial::new(code, Some(&row.id), detail));
    if !row.standing.in_force(now) {
        return refuse(DenialCode::RowSuspended, "the row is suspended");
    }
    if row.valid_until.is_some_and(|end| now > end) {
        return refuse(DenialCode::RowExpired, "the row's valid_until has passed");
    }
    if row.not_before.is_some_and(|begin| now < begin) {
        return refuse(DenialCode::RowNotYet, "the row's not_before has not come");
    }
    let svid = peer.svid();
    if now > svid.not_after() {
        return refuse(DenialCode::SvidExpired, "the SVID has expired");
    }
    if row.max_svid_lifetime.is_some_and(|most| svid.not_after().since(svid.not_before()) > most) {
        return refuse(DenialCode::SvidLifetime, "the SVID is valid for longer than the row's max_svid_lifetime");
    }
    if row.min_tls == Some(MinTls::Tls13) && peer.tls_version() != "TLSv1.3" {
        return refuse(DenialCode::MinTls, "the row asks for TLS 1.3");
    }
    match (&row.what.vpces, &origin.vpce) {
        (Some(_), None) => return refuse(DenialCode::VpceMissing, "the row asks for a VPC endpoint and none is known"),
        (Some(listed), Some(own)) if !listed.contains(own) => {
            return refuse(DenialCode::Vpce, "the row does not list the VPC endpoint");
        }
        _ => {}
    }
    if row.what.cidrs.as_ref().is_some_and(|listed| !listed.iter().any(|net| net.contains(origin.address()))) {
        return refuse(DenialCode::Source, "the row does not list the caller's network");
    }
    Ok(())
}
