//! Which row decides: the precedence of access-table.md, the same whatever the order of the rows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{AeTitle, SopClass, Timestamp, TransferSyntax, Uid};

use crate::caller::Caller;
use crate::content::Content;
use crate::denial::{Denial, DenialCode};
use crate::row::{DenyRow, Operation, Row};
use crate::table::Table;
use crate::tls::VerifiedPeer;
use crate::veto::{Known, Objection};

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
    pub(crate) fn address(&self) -> IpAddr {
        self.source.unwrap_or(self.socket).ip()
    }
}

/// A row that speaks for a caller, and which of its constraints failed so far.
pub(crate) type Candidate<'t> = (&'t Arc<Row>, Vec<Denial>);

impl Table {
    /// D1: whether this identity has a row that is in force for it, before a byte of DICOM is read.
    ///
    /// # Errors
    /// Why not: of several rows, the one that came nearest to being in force.
    pub fn admit(&self, peer: &VerifiedPeer, origin: &Origin, now: Timestamp) -> Result<(), Denial> {
        self.hears(peer.caller(), origin, now)
    }

    /// D1 and D2: the one row that allows this caller these AE titles.
    pub(crate) fn choose<'t>(
        &'t self,
        caller: &'t Caller,
        origin: &'t Origin,
        called: &'t AeTitle,
        calling: &'t AeTitle,
        now: Timestamp,
    ) -> Result<Judgement<'t>, Denial> {
        let mut live = self.at_door(caller, origin, now)?;
        let known = Known { titles: Some((called, calling)), ..Known::at_door(origin) };
        if live.iter().any(|(row, failing)| failing.is_empty() || row.observes) {
            self.veto(caller, &known, now)?;
        }
        for (row, failing) in &mut live {
            failing.extend(row.fails_titles(called, calling));
        }
        let (row, observed) = pick(live)?;
        Ok(Judgement { table: self, caller, known, now, row, observed })
    }

    /// Precedence 2 to 5, and what fails of the columns that can be asked before DICOM begins.
    pub(crate) fn at_door(
        &self,
        caller: &Caller,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<Candidate<'_>>, Denial> {
        self.kill_switch()?;
        self.veto(caller, &Known::at_door(origin), now)?;
        let (mut live, mut out) = (Vec::new(), Vec::new());
        for row in self.candidates(&caller.id) {
            match row.in_force(caller, now) {
                Ok(()) => live.push((row, row.fails_at_door(caller, origin, now))),
                Err(denial) => out.push(denial),
            }
        }
        if live.is_empty() {
            let stranger = Denial::of(DenialCode::NoRow, None, "no row names this identity");
            return Err(nearest(out).unwrap_or(stranger));
        }
        Ok(live)
    }

    pub(crate) fn kill_switch(&self) -> Result<(), Denial> {
        if self.is_killed() {
            return Err(Denial::of(DenialCode::KillSwitch, None, "the table's kill switch is on"));
        }
        Ok(())
    }

    /// The deny rows that speak about this caller now.
    fn vetoes(&self, caller: &Caller, now: Timestamp) -> impl Iterator<Item = &Arc<DenyRow>> {
        self.deny_rows().iter().filter(move |row| row.concerns(&caller.id, now).is_ok())
    }

    fn veto(&self, caller: &Caller, known: &Known<'_>, now: Timestamp) -> Result<(), Denial> {
        first(self.vetoes(caller, now).filter_map(|deny| deny.stops(known)))
    }
}

/// One row under examination: every door asks it what is due there. A row that only observes refuses nothing by its
/// constraints; what they say is kept.
#[derive(Debug, Clone)]
pub(crate) struct Judgement<'t> {
    table: &'t Table,
    caller: &'t Caller,
    known: Known<'t>,
    now: Timestamp,
    pub(crate) row: &'t Arc<Row>,
    pub(crate) observed: Vec<Denial>,
}

impl<'t> Judgement<'t> {
    /// The same row for another matter: nothing observed yet.
    pub(crate) fn afresh(&self) -> Self {
        Self { observed: Vec::new(), ..*self }
    }

    pub(crate) fn operation(&mut self, operation: Operation) -> Result<(), Denial> {
        self.known.operation = Some(operation);
        self.veto()?;
        settle(self.row, self.row.fails_operation(operation), &mut self.observed)
    }

