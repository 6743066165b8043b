//! `ml-inference`: text models over REST and gRPC on one port.
//!
//! [`server::run`] is the whole server; `main` only parses arguments and calls it, as the tests do.
//! A call of any protocol goes through [`pipeline`]; [`api::ErrorKind`] is the one table of what can go
//! wrong; [`app`] is the one place where parts are put together.
//!
//! # Invariants
//! Each names what holds it; client tests are in `serving/tests/clients`.
//!
//! - Every failure has one row in one table, the same for both transports, and a place on the page its
//!   `docs_url` leads to. (`serving/tests/error_table.rs`, `test_docs.py`)
//! - Input text reaches no log, whatever level a library is set to, and no error message; what a caller made
//!   up is repeated only as the start of an unknown field's name. (`test_operations.py`, `test_logs.py`,
//!   `test_forms.py`)
//! - The server does not listen on another address than loopback with the development tenant.
//!   (`serving/src/config/mod.rs`)
//! - SIGTERM loses nothing accepted. (`test_operations.py`)
//! - A peer that does nothing holds no place, no memory and no connection beyond `[connections]` and
//!   `[limits]`, and keeps nobody else out. (`test_places.py`, `test_standing.py`)
//! - A service is known by one verified SPIFFE id, and never in place of a credential that was shown.
//!   (`test_tls.py`)
//! - A GPU that fails for good loses no request that another one can answer, and its server exits.
//!   (`test_gpu.py`)
//! - Whatever becomes of standard error, calls are answered, SIGTERM ends the process, and no lost line is
//!   uncounted. (`serving/src/telemetry/log_queue.rs`, `test_logs.py`)
//! - Every call leaves one access line and one count, answered, refused or abandoned. (`test_logs.py`)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

pub mod admin_client;
mod administration;
pub mod app;
pub mod build;
mod caller;
pub mod cli;
pub mod config;
pub mod current_catalog;
mod declared_tenants;
mod devices;
pub mod docs;
pub mod error;
mod idempotency;
mod issuer;
pub mod ledger;
pub mod lifecycle;
pub mod load;
pub mod model_commands;
mod operator_token;
pub mod ops;
pub mod pipeline;
pub mod progress;
pub mod readiness;
mod reading;
mod regular_file;
pub mod scaling;
mod secrets;
pub mod server;
pub mod sinks;
pub mod state_folder;
pub mod telemetry;
pub mod tenancy;
pub mod tls;
pub mod usage_check;
mod usage_report;
