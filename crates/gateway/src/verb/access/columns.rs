//! Two tables side by side, as they are written: which rows came and went, and which columns changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use toml::{Table as Columns, Value};

/// One thing that has another value, or came or went.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    name: String,
    old: Option<Value>,
    new: Option<Value>,
}

/// A tenant or a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    kind: &'static str,
    id: String,
    /// Added, removed, or with these changed.
    change: EntryChange,
}

#[derive(Debug, Clone, PartialEq)]
enum EntryChange {
    Added(Columns),
    Removed(Columns),
    Changed(Vec<Change>),
}

/// What differs between two tables.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Differences {
    /// What stands at the top: revision, mode, kill switch, prefixes.
    top: Vec<Change>,
    entries: Vec<Entry>,
}

impl Differences {
    /// Of two texts that are tables of ours already.
    ///
    /// # Errors
    /// When one is not TOML.
    pub(super) fn between(old: &str, new: &str) -> Result<Self, toml::de::Error> {
        let (old, new): (Columns, Columns) = (toml::from_str(old)?, toml::from_str(new)?);
        let top = |table: &Columns| -> Columns {
            let listed = |key: &str| key == "row" || key == "tenant";
            table.iter().filter(|(key, _)| !listed(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut entries = entries("tenant", "name", &old, &new);
        entries.extend(self::entries("row", "id", &old, &new));
        Ok(Self { top: changes(&top(&old), &top(&new)), entries })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.top.iter().map(Change::line).collect();
        for Entry { kind, id, change } in &self.entries {
            match change {
                EntryChange::Added(columns) => {
                    lines.push(format!("{kind} {id:?} added"));
                    lines.extend(columns.iter().map(|(name, value)| format!("  {name}: {value}")));
                }
                EntryChange::Removed(columns) => {
                    let subject = columns.get("identity").or(columns.get("prefix")).and_then(Value::as_str);
                    let subject = subject.map(|subject| format!(", which named {subject}")).unwrap_or_default();
                    lines.push(format!("{kind} {id:?} removed{subject}"));
                }
                EntryChange::Changed(columns) => {
                    lines.push(format!("{kind} {id:?} changed"));
                    lines.extend(columns.iter().map(|change| format!("  {}", change.line())));
                }
            }
        }
        lines
    }

    pub(super) fn json(&self) -> Json {
        let entries = self.entries.iter().map(|Entry { kind, id, change }| match change {
            EntryChange::Added(columns) => json!({ *kind: id, "change": "added", "columns": columns }),
            EntryChange::Removed(columns) => json!({ *kind: id, "change": "removed", "columns": columns }),
            EntryChange::Changed(columns) => {
                let columns: Vec<_> = columns.iter().map(Change::json).collect();
                json!({ *kind: id, "change": "changed", "columns": columns })
            }
        });
        json!({
            "top": self.top.iter().map(Change::json).collect::<Vec<_>>(),
            "entries": entries.collect::<Vec<_>>(),
        })
    }
}

impl Change {
    fn line(&self) -> String {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "(nothing)".to_owned(), Value::to_string);
        format!("{}: {} → {}", self.name, text(&self.old), text(&self.new))
    }

    fn json(&self) -> Json {
        json!({ "name": self.name, "old": self.old, "new": self.new })
    }
}

fn entries(kind: &'static str, key: &str, old: &Columns, new: &Columns) -> Vec<Entry> {
    let (old, new) = (by_id(old, kind, key), by_id(new, kind, key));
    let ids: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let entry = |id: &str| {
        let change = match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => EntryChange::Changed(changes(old, new)),
            (None, Some(new)) => EntryChange::Added((*new).clone()),
            (Some(old), None) => EntryChange::Removed((*old).clone()),
            (None, None) => return None,
        };
        let same = matches!(&change, EntryChange::Changed(columns) if columns.is_empty());
        (!same).then(|| Entry { kind, id: id.to_owned(), change })
    };
    ids.into_iter().filter_map(entry).collect()
}

fn by_id<'t>(table: &'t Columns, kind: &str, key: &str) -> BTreeMap<&'t str, &'t Columns> {
    let all = table.get(kind).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    all.filter_map(|columns| Some((columns.get(key)?.as_str()?, columns))).collect()
}

fn changes(old: &Columns, new: &Columns) -> Vec<Change> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differs = |name: &&String| {
        let (old, new) = (old.get(*name).map(in_order), new.get(*name).map(in_order));
        old != new
    };
    let change =
        |name: &String| Change { name: name.clone(), old: old.get(name).cloned(), new: new.get(name).cloned() };
    names.into_iter().filter(differs).map(change).collect()
}

/// A list of ours means the same in any order.
fn in_order(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(list) = &mut value {
        list.sort_by_key(Value::to_string);
        list.dedup();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::testing::TABLE;
    use super::*;

    #[test]
    fn each_change_is_told_with_what_was_and_what_is() {
        let text = TABLE.replace(
            "revision = 17",
            "revision = 18\nkill_switch = true\n[[tenant]]\nname = \"b\"\nmax_associations = 2",
        );
        let text = text.replace("[\"echo\", \"store\"]", "[\"store\", \"echo\"]");
        let text = text.replacen("[\"CTImageStorage\"]", "[\"CTImageStorage\", \"MRImageStorage\"]", 1);
        let text = text.replacen("owner = \"pacs@hospital-a.invalid\"", "min_tls = \"1.3\"", 1);
        let text = text.replace("id = \"mr1\"", "id = \"mr2\"");
        let differences = Differences::between(TABLE, &text).expect("TOML");
        let lines = differences.lines();
        let expected = [
            "kill_switch: (nothing) → true",
            "revision: 17 → 18",
            "tenant \"b\" added",
            "  max_associations: 2",
            "row \"ct1\" changed",
            "  min_tls: (nothing) → \"1.3\"",
            "  owner: \"pacs@hospital-a.invalid\" → (nothing)",
            "  sop_classes: [\"CTImageStorage\"] → [\"CTImageStorage\", \"MRImageStorage\"]",
            "row \"mr1\" removed, which named spiffe://hospital-a.invalid/mr1",
            "row \"mr2\" added",
        ];
        for line in expected {
            assert!(lines.iter().any(|found| found == line), "{line} in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("operations: [\"echo\", \"store\"] →")), "{lines:#?}");
        assert_eq!(differences.json()["entries"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn comments_order_and_layout_are_no_difference() {
        let text = TABLE.replace("# ours", "# theirs").replace("\n\n", "\n");
        assert_eq!(Differences::between(TABLE, &text).expect("TOML").lines(), Vec::<String>::new());
    }
}
