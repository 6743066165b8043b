//! Builds what runs CUDA kernels on a CPU.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::Path;
use std::process::Command;

/// Compiles a file of `models/kernels`.
pub fn compile(source: &str, to: &Path, flags: &[&str]) {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-strict-aliasing"];
    let built = Command::new("c++")
        .args(["-std=c++20", "-O2", "-fopenmp-simd"])
        .args(warnings)
        .args(flags)
        .arg("-I")
        .arg(&kernels)
        .arg(kernels.join(source))
        .arg("-o")
        .arg(to)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// Puts an emulated driver, cublasLt and NVML into a folder, for a process whose `LD_LIBRARY_PATH` it is.
pub fn libraries(folder: &Path) {
    compile("emulation/driver.cpp", &folder.join("libcuda.so"), &["-shared", "-fPIC", "-fvisibility=hidden"]);
    for name in ["libcublasLt.so", "libnvidia-ml.so.1"] {
        std::os::unix::fs::symlink("libcuda.so", folder.join(name)).unwrap();
    }
}

/// Runs the ignored tests of a module of this test on an emulated GPU, in a process of their own.
pub fn run(module: &str, gpu: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    libraries(folder.path());
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--test-threads=1", "--nocapture", module])
        .env("LD_LIBRARY_PATH", folder.path())
        .envs(gpu.iter().copied())
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{errors}");
    assert!(!out.contains("running 0 tests"), "{out}");
}
