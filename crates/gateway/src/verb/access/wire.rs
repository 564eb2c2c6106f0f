//! What the sender would see: the answers of `crate::answer`, in words.

use access::{Answer, Question, Table};
use dimse::Reject;
use model::Timestamp;

use crate::answer::{Refusal, refuse_store, reject};
use crate::config::Profile;

/// What goes over the wire for this answer to this question.
pub(super) fn seen(table: &Table, question: &Question, answer: &Answer, profile: Profile, now: Timestamp) -> String {
    let Err(denial) = &answer.verdict else {
        return "A-ASSOCIATE-AC".to_owned();
    };
    if table.answer_association(question, now).verdict.is_err() {
        return rejection(reject(denial, profile));
    }
    let refusal = refuse_store(&Refusal::Denied(denial.clone()));
    let command = Question { content: None, size: None, ..question.clone() };
    if table.answer(&command, now).verdict.is_ok() {
        return format!("C-STORE-RSP {} ({})", refusal.status, refusal.comment);
    }
    let late = match question.operation {
        access::Operation::Store => format!(", and C-STORE-RSP {} on one that was accepted before", refusal.status),
        _ => String::new(),
    };
    let alone = rejection(Reject::NoReason);
    format!("its presentation context rejected ({alone} if there is no other){late}")
}

fn rejection(why: Reject) -> String {
    let (result, source, reason) = why.code();
    let words = match why {
        Reject::NoReason => "no reason given",
        Reject::ApplicationContext => "application context name not supported",
        Reject::CallingAeTitle => "calling AE title not recognised",
        Reject::CalledAeTitle => "called AE title not recognised",
        Reject::ProtocolVersion => "protocol version not supported",
        Reject::Congestion => "temporary congestion",
        Reject::LocalLimit => "local limit exceeded",
    };
    format!("A-ASSOCIATE-RJ {result}/{source}/{reason} ({words})")
}

#[cfg(test)]
mod tests {
    use super::super::asked::{Tls, assumed, class};
    use super::super::testing::{TABLE, now};
    use super::*;
    use access::{Content, Operation, Origin};
    use model::{AeTitle, SpiffeId};

    #[test]
    fn a_sender_sees_what_the_gateway_answers() {
        let table = TABLE.replace("\"CTImageStorage\"]", "\"CTImageStorage\"]\nmodalities = [\"CT\"]");
        let table = Table::parse(&table).expect("valid");
        let title = |text: &str| AeTitle::parse(text).expect("valid");
        let id = SpiffeId::parse("spiffe://hospital-a.invalid/ct1").expect("valid");
        let good = Question {
            caller: assumed(id, Tls::Tls13, now()),
            origin: Origin { socket: "192.0.2.1:1".parse().expect("valid"), source: None, vpce: None },
            called: title("ARCHIVE"),
            calling: title("CT1"),
            operation: Operation::Store,
            class: class("CTImageStorage").ok(),
            syntax: None,
            content: None,
            size: None,
        };
        let mut stranger = good.clone();
        stranger.caller.id = SpiffeId::parse("spiffe://hospital-a.invalid/ct2").expect("valid");
        let (titled, called) = (Question { calling: title("X"), ..good.clone() }, title("X"));
        let wrong = Question { called, ..good.clone() };
        let classed = Question { class: class("MRImageStorage").ok(), ..good.clone() };
        let content = Some(Content::new(Some("MR"), None, None));
        let said = Question { content, ..good.clone() };
        let commit = Question { operation: Operation::Commit, ..good.clone() };
        let context = "its presentation context rejected (A-ASSOCIATE-RJ 1/1/1 (no reason given) if there is no other)";
        let cases = [
            ("allowed", good, "A-ASSOCIATE-AC".to_owned(), "A-ASSOCIATE-AC"),
            ("a stranger", stranger, "A-ASSOCIATE-RJ 1/1/1 (no reason given)".to_owned(), "A-ASSOCIATE-RJ 1/1/1"),
            ("called", wrong, rejection(Reject::CalledAeTitle), "A-ASSOCIATE-RJ 1/1/1"),
            ("calling", titled, rejection(Reject::CallingAeTitle), "A-ASSOCIATE-RJ 1/1/1"),
            ("class", classed, format!("{context}, and C-STORE-RSP 0x0124 on one that was accepted before"), context),
            ("modality", said, "C-STORE-RSP 0x0124 (not authorised)".to_owned(), "C-STORE-RSP 0x0124"),
            ("commitment", commit, context.to_owned(), context),
        ];
        for (name, question, baseline, strict) in cases {
            let answer = table.answer(&question, now());
            assert_eq!(seen(&table, &question, &answer, Profile::Baseline, now()), baseline, "{name}");
            let seen = seen(&table, &question, &answer, Profile::Strict, now());
            assert!(seen.starts_with(strict), "{name}: {seen}");
        }
    }
}
