//! Where received bytes wait until they are understood.

/// The least capacity: an A-ABORT (10 bytes) and a PDU header with a PDV header (12 bytes) must fit as a whole.
const MIN_CAPACITY: usize = 64;

/// A receive buffer of fixed capacity: the socket loop fills it, the association drains it, and it never grows.
pub struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty buffer of `capacity` bytes, but at least 64.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity.max(MIN_CAPACITY)].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Where the next received bytes go; empty only if the buffer is full.
    pub fn space(&mut self) -> &mut [u8] {
        // Moving what is left is cheap: after a drain it is less than a header, unless the peer ran ahead.
        if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// The first `count` bytes of [`Inbox::space`] were filled.
    ///
    /// # Panics
    /// When `count` is more than the space there was: the caller's own mistake, never a peer's.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more bytes filled than there was space for");
        self.end += count;
    }

    /// How many received bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Hands out the first `count` waiting bytes and is done with them.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.skip(count);
        &self.bytes[from..from + count]
    }

    pub(crate) fn skip(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl std::fmt::Debug for Inbox {
    // The bytes are patient data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).field("capacity", &self.bytes.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(inbox: &mut Inbox, bytes: &[u8]) {
        inbox.space()[..bytes.len()].copy_from_slice(bytes);
        inbox.filled(bytes.len());
    }

    #[test]
    fn bytes_come_out_in_order_and_the_capacity_stays() {
        let mut inbox = Inbox::with_capacity(64);
        let mut next_in = 0_u8;
        let mut next_out = 0_u8;
        for round in 0..200_usize {
            let count = inbox.space().len().min(1 + round % 23);
            for _ in 0..count {
                fill(&mut inbox, &[next_in]);
                next_in = next_in.wrapping_add(1);
            }
            for byte in inbox.take(inbox.len().min(1 + round % 19)).to_vec() {
                assert_eq!(byte, next_out);
                next_out = next_out.wrapping_add(1);
            }
        }
        assert_eq!(inbox.bytes.len(), 64);
    }

    #[test]
    fn space_is_empty_only_if_full() {
        let mut inbox = Inbox::with_capacity(0);
        fill(&mut inbox, &[7; MIN_CAPACITY]);
        assert!(inbox.space().is_empty());
        inbox.skip(1);
        assert_eq!(inbox.space().len(), 1);
        inbox.skip(MIN_CAPACITY - 1);
        assert!(inbox.is_empty());
        assert_eq!(inbox.space().len(), MIN_CAPACITY);
    }

    #[test]
    #[should_panic(expected = "more bytes filled")]
    fn filling_more_than_the_space_is_a_mistake_of_ours() {
        Inbox::with_capacity(64).filled(65);
    }

    #[test]
    fn debug_shows_no_received_byte() {
        let mut inbox = Inbox::with_capacity(64);
        fill(&mut inbox, b"DOE^JANE");
        assert_eq!(format!("{inbox:?}"), "Inbox { len: 8, capacity: 64 }");
    }
}
