//! The stabiliser loop: asks the index which studies are due, writes their manifests, publishes their events.
//!
//! The index is the truth: this loop keeps nothing between two rounds, so a restart loses nothing.

use std::sync::Arc;
use std::time::Duration;

use store::{DueStudy, EventLog, Failure, Settled};

use crate::answer::told;
use crate::audit::{Decision, Subject, Verdict};
use crate::clock::now;
use crate::house::House;
use crate::telemetry;

/// How often the index is asked; a study is published at most this much after it fell quiet.
const ROUND: Duration = Duration::from_millis(500);

/// Studies settled in one round; the rest is due in the next.
const BATCH: usize = 100;

/// Runs until the house halts.
pub(crate) async fn run(house: Arc<House>, mut events: EventLog) {
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut away = false;
    loop {
        tokio::select! {
            () = house.halt.cancelled() => return,
            _ = round.tick() => {}
        }
        match settle_due(&house, &mut events).await {
            Ok(()) => away = false,
            Err(failure) if !away => {
                away = true;
                tracing::error!("a study cannot be stabilised: {}; trying again until it works", told(&failure));
            }
            Err(_) => {}
        }
    }
}

async fn settle_due(house: &House, events: &mut EventLog) -> Result<(), Failure> {
    // What an earlier process settled and did not publish comes first.
    publish(house, events).await?;
    let mut outcome = Ok(());
    for due in house.archive.due(now(), BATCH).await? {
        // One study that cannot be settled does not hold up the others.
        if let Err(failure) = settle(house, &due).await {
            tracing::debug!(tenant = %due.tenant, "a study cannot be stabilised: {}", told(&failure));
            outcome = Err(failure);
        }
    }
    publish(house, events).await.and(outcome)
}

/// One study: its manifest first, then study row and event in one transaction, if nothing came in between.
async fn settle(house: &House, due: &DueStudy) -> Result<(), Failure> {
    let Some(snapshot) = house.archive.snapshot(due, now()).await? else { return Ok(()) };
    let stable = snapshot.stable();
    house.archive.put_manifest(&stable).await?;
    match house.archive.settle(snapshot, stable).await? {
        Settled::Stable => {}
        Settled::StillArriving | Settled::Overtaken => {
            tracing::debug!(study = %due.study, "not stable yet, or somebody else's");
        }
    }
    Ok(())
}

async fn publish(house: &House, events: &mut EventLog) -> Result<(), Failure> {
    for event in house.archive.publish_to(events, now()).await? {
        metrics::counter!(telemetry::STUDIES_STABLE).increment(1);
        tracing::info!(
            tenant = %event.tenant, study = %event.study, generation = event.generation,
            instances = event.instances, manifest = %event.manifest, "study stable"
        );
        house.audit.record(Verdict::new(Subject::Study, Decision::Note, "study_stable").stable(&event)).await;
        // Nobody inside the process may be watching.
        let _ = house.stable.send(event);
    }
    Ok(())
}
