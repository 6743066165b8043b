//! The CUDA kernels held against float64 (`models/kernels/checks.cpp`), run on the CPU: the same source, with what C++ has no words for
//! emulated. No GPU and no CUDA toolkit is needed; on a chip `benches/gpu/run.sh` runs the same checks.

#![allow(clippy::unwrap_used)]

#[path = "common/emulation.rs"]
mod emulation;

use std::process::Command;

#[test]
fn kernels_agree_with_float64() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("checks");
    emulation::compile("checks.cpp", &program, &[]);
    emulation::libraries(folder.path());
    // The emulated driver has the kernels already.
    let run = Command::new(program)
        .args(["/dev/null", "3"])
        .env("LD_LIBRARY_PATH", folder.path())
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("0 failed"), "{out}\n{errors}");
}
