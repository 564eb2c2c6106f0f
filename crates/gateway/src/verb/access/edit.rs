//! Changes to the text of a table that leave everything else in it as somebody wrote it: comments, order, layout.

use std::collections::BTreeSet;

use access::{Standing, Subject, Table};
use anyhow::{anyhow, bail};
use model::{SpiffeId, Timestamp};
use toml_edit::{DocumentMut, Item, TableLike, Value, value};

/// A table's text, before and after.
pub(super) struct Edit {
    before: Table,
    document: DocumentMut,
}

/// A text that is a table, and the numbers of the one before and of this one.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) text: String,
    pub(super) revisions: (u64, u64),
}

impl Edit {
    pub(super) fn begin(text: &str) -> anyhow::Result<Self> {
        Ok(Self { before: Table::parse(text)?, document: text.parse()? })
    }

    /// The rows that a person means: the one of this id, or all that name this identity exactly.
    pub(super) fn rows_meant(&self, name: &str) -> anyhow::Result<BTreeSet<String>> {
        let Ok(id) = SpiffeId::parse(name) else { return self.row_called(name) };
        let exact = self.before.rows().iter().filter(|row| *row.identity() == Subject::Exact(id.clone()));
        let found: BTreeSet<_> = exact.map(|row| row.id().to_owned()).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        match self.before.rows_of(&id).first() {
            Some(row) => bail!(
                "{id} has no row of its own; row {:?} lets it in by a prefix, with everybody else below that. To shut out it \
                 alone, add:\n\n[[row]]\nid = \"deny-one\"\neffect = \"deny\"\nidentity = \"{id}\"\n",
                row.id()
            ),
            None => bail!("no row names {id}: it is denied already"),
        }
    }

    fn row_called(&self, name: &str) -> anyhow::Result<BTreeSet<String>> {
        if self.before.rows().iter().any(|row| row.id() == name) {
            return Ok(BTreeSet::from([name.to_owned()]));
        }
        if self.before.deny_rows().iter().any(|row| row.id() == name) {
            bail!("row {name:?} denies: to suspend it would let in whom it keeps out. Edit the table if that is meant");
        }
        bail!("there is no row {name:?}: give the id of a row, or a SPIFFE ID")
    }

    /// Of these rows, those that are not in force because they are suspended.
    pub(super) fn suspended(&self, ids: &BTreeSet<String>) -> usize {
        let of = self.before.rows().iter().filter(|row| ids.contains(row.id()));
        of.filter(|row| matches!(row.standing(), Standing::Suspended { .. })).count()
    }

