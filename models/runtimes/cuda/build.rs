//! Compiles the CUDA kernels, for the feature `cuda`: machine code for each architecture that is named, and
//! PTX of the newest of them for those that come after it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compute capabilities: A100, and H100 and H200.
const ARCHITECTURES: &str = "80,90";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    println!("cargo:rerun-if-env-changed=CUDA_ARCHITECTURES");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let toolkit =
        toolkit().ok_or("the feature `cuda` needs nvcc: run `make cuda-toolkit`, or set CUDA_HOME")?;
    let architectures = std::env::var("CUDA_ARCHITECTURES").unwrap_or_else(|_| ARCHITECTURES.to_owned());
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("kernels.fatbin");
    let status = Command::new(toolkit.join("bin/nvcc"))
        .args(["-fatbin", "-O3", "-std=c++17", "-I"])
        .arg(toolkit.join("include"))
        .args(targets(&architectures)?)
        .args(["kernels/kernels.cu", "-o"])
        .arg(out)
        .status()?;
    if status.success() { Ok(()) } else { Err("nvcc refused the kernels".into()) }
}

/// What nvcc is told of the architectures in a list such as `80,90`.
fn targets(list: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let numbers: Result<Vec<u32>, _> = list.split(',').map(|number| number.trim().parse()).collect();
    let numbers =
        numbers.map_err(|_| format!("CUDA_ARCHITECTURES: expected numbers with commas, got {list:?}"))?;
    let newest = numbers.iter().max().ok_or("CUDA_ARCHITECTURES: expected at least one")?;
    let machine_code =
        numbers.iter().map(|number| format!("-gencode=arch=compute_{number},code=sm_{number}"));
    let ptx = format!("-gencode=arch=compute_{newest},code=compute_{newest}");
    Ok(machine_code.chain([ptx]).collect())
}

/// The toolkit that is set, or the one that `make cuda-toolkit` installs.
fn toolkit() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("CUDA_HOME") {
        return Some(PathBuf::from(home));
    }
    let libraries = Path::new("../../../data/cuda/lib");
    let pythons = std::fs::read_dir(libraries).ok()?.flatten();
    let mut homes = pythons.map(|python| python.path().join("site-packages/nvidia/cu13"));
    homes.find(|home| home.join("bin/nvcc").exists()).and_then(|home| home.canonicalize().ok())
}
