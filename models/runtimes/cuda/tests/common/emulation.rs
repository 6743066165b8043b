//! An emulated GPU, and what runs on it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The folder of the emulated driver, cublasLt and NVML, and of the kernels' checks; built once.
fn folder() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulation");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulation/build.sh");
        output(Command::new(script).arg(&folder));
        folder
    })
}

/// Runs the kernels' checks with random batches in so many rounds; what they print.
pub fn checks(rounds: usize) -> String {
    // The emulated driver has the kernels already.
    let arguments = ["/dev/null", &rounds.to_string()];
    let run = output(Command::new(folder().join("checks")).args(arguments).env("LD_LIBRARY_PATH", folder()));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Runs the ignored tests of a module of this test on an emulated GPU, in a process of their own.
pub fn run(module: &str, gpu: &[(&str, &str)]) {
    let run = output(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--test-threads=1", "--nocapture", module])
            .env("LD_LIBRARY_PATH", folder())
            .envs(gpu.iter().copied()),
    );
    let out = String::from_utf8_lossy(&run.stdout);
    assert!(!out.contains("running 0 tests"), "{out}");
}

/// What a command that must succeed gave.
fn output(command: &mut Command) -> Output {
    let run = command.output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{errors}");
    run
}
