//! One association, top to bottom: the corridor's steps 5 to 15.
//!
//! `attend` is the order of the doors. Each passed check is a value that the next door takes (`VerifiedPeer`, `Grant`,
//! `Permit`, `AuthorisedInstance`, `Receipt`), so a step cannot be left out. What may end an association while it waits
//! for bytes is in `line.rs`; how one instance comes in is in `intake.rs`; what is answered is in `answer.rs`.

use std::sync::Arc;
use std::time::Instant;

use access::{Denial, Grant, Table};
use dimse::{
    Acceptor, AssociationRequest, EchoRequest, Event, Implementation, MalformedStore, Opening, Reject, StoreRequest,
    Unheard, UnsupportedRequest, status,
};
use store::Receipt;
use tracing::Instrument;
use transport::Connection;

use crate::answer::{self, Refusal, told};
use crate::audit::{Decision, Subject, Verdict};
use crate::config::Profile;
use crate::end::End;
use crate::house::{Guest, House};
use crate::intake::{Arrival, Intake};
use crate::life::Phase;
use crate::line::{Line, Woke};
use crate::live::Moment;
use crate::quotas::Place;
use crate::{observe, telemetry};

/// What proves durability to an association: Success cannot be written without one.
type Association = dimse::Association<Receipt>;

/// Serves one authenticated connection until its association is over. The guest came in before the handshake.
pub(crate) async fn attend(house: Arc<House>, connection: Connection, guest: Guest) {
    let span = tracing::info_span!(
        "association",
        number = guest.number,
        peer = %connection.peer().id(),
        row = tracing::field::Empty,
        stored = tracing::field::Empty,
        refused = tracing::field::Empty,
    );
    let line = Line::new(house.clone(), connection, guest);
    converse(house, line).instrument(span).await;
}

async fn converse(house: Arc<House>, mut line: Line) {
    let opened = match house.live.admit(line.peer(), line.origin(), Moment::now()) {
        Ok(()) => open(&house, &mut line).await,
        Err((denial, table)) => {
            observe::refused_connection(&house, &line, &denial).await;
            line.deny(denied(&denial, &table)).await;
            turn_away_unheard(&mut line).await
        }
    };
    let end = match opened {
        Ok(Some(session)) => session.run(&mut line).await,
        Ok(None) => End::Rejected,
        Err(end) => end,
    };
    line.hang_up(end).await;
}

/// Promise 2: a caller without a row. Its request is framed by length and never interpreted.
async fn turn_away_unheard(line: &mut Line) -> Result<Option<Session>, End> {
    let mut unheard = Unheard::new(line.limits());
    loop {
        if let Some(rejection) = unheard.next(&mut line.inbox)? {
            line.send(&rejection).await?;
            return Ok(None);
        }
        line.more(Phase::Request).await?;
    }
}

fn denied(denial: &Denial, table: &Table) -> Verdict {
    Verdict::denial(Subject::Association, Decision::Deny, denial).policy(table)
}

fn refused(why: &'static str) -> Verdict {
    Verdict::new(Subject::Association, Decision::Deny, why)
}

/// Steps 5 to 7: the request, the grant, the answer. None when it was rejected.
async fn open(house: &Arc<House>, line: &mut Line) -> Result<Option<Session>, End> {
    let request = match receive_request(line).await? {
        Opening::Request(request) => request,
        Opening::Refused(why, bytes) => {
            line.deny(refused(reason_of(why)).detail("the request has a title or more contexts than can be taken"))
                .await;
            line.send(&bytes).await?;
            return Ok(None);
        }
        Opening::Aborted(abort) => return Err(End::PeerAborted(abort)),
    };
    if let Some(why) = request.objection() {
        return reject(line, request, why, refused(reason_of(why))).await;
    }
    if house.drain.is_cancelled() {
        return reject(line, request, Reject::Congestion, refused("shutdown")).await;
    }
    let grant = match authorise(house, line, &request)? {
        Ok(grant) => Arc::new(grant),
        Err((denial, table)) => {
            house.count_denial(line.peer(), denial.code).await;
            observe::refused_association(house, line, request.proposal(), &denial).await;
            let answer = answer::reject(&denial, house.config.profile);
            return reject(line, request, answer, denied(&denial, &table)).await;
        }
    };
    if grant.accepted() == 0 {
        // An acceptance of nothing has senders come back for ever (D2).
        let proposed = grant.proposal().contexts.iter().map(|context| context.abstract_syntax.as_str());
        let detail = format!("none of the proposed classes is allowed: {}", proposed.collect::<Vec<_>>().join(", "));
        return reject(line, request, Reject::NoReason, refused("no_context").grant(&grant).detail(detail)).await;
    }
    let (table, most) = (house.live.table(), house.config.receiver.max_associations);
    match house.quotas.seat(&table, grant.row(), grant.peer().id(), most) {
        Ok(place) => accept(house, line, request, grant, place).await.map(Some),
        Err(denial) => reject(line, request, Reject::LocalLimit, denied(&denial, &table).grant(&grant)).await,
    }
}

