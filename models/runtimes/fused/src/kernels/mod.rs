//! The inner loops, written once over vectors and compiled for each instruction set; chosen at run time.
//!
//! | file | holds |
//! |---|---|
//! | `vector` | what a kernel asks of a CPU |
//! | `portable`, `avx2`, `avx512`, `neon` | one instruction set each |
//! | `math` | exp, erf, GELU |
//! | `linear`, `attention`, `normalize`, `rotary` | the four kernels |
//! | `peak` | what the multipliers could do at most |
//!
//! A kernel takes a task of raw pointers, because threads write disjoint parts of one matrix, which slices
//! cannot express. The entry points are the only functions compiled for an instruction set; everything below
//! is inlined into them.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod linear;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod normalize;
mod peak;
mod portable;
mod rotary;
#[cfg(test)]
mod tests;
mod vector;

use half::bf16;

pub(crate) use attention::{
    AttentionScratch, AttentionTask, Bias, Disentangled, QUERIES_MAX, STATE_LEN, WEIGHTS_LEN, from_keys_len,
    from_queries_len, keys_len, sums_len, values_len,
};
pub(crate) use linear::{LinearTask, Output, TILE_COLUMNS_MAX};
pub(crate) use math::Activation;
pub(crate) use normalize::NormalizeTask;
pub(crate) use rotary::RotaryTask;
pub(crate) use vector::Number;

/// The kernels of one instruction set for one number format.
///
/// # Safety
/// The functions may only be called on a CPU with the instruction set, which [`Compiled::available`] makes
/// sure of, and with tasks whose pointers are valid for what the task says.
pub(crate) struct Kernels<N: 'static> {
    /// Name of the instruction set.
    pub(crate) name: &'static str,
    /// Columns of a packed panel.
    pub(crate) columns: usize,
    /// Rows that attention may read behind the last one: the lanes of a vector.
    pub(crate) lanes: usize,
    pub(crate) linear: unsafe fn(&LinearTask<N>),
    pub(crate) attend: unsafe fn(&AttentionTask<N>),
    pub(crate) normalize: unsafe fn(&NormalizeTask<N>),
    pub(crate) rotate: unsafe fn(&RotaryTask<N>),
    /// Takes rounds, returns multiplications and additions.
    pub(crate) peak: unsafe fn(usize) -> usize,
}

/// A number format for which there are kernels.
pub(crate) trait Compiled: Number {
    /// The kernels that this CPU can run, best first; the portable ones are always the last.
    fn available() -> Vec<&'static Kernels<Self>>;
}

/// Entry points of one instruction set for one number format.
macro_rules! kernels {
    ($table:ident, $name:literal, $vector:ty, $number:ty, $tile_rows:literal $(, $feature:literal)?) => {
        static $table: Kernels<$number> = {
            /// # Safety
            /// See `Kernels`.
            $(#[target_feature(enable = $feature)])?
            unsafe fn linear(task: &LinearTask<$number>) {
                // SAFETY: the caller's contract; the features are this function's.
                unsafe { linear::linear::<$vector, $number, $tile_rows>(task) }
            }
            /// # Safety
            /// See `Kernels`.
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend(task: &AttentionTask<$number>) {
                // SAFETY: the caller's contract; the features are this function's.
                unsafe { attention::attend::<$vector, $number, $tile_rows>(task) }
            }
            /// # Safety
            /// See `Kernels`.
            $(#[target_feature(enable = $feature)])?
            unsafe fn normalize(task: &NormalizeTask<$number>) {
                // SAFETY: the caller's contract; the features are this function's.
                unsafe { normalize::normalize::<$vector, $number>(task) }
            }
            /// # Safety
            /// See `Kernels`.
            $(#[target_feature(enable = $feature)])?
            unsafe fn rotate(task: &RotaryTask<$number>) {
                // SAFETY: the caller's contract; the features are this function's.
                unsafe { rotary::rotate::<$vector, $number>(task) }
            }
            /// # Safety
            /// See `Kernels`.
            $(#[target_feature(enable = $feature)])?
            unsafe fn peak(rounds: usize) -> usize {
                // SAFETY: the caller's contract; the features are this function's.
                unsafe { peak::peak::<$vector, $number>(rounds) }
            }
            let lanes = <$vector as vector::Vector>::LANES;
            Kernels { name: $name, columns: 2 * lanes, lanes, linear, attend, normalize, rotate, peak }
        };
    };
}

kernels!(PORTABLE_F32, "portable", portable::Portable, f32, 4);
kernels!(PORTABLE_BF16, "portable", portable::Portable, bf16, 4);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2_F32, "avx2", avx2::Avx2, f32, 6, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(AVX2_BF16, "avx2", avx2::Avx2, bf16, 4, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(AVX512_F32, "avx512", avx512::Avx512, f32, 12, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(
    AVX512_BF16,
    "avx512",
    avx512::Avx512,
    bf16,
    12,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
);
#[cfg(target_arch = "aarch64")]
kernels!(NEON_F32, "neon", neon::Neon, f32, 12, "neon");
#[cfg(target_arch = "aarch64")]
kernels!(NEON_BF16, "neon", neon::Neon, bf16, 6, "neon");

/// Implements [`Compiled`] for a number format by the tables of each instruction set.
macro_rules! compiled {
    ($number:ty, $portable:ident, $avx2:ident, $avx512:ident, $neon:ident, $avx512_features:expr) => {
        impl Compiled for $number {
            fn available() -> Vec<&'static Kernels<Self>> {
                let mut tables = Vec::new();
                #[cfg(target_arch = "x86_64")]
                {
                    if $avx512_features {
                        tables.push(&$avx512);
                    }
                    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                        tables.push(&$avx2);
                    }
                }
                #[cfg(target_arch = "aarch64")]
                tables.push(&$neon);
                tables.push(&$portable);
                tables
            }
        }
    };
}

compiled!(f32, PORTABLE_F32, AVX2_F32, AVX512_F32, NEON_F32, has_avx512());
compiled!(bf16, PORTABLE_BF16, AVX2_BF16, AVX512_BF16, NEON_BF16, has_bf16_products());

/// Whether there are kernels here with an instruction for products of bfloat16.
pub(crate) fn has_bf16_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512() && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}
