//! `ml-inference`: text models over REST and gRPC on one port.
//!
//! [`server::run`] is the whole server; `main` only parses arguments and calls it, as the tests do.
//! A request of either protocol becomes a call of [`pipeline::infer`]; [`error`] is the one table of
//! what can go wrong; [`app`] is the one place where parts are put together.

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

pub mod admin_client;
mod administration;
pub mod app;
mod body_meter;
mod caller;
pub mod cli;
pub mod config;
mod declared_tenants;
mod devices;
mod docs;
pub mod error;
pub mod grpc;
mod idempotency;
mod issuer;
mod ledger;
pub mod load;
mod operator_token;
pub mod ops;
mod page;
pub mod pipeline;
pub mod progress;
pub mod rest;
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
pub mod work;
