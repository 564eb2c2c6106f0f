//! `access suggest`: what a table would need, by what was denied. It prints; a person decides.
//!
//! What is suggested for an identity without a row is suspended and allows nothing yet, and what is suggested for a row is a
//! comment: nothing that is pasted as it stands lets anybody in. `*` is never suggested, whatever a peer calls itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use access::{Denial, DenialCode, Table};
use clap::Args;
use model::{SpiffeId, Timestamp, sop_class, transfer_syntax};
use toml::Value;

use super::log::{self, About, Decided};
use super::{Read, text_of};
use crate::verb::say;

/// Prints rows and columns for what the audit log shows as denied or only observed
///
/// An identity without a row gets a whole row, suspended, that allows nothing until a person has filled it in. A row that
/// refused something gets the columns as they would have to be, as comments.
#[derive(Debug, Args)]
#[command(
    after_help = "With --table the log is asked of that table, so what it allows by now is not suggested again.\n\n\
    Examples:\n  \
    portcullis access suggest --from audit.jsonl --table access.toml\n  \
    portcullis access suggest --from audit.jsonl > more.toml   then read it, and decide line by line"
)]
pub(super) struct SuggestArgs {
    /// Audit logs, the oldest first
    #[arg(long, value_name = "AUDIT.JSONL", num_args = 1.., required = true)]
    from: Vec<PathBuf>,
    /// The table that is
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

pub(super) fn run(args: &SuggestArgs) -> anyhow::Result<bool> {
    let read = args.table.clone().map(Read::from).transpose()?;
    let mut wishes = Wishes::default();
    log::read(&args.from, |decided| {
        if let Ok(decided) = decided {
            wishes.take(&decided, read.as_ref().map(|read| &read.table));
        }
    })?;
    let columns = match &args.table {
        Some(path) => toml::from_str(&text_of(path)?)?,
        None => toml::Table::new(),
    };
    wishes.lines(&columns).into_iter().for_each(say);
    Ok(true)
}

/// Different values told of one thing; what is beyond is counted.
const MAX_VALUES: usize = 50;

/// How often something was seen, and when.
#[derive(Debug, Clone)]
struct Times {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Times {
    fn add(times: &mut Option<Self>, at: Timestamp) {
        let times = times.get_or_insert(Self { count: 0, first: at, last: at });
        times.count += 1;
        times.first = times.first.min(at);
        times.last = times.last.max(at);
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × from {} to {}", self.count, self.first, self.last)
    }
}

/// Values and how often each was seen.
#[derive(Debug, Default)]
struct Values {
    of: BTreeMap<String, u64>,
    beyond: u64,
}

impl Values {
    fn add(&mut self, value: String) {
        if self.of.len() >= MAX_VALUES && !self.of.contains_key(&value) {
            self.beyond += 1;
        } else {
            *self.of.entry(value).or_default() += 1;
        }
    }

    fn told(&self) -> String {
        let mut told: Vec<_> = self.of.iter().map(|(value, count)| format!("{value} ({count})")).collect();
        if self.beyond > 0 {
            told.push(format!("and {} more", self.beyond));
        }
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }
}

/// An identity that no row names.
#[derive(Debug, Default)]
struct Stranger {
    times: Option<Times>,
    endpoints: Values,
    networks: Values,
    tls12: u64,
}

/// What a row refused for one reason, and the values that it would have to list.
#[derive(Debug, Default)]
struct Wish {
    times: Option<Times>,
    values: Values,
    /// Seen, and not to be suggested.
    unfit: u64,
}

/// Everything that was asked for in vain.
#[derive(Debug, Default)]
struct Wishes {
    strangers: BTreeMap<SpiffeId, Stranger>,
    rows: BTreeMap<String, BTreeMap<DenialCode, Wish>>,
}

impl Wishes {
    fn take(&mut self, decided: &Decided, table: Option<&Table>) {
        for denial in denials(decided, table) {
            match (denial.code, denial.row) {
                (DenialCode::NoRow, None) => self.stranger(decided),
                (code, Some(row)) => self.row(row, code, decided),
                _ => {}
            }
        }
    }

