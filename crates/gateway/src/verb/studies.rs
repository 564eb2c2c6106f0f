//! `portcullis studies`: what the archive holds, as a table for people or JSON for programs.
//!
//! This is a reading role and shows patient data, on purpose, to the person who asked. It is never part of the receiver.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use model::{Attribute, Phi, Promoted, Study, Tenant, Uid};
use serde_json::{Map, Value, json};
use store::{Apart, Reader, StoredInstance, StudyState, StudySummary};

use crate::config::{Config, environment};
use crate::verb::say;

/// Looks at the studies in the archive
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis studies list --dir portcullis-dev\n  \
    portcullis studies show 1.2.840.113619.2.55 --json\n\n\
    Shows patient data. Works beside a running receiver.")]
pub struct StudiesArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The archive directory [default: the one in --config, or portcullis-dev]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A gateway.toml that names the archive directory
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// Only this tenant's
    #[arg(long, global = true, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Every study, the latest arrival first
    List,
    /// Every object of one study, and what is kept apart under its UID
    Show {
        /// Study Instance UID
        #[arg(value_name = "UID")]
        uid: String,
        /// With --json: add the DICOM JSON (PS3.18 Annex F) of every object
        #[arg(long, requires = "json")]
        metadata: bool,
    },
}

/// Runs the verb.
///
/// # Errors
/// When there is no archive, or no such study.
pub async fn run(args: StudiesArgs) -> anyhow::Result<ExitCode> {
    let dir = match (args.dir, &args.config) {
        (Some(dir), _) => dir,
        (None, Some(file)) => Config::load(file, environment())?.archive.dir,
        (None, None) => PathBuf::from(super::dev::DEFAULT_DIR),
    };
    let reader = Reader::open_local(&dir).await.context("give the archive's directory with --dir")?;
    match args.verb {
        Verb::List => list(&reader, args.tenant.as_ref(), args.json).await?,
        Verb::Show { uid, metadata } => {
            let uid = Uid::parse(&uid)?;
            show(&reader, args.tenant.as_ref(), &uid, args.json, metadata).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(reader: &Reader, tenant: Option<&Tenant>, as_json: bool) -> anyhow::Result<()> {
    let studies = reader.studies(tenant).await?;
    if as_json {
        return print_json(&studies.iter().map(study_json).collect());
    }
    let head =
        ["TENANT", "STUDY", "STATE", "GEN", "INST", "APART", "MB", "DATE", "MOD", "PATIENT", "DESCRIPTION", "RECEIVED"];
    let rows = studies.iter().map(|study| {
        let promoted = |attribute| study.promoted.get(attribute).unwrap_or("").to_owned();
        vec![
            study.tenant.to_string(),
            study.study.to_string(),
            match study.state {
                StudyState::Arriving => "arriving",
                StudyState::Stable => "stable",
            }
            .to_owned(),
            study.generation.to_string(),
            study.instances.to_string(),
            study.quarantined.to_string(),
            megabytes(study.bytes),
            promoted(Attribute::StudyDate),
            promoted(Attribute::Modality),
            promoted(Attribute::PatientId),
            promoted(Attribute::StudyDescription),
            study.last_received.to_string(),
        ]
    });
    print_table(&head, rows.collect());
    Ok(())
}

async fn show(
    reader: &Reader,
    tenant: Option<&Tenant>,
    uid: &Uid<Study>,
    as_json: bool,
    metadata: bool,
) -> anyhow::Result<()> {
    let instances = reader.study(tenant, uid).await?;
    let apart = reader.quarantined(tenant, uid).await?;
    if instances.is_empty() && apart.is_empty() {
        bail!("no study {uid} is held{}", tenant.map(|name| format!(" for {name}")).unwrap_or_default());
    }
    if as_json {
        let mut all = Vec::new();
        for instance in instances.iter().chain(&apart) {
            let mut value = instance_json(instance);
            if metadata {
                let held = &instance.held;
                let json = reader.metadata(&instance.tenant, &held.name, &held.digest).await?;
                value["metadata"] =
                    json.map(Phi::into_revealed).map_or(Ok(Value::Null), |json| serde_json::from_slice(&json))?;
            }
            all.push(value);
        }
        return print_json(&all);
    }
    if !instances.is_empty() {
        print_table(&INSTANCE_HEAD, instances.iter().map(instance_cells).collect());
    }
    if !apart.is_empty() {
        say(format!("\nquarantined: {} kept apart, which no manifest names", apart.len()));
        let head = [&["REASON"], &INSTANCE_HEAD[..]].concat();
        let rows = apart.iter().map(|instance| [vec![reason(instance).to_owned()], instance_cells(instance)].concat());
        print_table(&head, rows.collect());
    }
    Ok(())
}

const INSTANCE_HEAD: [&str; 10] =
    ["TENANT", "SERIES", "INSTANCE", "CLASS", "SYNTAX", "BYTES", "SHA-256", "SENDER", "RECEIVED", "OBJECT"];

fn instance_cells(instance: &StoredInstance) -> Vec<String> {
    let held = &instance.held;
    let class = &held.name.class;
    let syntax = &held.transfer_syntax;
    vec![
        instance.tenant.to_string(),
        held.name.series.to_string(),
        held.name.instance.to_string(),
        model::sop_class::keyword(class).unwrap_or(class.as_str()).to_owned(),
        model::transfer_syntax::keyword(syntax).unwrap_or(syntax.as_str()).to_owned(),
        held.size.to_string(),
        held.digest.short(),
        held.sender.to_string(),
        held.received_at.to_string(),
        held.object.clone(),
    ]
}

/// Why it is kept apart, in a word for people.
fn reason(instance: &StoredInstance) -> &'static str {
    match instance.apart {
        Some(Apart::OtherBytes) => "other bytes",
        Some(Apart::OtherPatient) => "other patient",
        None => "",
    }
}

fn study_json(study: &StudySummary) -> Value {
    json!({
        "tenant": study.tenant, "study": study.study, "state": study.state, "generation": study.generation,
        "instances": study.instances, "objects": study.objects, "bytes": study.bytes, "series": study.series,
        "quarantined": study.quarantined,
        "first_received": study.first_received, "last_received": study.last_received, "manifest": study.manifest,
        "attributes": attributes(&study.promoted),
    })
}

fn instance_json(instance: &StoredInstance) -> Value {
    let held = &instance.held;
    json!({
        "tenant": instance.tenant, "study": held.name.study, "series": held.name.series, "instance": held.name.instance,
        "class": held.name.class, "transfer_syntax": held.transfer_syntax, "bytes": held.size, "sha256": held.digest,
        "object": held.object, "sender": held.sender, "called_ae": instance.called, "calling_ae": instance.calling,
        "table_revision": held.table_revision, "received_at": held.received_at,
        "metadata_complete": instance.metadata_complete, "attributes": attributes(&instance.promoted),
        "issuer_assigned": instance.issuer_assigned, "quarantined": instance.apart.map(Apart::as_str),
    })
}

fn attributes(promoted: &Promoted) -> Value {
    let named = Attribute::ALL.iter().filter_map(|(attribute, _, name)| {
        promoted.get(*attribute).map(|value| ((*name).to_owned(), Value::from(value)))
    });
    Value::Object(Map::from_iter(named))
}

#[expect(clippy::cast_precision_loss, reason = "a round figure")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn print_json(values: &Vec<Value>) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(values)?);
    Ok(())
}

/// Columns as wide as their widest cell. Text that came from a peer cannot move the cursor.
fn print_table(head: &[&str], rows: Vec<Vec<String>>) {
    let plain = |cell: String| cell.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect::<String>();
    let mut lines = vec![head.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.into_iter().map(|row| row.into_iter().map(plain).collect()));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        say(cells.join("  ").trim_end());
    }
}
