//! Quotas: how many associations, instances and bytes an identity has under its row, and a tenant in all.
//!
//! Counted in this process: several receivers each count their own, and a restart begins the day anew. Days are UTC days.

use std::collections::{BTreeSet, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::{Denial, DenialCode, Limits, Rate, Row, Table};
use model::{SpiffeId, Tenant};

use crate::live::Moment;
use crate::telemetry;

/// Everyone's counters.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Seats given so far: a seat's number says who came first.
    seats: u64,
    /// Seats taken, of everybody.
    taken: usize,
    meters: HashMap<Key, Meter>,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// An identity under a row: a prefix row gives each of its identities a quota of its own.
    Sender(String, SpiffeId),
    Tenant(Tenant),
}

/// What one of them has used.
#[derive(Default)]
struct Meter {
    seats: BTreeSet<u64>,
    day: i64,
    instances: u64,
    bytes: u64,
    /// Bytes of instances on their way in.
    arriving: u64,
    /// When the next instance would be due if they came evenly.
    due: Option<Instant>,
}

/// Counters kept, about 400 bytes each; more, and those of past days without an association are forgotten.
const MAX_METERS: usize = 10_000;
const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// A place taken by an association; given back when dropped.
pub(crate) struct Place {
    quotas: Arc<Quotas>,
    keys: [Key; 2],
    seat: u64,
}

/// An instance on its way in; given back when dropped, unless it was kept.
pub(crate) struct Ticket {
    quotas: Arc<Quotas>,
    keys: [Key; 2],
    day: i64,
    most_bytes: [Option<u64>; 2],
    /// Bytes that have come so far, where they are limited.
    arrived: u64,
    row: String,
    kept: bool,
}

impl Quotas {
    /// A place for an association of `id` under `row`, of which the whole receiver has `most`.
    ///
    /// # Errors
    /// `associations` or `tenant_associations` when row or tenant have as many as they may; without a row when the receiver has.
    pub(crate) fn seat(
        self: &Arc<Self>,
        table: &Table,
        row: &Row,
        id: &SpiffeId,
        most: usize,
    ) -> Result<Place, Denial> {
        let keys = keys(row, id);
        let mut inner = self.lock();
        if inner.taken >= most {
            return Err(Denial::of(DenialCode::Associations, None, "the receiver has as many associations as it may"));
        }
        inner.forget_the_past();
        for (which, key) in keys.iter().enumerate() {
            let taken = inner.meters.get(key).map_or(0, |meter| meter.seats.len());
            if limits(table, row)[which]
                .and_then(|limits| limits.max_associations)
                .is_some_and(|most| taken >= places(most))
            {
                return Err(Short::Places.of(which, row.id()));
            }
        }
        inner.seats += 1;
        inner.taken += 1;
        let seat = inner.seats;
        for key in &keys {
            inner.meters.entry(key.clone()).or_default().seats.insert(seat);
        }
        drop(inner);
        metrics::gauge!(telemetry::ASSOCIATIONS_OPEN).increment(1.0);
        Ok(Place { quotas: self.clone(), keys, seat })
    }