    fn stranger(&mut self, Decided { at, about, .. }: &Decided) {
        let (caller, origin) = (about.caller(), about.origin());
        let stranger = self.strangers.entry(caller.id.clone()).or_default();
        Times::add(&mut stranger.times, *at);
        stranger.tls12 += u64::from(!caller.tls13);
        stranger.networks.add(network(origin.source.unwrap_or(origin.socket).ip()));
        origin.vpce.iter().for_each(|vpce| stranger.endpoints.add(vpce.clone()));
    }

    fn row(&mut self, row: String, code: DenialCode, Decided { at, about, .. }: &Decided) {
        let wish = self.rows.entry(row).or_default().entry(code).or_default();
        Times::add(&mut wish.times, *at);
        match value(code, about) {
            Some(Ok(value)) => wish.values.add(value),
            Some(Err(Unfit)) => wish.unfit += 1,
            None => {}
        }
    }

    fn lines(&self, table: &toml::Table) -> Vec<String> {
        let mut lines = vec![
            "# Suggested from the audit log. Nothing here is in force: read it, and decide line by line.".to_owned(),
        ];
        if self.strangers.is_empty() && self.rows.is_empty() {
            lines.push("# Nothing was denied or only observed that a row could allow.".to_owned());
        }
        let mut ids = ids(table);
        for (id, stranger) in &self.strangers {
            lines.extend(skeleton(id, stranger, &mut ids));
        }
        for (row, wishes) in &self.rows {
            lines.push(String::new());
            lines.push(format!("# Row {row:?}. To allow what it refused, its columns would have to be:"));
            for (code, wish) in wishes {
                lines.extend(wish.lines(*code, row_of(table, row)));
            }
        }
        lines
    }
}

/// What the table says against it; without a table, what the log says that the table of then said.
fn denials(decided: &Decided, table: Option<&Table>) -> Vec<Denial> {
    let Decided { at, about, record } = decided;
    let recorded = || {
        let code = DenialCode::ALL.iter().find(|code| code.as_str() == record.reason && record.decision != "allow");
        code.map(|code| Denial::of(*code, record.row.as_deref(), "")).into_iter().collect()
    };
    let Some(table) = table else { return recorded() };
    if decided.is_observed() {
        return Vec::new();
    }
    let answer = match about {
        About::Door { caller, origin } => return table.hears(caller, origin, *at).err().into_iter().collect(),
        About::Association(question) => table.answer_association(question, *at),
        About::Instance(question) => table.answer(question, *at),
    };
    let of_instance = matches!(about, About::Instance(_));
    match answer.verdict {
        // What its association was refused already is not its own.
        Err(denial) => Vec::from_iter((!of_instance || is_of_instances(denial.code)).then_some(denial)),
        // What a data set says is not in the log, so the table cannot be asked about it.
        Ok(_) if is_of_content(&record.reason) => recorded(),
        Ok(_) => answer.observed.into_iter().filter(|one| !of_instance || is_of_instances(one.code)).collect(),
    }
}

fn is_of_instances(code: DenialCode) -> bool {
    code >= DenialCode::Operation
}

fn is_of_content(reason: &str) -> bool {
    use DenialCode::{InstanceSize, Institution, Modality, PatientIssuer};
    [Modality, PatientIssuer, Institution, InstanceSize].iter().any(|code| code.as_str() == reason)
}

/// A value that must not stand in a table.
struct Unfit;

/// The column that a value would be added to.
fn column(code: DenialCode) -> Option<&'static str> {
    Some(match code {
        DenialCode::CalledAet => "called_aets",
        DenialCode::CallingAet => "calling_aets",
        DenialCode::Operation => "operations",
        DenialCode::SopClass => "sop_classes",
        DenialCode::TransferSyntax => "transfer_syntaxes",
        DenialCode::Vpce => "source_vpce",
        DenialCode::Source => "source_cidrs",
        _ => return None,
    })
}

/// The value that a row would have to list.
fn value(code: DenialCode, about: &About) -> Option<Result<String, Unfit>> {
    let question = about.question();
    let standard = |uid: &str| uid.starts_with("1.2.840.10008.");
    // As a word, `*` is everybody and not an AE title.
    let title = |title: &str| if title == "*" { Err(Unfit) } else { Ok(title.to_owned()) };
    match code {
        DenialCode::CalledAet => question.map(|question| title(question.called.as_str())),
        DenialCode::CallingAet => question.map(|question| title(question.calling.as_str())),
        DenialCode::Operation => Some(Ok("store".to_owned())),
        DenialCode::SopClass => question?.class.as_ref().map(|class| match sop_class::keyword(class) {
            Some(keyword) => Ok(keyword.to_owned()),
            None if standard(class.as_str()) => Err(Unfit),
            None => Ok(class.to_string()),
        }),
        DenialCode::TransferSyntax => question?.syntax.as_ref().map(|syntax| match transfer_syntax::keyword(syntax) {
            Some(keyword) => Ok(keyword.to_owned()),
            None if standard(syntax.as_str()) => Err(Unfit),
            None => Ok(syntax.to_string()),
        }),
        DenialCode::Vpce => about.origin().vpce.clone().map(Ok),
        DenialCode::Source => {
            let origin = about.origin();
            let address = origin.source.unwrap_or(origin.socket).ip().to_canonical();
            Some(Ok(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })))
        }
        _ => None,
    }
}

