//! Promise 2: "An identity without a row gets nothing: its association request is framed by length, never interpreted, and
//! answered A-ASSOCIATE-RJ 1/1/1."

use gateway::pki::SVID_LIFETIME;
use testkit::house::House;
use testkit::peer::{Associated, Credentials, Peer, sample_contexts};

use crate::support::{
    A, B, Bystander, CALLED, amend, audited, connect, credentials, house, issue, with_columns, without_row,
};

/// A-ASSOCIATE-RJ (PS3.8 §9.3.4): rejected-permanent, service-user, no-reason-given.
const REJECTED: (u8, &[u8]) = (3, &[0, 1, 1, 1]);
/// In a trusted domain, with a good certificate, and in no row.
const NOBODY: &str = "spiffe://hospital-a.invalid/nobody";

/// An A-ASSOCIATE-RQ by its header, and nothing of the kind by its body.
fn garbage() -> Vec<u8> {
    let body: Vec<u8> = (0..4000_u32).map(|byte| (byte * 7 % 251) as u8).collect();
    let length = u32::try_from(body.len()).expect("short");
    [&[1, 0][..], &length.to_be_bytes(), &body].concat()
}

fn answer_to(house: &House, credentials: &Credentials, request: &[u8]) -> (u8, Vec<u8>) {
    let mut peer = Peer::connect(house.addr(), credentials).expect("the certificate is good");
    peer.send_raw(request).expect("the receiver reads the request");
    peer.read_pdu().expect("there is an answer")
}

#[test]
fn an_identity_without_a_row_is_rejected_and_its_request_is_never_interpreted() {
    let house = house();
    let mut bystander = Bystander::of(&house);
    let nobody = credentials(&house, &issue(&house, NOBODY, SVID_LIFETIME));
    let (kind, body) = answer_to(&house, &nobody, &garbage());
    assert_eq!((kind, body.as_slice()), REJECTED, "what is not a request is answered like one");
    // The control: to somebody whose request is interpreted, the same bytes are a broken protocol (A-ABORT, provider).
    let (kind, body) = answer_to(&house, &Credentials::of_house(&house, "hospital-a"), &garbage());
    assert_eq!((kind, body[2]), (7, 2));

    let mut peer = Peer::connect(house.addr(), &nobody).expect("the certificate is good");
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Rejected(1, 1, 1));
    let line = audited(&house, &[("reason", "no_row"), ("spiffe_id", NOBODY), ("decision", "deny")]);
    assert!(line.get("called_ae").is_none(), "nothing of the request is known: {line}");
    bystander.still_served();
}

#[test]
fn suspended_and_expired_rows_look_like_no_row() {
    let house = house();
    let cases: [(&str, &str, fn(String) -> String); 3] = [
        ("suspended", "row_suspended", |text| with_columns(&text, "hospital-a", "state = \"suspended\"")),
        ("expired", "row_expired", |text| {
            with_columns(&text, "hospital-a", "valid_until = 2020-01-01T00:00:00Z")
                .replace("state = \"suspended\"\n", "")
        }),
        ("gone", "no_row", |text| without_row(&text, "hospital-a")),
    ];
    for (name, reason, edit) in cases {
        amend(&house, edit);
        let credentials = Credentials::of_house(&house, "hospital-a");
        let (kind, body) = answer_to(&house, &credentials, &garbage());
        assert_eq!((kind, body.as_slice()), REJECTED, "{name}");
        let mut peer = connect(&house, "hospital-a");
        assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Rejected(1, 1, 1), "{name}");
        audited(&house, &[("reason", reason), ("decision", "deny")]);
    }
}

#[test]
fn an_identity_with_a_row_is_told_which_title_is_wrong() {
    let house = house();
    let cases = [
        ("hospital-a", "ARCHIVE", A, (1, 1, 7), "called_aet"),
        ("hospital-a", CALLED, "SOMEBODY", (1, 1, 3), "calling_aet"),
        ("hospital-b", CALLED, A, (1, 1, 3), "calling_aet"),
        ("hospital-a", CALLED, B, (1, 1, 3), "calling_aet"),
        // Titles are compared byte for byte.
        ("hospital-a", "portcullis", A, (1, 1, 7), "called_aet"),
    ];
    for (name, called, calling, (result, source, reason), code) in cases {
        let answer = connect(&house, name).associate(called, calling, sample_contexts());
        assert_eq!(answer, Associated::Rejected(result, source, reason), "{name} {called} {calling}");
        audited(&house, &[("event", "association"), ("reason", code), ("called_ae", called), ("calling_ae", calling)]);
    }
}