    /// Lets one more instance begin.
    ///
    /// # Errors
    /// `rate`, `instances_day` or `bytes_day`: sending it again later helps.
    pub(crate) fn begin(
        self: &Arc<Self>,
        table: &Table,
        row: &Row,
        id: &SpiffeId,
        moment: Moment,
    ) -> Result<Ticket, Denial> {
        let keys = keys(row, id);
        let limits = limits(table, row);
        let day = moment.wall.as_millis().div_euclid(MILLIS_PER_DAY);
        let mut inner = self.lock();
        for (which, (key, limits)) in keys.iter().zip(limits).enumerate() {
            let meter = inner.meters.entry(key.clone()).or_default();
            meter.turn_to(day);
            if let Some(limits) = limits {
                meter.may_begin(limits, moment.at).map_err(|short| short.of(which, row.id()))?;
            }
        }
        // Only when both allow it is it counted with both.
        for (key, limits) in keys.iter().zip(limits) {
            let meter = inner.meters.get_mut(key).expect("it was made above");
            meter.instances += 1;
            if let Some(rate) = limits.and_then(|limits| limits.max_rate) {
                meter.due = Some(meter.due.map_or(moment.at, |due| due.max(moment.at)) + interval(rate));
            }
        }
        let most_bytes = limits.map(|limits| limits.and_then(|limits| limits.max_bytes_day.map(NonZeroU64::get)));
        Ok(Ticket { quotas: self.clone(), keys, day, most_bytes, arrived: 0, row: row.id().to_owned(), kept: false })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_the_past(&mut self) {
        if self.meters.len() < MAX_METERS {
            return;
        }
        let today = self.meters.values().map(|meter| meter.day).max().unwrap_or_default();
        self.meters.retain(|_, meter| meter.day == today || !meter.seats.is_empty());
    }
}

impl Meter {
    /// A day never comes again: a clock that was set back gives nobody a second quota.
    fn turn_to(&mut self, day: i64) {
        if self.day < day {
            (self.day, self.instances, self.bytes) = (day, 0, 0);
        }
    }

