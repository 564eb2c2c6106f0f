//! docs/svid-limbo.md: written from what was observed, and compared with it.

use std::fmt::Write as _;
use std::path::Path;

use access::RejectionCode;
use gateway::limbo::{Case, Expected, Profile};

use super::expected;

/// Answers of a socket that are not the verifier's, and why that is so.
const BEFORE_THE_VERIFIER: [(&str, &str, &str); 1] =
    [("V-02/eighty-kilobytes", "tls_handshake", "rustls reads no handshake message of more than 64 KiB")];

/// What was said to a vector.
pub(crate) struct Observed {
    pub(crate) function: String,
    /// Over TLS 1.3 and 1.2, if it can be asked there.
    pub(crate) sockets: Option<[String; 2]>,
}

/// A vector and what was observed.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) observed: Observed,
}

/// What was observed of the pairs.
pub(crate) struct Pairs {
    pub(crate) all: usize,
    pub(crate) functions: usize,
    pub(crate) tried: usize,
    pub(crate) right: usize,
}

/// Whether this answer is one of the right ones.
pub(crate) fn is_right(case: &Case, found: &str) -> bool {
    match case.expected() {
        Expected::Accept(_) => found == "accept",
        Expected::Reject(codes) => codes.iter().any(|code| code.as_str() == found),
    }
}

impl Row {
    /// What is wrong with it, if anything: the first code is ours, and it must be just that one.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Self { case, observed } = self;
        let wanted = expected(case);
        let exception = BEFORE_THE_VERIFIER.iter().find(|(id, ..)| *id == case.id());
        let by_socket = exception.map_or(wanted.as_str(), |(_, code, _)| code);
        let sockets = observed.sockets.iter().flatten().all(|found| found == by_socket);
        let right = observed.function == wanted && sockets;
        (!right).then(|| format!("{}: wanted {wanted}, found {} {:?}", case.id(), observed.function, observed.sockets))
    }
}

/// Compares the page with what was observed.
pub(crate) fn assert_current(rows: &[Row], pairs: &Pairs) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (page, seen) = (root.join("docs/svid-limbo.md"), root.join("target/svid-limbo.md"));
    let text = write(rows, pairs);
    std::fs::create_dir_all(root.join("target")).and_then(|()| std::fs::write(&seen, &text)).expect("target is ours");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &text).expect("the page can be written");
    }
    let current = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        current == text,
        "docs/svid-limbo.md is not what was observed (target/svid-limbo.md): look at the difference, and if it is right \
         run this test with UPDATE_DOCS=1"
    );
}

fn write(rows: &[Row], pairs: &Pairs) -> String {
    let mut page = HEAD.to_owned();
    let (good, bad): (Vec<_>, Vec<_>) = rows.iter().partition(|row| matches!(row.case.expected(), Expected::Accept(_)));
    let _ = writeln!(page, "\n## What breaks one rule ({})\n", bad.len());
    table(&mut page, &bad);
    let _ = writeln!(page, "\n## What breaks none ({})\n", good.len());
    table(&mut page, &good);
    let _ = writeln!(
        page,
        "\n## What breaks two ({})\n\nEvery two of the first table that change different parts of a certificate or chain. \
         Refused by the verifier with the code of\neither: {} of {}. Shown to the receiver over TLS 1.3 and refused so: {} of {}; \
         the others hold only to the second, or have a chain\nthat is too large, which is refused unread and without a digest in \
         the log.",
        pairs.all, pairs.functions, pairs.all, pairs.right, pairs.tried
    );
    page += TAIL;
    for code in RejectionCode::ALL {
        let _ = writeln!(page, "| `{}` | {} | {} |", code.as_str(), code.rule(), code.sentence());
    }
    page
}

fn table(page: &mut String, rows: &[&Row]) {
    page.push_str(
        "| vector | rules | what | expected | function | TLS 1.3 | TLS 1.2 |\n|---|---|---|---|---|---|---|\n",
    );
    for Row { case, observed } in rows {
        let strict = if case.profile() == Profile::Strict { " (strict)" } else { "" };
        let [v13, v12] = match &observed.sockets {
            Some(found) => found.each_ref().map(|code| format!("`{code}`")),
            None => ["–".to_owned(), "–".to_owned()],
        };
        let _ = writeln!(
            page,
            "| {}{strict} | {} | {} | `{}` | `{}` | {v13} | {v12} |",
            case.id(),
            case.rules().join(", "),
            case.what(),
            expected(case),
            observed.function
        );
    }
}

const HEAD: &str = "\
# svid-limbo: what is tested of X509-SVID verification

Written by the test `limbo::` of `tests/limbo.rs` from what it observed (`UPDATE_DOCS=1 ./tests/run end-to-end` writes it anew); do not edit.
`portcullis certs limbo --out DIR` writes the same vectors as JSON and PEM for any other verifier; their form is
[schema/limbo.schema.json](schema/limbo.schema.json).

*function* is `access::verify`. *TLS 1.3* and *TLS 1.2* are what the audit log of a running receiver says after a client has shown the chain in a
real handshake; an accepted one went on to an association under exactly its SPIFFE ID. A dash: the vector is a server's, or holds only to the second.
`(strict)`: with `identity.rules = \"strict\"`. V-02/eighty-kilobytes never comes to the verifier: rustls reads no
handshake message of more than 64 KiB. A path of more than six intermediates is refused by webpki (`chain_invalid`), which is stricter than V-2.

Rules that no certificate can break alone:

| rule | tested by |
|---|---|
| V-12 byte-exact comparison | `good/other-case` here; `comparison_is_byte_exact` in `model`; `access` tests of precedence |
| V-17 a trust domain with two bundles | `access` tests of trust material; `receive --check` |
| V-33 no resumption | `limbo::resumption`: a client that may resume and has expired since, over TLS 1.2 and 1.3; `tls::a_session_cannot_be_resumed_and_no_ticket_is_sent` with openssl |
| V-34 authorise only afterwards | by type: compile-fail tests `tests/keys/verified_peer_*`, `grant_*` |
";

const TAIL: &str = "
## Codes

| code | rule | the certificate was refused because |
|---|---|---|
";
