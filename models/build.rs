//! Compiles the CUDA kernels to PTX, for the feature `cuda`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest architecture that the kernels run on, whose PTX every later one takes: A100.
const ARCHITECTURE: &str = "compute_80";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let toolkit =
        toolkit().ok_or("the feature `cuda` needs nvcc: run `make cuda-toolkit`, or set CUDA_HOME")?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("kernels.ptx");
    let status = Command::new(toolkit.join("bin/nvcc"))
        .args(["-ptx", "-O3", "-std=c++17", "-arch", ARCHITECTURE, "-I"])
        .arg(toolkit.join("include"))
        .args(["kernels/kernels.cu", "-o"])
        .arg(out)
        .status()?;
    if status.success() { Ok(()) } else { Err("nvcc refused the kernels".into()) }
}

/// The toolkit that is set, or the one that `make cuda-toolkit` installs.
fn toolkit() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("CUDA_HOME") {
        return Some(PathBuf::from(home));
    }
    let libraries = Path::new("../data/cuda/lib");
    let pythons = std::fs::read_dir(libraries).ok()?.flatten();
    let mut homes = pythons.map(|python| python.path().join("site-packages/nvidia/cu13"));
    homes.find(|home| home.join("bin/nvcc").exists()).and_then(|home| home.canonicalize().ok())
}
