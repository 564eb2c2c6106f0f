use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Connections whose peer is not known yet, the oldest first.
///
/// Peers who connect and say nothing cost an attacker nothing. When there are more than there may be, the oldest goes: who
/// speaks at once is known within milliseconds and is never the oldest for long.
#[derive(Clone)]
pub(crate) struct Strangers(Arc<Inner>);

struct Inner {
    most: usize,
    waiting: Mutex<(u64, BTreeMap<u64, Arc<Notify>>)>,
}

/// One of them; known, or gone, when dropped.
pub(crate) struct Stranger {
    all: Strangers,
    number: u64,
    crowded_out: Arc<Notify>,
}

impl Strangers {
    pub(crate) fn at_most(most: usize) -> Self {
        Self(Arc::new(Inner { most, waiting: Mutex::default() }))
    }

    /// One more.
    pub(crate) fn welcome(&self) -> Stranger {
        let crowded_out = Arc::new(Notify::new());
        let mut waiting = self.lock();
        let (numbers, strangers) = &mut *waiting;
        *numbers += 1;
        let number = *numbers;
        strangers.insert(number, crowded_out.clone());
        if strangers.len() > self.0.most
            && let Some((_, oldest)) = strangers.pop_first()
        {
            oldest.notify_one();
        }
        drop(waiting);
        Stranger { all: self.clone(), number, crowded_out }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, BTreeMap<u64, Arc<Notify>>)> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Resolves when too many others came after it.
    pub(crate) async fn crowded_out(&self) {
        self.crowded_out.notified().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.all.lock().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_goes_when_there_are_too_many() {
        let strangers = Strangers::at_most(2);
        let first = strangers.welcome();
        let second = strangers.welcome();
        let third = strangers.welcome();
        first.crowded_out().await;
        drop(second);
        let fourth = strangers.welcome();
        let fifth = strangers.welcome();
        third.crowded_out().await;
        assert_eq!(strangers.lock().1.len(), 2);
        drop((first, third, fourth, fifth));
        assert!(strangers.lock().1.is_empty());
    }
}
