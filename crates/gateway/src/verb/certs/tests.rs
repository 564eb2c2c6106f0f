use clap::Parser;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    certs: CertsArgs,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_445)
}

/// Runs the verb with `{}` standing for the directory.
fn certs(dir: &Path, line: &str, at: SystemTime) -> anyhow::Result<(ExitCode, String)> {
    let line = line.replace("{}", &dir.display().to_string());
    let args = CommandLine::try_parse_from(["certs"].into_iter().chain(line.split_whitespace()))?;
    let mut out = Vec::new();
    let code = run_at(args.certs, at, &mut out)?;
    Ok((code, String::from_utf8(out).expect("text")))
}

fn home() -> TempDir {
    let home = TempDir::new().expect("a temporary directory");
    certs(home.path(), "init --dir {}", now()).expect("made");
    home
}

fn is_success(code: ExitCode) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

#[test]
fn init_says_what_it_made_and_the_second_time_that_there_is_nothing_to_do() {
    let home = TempDir::new().expect("a temporary directory");
    let (_, first) = certs(home.path(), "init --dir {}", now()).expect("made");
    assert!(first.contains("spiffe://hospital-b.invalid/forwarder"), "{first}");
    let (_, second) = certs(home.path(), "init --dir {}", now()).expect("kept");
    assert!(second.starts_with("Nothing to do"), "{second}");
}

#[test]
fn a_good_certificate_is_shown_with_every_rule_and_success() {
    let home = home();
    let line = "show {}/hospital-a.pem --ca {}/hospital-a.invalid/ca.pem";
    let (code, text) = certs(home.path(), line, now()).expect("shown");
    assert!(is_success(code), "{text}");
    for expected in ["spiffe://hospital-a.invalid/forwarder", "1 d 0 h left", "ECDSA P-256", "✓ V-4", "✓ V-15"] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(!text.contains('✗'), "{text}");
}

#[test]
fn what_is_shown_can_be_pasted_into_a_deny_list() {
    let home = home();
    let (_, text) = certs(home.path(), "show {}/hospital-a.pem --json", now()).expect("shown");
    let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fact = |name: &str| shown["certificate"][name].as_str().expect("known").to_owned();
    let chain = read_certificates(&home.path().join("hospital-a.pem")).expect("there");
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let ca = fs::read(home.path().join("hospital-a.invalid/ca.pem")).expect("there");
    let domain = model::TrustDomain::parse("hospital-a.invalid").expect("valid");
    for entry in [
        format!("leaf_sha256 = \"{}\"", fact("sha256")),
        format!("issuer_sha256 = \"{}\"\nserial = \"{}\"", fact("issuer_sha256"), fact("serial")),
        format!("spiffe_id = \"{}\"", fact("spiffe_id")),
    ] {
        let denied = access::DenyList::parse(&format!("[[deny]]\n{entry}")).expect("a list");
        let bundles = TrustBundles::new([(domain.clone(), ca.as_slice())]).expect("usable").with_deny_list(denied);
        let judged = access::verify(&chain, &bundles, &Rules::default(), now().into(), Purpose::Client);
        assert_eq!(judged.expect_err("denied").code, access::RejectionCode::Revoked, "{entry}");
    }
}

#[test]
fn without_a_bundle_the_chain_is_not_judged_and_that_is_no_failure() {
    let home = home();
    let (code, text) = certs(home.path(), "show {}/receiver.pem --purpose server", now()).expect("shown");
    assert!(is_success(code), "{text}");
    assert!(text.contains("– V-15"), "{text}");
    for expected in ["spiffe://gateway.invalid/receiver", "ECDSA P-256", "gateway.invalid authority"] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn a_bad_certificate_ends_with_failure_and_names_the_rule() {
    let home = home();
    let two_days = now() + 2 * pki::SVID_LIFETIME;
    let cases = [
        ("expired", "show {}/hospital-a.pem", two_days, "✗ V-28"),
        ("another domain's root", "show {}/hospital-a.pem --ca {}/unlabelled.pem", now(), "✗ V-15"),
        ("an authority", "show {}/hospital-a.invalid/ca.pem", now(), "✗ V-10"),
    ];
    // The roots of another issuer, without a SPIFFE ID of their own that would give the mistake away earlier.
    let key = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("made").pem();
    fs::write(home.path().join("unlabelled.pem"), root).expect("written");
    for (name, line, at, expected) in cases {
        let (code, text) = certs(home.path(), line, at).expect(name);
        assert!(!is_success(code), "{name}\n{text}");
        assert!(text.contains(expected), "{name}\n{text}");
    }
}

#[test]
fn json_says_the_same() {
    let home = home();
    let line = "show {}/hospital-a.pem --ca {}/hospital-a.invalid/ca.pem --json";
    let (_, text) = certs(home.path(), line, now()).expect("shown");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["holds"], true);
    assert_eq!(report["certificate"]["spiffe_id"], "spiffe://hospital-a.invalid/forwarder");
    let four = report["rules"].as_array().expect("a list").iter().find(|rule| rule["rule"] == "V-4");
    assert_eq!(four.expect("judged")["outcome"], "holds");
}

