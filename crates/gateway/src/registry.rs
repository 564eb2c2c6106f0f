//! Who is in, and what is in force for them.
//!
//! A caller enters before the first decision about it and takes along what is in force at that moment; what is published
//! later rings its bell. Both happen under one lock, so a caller either decides by the new set or hears of it: none is left
//! alive on a decision by the old set (`tests/interleavings.rs` runs this file under every interleaving that shuttle finds).
//! So this file takes its locks from `crate::sync`, knows no runtime, and keeps nothing else.

use std::collections::HashMap;

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How somebody who is in hears that something changed. Called with the registry locked: it must be quick and not call back.
pub(crate) trait Bell {
    fn ring(&self);
}

/// What is in force, and the bells of everyone who lives by it.
pub(crate) struct Registry<T, B>(Mutex<Inner<T, B>>);

struct Inner<T, B> {
    in_force: Arc<T>,
    /// Numbers given so far.
    numbers: u64,
    bells: HashMap<u64, B>,
}

impl<T, B: Bell> Registry<T, B> {
    pub(crate) fn new(in_force: T) -> Self {
        Self(Mutex::new(Inner { in_force: Arc::new(in_force), numbers: 0, bells: HashMap::new() }))
    }

    /// Comes in: a number, unique in this process, and what is in force now. From here on every change rings `bell`.
    pub(crate) fn enter(&self, bell: B) -> (u64, Arc<T>) {
        let mut inner = self.lock();
        inner.numbers += 1;
        let number = inner.numbers;
        inner.bells.insert(number, bell);
        (number, Arc::clone(&inner.in_force))
    }

    /// Goes.
    pub(crate) fn leave(&self, number: u64) {
        self.lock().bells.remove(&number);
    }

    /// What is in force now.
    pub(crate) fn in_force(&self) -> Arc<T> {
        Arc::clone(&self.lock().in_force)
    }

    /// Puts something else in force and rings every bell. When it returns, nobody can decide by what was before without
    /// having been told.
    pub(crate) fn publish(&self, next: T) {
        let mut inner = self.lock();
        inner.in_force = Arc::new(next);
        inner.bells.values().for_each(Bell::ring);
    }

    /// Rings every bell although nothing was published: something beside the published set changed.
    pub(crate) fn ring_all(&self) {
        self.lock().bells.values().for_each(Bell::ring);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
