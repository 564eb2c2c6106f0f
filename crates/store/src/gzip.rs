use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};
use model::Phi;

/// 32 KiB, the most that gzip has (RFC 1952).
const WINDOW: u8 = 15;
/// Header, trailer and what a short text may grow by.
const FRAME: usize = 64;

/// The fastest level: this is on every sender's way to its answer, and JSON of a head is small anyway. The compressor is
/// kept by its thread, for making one clears some 300 KB of memory.
pub(crate) fn compressed(json: &Phi<Vec<u8>>) -> Phi<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: RefCell<Compress> = RefCell::new(Compress::new_gzip(Compression::fast(), WINDOW));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        let json = json.reveal();
        let mut out = Vec::with_capacity(json.len() / 2 + FRAME);
        loop {
            let read = usize::try_from(compressor.total_in()).expect("it was read from memory");
            let step = compressor.compress_vec(&json[read..], &mut out, FlushCompress::Finish);
            match step.expect("a stream that is whole in memory compresses") {
                Status::StreamEnd => return Phi::new(out),
                Status::Ok | Status::BufError => out.reserve(json.len() / 2 + FRAME),
            }
        }
    })
}
