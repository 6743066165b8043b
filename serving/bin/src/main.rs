//! Parses arguments and calls [`serving::server::Server`], with the optional parts of this build.

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

#[cfg(feature = "kafka")]
mod kafka;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use serving::app::{App, Listeners, catalog_config};
use serving::build::Build;
use serving::cli::{Cli, Command, JournalCommand, ModelsCommand, Options};
use serving::config::Config;
use serving::progress::{Addresses, Bars};
use serving::server::{Server, Shutdown, Signals};
use serving::{model_commands, telemetry, usage_check};

/// A part of the build, if its feature is on.
macro_rules! if_built {
    ($feature:literal, $part:expr) => {{
        #[cfg(feature = $feature)]
        {
            Some($part)
        }
        #[cfg(not(feature = $feature))]
        {
            None
        }
    }};
}

/// Keeps freed pages for the next batch, where the system's allocator would return them and fault them in
/// again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What this build has.
const BUILD: Build = Build {
    commit: env!("ML_INFERENCE_COMMIT"),
    gpu_runtime: if_built!("cuda", &runtime_cuda::Cuda),
    kafka: if_built!("kafka", kafka::Kafka::sink),
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => return exit_code(serve(&options)),
        Command::Fetch(options) => fetch(&options),
        Command::Models { command: ModelsCommand::Here(command) } => {
            configure(command.options()).and_then(|config| model_commands::run(&command, &config, &BUILD))
        }
        Command::Models { command: ModelsCommand::Running(command) } => {
            let (server, name, wish) = command.change();
            server.change_model(name, &wish)
        }
        Command::Classifiers { command } => command.run(),
        Command::Tenants { server, command } => server.tenants(command),
        Command::Keys { server, command } => server.keys(command),
        Command::GenerateKey { test } => generate_key(test),
        Command::Usage { command: Some(JournalCommand::Verify(options)), .. } => {
            configure(&options).and_then(|config| usage_check::verify(&config))
        }
        Command::Usage { command: Some(JournalCommand::Repair(options)), .. } => {
            configure(&options).and_then(|config| usage_check::repair(&config))
        }
        Command::Usage { server, usage, command: None } => server.usage(&usage),
        Command::Audit { server, limit } => server.audit(limit),
    };
    exit_code(result.map(|()| ExitCode::SUCCESS))
}

fn exit_code(result: Result<ExitCode, AnyError>) -> ExitCode {
    telemetry::flush_logs();
    match result {
        Ok(code) => code,
        Err(error) => {
            // Standard error is all there is to say it on; if that is closed, the exit code says it.
            telemetry::tell(std::io::stderr(), format!("ml-inference: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// How long the process waits for what is to end with it.
const END_PATIENCE: Duration = Duration::from_secs(2);

fn configure(options: &Options) -> Result<Config, AnyError> {
    let config = Config::load(options.config.as_deref(), options.overrides())?;
    telemetry::init_logs(&config.log)?;
    Ok(config)
}

fn serve(options: &Options) -> Result<ExitCode, AnyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve_until_told(options));
    // What tasks hold of the devices is given back before the process ends, and their driver with it. What
    // does not end ends with the process: models that are loading, or what a second signal cut off.
    runtime.shutdown_timeout(END_PATIENCE);
    result
}

async fn serve_until_told(options: &Options) -> Result<ExitCode, AnyError> {
    let mut signals = Signals::listen()?;
    let config = configure(options)?;
    let listeners = Listeners::bind(&config)?;
    let addresses = Addresses::of(&listeners)?;
    let server = Server::open(listeners, &config)?;
    let runtime = tokio::runtime::Handle::current();
    let building = tokio::task::spawn_blocking(move || App::build(config, &BUILD, &Bars::new(), &runtime));
    let app = tokio::select! {
        app = building => app??,
        _ = signals.next() => {
            tracing::info!("stopped before anything was served");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let ready = addresses.ready_message(&app.catalog.load(), app.config.development_tenant);
    let on_ready = move || {
        tracing::info!("ready");
        telemetry::tell(std::io::stdout(), ready);
    };
    let (told, shutdown) = tokio::sync::oneshot::channel();
    let shutdown = async move { shutdown.await.unwrap_or(Shutdown::Orchestrated) };
    let twice = async move {
        // If the server has ended by itself nobody listens.
        let _ = told.send(signals.next().await);
        signals.next().await;
    };
    tokio::select! {
        result = server.run(app, on_ready, shutdown) => result?,
        () = twice => {
            tracing::warn!("stopped at once: told twice");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
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
