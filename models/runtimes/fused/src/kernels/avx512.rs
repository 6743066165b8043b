//! AVX-512: sixteen lanes, and on newer CPUs products of bfloat16 pairs (`avx512bf16`).
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the contract of the traits says it for every function here"
)]

use std::arch::x86_64::*;

use half::bf16;

use super::vector::{Product, Vector};

/// A register of sixteen float32 numbers. Needs AVX-512 F, BW, DQ and VL; bfloat16 needs `avx512bf16` too.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY: every function needs the instruction sets named at `Avx512`, which the trait's contract puts on the
// caller; loads and stores are unaligned ones of LANES values.
unsafe impl Vector for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn scale_by_power_of_two(self, exponent: Self) -> Self {
        Self(unsafe { _mm512_scalef_ps(self.0, exponent.0) })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        unsafe {
            let rounded: __m256bh = _mm512_cvtneps_pbh(self.0);
            to.cast::<__m256bh>().write_unaligned(rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const bf16) -> (Self, Self) {
        unsafe {
            let words = _mm512_loadu_si512(from.cast());
            let even = _mm512_slli_epi32::<16>(words);
            let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (Self(_mm512_castsi512_ps(even)), Self(_mm512_castsi512_ps(odd)))
        }
    }

    /// Four rounds of exchanging halves: of 1, 2, 4 and 8 words.
    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        unsafe {
            // Not in a closure, which would not be compiled for the instruction set.
            let mut a = [_mm512_setzero_si512(); 16];
            for (row, a) in a.iter_mut().enumerate() {
                *a = _mm512_loadu_si512(from.add(row * from_stride).cast());
            }
            let mut b = a;
            for pair in 0..8 {
                let (low, high) = (a[2 * pair], a[2 * pair + 1]);
                b[2 * pair] = _mm512_unpacklo_epi32(low, high);
                b[2 * pair + 1] = _mm512_unpackhi_epi32(low, high);
            }
            for four in 0..4 {
                let at = 4 * four;
                a[at] = _mm512_unpacklo_epi64(b[at], b[at + 2]);
                a[at + 1] = _mm512_unpackhi_epi64(b[at], b[at + 2]);
                a[at + 2] = _mm512_unpacklo_epi64(b[at + 1], b[at + 3]);
                a[at + 3] = _mm512_unpackhi_epi64(b[at + 1], b[at + 3]);
            }
            for column in 0..4 {
                // a[column + 4 k] holds, in its four quarters, columns `column + 4 q` of rows 4 k .. 4 k + 4.
                let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(a[column], a[column + 4]);
                let low_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a[column], a[column + 4]);
                let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(a[column + 8], a[column + 12]);
                let high_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a[column + 8], a[column + 12]);
                let rows = [
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(low_odd, high_odd),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(low_odd, high_odd),
                ];
                for (quarter, row) in rows.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add((column + 4 * quarter) * to_stride).cast(), row);
                }
            }
        }
    }
}

// SAFETY: as above, with `avx512bf16`; `left` reads one pair, `right` sixteen.
unsafe impl Product<bf16> for Avx512 {
    type Pack = __m512i;

    #[inline(always)]
    unsafe fn left(from: *const bf16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn right(from: *const bf16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add_product(self, left: __m512i, right: __m512i) -> Self {
        unsafe {
            let left = std::mem::transmute::<__m512i, __m512bh>(left);
            let right = std::mem::transmute::<__m512i, __m512bh>(right);
            Self(_mm512_dpbf16_ps(self.0, left, right))
        }
    }
}
