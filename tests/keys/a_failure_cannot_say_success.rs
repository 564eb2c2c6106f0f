//! A refusal carries a status that is never 0000 or a warning: nobody else can make one.
fn main() {
    let _ = dimse::FailureStatus(0x0000);
}
