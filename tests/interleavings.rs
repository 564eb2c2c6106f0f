//! "Register before the first decision": the registry of the receiver, its own source file, under shuttle's scheduler.
//!
//! The file takes its locks from `crate::sync`; here these are shuttle's, which tries the interleavings one after the other.

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use shuttle::thread;

#[path = "../crates/gateway/src/registry.rs"]
mod registry;

use registry::{Bell, Registry};

struct Rung(Arc<AtomicBool>);

impl Bell for Rung {
    fn ring(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Revisions of a table: the second withdraws every right.
const ALLOWS: u32 = 1;
const WITHDRAWS: u32 = 2;

fn every_interleaving(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_dfs(scenario, Some(20_000));
}

#[test]
fn nobody_stays_in_on_an_old_decision_without_having_been_told() {
    every_interleaving(|| {
        let registry = Arc::new(Registry::new(ALLOWS));
        let publisher = {
            let registry = registry.clone();
            thread::spawn(move || registry.publish(WITHDRAWS))
        };
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (registry, told) = (registry.clone(), Arc::new(AtomicBool::new(false)));
                thread::spawn(move || {
                    let (number, decided_by) = registry.enter(Rung(told.clone()));
                    (number, *decided_by, told)
                })
            })
            .collect();
        publisher.join().expect("no panic");
        let callers: Vec<_> = callers.into_iter().map(|caller| caller.join().expect("no panic")).collect();
        for (_, decided_by, told) in &callers {
            assert!(
                *decided_by == WITHDRAWS || told.load(Ordering::SeqCst),
                "alive on revision {decided_by}, and not told"
            );
        }
        assert_ne!(callers[0].0, callers[1].0, "each has a number of its own");
    });
}

#[test]
fn no_commit_is_decided_by_what_was_withdrawn_before_it_was_asked() {
    every_interleaving(|| {
        let registry = Arc::new(Registry::<u32, Rung>::new(ALLOWS));
        let withdrawn = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU32::new(0));
        let publisher = {
            let (registry, withdrawn) = (registry.clone(), withdrawn.clone());
            thread::spawn(move || {
                registry.publish(WITHDRAWS);
                withdrawn.store(true, Ordering::SeqCst);
            })
        };
        let committers: Vec<_> = (0..2)
            .map(|_| {
                let (registry, withdrawn, committed) = (registry.clone(), withdrawn.clone(), committed.clone());
                thread::spawn(move || {
                    let too_late = withdrawn.load(Ordering::SeqCst);
                    // The gate.
                    let allowed = *registry.in_force() == ALLOWS;
                    assert!(!(too_late && allowed), "allowed by a table that was withdrawn before");
                    committed.fetch_add(u32::from(allowed), Ordering::SeqCst);
                })
            })
            .collect();
        publisher.join().expect("no panic");
        committers.into_iter().for_each(|committer| committer.join().expect("no panic"));
        assert!(committed.load(Ordering::SeqCst) <= 2);
    });
}

#[test]
fn who_has_left_is_not_told_and_who_is_told_may_have_left() {
    every_interleaving(|| {
        let registry = Arc::new(Registry::new(ALLOWS));
        let gone = Arc::new(AtomicBool::new(false));
        let guest = {
            let (registry, told) = (registry.clone(), gone.clone());
            thread::spawn(move || {
                let (number, _) = registry.enter(Rung(told));
                registry.leave(number);
            })
        };
        let ringer = {
            let registry = registry.clone();
            thread::spawn(move || registry.ring_all())
        };
        guest.join().expect("no panic");
        ringer.join().expect("no panic");
        gone.store(false, Ordering::SeqCst);
        registry.publish(WITHDRAWS);
        assert!(!gone.load(Ordering::SeqCst), "its bell is gone with it");
    });
}
