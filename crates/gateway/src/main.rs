//! `portcullis`: arguments to verbs, and an error to one sentence and its causes.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use gateway::secrecy::keep_memory_to_ourselves;
use gateway::verb::{access, audit, certs, dev, receive, send, studies};

// Receiving allocates and frees a chunk for each small instance; this halves what that costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A zero-trust ingestion gateway for DICOM.
///
/// Portcullis terminates mutual TLS, proves who is calling by the SPIFFE ID in the certificate, asks an access table whether
/// this identity may do this, keeps every byte, and says Success only when image and index row are durable.
#[derive(Debug, Parser)]
#[command(version, after_help = "Start here: portcullis dev --sample")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Dev(dev::DevArgs),
    Receive(receive::ReceiveArgs),
    Send(send::SendArgs),
    Access(access::AccessArgs),
    /// Makes and explains development certificates
    Certs(certs::CertsArgs),
    Studies(studies::StudiesArgs),
    Audit(audit::AuditArgs),
}

/// Threads that wait for the disk: enough that their fsyncs share a journal commit. Each has a heap and a reading connection
/// to the index, about 4 MiB; tokio's own 512 would be bounded by nothing that an operator knows.
const BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match keep_memory_to_ourselves().context("core dumps cannot be turned off").and_then(|()| run(arguments.verb)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .expect("the system gives threads");
    runtime.block_on(async {
        match verb {
            Verb::Dev(args) => dev::run(args).await,
            Verb::Receive(args) => receive::run(args).await,
            Verb::Send(args) => send::run(args).await,
            Verb::Access(args) => access::run(args),
            Verb::Certs(args) => certs::run(args),
            Verb::Studies(args) => studies::run(args).await,
            Verb::Audit(args) => audit::run(args),
        }
    })
}