    fn may_begin(&self, limits: &Limits, at: Instant) -> Result<(), Short> {
        if let Some(most) = limits.max_instances_day.filter(|most| self.instances >= most.get()) {
            return Err(Short::Instances(most.get()));
        }
        if let Some(most) = limits.max_bytes_day.filter(|most| self.bytes >= most.get()) {
            return Err(Short::Bytes(most.get()));
        }
        // The generic cell rate algorithm (ITU-T I.371): `count` at once, and then as they become due.
        let early = limits.max_rate.zip(self.due).is_some_and(|(rate, due)| due > at + (rate.per - interval(rate)));
        if early { Err(Short::Rate) } else { Ok(()) }
    }
}

impl Place {
    /// Whether the association has its place by today's table too: when a quota was lowered, who came last goes (CV-5).
    ///
    /// # Errors
    /// `policy_narrowed`.
    pub(crate) fn still_there(&self, table: &Table, row: &Row) -> Result<(), Denial> {
        let inner = self.quotas.lock();
        for (key, limits) in self.keys.iter().zip(limits(table, row)) {
            let Some(most) = limits.and_then(|limits| limits.max_associations) else { continue };
            let before = inner.meters.get(key).map_or(0, |meter| meter.seats.range(..self.seat).count());
            if before >= places(most) {
                let detail = format!("max_associations is {most} now, and older ones have the places");
                return Err(Denial::of(DenialCode::PolicyNarrowed, Some(row.id()), detail));
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.quotas.lock();
        inner.taken -= 1;
        for key in &self.keys {
            if let Some(meter) = inner.meters.get_mut(key) {
                meter.seats.remove(&self.seat);
            }
        }
        drop(inner);
        metrics::gauge!(telemetry::ASSOCIATIONS_OPEN).decrement(1.0);
    }
}

impl Ticket {
    /// So many bytes of the instance have come: whether they still fit into the day, beside those of every other instance
    /// that is on its way in.
    ///
    /// # Errors
    /// `bytes_day` or `tenant_bytes_day`.
    pub(crate) fn fits(&mut self, bytes: u64) -> Result<(), Denial> {
        if self.most_bytes == [None; 2] {
            return Ok(());
        }
        let more = bytes.saturating_sub(self.arrived);
        let mut inner = self.quotas.lock();
        for (which, (key, most)) in self.keys.iter().zip(self.most_bytes).enumerate() {
            let used = inner.meters.get(key).map_or(0, |meter| meter.bytes.saturating_add(meter.arriving));
            if let Some(most) = most.filter(|most| used.saturating_add(more) > *most) {
                return Err(Short::Bytes(most).of(which, &self.row));
            }
        }
        for key in &self.keys {
            if let Some(meter) = inner.meters.get_mut(key) {
                meter.arriving += more;
            }
        }
        drop(inner);
        self.arrived = bytes;
        Ok(())
    }

    /// It was stored: its bytes count, on the day that it is by now.
    pub(crate) fn keep(mut self, bytes: u64) {
        self.kept = true;
        let mut inner = self.quotas.lock();
        for key in &self.keys {
            if let Some(meter) = inner.meters.get_mut(key) {
                meter.bytes = meter.bytes.saturating_add(bytes);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.quotas.lock();
        for key in &self.keys {
            let Some(meter) = inner.meters.get_mut(key) else { continue };
            meter.arriving = meter.arriving.saturating_sub(self.arrived);
            // An instance that was not kept is not counted, if its day still is.
            if !self.kept && meter.day == self.day {
                meter.instances = meter.instances.saturating_sub(1);
            }
        }
    }
}

fn keys(row: &Row, id: &SpiffeId) -> [Key; 2] {
    [Key::Sender(row.id().to_owned(), id.clone()), Key::Tenant(row.tenant().clone())]
}

/// In the order of [`keys`].
fn limits<'a>(table: &'a Table, row: &'a Row) -> [Option<&'a Limits>; 2] {
    [Some(row.limits()), table.tenant_limits(row.tenant())]
}

fn places(most: NonZeroU32) -> usize {
    usize::try_from(most.get()).unwrap_or(usize::MAX)
}

fn interval(rate: Rate) -> Duration {
    rate.per / rate.count.get()
}

/// What there is not enough of.
#[derive(Debug, Clone, Copy)]
enum Short {
    Places,
    Rate,
    Instances(u64),
    Bytes(u64),
}

impl Short {
    /// The denial by the row's own quota, or by the tenant's; in the order of [`keys`].
    fn of(self, which: usize, row: &str) -> Denial {
        use DenialCode::*;
        let (codes, what) = match self {
            Self::Places => ([Associations, TenantAssociations], "max_associations are open already".to_owned()),
            Self::Rate => ([Rate, TenantRate], "max_rate: instances come faster".to_owned()),
            Self::Instances(most) => {
                ([InstancesDay, TenantInstancesDay], format!("max_instances_day of {most} has been reached today"))
            }
            Self::Bytes(most) => {
                ([BytesDay, TenantBytesDay], format!("max_bytes_day of {most} would be passed, or has been"))
            }
        };
        Denial::of(codes[which], Some(row), format!("the {}'s {what}", ["row", "tenant"][which]))
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn table(columns: &str, tenant: &str) -> Table {
        let row = |id: &str| {
            format!(
                "[[row]]\nid = \"{id}\"\neffect = \"allow\"\nidentity = \"spiffe://hospital-a.invalid/{id}\"\ntenant = \"a\"\n{columns}\n"
            )
        };
        let tenant = if tenant.is_empty() { String::new() } else { format!("[[tenant]]\nname = \"a\"\n{tenant}\n") };
        Table::parse(&format!("revision = 1\n{}{}{tenant}", row("ct1"), row("ct2"))).expect("valid")
    }

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://hospital-a.invalid/{name}")).expect("valid")
    }

    fn row<'t>(table: &'t Table, name: &str) -> &'t Row {
        table.rows().iter().find(|row| row.id() == name).expect("it is there")
    }

    fn code<T>(result: Result<T, Denial>) -> Option<DenialCode> {
        result.err().map(|denial| denial.code)
    }

    struct Clock(Instant, Timestamp);

    impl Clock {
        fn after(&self, span: Duration) -> Moment {
            Moment { wall: self.1.plus(span), at: self.0 + span }
        }
    }

    fn clock() -> Clock {
        Clock(Instant::now(), Timestamp::from_seconds(1_700_000_000))
    }

    #[test]
    fn an_identity_a_tenant_and_the_receiver_have_so_many_places() {
        let quotas = Arc::new(Quotas::default());
        let table = table("max_associations = 2", "max_associations = 3");
        let seat = |name: &str, most| quotas.seat(&table, row(&table, name), &id(name), most);
        let (first, _second) = (seat("ct1", 10).expect("one"), seat("ct1", 10).expect("two"));
        assert_eq!(code(seat("ct1", 10)), Some(DenialCode::Associations));
        let _third = seat("ct2", 10).expect("another identity");
        assert_eq!(code(seat("ct2", 10)), Some(DenialCode::TenantAssociations));
        drop(first);
        assert_eq!(code(seat("ct1", 2)), Some(DenialCode::Associations), "the receiver is full");
        seat("ct1", 10).expect("a place was given back");
    }

    #[test]
    fn when_a_quota_is_lowered_who_came_last_goes() {
        let quotas = Arc::new(Quotas::default());
        let wide = table("", "");
        let places: Vec<_> =
            (0..3).map(|_| quotas.seat(&wide, row(&wide, "ct1"), &id("ct1"), 10).expect("no limit")).collect();
        let narrow = table("max_associations = 2", "");
        let still: Vec<_> = places.iter().map(|place| code(place.still_there(&narrow, row(&narrow, "ct1")))).collect();
        assert_eq!(still, [None, None, Some(DenialCode::PolicyNarrowed)]);
    }

    #[test]
    fn instances_come_no_faster_than_the_rate() {
        let quotas = Arc::new(Quotas::default());
        let table = table("max_rate = \"4/s\"", "");
        let clock = clock();
        let begin =
            |millis| quotas.begin(&table, row(&table, "ct1"), &id("ct1"), clock.after(Duration::from_millis(millis)));
        let taken = |millis| begin(millis).map(|ticket| ticket.keep(1)).is_ok();
        assert_eq!((0..6).filter(|_| taken(0)).count(), 4, "as many at once as the rate counts");
        assert_eq!(code(begin(249)), Some(DenialCode::Rate));
        assert!(taken(250));
        assert_eq!(code(begin(251)), Some(DenialCode::Rate));
        assert_eq!((0..10).filter(|_| taken(10_000)).count(), 4, "a long pause does not save up more");
    }

    #[test]
    fn instances_and_bytes_of_a_day_are_counted_and_begin_anew_the_next_day() {
        let quotas = Arc::new(Quotas::default());
        let table = table("max_instances_day = 3", "max_bytes_day = 100");
        let clock = clock();
        let begin = |name: &str, span| quotas.begin(&table, row(&table, name), &id(name), clock.after(span));
        begin("ct1", Duration::ZERO).expect("the first").keep(60);
        drop(begin("ct1", Duration::ZERO).expect("not kept, so not counted"));
        let mut second = begin("ct2", Duration::ZERO).expect("another identity of the tenant");
        assert_eq!(code(second.fits(41)), Some(DenialCode::TenantBytesDay));
        assert_eq!(code(second.fits(30)), None);
        let mut third = begin("ct1", Duration::ZERO).expect("its own count allows it");
        assert_eq!(code(third.fits(11)), Some(DenialCode::TenantBytesDay), "beside what is on its way in");
        assert_eq!(code(third.fits(10)), None);
        drop(third);
        assert_eq!(code(second.fits(40)), None, "what was given up is free again");
        second.keep(40);
        assert_eq!(code(begin("ct1", Duration::ZERO)), Some(DenialCode::TenantBytesDay), "the tenant's day is used up");
        for number in 0..3 {
            begin("ct1", DAY).unwrap_or_else(|denial| panic!("{number}: {denial}")).keep(0);
        }
        assert_eq!(code(begin("ct1", DAY)), Some(DenialCode::InstancesDay));
        begin("ct2", DAY).expect("each identity has its own").keep(0);
        assert_eq!(code(begin("ct1", Duration::ZERO)), Some(DenialCode::InstancesDay), "yesterday does not come again");
    }
}
