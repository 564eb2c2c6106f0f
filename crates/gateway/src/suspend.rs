//! Identities that were denied so often that they are shut out for a while (C-5): a sender gone wrong, or somebody trying doors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::{Denial, DenialCode, Row, Table};
use model::SpiffeId;

/// When an identity is suspended, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    /// So many denials …
    pub(crate) denials: u32,
    /// … within this …
    pub(crate) window: Duration,
    /// … suspend for this.
    pub(crate) ttl: Duration,
}

/// Whether a denial is the caller's own doing: not one that follows from a change of ours, a quota or the time of day.
pub(crate) fn counts(code: DenialCode) -> bool {
    use DenialCode::*;
    matches!(
        code,
        MinTls
            | SvidLifetime
            | VpceMissing
            | Vpce
            | Source
            | CalledAet
            | CallingAet
            | Operation
            | SopClass
            | TransferSyntax
            | Modality
            | PatientIssuer
            | Institution
            | StudyBinding
            | PatientConflict
            | InstanceSize
    )
}

/// Identities counted at a time, about 300 bytes each. Only identities with a certificate from a trusted domain are counted;
/// when there are more, those without a suspension are
/// forgotten, and when all are suspended nobody is counted in addition.
const MAX_COUNTED: usize = 10_000;

/// Who is suspended here, in this process only.
#[derive(Default)]
pub(crate) struct Suspensions {
    measure: Option<Measure>,
    counted: Mutex<HashMap<SpiffeId, Count>>,
}

#[derive(Debug, Clone)]
struct Count {
    since: Instant,
    denials: u32,
    suspended: Option<Suspended>,
}

#[derive(Debug, Clone)]
struct Suspended {
    until: Instant,
    /// The rows of the identity as they were: an operator who changes one has looked at it, which lifts the suspension.
    rows: Vec<Arc<Row>>,
}

impl Suspensions {
    pub(crate) fn new(measure: Option<Measure>) -> Self {
        Self { measure, counted: Mutex::default() }
    }

    /// # Errors
    /// `auto_suspended`, while it lasts.
    pub(crate) fn check(&self, table: &Table, id: &SpiffeId, at: Instant) -> Result<(), Denial> {
        if self.measure.is_none() {
            return Ok(());
        }
        let mut counted = self.lock();
        let Some(suspended) = counted.get(id).and_then(|count| count.suspended.as_ref()) else { return Ok(()) };
        if at < suspended.until && suspended.rows == table.rows_of(id) {
            let left = suspended.until.duration_since(at).as_secs();
            let row = suspended.rows.first().map(|row| row.id());
            let detail = format!("denied too often, suspended for another {left} s; a change of its row lifts it");
            return Err(Denial::of(DenialCode::AutoSuspended, row, detail));
        }
        counted.remove(id);
        Ok(())
    }

    /// Counts a denial that is the caller's doing. Some: it was one too many, and the identity is suspended for so long.
    pub(crate) fn denied(&self, table: &Table, id: &SpiffeId, at: Instant) -> Option<Duration> {
        let measure = self.measure?;
        let mut counted = self.lock();
        if counted.len() >= MAX_COUNTED {
            counted.retain(|_, count| count.suspended.as_ref().is_some_and(|suspended| at < suspended.until));
        }
        if counted.len() >= MAX_COUNTED && !counted.contains_key(id) {
            return None;
        }
        let count = counted.entry(id.clone()).or_insert(Count { since: at, denials: 0, suspended: None });
        if at.saturating_duration_since(count.since) > measure.window {
            (count.since, count.denials) = (at, 0);
        }
        count.denials += 1;
        if count.denials < measure.denials || count.suspended.is_some() {
            return None;
        }
        count.suspended = Some(Suspended { until: at + measure.ttl, rows: table.rows_of(id) });
        Some(measure.ttl)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Count>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        revision = 1
        [[row]]
        id = "ct1"
        effect = "allow"
        identity = "spiffe://hospital-a.invalid/ct1"
        tenant = "a"
    "#;

    #[test]
    fn repeated_denials_suspend_until_time_or_an_operator_lifts_it() {
        let second = Duration::from_secs(1);
        let measure = Measure { denials: 3, window: 10 * second, ttl: 60 * second };
        let table = Table::parse(TABLE).expect("valid");
        let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
        let other = SpiffeId::parse("spiffe://hospital-a.invalid/ct2").expect("valid");
        let begin = Instant::now();
        let suspensions = Suspensions::new(Some(measure));
        let denied = |after: u32| suspensions.denied(&table, &id, begin + after * second);
        let check = |table: &Table, id: &SpiffeId, after: u32| suspensions.check(table, id, begin + after * second);
        assert_eq!((denied(0), denied(1), denied(20), denied(21)), (None, None, None, None), "not within one window");
        assert_eq!(denied(22), Some(60 * second));
        assert_eq!(denied(23), None, "it is suspended already");
        assert_eq!(check(&table, &id, 81).map_err(|denial| denial.code), Err(DenialCode::AutoSuspended));
        assert_eq!(check(&table, &other, 81), Ok(()), "nobody else");
        assert_eq!(check(&table, &id, 82), Ok(()), "its time is over");
        assert_eq!((denied(90), denied(90)), (None, None), "counted from the beginning again");
        assert_eq!(denied(90), Some(60 * second));
        let same = Table::parse(&TABLE.replace("revision = 1", "revision = 2")).expect("valid");
        assert!(check(&same, &id, 91).is_err(), "another revision of the table is not a look at this row");
        let looked_at = Table::parse(&format!("{TABLE}\nticket = \"CHG-7\"")).expect("valid");
        assert_eq!(check(&looked_at, &id, 91), Ok(()), "an operator has changed the row");
    }

    #[test]
    fn without_a_measure_nobody_is_suspended() {
        let table = Table::parse(TABLE).expect("valid");
        let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
        let suspensions = Suspensions::new(None);
        assert!((0..1000).all(|_| suspensions.denied(&table, &id, Instant::now()).is_none()));
        assert_eq!(suspensions.check(&table, &id, Instant::now()), Ok(()));
    }
}
