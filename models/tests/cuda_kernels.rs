//! The CUDA kernels, run on the CPU: the same source, with what C++ has no words for emulated (`models/kernels/emulation`).
//! No GPU and no CUDA toolkit is needed; what a chip makes of them is for `benches/gpu`.

#![allow(clippy::unwrap_used)]

#[path = "common/emulation.rs"]
mod emulation;

use std::process::Command;

#[test]
fn kernels_agree_with_float64() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("emulation");
    emulation::compile("main.cpp", &program, &[]);
    let run = Command::new(program).arg("1").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}