/// Step 6, by the table and the certificates of this moment: the request may have been a while in coming.
fn authorise(
    house: &House,
    line: &mut Line,
    request: &AssociationRequest<Receipt>,
) -> Result<Result<Grant, (Denial, Arc<Table>)>, End> {
    let (moment, peer) = (Moment::now(), line.peer().clone());
    house.live.vouch(&peer, &mut line.tenure.vouched, moment.wall).map_err(End::Distrusted)?;
    Ok(house.live.grant(&peer, line.origin(), request.proposal(), moment))
}

async fn receive_request(line: &mut Line) -> Result<Opening<Receipt>, End> {
    let mut acceptor = Acceptor::new(line.limits(), Implementation::PORTCULLIS);
    loop {
        if let Some(opening) = acceptor.next(&mut line.inbox)? {
            return Ok(opening);
        }
        line.more(Phase::Request).await?;
    }
}

async fn reject(
    line: &mut Line,
    request: AssociationRequest<Receipt>,
    why: Reject,
    verdict: Verdict,
) -> Result<Option<Session>, End> {
    line.deny(verdict.titles(request.proposal())).await;
    line.send(&request.reject(why)).await?;
    Ok(None)
}

async fn accept(
    house: &Arc<House>,
    line: &mut Line,
    request: AssociationRequest<Receipt>,
    grant: Arc<Grant>,
    place: Place,
) -> Result<Session, End> {
    let proposal = grant.proposal();
    let (accepted, proposed) = (grant.accepted(), proposal.contexts.len());
    tracing::Span::current().record("row", grant.row().id());
    tracing::info!(called = %proposal.called, calling = %proposal.calling, accepted, proposed, "association accepted");
    metrics::counter!(telemetry::ASSOCIATIONS).increment(1);
    metrics::counter!(telemetry::AUTHZ_ALLOW).increment(1);
    let verdict = Verdict::new(Subject::Association, Decision::Allow, "granted").grant(&grant).titles(proposal);
    let verdict = verdict.detail(format!("{accepted} of {proposed} presentation contexts accepted"));
    line.record(observe::endpoint(house, &grant, verdict)).await;
    observe::association(house, line, &grant).await;
    let (association, answer) = request.accept(grant.contexts());
    line.tenure.grant_with(grant.clone(), place);
    line.send(&answer).await?;
    Ok(Session { house: house.clone(), association, grant, denials: 0 })
}

fn reason_of(why: Reject) -> &'static str {
    match why {
        Reject::NoReason => "no_reason",
        Reject::ApplicationContext => "application_context",
        Reject::CallingAeTitle => "calling_aet",
        Reject::CalledAeTitle => "called_aet",
        Reject::ProtocolVersion => "protocol_version",
        Reject::Congestion => "congestion",
        Reject::LocalLimit => "association_limit",
    }
}

/// An accepted association.
struct Session {
    house: Arc<House>,
    association: Association,
    grant: Arc<Grant>,
    denials: u32,
}

impl Session {
    /// Step 8: messages, until somebody ends it.
    async fn run(mut self, line: &mut Line) -> End {
        loop {
            if let Err(end) = self.message(line).await {
                return end;
            }
        }
    }