impl Wish {
    fn lines(&self, code: DenialCode, row: Option<&toml::Table>) -> Vec<String> {
        let times = self.times.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut lines = vec![format!("#   {}: {times}", code.as_str())];
        if self.unfit > 0 {
            lines.push(format!("#     {} of them with a value that must not stand in a table", self.unfit));
        }
        match column(code) {
            Some(column) if !self.values.of.is_empty() => {
                lines.push(format!("#     seen: {}", self.values.told()));
                lines.push(format!("#     {column} = {}", self.with_what_is_there(column, row)));
            }
            Some(column) => lines.push(format!("#     these records do not have the values for {column}: give --table, to have it asked about all others")),
            None => lines.push(format!("#     {}", advice(code))),
        }
        lines
    }

    fn with_what_is_there(&self, column: &str, row: Option<&toml::Table>) -> Value {
        let there = row.and_then(|row| row.get(column)?.as_array()).into_iter().flatten().filter_map(Value::as_str);
        let there: Vec<_> = there.map(str::to_owned).collect();
        let more = self.values.of.keys().filter(|value| !there.contains(value)).cloned();
        Value::Array(there.clone().into_iter().chain(more).map(Value::String).collect())
    }
}

fn advice(code: DenialCode) -> &'static str {
    use DenialCode::*;
    match code {
        Modality | PatientIssuer | Institution => {
            "what the data sets said is not in the log, which has no patient data: ask the sender, or look at its row"
        }
        DenyRow => "a deny row says so: no row that allows can change that",
        RowSuspended | RowExpired | RowNotYet | OutsideWindow | Posture => {
            "the row was not in force: that is not a missing value"
        }
        MinTls | SvidLifetime | VpceMissing => {
            "the row asks for more than the sender shows: mend the sender rather than the row"
        }
        AutoSuspended => "the gateway suspended it for a while, after too many of the others",
        _ => "no value that could be added: see the row's limits",
    }
}

