//! usage: load HOST:PORT CERTS ASSOCIATIONS SECONDS — many associations of hospital-a that store all the time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use model::{InstanceClaim, Uid};
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};
use testkit::samples::ct_study;

/// What every sender adds to.
#[derive(Default)]
struct Tally {
    stored: AtomicU64,
    errors: AtomicU64,
    slowest_micros: AtomicU64,
}

#[expect(clippy::print_stdout, reason = "the answer")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, certs, associations, seconds] = arguments.as_slice() else {
        panic!("usage: load HOST:PORT CERTS ASSOCIATIONS SECONDS")
    };
    let to: SocketAddr = to.parse().expect("HOST:PORT with an address");
    let read =
        |name: &str| std::fs::read_to_string(Path::new(certs).join(name)).expect("the certificates of a dev house");
    let credentials =
        Arc::new(Credentials::new(&read("hospital-a.pem"), &read("hospital-a.key"), &read("gateway.invalid/ca.pem")));
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let tally = Arc::new(Tally::default());
    let associations: u16 = associations.parse().expect("a number of associations");
    let senders: Vec<_> = (0..associations)
        .map(|number| {
            let (credentials, tally) = (credentials.clone(), tally.clone());
            spawn(move || send(to, &credentials, number, end, &tally))
        })
        .collect();
    for sender in senders {
        if sender.join().is_err() {
            tally.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (stored, errors) = (tally.stored.load(Ordering::Relaxed), tally.errors.load(Ordering::Relaxed));
    let slowest = tally.slowest_micros.load(Ordering::Relaxed) / 1000;
    println!(
        "{associations} associations, {seconds} s: {stored} instances acknowledged, {errors} errors, slowest answer {slowest} ms"
    );
}

fn send(to: SocketAddr, credentials: &Credentials, number: u16, end: Instant, tally: &Tally) {
    let mut peer = Peer::connect(to, credentials).expect("a good certificate is let in");
    let answer = peer.associate("PORTCULLIS", "HOSPITAL_A", sample_contexts());
    assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
    // One slice, sent again and again under other UIDs of the same length.
    let slice = ct_study(1, 100, u64::from(number)).remove(0);
    let old = slice.instance.as_str().to_owned();
    let places: Vec<_> = matches(slice.data_set(), old.as_bytes());
    let mut data_set = slice.data_set().to_vec();
    for count in 0_u32.. {
        if Instant::now() >= end {
            break;
        }
        let digits = format!("{count:08}");
        let new = format!("{}{digits}", &old[..old.len() - digits.len()]);
        places.iter().for_each(|at| data_set[*at..*at + new.len()].copy_from_slice(new.as_bytes()));
        let claim = InstanceClaim { instance: Uid::parse(&new).expect("a UID"), ..slice.claim() };
        let begun = Instant::now();
        let outcome = peer.store(&claim, &data_set);
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        let counter = if outcome == Outcome::Status(0) { &tally.stored } else { &tally.errors };
        counter.fetch_add(1, Ordering::Relaxed);
        if !matches!(outcome, Outcome::Status(_)) {
            return;
        }
    }
    if peer.release() != Outcome::Released {
        tally.errors.fetch_add(1, Ordering::Relaxed);
    }
}

fn matches(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    haystack.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
}