    async fn message(&mut self, line: &mut Line) -> Result<(), End> {
        match self.association.next(&mut line.inbox)? {
            None => {
                // Part of a command is the middle of a message.
                let between = self.association.is_between_messages() && line.inbox.is_empty();
                line.more(if between { Phase::Boundary } else { Phase::Message }).await.map(drop)
            }
            Some(Event::Store(request)) => self.store(line, request).await,
            Some(Event::Malformed(request)) => self.malformed(line, request).await,
            Some(Event::Echo(request)) => self.echo(line, request).await,
            Some(Event::Unsupported(request)) => self.decline(line, request).await,
            Some(Event::Cancel) => Ok(()),
            Some(Event::ReleaseRequested) => {
                line.send(&self.association.released()).await?;
                Err(End::Released)
            }
            Some(Event::Aborted(abort)) => Err(End::PeerAborted(abort)),
            // dimse never yields these between messages.
            Some(Event::Data(_) | Event::DataEnd) => Ok(()),
        }
    }

    /// C-ECHO is asked again each time, as everything is.
    async fn echo(&mut self, line: &mut Line, request: EchoRequest) -> Result<(), End> {
        let table = self.house.live.table();
        let answer = match table.permit_echo(&self.grant, Moment::now().wall) {
            Ok(()) => self.association.echoed(request),
            Err(denial) => {
                let verdict = Verdict::denial(Subject::Association, Decision::Deny, &denial);
                line.deny(verdict.revision(table.revision()).grant(&self.grant)).await;
                self.denials += 1;
                self.association.echo_refused(request)
            }
        };
        line.send(&answer).await?;
        self.not_too_many_denials()
    }

    /// Step 9: what is in force now is asked before a byte is kept. Then the data set, whatever the answer was.
    async fn store(&mut self, line: &mut Line, request: StoreRequest) -> Result<(), End> {
        let intake = match self.permit(line, &request).await {
            Ok(intake) => intake,
            Err(why) => Intake::refused(why),
        };
        self.receive(line, request, intake).await
    }

    async fn permit(&mut self, line: &mut Line, request: &StoreRequest) -> Result<Intake, Refusal> {
        let (house, moment) = (&self.house, Moment::now());
        if house.drain.is_cancelled() {
            return Err(Refusal::Draining);
        }
        if house.config.profile == Profile::Strict && !house.audit.healthy() {
            return Err(Refusal::Unaudited);
        }
        let permit = house.live.permit(&self.grant, request.claim().clone(), &mut line.tenure.vouched, moment)?;
        let ticket = house.quotas.begin(&house.live.table(), permit.row(), self.grant.peer().id(), moment);
        let ticket = ticket.map_err(Refusal::Denied)?;
        Ok(Intake::new(house, permit, ticket))
    }

    /// Steps 10 to 15.
    async fn receive(&mut self, line: &mut Line, request: StoreRequest, mut intake: Intake) -> Result<(), End> {
        let begun = Instant::now();
        self.data_set(line, &mut intake).await?;
        let arrival = intake.finish(&self.house, &mut line.tenure.vouched).await;
        metrics::histogram!(telemetry::STORE_SECONDS).record(begun.elapsed());
        self.answer(line, request, arrival).await
    }

    async fn data_set(&mut self, line: &mut Line, intake: &mut Intake) -> Result<(), End> {
        loop {
            match self.association.next(&mut line.inbox)? {
                None => match line.more(Phase::Message).await? {
                    Woke::Bytes => {}
                    Woke::Tick => intake.keep_open(&self.house).await,
                },
                Some(Event::Data(piece)) => intake.take(&self.house, piece).await,
                Some(Event::DataEnd) => return Ok(()),
                Some(Event::Aborted(abort)) => return Err(End::PeerAborted(abort)),
                // dimse yields nothing else before the data set has ended.
                Some(_) => {}
            }
        }
    }