/// A row that allows nothing, to be filled in.
fn skeleton(id: &SpiffeId, stranger: &Stranger, ids: &mut BTreeSet<String>) -> Vec<String> {
    let times = stranger.times.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = |value: &str| Value::String(value.to_owned()).to_string();
    let mut lines = vec![
        String::new(),
        format!("# No row names {id}: denied {times}."),
        format!("# VPC endpoints: {}. Networks: {}.", stranger.endpoints.told(), stranger.networks.told()),
        "# Its requests were not read, so its AE titles and classes are not known: ask whoever runs it. Then list them, name the"
            .to_owned(),
        "# tenant, and remove state and reason.".to_owned(),
        "[[row]]".to_owned(),
        format!("id = {}", text(&fresh_id(id, ids))),
        "effect = \"allow\"".to_owned(),
        format!("identity = {}", text(id.as_str())),
        "tenant = \"to-be-decided\" # whose archive it writes to".to_owned(),
        "called_aets = []".to_owned(),
        "calling_aets = []".to_owned(),
        "operations = []".to_owned(),
        "sop_classes = []".to_owned(),
        "transfer_syntaxes = []".to_owned(),
    ];
    if !stranger.endpoints.of.is_empty() {
        let seen = stranger.endpoints.of.keys().cloned().map(Value::String).collect();
        lines.push(format!("source_vpce = {} # where it came from", Value::Array(seen)));
    }
    if stranger.tls12 > 0 {
        lines.push(format!("# {} × over TLS 1.2", stranger.tls12));
    } else {
        lines.push("min_tls = \"1.3\" # it never used less".to_owned());
    }
    lines.push("state = \"suspended\"".to_owned());
    lines.push("reason = \"suggested from the audit log, nobody has looked at it\"".to_owned());
    lines
}

/// From the identity: a row id has at most 64 characters, of those that an identity has beside its slashes. Cut off, two
/// may be alike, and get a number.
fn fresh_id(id: &SpiffeId, ids: &mut BTreeSet<String>) -> String {
    let plain = id.as_str().trim_start_matches("spiffe://").replace('/', "-");
    let short: String = plain.chars().take(56).collect();
    let numbered = (2..).map(|number| format!("{short}-{number}"));
    let fresh = std::iter::once(short.clone()).chain(numbered).find(|candidate| !ids.contains(candidate));
    let fresh = fresh.expect("there are numbers enough");
    ids.insert(fresh.clone());
    fresh
}

fn ids(table: &toml::Table) -> BTreeSet<String> {
    rows(table).filter_map(|row| row.get("id")?.as_str().map(str::to_owned)).collect()
}

fn row_of<'t>(table: &'t toml::Table, id: &str) -> Option<&'t toml::Table> {
    rows(table).find(|row| row.get("id").and_then(Value::as_str) == Some(id))
}