    /// Whether an instance of this class may be stored.
    pub(crate) fn class(&mut self, class: &'t Uid<SopClass>) -> Result<(), Denial> {
        self.operation(Operation::Store)?;
        self.row.is_storage(class)?;
        self.known.class = Some(class);
        self.veto()?;
        settle(self.row, self.row.fails_class(class), &mut self.observed)
    }

    pub(crate) fn syntax(&mut self, syntax: &'t Uid<TransferSyntax>) -> Result<(), Denial> {
        self.known.syntax = Some(syntax);
        self.veto()?;
        settle(self.row, self.row.fails_syntax(syntax), &mut self.observed)
    }

    pub(crate) fn content(&mut self, content: &'t Content) -> Result<(), Denial> {
        self.known.content = Some(content);
        self.veto()?;
        settle(self.row, self.row.fails_content(content), &mut self.observed)
    }

    fn veto(&self) -> Result<(), Denial> {
        self.table.veto(self.caller, &self.known, self.now)
    }

    /// The deny rows that match so far and wait for what is not known yet.
    pub(crate) fn waiting(&self) -> Vec<Arc<DenyRow>> {
        let waits = |deny: &&Arc<DenyRow>| matches!(deny.objects(&self.known), Objection::Waits(_));
        self.table.vetoes(self.caller, self.now).filter(waits).cloned().collect()
    }

    pub(crate) fn size(&mut self, bytes: u64) -> Result<(), Denial> {
        settle(self.row, self.row.fails_size(bytes), &mut self.observed)
    }

    /// The last moment at which the row allows anything to this caller, by what is known now.
    pub(crate) fn expires(&self) -> Timestamp {
        let row = self.row;
        let closes = row.windows.as_ref().and_then(|windows| windows.closes_after(self.now));
        let constraints = [closes, row.posture_ok_until].into_iter().filter(|_| !row.observes);
        constraints.chain([row.valid_until]).flatten().fold(self.caller.not_after, Timestamp::min)
    }
}

/// D4, without the table: a permit has brought along its row and the deny rows that wait for the data set.
pub(crate) fn may_say(
    row: &Row,
    waiting: &[Arc<DenyRow>],
    known: &Known<'_>,
    observed: &mut Vec<Denial>,
) -> Result<(), Denial> {
    first(waiting.iter().filter_map(|deny| deny.stops(known)))?;
    settle(row, known.content.map(|content| row.fails_content(content)).unwrap_or_default(), observed)
}

/// The first constraint that fails refuses, unless the row only observes.
pub(crate) fn settle(row: &Row, failing: Vec<Denial>, observed: &mut Vec<Denial>) -> Result<(), Denial> {
    if row.observes {
        note(observed, failing);
        return Ok(());
    }
    failing.into_iter().next().map_or(Ok(()), Err)
}

/// Each is told once.
pub(crate) fn note(observed: &mut Vec<Denial>, denials: Vec<Denial>) {
    for denial in denials {
        if !observed.contains(&denial) {
            observed.push(denial);
        }
    }
}

/// The row of which nothing fails: when AE titles were asked there is at most one, as the table was refused otherwise. If
/// there is none, a row that only observes; if there is none either, why not.
pub(crate) fn pick(candidates: Vec<Candidate<'_>>) -> Result<Candidate<'_>, Denial> {
    let (fitting, failing): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(_, failing)| failing.is_empty());
    if let Some(row) = fitting.into_iter().next() {
        return Ok(row);
    }
    let denial = nearest(failing.iter().filter_map(|(_, failing)| failing.first()).cloned());
    let mut observing: Vec<_> = failing.into_iter().filter(|(row, _)| row.observes).collect();
    observing.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    // Fewest objections first; the sort is stable.
    observing.sort_by_key(|(_, failing)| failing.len());
    match observing.into_iter().next() {
        Some(row) => Ok(row),
        None => Err(denial.expect("a candidate that does not fit has failed")),
    }
}

/// The denial of the row that came nearest to allowing it.
fn nearest(denials: impl IntoIterator<Item = Denial>) -> Option<Denial> {
    denials.into_iter().min_by(|one, other| other.code.cmp(&one.code).then_with(|| one.row.cmp(&other.row)))
}

/// Of deny rows that match alike, the first by name.
fn first(denials: impl Iterator<Item = Denial>) -> Result<(), Denial> {
    denials.min_by(|one, other| one.row.cmp(&other.row)).map_or(Ok(()), Err)
}
