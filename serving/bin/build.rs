//! Finds out which commit is built.

use std::process::Command;

fn main() {
    println!("cargo:rustc-env=ML_INFERENCE_COMMIT={}", commit());
}

/// The commit that is built: what `ML_INFERENCE_COMMIT` says, for builds without a repository, or git.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=ML_INFERENCE_COMMIT");
    if let Some(commit) = std::env::var("ML_INFERENCE_COMMIT").ok().filter(|commit| !commit.trim().is_empty())
    {
        return commit.trim().to_owned();
    }
    // The log of HEAD grows with every commit and with every change of the branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// What git says, if there is a git and a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