fn rows(table: &toml::Table) -> impl Iterator<Item = &toml::Table> {
    table.get("row").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

/// The network that an address is in, as coarse as a person thinks of one.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let [a, b, c, _] = four.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{GRANTED, STORED, decisions, line};
    use super::super::testing::TABLE;
    use super::*;

    fn suggested(log: &str, table: Option<&str>) -> String {
        let parsed = table.map(|text| Table::parse(text).expect("valid"));
        let mut wishes = Wishes::default();
        decisions(log).into_iter().flatten().for_each(|decided| wishes.take(&decided, parsed.as_ref()));
        wishes.lines(&toml::from_str(table.unwrap_or_default()).expect("TOML")).join("\n")
    }

    fn stranger(id: &str, vpce: &str) -> String {
        let denied = format!(r#""event":"association","decision":"deny","reason":"no_row","vpce":"{vpce}""#);
        line(&denied).replace("spiffe://hospital-a.invalid/ct1", id)
    }

    const ENDPOINT: &str = "vpce-08d2bf15fac5001c9";

    #[test]
    fn a_stranger_gets_a_row_that_the_table_takes_and_that_lets_nobody_in() {
        let long = format!("spiffe://hospital-a.invalid/{}", "ward/".repeat(30) + "ct");
        let longer = format!("{long}2");
        let ids = [
            "spiffe://hospital-a.invalid/new/ct9",
            "spiffe://hospital-b.invalid/new/ct9",
            "spiffe://b.invalid/ct1",
            &long,
            &longer,
        ];
        let log: String = ids.iter().map(|id| stranger(id, ENDPOINT).repeat(2)).collect();
        for table in [None, Some(TABLE)] {
            let text = suggested(&log, table);
            let pasted = format!("{TABLE}\n{text}\n");
            let whole = Table::parse(&pasted).unwrap_or_else(|error| panic!("{error}\n{pasted}"));
            assert_eq!(whole.rows().len(), 2 + ids.len());
            let before = Table::parse(TABLE).expect("valid");
            for decided in decisions(&log).into_iter().flatten() {
                let About::Door { caller, origin } = &decided.about else { panic!("a stranger is not heard") };
                assert!(before.hears(caller, origin, decided.at).is_err(), "the control");
                let denial = whole.hears(caller, origin, decided.at).expect_err("suspended");
                assert_eq!(denial.code, DenialCode::RowSuspended);
            }
            assert!(text.contains(&format!("source_vpce = [\"{ENDPOINT}\"]")), "{text}");
            assert!(text.contains("denied 2 × from 2026-11-22T12:00:00.000Z") && text.contains("192.0.2.0/24 (2)"));
        }
    }

    #[test]
    fn a_row_that_refused_something_gets_the_columns_as_they_would_have_to_be() {
        let called = r#""event":"association","decision":"deny","reason":"called_aet","row":"ct1","called_ae":"ARCHIVE2","calling_ae":"CT1""#;
        let mr = line(STORED).replace("5.1.4.1.1.2\"", "5.1.4.1.1.4\"");
        let log = line(called) + &line(GRANTED) + &mr + &mr;
        let text = suggested(&log, Some(TABLE));
        assert!(text.contains("#     called_aets = [\"ARCHIVE\", \"ARCHIVE2\"]"), "{text}");
        assert!(text.contains("#     sop_classes = [\"CTImageStorage\", \"MRImageStorage\"]"), "{text}");
        assert!(text.contains("sop_class: 2 ×"), "{text}");
        Table::parse(&format!("{TABLE}\n{text}\n")).expect("comments do no harm");
        let observing = TABLE.replacen("effect = \"allow\"", "effect = \"allow\"\nmode = \"observe\"", 1);
        assert_eq!(suggested(&log, Some(&observing)), text, "only observed is asked for too");
        let observed = line(&called.replace("\"deny\"", "\"observe\""));
        assert!(suggested(&observed, None).contains("#     called_aets = [\"ARCHIVE2\"]"), "also without a table");
        let allowed = TABLE.replace("\"CTImageStorage\"]", "\"CTImageStorage\", \"MRImageStorage\"]");
        assert!(!suggested(&log, Some(&allowed)).contains("sop_class"), "what is allowed by now is not");
    }

    #[test]
    fn nobody_is_suggested_for_what_it_calls_itself() {
        let star = r#""event":"association","decision":"deny","reason":"calling_aet","row":"ct1","called_ae":"ARCHIVE","calling_ae":"*""#;
        let quoted = star.replace("\"*\"", r#""A\"] #""#);
        for table in [None, Some(TABLE)] {
            let text = suggested(&line(star), table);
            assert!(!text.contains('*') && text.contains("must not stand in a table"), "{text}");
            let text = suggested(&line(&quoted), table);
            let column = text.lines().find_map(|line| line.split_once("calling_aets = ")).expect("suggested").1;
            let values: toml::Table = toml::from_str(&format!("it = {column}")).expect("one value");
            assert!(values["it"].as_array().is_some_and(|list| list.iter().any(|one| one.as_str() == Some("A\"] #"))));
        }
    }

    #[test]
    fn what_a_data_set_said_is_never_told() {
        let refused = STORED.replace("allow", "deny").replace("stored", "patient_issuer");
        let log = line(GRANTED) + &line(&refused);
        let text = suggested(&log, Some(TABLE));
        assert!(text.contains("patient_issuer: 1 ×") && text.contains("no patient data"), "{text}");
    }
}
