//! A house with a table and a configuration of the test's own, and what it has to show for it afterwards.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;
use testkit::house::{House, Options};
use testkit::peer::{Associated, Peer, plain, sample_contexts};

use super::witness::python;
use super::{A, B, CALLED, amend, binary, connect, portcullis, said};

/// The identity of hospital-a.
pub(crate) const ID_A: &str = "spiffe://hospital-a.invalid/forwarder";

/// Looks for changes often, so that no test waits long for a table.
const POLL: (&str, &str) = ("PORTCULLIS__ACCESS__POLL", "200ms");

/// A house that looks for changes often.
pub(crate) fn quick() -> House {
    quick_with(&[])
}

/// As [`quick`], with further environment.
pub(crate) fn quick_with(env: &[(String, String)]) -> House {
    binary();
    let mut env = env.to_vec();
    env.push((POLL.0.to_owned(), POLL.1.to_owned()));
    House::start(Options { env, ..Options::default() })
}

/// As [`quick`], started again with what it was given edited: first gateway.toml, then access.toml.
pub(crate) fn furnished(config: impl FnOnce(String) -> String, table: impl FnOnce(String) -> String) -> House {
    let mut house = quick();
    assert_eq!(house.terminate().code(), Some(0));
    edit(&house.dir().join("gateway.toml"), config);
    edit(&house.dir().join("access.toml"), table);
    house.restart()
}

/// Rewrites a file, whole or not at all: somebody may be reading it.
pub(crate) fn edit(path: &Path, edit: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).expect("it is there");
    let new = path.with_extension("edited");
    std::fs::write(&new, edit(text)).and_then(|()| std::fs::rename(&new, path)).expect("ours");
}

/// The table as the house has it.
pub(crate) fn table_of(house: &House) -> String {
    std::fs::read_to_string(house.dir().join("access.toml")).expect("dev has written a table")
}

/// The text with these columns in the row of that id, in place of those of the same name.
pub(crate) fn with_row(text: &str, id: &str, columns: &str) -> String {
    let name = |line: &str| line.split_once(" = ").map(|(name, _)| name.to_owned());
    let new: Vec<_> = columns.lines().filter_map(name).collect();
    let marker = format!("\nid = \"{id}\"\n");
    assert!(text.contains(&marker), "there is a row {id}");
    let row = |row: &str| {
        if !row.contains(&marker) {
            return row.to_owned();
        }
        let kept = row.lines().filter(|line| name(line).is_none_or(|name| !new.contains(&name)));
        let kept: Vec<_> = kept.filter(|line| !line.is_empty()).collect();
        format!("\n{}\n{columns}\n\n", kept.join("\n"))
    };
    text.split("[[row]]").map(row).collect::<Vec<_>>().join("[[row]]")
}

/// The text with this at its top, before every row.
pub(crate) fn with_key(text: &str, key: &str) -> String {
    let (before, rows) = text.split_once("[[row]]").expect("it has a row");
    format!("{before}{key}\n\n[[row]]{rows}")
}

/// Puts this table into force, with the next revision, whatever was there before. `text` has the revision of `dev`.
pub(crate) fn put(house: &House, text: &str) {
    amend(house, |now| {
        let revision = now.lines().find(|line| line.starts_with("revision = ")).expect("a table has a revision");
        text.replacen("revision = 1", revision, 1)
    });
}

/// What hospital-a is answered.
pub(crate) fn asks(house: &House, called: &str, calling: &str) -> (Peer, Associated) {
    let mut peer = connect(house, "hospital-a");
    let answer = peer.associate(called, calling, sample_contexts());
    (peer, answer)
}

/// Hospital-a is answered as if it were nobody.
pub(crate) fn assert_turned_away(house: &House, name: &str) {
    assert_eq!(asks(house, CALLED, A).1, Associated::Rejected(1, 1, 1), "{name}");
}

/// Hospital-a is let in.
pub(crate) fn let_in(house: &House, name: &str) -> Peer {
    let (peer, answer) = asks(house, CALLED, A);
    assert!(matches!(answer, Associated::Accepted(_)), "{name}: {answer:?}");
    peer
}

/// Hospital-b, who has nothing to do with it, is served.
pub(crate) fn assert_others_are_served(house: &House) {
    let mut peer = connect(house, "hospital-b");
    assert!(matches!(peer.associate(CALLED, B, sample_contexts()), Associated::Accepted(_)));
    assert_eq!(peer.echo(), super::SUCCESS);
}

/// How many audit lines have all of these.
pub(crate) fn count(house: &House, wanted: &[(&str, &str)]) -> usize {
    house.audit().iter().filter(|line| wanted.iter().all(|(key, value)| line[*key] == *value)).count()
}

/// Ends the house as it should end; every line of its log keeps the schema and the chain.
pub(crate) fn assert_log_is_sound(mut house: House) -> Vec<Value> {
    assert_eq!(house.terminate().code(), Some(0));
    let log = house.dir().join("audit.jsonl");
    assert_keeps_the_schema(&log);
    let output = portcullis(&["audit", "verify", log.to_str().expect("our paths are text")]);
    assert!(output.status.success(), "{}", said(&output));
    house.audit()
}

fn assert_keeps_the_schema(log: &Path) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/audit.schema.json");
    let output = python("validate.py").arg(schema).arg(log).output().expect("Python starts");
    assert!(output.status.success(), "{}", said(&output));
}

/// The value of a metric with these labels (`reason="called_aet"`, or nothing); zero when it was never counted.
pub(crate) fn metric(house: &House, name: &str, labels: &str) -> f64 {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    let name = if labels.is_empty() { format!("{name} ") } else { format!("{name}{{{labels}}} ") };
    answer.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0.0)
}