    pub(super) fn suspend(
        mut self,
        ids: &BTreeSet<String>,
        reason: &str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> anyhow::Result<Edited> {
        let until = until.map(datetime).transpose()?;
        self.each(ids, now, |row| {
            put(row, "state", "suspended".into());
            put(row, "reason", reason.into());
            match until {
                Some(until) => put(row, "until", until.into()),
                None => drop(row.remove("until")),
            }
        })?;
        self.end(ids)
    }

    pub(super) fn resume(mut self, ids: &BTreeSet<String>, now: Timestamp) -> anyhow::Result<Edited> {
        self.each(ids, now, |row| {
            put(row, "state", "enabled".into());
            row.remove("reason");
            row.remove("until");
        })?;
        self.end(ids)
    }

    pub(super) fn is_killed(&self) -> bool {
        self.before.is_killed()
    }

    pub(super) fn kill_switch(mut self, on: bool) -> anyhow::Result<Edited> {
        put(self.document.as_table_mut(), "kill_switch", on.into());
        self.end(&BTreeSet::new())
    }

    fn each(
        &mut self,
        ids: &BTreeSet<String>,
        now: Timestamp,
        change: impl Fn(&mut dyn TableLike),
    ) -> anyhow::Result<()> {
        let now = datetime(now)?;
        for row in rows(&mut self.document) {
            if row.get("id").and_then(Item::as_str).is_some_and(|id| ids.contains(id)) {
                change(&mut *row);
                put(row, "updated_at", now.into());
            }
        }
        Ok(())
    }

    /// One revision more; and the text must be a table in which nothing but these rows is other than before.
    fn end(mut self, ids: &BTreeSet<String>) -> anyhow::Result<Edited> {
        let from = self.before.revision();
        let to = from.checked_add(1).ok_or_else(|| anyhow!("revision {from} cannot be raised"))?;
        put(self.document.as_table_mut(), "revision", i64::try_from(to)?.into());
        let text = self.document.to_string();
        let after = Table::parse(&text)?;
        let others =
            |table: &Table| -> Vec<_> { table.rows().iter().filter(|row| !ids.contains(row.id())).cloned().collect() };
        if others(&self.before) != others(&after) || self.before.deny_rows() != after.deny_rows() {
            bail!("the edit would have changed other rows as well: edit the table by hand");
        }
        Ok(Edited { text, revisions: (from, to) })
    }
}

/// `[[row]]` sections, or a list of inline tables.
fn rows(document: &mut DocumentMut) -> Vec<&mut dyn TableLike> {
    match document.get_mut("row") {
        Some(Item::ArrayOfTables(rows)) => rows.iter_mut().map(|row| row as &mut dyn TableLike).collect(),
        Some(Item::Value(Value::Array(rows))) => {
            rows.iter_mut().filter_map(Value::as_inline_table_mut).map(|row| row as &mut dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

/// Sets a key; what stands around its value, such as a comment at the end of the line, stays.
fn put(table: &mut dyn TableLike, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(new))),
    }
}

/// To the second: a person reads it.
fn datetime(at: Timestamp) -> anyhow::Result<toml_edit::Datetime> {
    let seconds = Timestamp::from_seconds(at.as_millis().div_euclid(1000)).to_string();
    Ok(seconds.replace(".000Z", "Z").parse()?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TABLE, now};
    use super::*;

    fn begin(text: &str) -> Edit {
        Edit::begin(text).expect("valid")
    }

    fn suspended(text: &str, until: Option<Timestamp>) -> Edited {
        let edit = begin(text);
        let ids = edit.rows_meant("ct1").expect("there");
        edit.suspend(&ids, "key \"lost\"", until, now()).expect("an edit")
    }

    #[test]
    fn a_suspension_changes_its_row_and_the_revision_and_no_other_character() {
        let Edited { text, revisions } = suspended(TABLE, None);
        assert_eq!(revisions, (17, 18));
        let expected = TABLE.replace("revision = 17 #", "revision = 18 #").replacen(
            "owner = \"pacs@hospital-a.invalid\"\n",
            "owner = \"pacs@hospital-a.invalid\"\nstate = \"suspended\"\nreason = \"key \\\"lost\\\"\"\nupdated_at = 2026-11-22T12:00:00Z\n",
            1,
        );
        // However a quotation mark is written.
        assert_eq!(text.replace("'key \"lost\"'", "\"key \\\"lost\\\"\""), expected);
        let table = Table::parse(&text).expect("valid");
        let reason = Some("key \"lost\"".to_owned());
        assert_eq!(*table.rows()[0].standing(), Standing::Suspended { reason, until: None });
    }

    #[test]
    fn a_resumed_row_is_as_it_was() {
        let until = Timestamp::parse("2026-11-22T14:00:00.5Z");
        let text = suspended(TABLE, until).text.replace("\"suspended\"", "\"suspended\" # see CHG-7");
        assert!(text.contains("until = 2026-11-22T14:00:00Z\n"), "{text}");
        let edit = begin(&text);
        let ids = edit.rows_meant("spiffe://hospital-a.invalid/ct1").expect("by identity");
        assert_eq!(edit.suspended(&ids), 1);
        let text = edit.resume(&ids, now()).expect("an edit").text;
        assert!(text.contains("state = \"enabled\" # see CHG-7\n") && !text.contains("reason"), "{text}");
        let standing = Table::parse(&text).expect("valid").rows()[0].standing().clone();
        assert_eq!(standing, Standing::Enabled);
    }

    #[test]
    fn a_row_in_any_layout_is_found() {
        let inline = "revision = 1\nrow = [\n  { id = \"ct1\", effect = \"allow\", identity = \"spiffe://a.invalid/x\", tenant = \"a\" }, # one\n]\n";
        let text = suspended(inline, None).text;
        assert!(text.contains("state = \"suspended\"") && text.contains("# one"), "{text}");
    }

    #[test]
    fn the_kill_switch_stands_at_the_top() {
        let on = begin(TABLE).kill_switch(true).expect("an edit").text;
        assert!(Table::parse(&on).expect("valid").is_killed() && on.starts_with("# Who may do what.\n"), "{on}");
        let edit = begin(&on);
        assert!(edit.is_killed());
        let off = edit.kill_switch(false).expect("an edit").text;
        assert!(!Table::parse(&off).expect("valid").is_killed());
        assert!(off.contains("revision = 19 # raised with every change"), "{off}");
    }

    #[test]
    fn who_is_not_meant_is_not_suspended() {
        let prefix = "revision = 1\nallow_prefix = [\"a.invalid\"]\n[[row]]\nid = \"all\"\neffect = \"allow\"\nprefix = \"spiffe://a.invalid/ct/\"\ntenant = \"a\"\n";
        let cases = [
            ("nobody", TABLE, "ct2", "no row \"ct2\""),
            ("a deny row", TABLE, "not-from-there", "would let in"),
            ("a stranger", TABLE, "spiffe://hospital-a.invalid/ct2", "denied already"),
            ("one of many", prefix, "spiffe://a.invalid/ct/1", "effect = \"deny\""),
        ];
        for (name, text, meant, said) in cases {
            let error = begin(text).rows_meant(meant).expect_err(name).to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        let advice = begin(prefix).rows_meant("spiffe://a.invalid/ct/1").expect_err("one of many").to_string();
        let (_, row) = advice.split_once("add:\n").expect("a row to add");
        Table::parse(&format!("{prefix}{row}")).expect("that is taken");
    }
}
