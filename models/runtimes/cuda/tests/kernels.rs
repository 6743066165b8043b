//! The CUDA kernels held against float64 (`models/runtimes/cuda/kernels/checks.cpp`), run on the CPU: the
//! same source, with what C++ has no words for emulated. No GPU and no CUDA toolkit is needed; on a chip
//! `benches/gpu/run.sh` runs the same checks.

#[path = "common/emulation.rs"]
mod emulation;

#[test]
fn kernels_agree_with_float64() {
    let out = emulation::checks(3);
    assert!(out.contains("0 failed"), "{out}");
}
