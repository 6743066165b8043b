//! Parses arguments and calls [`serving::server::run`].

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use serving::app::{App, Listeners, catalog_config};
use serving::cli::{Cli, Command, Options};
use serving::config::Config;
use serving::{progress::Bars, server, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps freed pages for the next batch, where the system's allocator would return them and fault them in again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(&options),
        Command::Fetch(options) => fetch(&options),
        Command::Tenants { server, command } => server.tenants(command),
        Command::Keys { server, command } => server.keys(command),
        Command::GenerateKey { test } => generate_key(test),
        Command::Usage { server, usage } => server.usage(&usage),
        Command::Audit { server, limit } => server.audit(limit),
    };
    telemetry::flush_logs();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all there is to say it on; if that is closed, the exit code says it.
            telemetry::tell(std::io::stderr(), format!("ml-inference: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn configure(options: &Options) -> Result<Config, AnyError> {
    let config = Config::load(options.config.as_deref(), options.overrides())?;
    telemetry::init_logs(&config.log)?;
    Ok(config)
}

fn serve(options: &Options) -> Result<(), AnyError> {
    let config = configure(options)?;
    let listeners = Listeners::bind(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let app = App::build(config, &Bars::new(), runtime.handle())?;
    let ready = serving::progress::ready_message(&app, &listeners)?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let on_ready = move || {
            tracing::info!("ready");
            telemetry::tell(std::io::stdout(), ready);
        };
        server::run(app, listeners, on_ready, shutdown).await?;
        Ok(())
    })
}

fn generate_key(is_test: bool) -> Result<(), AnyError> {
    let key = router::ApiKey::generate(if is_test { router::Mode::Test } else { router::Mode::Live })?;
    writeln!(std::io::stdout(), "{}", key.expose())?;
    Ok(())
}

fn fetch(options: &Options) -> Result<(), AnyError> {
    let config = configure(options)?;
    models::Catalog::fetch(&catalog_config(&config, models::CardOverride::default()), &Bars::new())?;
    writeln!(std::io::stdout(), "all weights are in {}", config.data_dir.display())?;
    Ok(())
}