#[test]
fn wrong_input_gets_a_sentence_that_says_what_to_do() {
    let home = home();
    let dir = home.path();
    let der = pki::certificates(&fs::read_to_string(dir.join("receiver.pem")).expect("text")).remove(0);
    fs::write(dir.join("x.der"), der).expect("written");
    fs::write(dir.join("empty.pem"), "").expect("written");
    fs::write(dir.join("notes.txt"), "hello").expect("written");
    fs::write(dir.join("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").expect("written");
    fs::write(dir.join("x.csr"), "-----BEGIN CERTIFICATE REQUEST-----\n").expect("written");
    let cases = [
        ("no file", "show {}/nothing.pem", "cannot be read"),
        ("a key", "show {}/receiver.key", "private key"),
        ("DER", "show {}/x.der", "openssl x509 -inform DER"),
        ("empty", "show {}/empty.pem", "is empty"),
        ("text", "show {}/notes.txt", "no PEM certificate"),
        ("cut off", "show {}/cut.pem", "damaged"),
        ("a request", "show {}/x.csr", "certificate request"),
        ("a key for a root", "show {}/receiver.pem --ca {}/receiver.key", "private key"),
        ("a real domain", "issue --id spiffe://hospital.example/x --dir {} --out {}/x", "not a development"),
        ("no path", "issue --id spiffe://hospital-a.invalid --dir {} --out {}/x", "no path"),
        ("an authority of another name", "issue --id spiffe://hospital-a.invalid/x --ca {}/hospital-b.invalid", "V-15"),
        ("another's file", "issue --id spiffe://hospital-a.invalid/x --dir {} --out {}/receiver", "left as it is"),
        ("too many hours", "issue --id spiffe://hospital-a.invalid/x --dir {} --hours 9000", "8760"),
    ];
    for (name, line, expected) in cases {
        let refused = certs(dir, line, now()).expect_err(name);
        assert!(format!("{refused:#}").contains(expected), "{name}: {refused:#}");
    }
    assert!(!dir.join("x.pem").exists());
}

#[test]
fn an_issued_pair_is_usable_and_a_missing_development_authority_is_made() {
    let home = TempDir::new().expect("a temporary directory");
    let line = "issue --id spiffe://clinic.invalid/ct.1 --dir {} --out {}/ct.1";
    let (_, text) = certs(home.path(), line, now()).expect("issued");
    assert!(text.contains("new authority of clinic.invalid"), "{text}");
    let read = |name: &str| fs::read(home.path().join(name)).expect("written");
    let identity = access::Identity::from_pem(&read("ct.1.pem"), &read("ct.1.key")).expect("a usable pair");
    assert_eq!(identity.id().as_str(), "spiffe://clinic.invalid/ct.1");
    let line = "show {}/ct.1.pem --ca {}/clinic.invalid/ca.pem";
    assert!(is_success(certs(home.path(), line, now()).expect("shown").0));
}

#[test]
fn the_test_vectors_are_written_once() {
    let home = TempDir::new().expect("a temporary directory");
    let (code, text) = certs(home.path(), "limbo --out {}/limbo", now()).expect("written");
    assert!(is_success(code) && text.contains("vectors that break one rule"), "{text}");
    assert!(home.path().join("limbo/vectors/V-04/two-spiffe-ids/chain.pem").is_file());
    assert!(!home.path().join("limbo/vectors/pair").exists());
    let refused = certs(home.path(), "limbo --out {}/limbo", now()).expect_err("it is not empty");
    assert!(refused.to_string().contains("not empty"), "{refused:#}");
}

#[test]
fn the_help_is_well_formed() {
    use clap::CommandFactory;
    CommandLine::command().debug_assert();
}
