//! `portcullis receive`: the exposed role.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{Config, environment};
use crate::receive::{Checked, Receiver};
use crate::telemetry::{self, LogFormat};
use crate::verb::say;

/// Receives instances with C-STORE over mutual TLS
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis receive --config gateway.toml --check   validate everything, bind nothing\n  \
    portcullis receive --config gateway.toml\n  \
    portcullis receive --config gateway.toml --shadow next.toml   try a table out, beside the one in force\n\n\
    Any key can be overridden from the environment: PORTCULLIS__RECEIVER__LISTEN=0.0.0.0:2762\n\
    `portcullis dev` writes a gateway.toml and an access.toml to start from.")]
pub struct ReceiveArgs {
    /// The configuration file; its paths are relative to it
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
    /// A second access table that decides nothing: where it would have decided otherwise is written down
    #[arg(long, value_name = "FILE")]
    shadow: Option<PathBuf>,
    /// Validate configuration, certificates, access table and archive, print what is in force, and exit
    #[arg(long)]
    check: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log: LogFormat,
}

/// Runs the verb.
///
/// # Errors
/// With what is not in order and what to do.
pub async fn run(args: ReceiveArgs) -> anyhow::Result<ExitCode> {
    telemetry::begin_logs(args.log, "info");
    let mut config = Config::load(&args.config, environment())?;
    config.access.shadow = args.shadow.or(config.access.shadow);
    if args.check {
        for line in Checked::probe(config).await? {
            say(line);
        }
        say(format!("ok: {} can be used", args.config.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let metrics = telemetry::begin_metrics()?;
    let receiver = Receiver::bind(Checked::build(config).await?, metrics).await?;
    say(format!("listening on {}", receiver.address()?));
    say(format!("admin on http://{}", receiver.admin_address()?));
    receiver.run().await?;
    Ok(ExitCode::SUCCESS)
}