    /// Step 15: Success takes the receipt; anything else is a refusal.
    async fn answer(&mut self, line: &mut Line, request: StoreRequest, arrival: Arrival) -> Result<(), End> {
        let Arrival { name, mut outcome, instance } = arrival;
        let verdict = match &outcome {
            Ok(receipt) => {
                let revision = receipt.table_revision().unwrap_or_else(|| self.house.live.table().revision());
                stored(receipt).revision(revision)
            }
            Err(refusal) => self.refused(refusal).await,
        };
        let verdict = name.iter().fold(verdict.claim(request.claim()), Verdict::name).grant(&self.grant);
        if outcome.is_ok() && self.house.config.profile == Profile::Strict {
            // What cannot be accounted for was not received: the sender sends it again and finds it held.
            if line.record_durably(verdict).await.is_err() {
                outcome = Err(Refusal::Unaudited);
            }
        } else {
            line.record(verdict).await;
        }
        if let (Some(instance), Ok(receipt)) = (instance, &outcome) {
            observe::instance(&self.house, line, &instance, receipt.size()).await;
        }
        let answer = match outcome {
            Ok(receipt) => {
                line.stored += 1;
                self.association.stored(request, receipt)
            }
            Err(refusal) => {
                line.refused += 1;
                self.association.refused(request, answer::refuse_store(&refusal))
            }
        };
        line.send(&answer).await?;
        self.not_too_many_denials()
    }

    fn not_too_many_denials(&self) -> Result<(), End> {
        if self.denials > self.house.config.dicom.max_denials { Err(End::TooManyDenials) } else { Ok(()) }
    }

    async fn refused(&mut self, refusal: &Refusal) -> Verdict {
        let answer = answer::refuse_store(refusal);
        let status = format!("{:04X}", answer.status.code());
        metrics::counter!(telemetry::INSTANCES, "status" => status, "outcome" => refusal.code()).increment(1);
        tracing::warn!(status = %answer.status, reason = refusal.code(), "instance refused: {}", told(refusal));
        if answer.status == status::NOT_AUTHORISED {
            metrics::counter!(telemetry::AUTHZ_DENY, "reason" => refusal.code()).increment(1);
            self.denials += 1;
        }
        // What was promised when the association was granted and is refused since is our change, not the caller's doing.
        let unchanged = self.grant.table_revision() == self.house.live.table().revision();
        if let Some(code) = refusal.denial_code().filter(|_| unchanged) {
            self.house.count_denial(self.grant.peer(), code).await;
        }
        let verdict = match refusal.denial() {
            Some(denial) => {
                let revision = self.house.live.table().revision();
                Verdict::denial(Subject::Instance, Decision::Deny, denial).revision(revision)
            }
            None => {
                let other = refusal;
                Verdict::new(Subject::Instance, Decision::Deny, other.code()).detail(told(other))
            }
        };
        verdict.revision(self.house.live.table().revision()).status(answer.status.code())
    }

    /// A C-STORE whose command cannot be answered with anything better; its data set is read and dropped.
    async fn malformed(&mut self, line: &mut Line, request: MalformedStore) -> Result<(), End> {
        let refusal = Refusal::Malformed(request.refusal());
        if request.data_follows() {
            self.drop_data_set(line).await?;
        }
        let verdict = self.refused(&refusal).await;
        line.record(verdict.grant(&self.grant)).await;
        line.refused += 1;
        let answer = self.association.malformed(request);
        line.send(&answer).await
    }

    /// A message that is not for us; its data set, if it has one, is read and dropped.
    async fn decline(&mut self, line: &mut Line, request: UnsupportedRequest) -> Result<(), End> {
        let (command, refusal) = (request.command_field(), request.refusal());
        tracing::warn!(command = format_args!("{command:04X}"), status = %refusal.status, "a DIMSE message was declined");
        if request.data_follows() {
            self.drop_data_set(line).await?;
        }
        let answer = self.association.unsupported(request);
        line.send(&answer).await
    }

    async fn drop_data_set(&mut self, line: &mut Line) -> Result<(), End> {
        self.data_set(line, &mut Intake::refused(Refusal::Draining)).await
    }
}

/// The record of an instance that is kept.
fn stored(receipt: &Receipt) -> Verdict {
    let outcome = receipt.outcome().as_str();
    metrics::counter!(telemetry::AUTHZ_ALLOW).increment(1);
    metrics::counter!(telemetry::INSTANCES, "status" => "0000", "outcome" => outcome).increment(1);
    metrics::counter!(telemetry::BYTES).increment(receipt.size());
    if receipt.cross_tenant() {
        metrics::counter!(telemetry::CROSS_TENANT).increment(1);
        tracing::warn!("a Study Instance UID of this tenant is another tenant's too; they are kept apart");
    }
    Verdict::new(Subject::Instance, Decision::Allow, outcome).receipt(receipt).status(status::SUCCESS)
}
