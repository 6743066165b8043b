//! The CUDA kernels, run on the CPU: the same source, with what C++ has no words for emulated (`models/kernels/emulation`).
//! No GPU and no CUDA toolkit is needed; what a chip makes of them is for `benches/gpu`.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn kernels_agree_with_float64() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("emulation");
    let built = Command::new("c++")
        .args([
            "-std=c++20",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unknown-pragmas",
            "-Wno-strict-aliasing",
        ])
        .arg("-I")
        .arg(&kernels)
        .arg(kernels.join("emulation/main.cpp"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let run = Command::new(program).arg("1").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}
