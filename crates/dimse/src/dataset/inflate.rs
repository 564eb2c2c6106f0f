//! Deflated data sets (PS3.5 §A.5): raw RFC 1951, inflated for head and metadata only, within limits.

use flate2::{Decompress, FlushDecompress, Status};

use super::{DataSetError, Limits};

/// Bytes inflated at a time: one buffer for a deflated data set, nothing for any other.
const WINDOW: usize = 32 << 10;
/// Inflated bytes below which the ratio says nothing: an empty image of 1000 × 1000 is no bomb.
const RATIO_FLOOR: u64 = 4 << 20;

/// Bytes tolerated after the stream: the one that makes its length even (PS3.5 §A.5), and the checksum and length with
/// which gzip ends (RFC 1952 §2.3.1), for some writers leave them there.
const TRAILER_LIMIT: usize = 9;

pub(super) struct Inflate {
    stream: Decompress,
    output: Box<[u8]>,
    limit: u64,
    ratio: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// A limit was reached after the head was known: the rest is not looked at.
    Stopped,
    /// The stream ended; so many bytes came after it.
    Ended(usize),
}

/// How a deflated data set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inflated {
    /// All of it was inflated.
    Whole,
    /// Only up to a limit.
    Stopped,
    /// The stream has no end.
    Truncated,
}

impl Inflate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            stream: Decompress::new(false),
            output: vec![0; WINDOW].into(),
            limit: limits.inflated,
            ratio: limits.ratio.into(),
            state: State::Running,
        }
    }

    /// Inflates these bytes and hands on what comes out; `next` says whether the head is known by then.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut next: impl FnMut(&[u8]) -> Result<bool, DataSetError>,
    ) -> Result<(), DataSetError> {
        while self.state == State::Running {
            let (read, written, status) = self.step(bytes);
            bytes = &bytes[read..];
            let known = next(&self.output[..written])?;
            if status? == Status::StreamEnd {
                self.state = State::Ended(0);
            } else if self.over_limit() {
                self.state = if known { State::Stopped } else { return Err(DataSetError::DeflateRatio) };
            } else if bytes.is_empty() && written < self.output.len() {
                return Ok(());
            } else if read == 0 && written == 0 {
                return Err(DataSetError::Deflate);
            }
        }
        self.after_end(bytes)
    }

    /// Bytes inflated so far.
    #[cfg(test)]
    pub(super) fn inflated(&self) -> u64 {
        self.stream.total_out()
    }

    pub(super) fn finish(self) -> Inflated {
        match self.state {
            State::Running => Inflated::Truncated,
            State::Stopped => Inflated::Stopped,
            State::Ended(_) => Inflated::Whole,
        }
    }

    /// Bytes read, bytes written, and how it went: what came out before an error counts as well.
    fn step(&mut self, bytes: &[u8]) -> (usize, usize, Result<Status, DataSetError>) {
        let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(bytes, &mut self.output, FlushDecompress::None);
        let (read, written) = (self.stream.total_in() - before_in, self.stream.total_out() - before_out);
        // Both fit: they count bytes of slices.
        (read as usize, written as usize, status.map_err(|_| DataSetError::Deflate))
    }

    fn over_limit(&self) -> bool {
        let (read, written) = (self.stream.total_in(), self.stream.total_out());
        written > self.limit || written > RATIO_FLOOR && written > read.saturating_mul(self.ratio)
    }

    fn after_end(&mut self, bytes: &[u8]) -> Result<(), DataSetError> {
        let State::Ended(before) = self.state else { return Ok(()) };
        let trailer = before + bytes.len();
        if trailer > TRAILER_LIMIT {
            return Err(DataSetError::Deflate);
        }
        self.state = State::Ended(trailer);
        Ok(())
    }
}
