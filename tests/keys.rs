//! "Storing unauthorised data, or saying Success without a receipt, does not compile": each attempt is a program in
//! `keys/`, with what the compiler says to it. After a change of compiler, look at the differences and then run
//! `TRYBUILD=overwrite cargo test -p promises keys::`.

macro_rules! refused {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            trybuild::TestCases::new().compile_fail(concat!("keys/", stringify!($name), ".rs"));
        }
    )*};
}

refused! {
    a_clearance_is_used_once
    a_failure_cannot_say_success
    a_permit_is_not_enough_to_keep_bytes
    a_request_is_answered_once
    authorised_instance_cannot_be_copied
    authorised_instance_cannot_be_made
    cleared_cannot_be_copied
    cleared_cannot_be_made
    grant_cannot_be_copied
    grant_cannot_be_made
    nothing_is_committed_without_a_clearance
    patient_data_cannot_be_printed
    permit_cannot_be_copied
    permit_cannot_be_made
    receipt_cannot_be_copied
    receipt_cannot_be_made
    success_costs_a_receipt
    verified_peer_cannot_be_copied
    verified_peer_cannot_be_made
}

/// Compiled with this file, which is all that it has to show.
#[path = "keys/control.rs"]
mod control;

#[test]
fn with_the_right_keys_every_door_opens() {
    control::main();
}
