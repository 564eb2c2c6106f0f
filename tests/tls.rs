//! "TLS 1.2 and 1.3, client certificate mandatory, no resumption, no tickets": asked with openssl, which shares no code with us.

use std::process::{Command, Output, Stdio};

use testkit::house::House;

use crate::support::{house, said};

/// `openssl s_client` as hospital-a. It has said nothing when it ends: standard input is empty.
fn s_client(house: &House, certificate: bool, more: &[&str]) -> Output {
    let files = house.cert("hospital-a");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &house.addr().to_string(), "-CAfile"]).arg(house.ca("gateway.invalid"));
    if certificate {
        command.arg("-cert").arg(files.cert).arg("-key").arg(files.key);
    }
    command.args(more).stdin(Stdio::null()).output().expect("openssl is there: run ./tests/run")
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let house = house();
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let output = s_client(&house, true, &[version]);
        assert!(
            said(&output).contains(&format!("Protocol  : {name}")) || said(&output).contains(&format!("New, {name}")),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains("Verify return code: 0 (ok)"), "{}", said(&output));
    }
    for version in ["-tls1_1", "-tls1"] {
        // At security level 0, so that it is not openssl that refuses.
        let output = s_client(&house, true, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!output.status.success(), "{version}: {}", said(&output));
        assert!(
            said(&output).contains("alert") || said(&output).contains("Cipher is (NONE)"),
            "{version}: {}",
            said(&output)
        );
    }
}

#[test]
fn old_and_weak_ciphers_are_not_offered() {
    let house = house();
    for cipher in ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "AES128-GCM-SHA256"] {
        let output = s_client(&house, true, &["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
        assert!(!output.status.success(), "{cipher}: {}", said(&output));
    }
    let output = s_client(&house, true, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
    assert!(output.status.success(), "the control: {}", said(&output));
}

#[test]
fn a_session_cannot_be_resumed_and_no_ticket_is_sent() {
    let house = house();
    for version in ["-tls1_2", "-tls1_3"] {
        let output = s_client(&house, true, &[version, "-reconnect"]);
        let said = said(&output);
        // openssl says for each connection whether the session was new or reused.
        assert!(said.contains("New, TLSv1."), "{version}: {said}");
        assert!(!said.contains("Reused, "), "{version}: {said}");
        assert!(
            !said.contains("TLS session ticket:") && !said.contains("Post-Handshake New Session Ticket"),
            "{version}: {said}"
        );
    }
}

#[test]
fn a_client_certificate_is_demanded() {
    let house = house();
    // TLS 1.2 tells the client before the handshake is over.
    let output = s_client(&house, false, &["-tls1_2"]);
    assert!(!output.status.success(), "{}", said(&output));
    crate::support::audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "no_client_cert")]);
}
