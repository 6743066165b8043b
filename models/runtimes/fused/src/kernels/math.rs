//! Elementary functions over vectors.

use super::vector::Vector;

/// What is applied between the two linear layers of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x`
    None,
    /// `x (1 + erf(x / sqrt 2)) / 2`, <https://arxiv.org/abs/1606.08415>
    Gelu,
    /// Its approximation by tanh, from the same paper.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x / (1 + e^-x)`, <https://arxiv.org/abs/1702.03118>
    Silu,
    /// `tanh x`, in heads.
    Tanh,
}

impl Activation {
    /// # Safety
    /// As [`Vector`].
    #[inline(always)]
    pub(super) unsafe fn apply<V: Vector>(self, x: V) -> V {
        // SAFETY: no pointer involved.
        unsafe {
            match self {
                Activation::None => x,
                Activation::Gelu => {
                    let erf = erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2)));
                    let half = x.mul(V::splat(0.5));
                    half.multiply_add(erf, half)
                }
                Activation::GeluTanh => {
                    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                    let cube = x.mul(x).mul(x);
                    let inner = cube.multiply_add(V::splat(0.044_715), x).mul(V::splat(SQRT_2_OVER_PI));
                    let half = x.mul(V::splat(0.5));
                    half.multiply_add(tanh(inner), half)
                }
                Activation::Relu => x.max(V::splat(0.0)),
                Activation::Silu => {
                    // `e^88.3` is finite, so that what is far below zero gives nearly zero.
                    let power = exp(V::splat(0.0).sub(x));
                    x.div(power.add(V::splat(1.0)))
                }
                Activation::Tanh => tanh(x),
            }
        }
    }
}

/// `e^x`, with a relative error below 2e-7; what lies beyond float32's normal numbers is cut off at them.
///
/// `x = n ln 2 + r` with whole `n`; `ln 2` in two parts, and the polynomial for `e^r`, are those of Cephes'
/// `expf` (<https://netlib.org/cephes/>).
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: no pointer involved.
    unsafe {
        let x = x.max(V::splat(-87.3)).min(V::splat(88.3));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.multiply_add(V::splat(-LN_2_HIGH), x);
        let r = n.multiply_add(V::splat(-LN_2_LOW), r);
        let sum = polynomial(r, &POLYNOMIAL);
        let sum = sum.multiply_add(r.mul(r), r.add(V::splat(1.0)));
        sum.scale_by_power_of_two(n)
    }
}

/// The error function, with an absolute error below 5e-7.
///
/// `x P(x^2) / Q(x^2)` for `|x| <= 4`, beyond which float32 has only 1: the rational minimax approximation
/// that Eigen and XLA use (<https://gitlab.com/libeigen/eigen>, `generic_fast_erf`).
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn erf<V: Vector>(x: V) -> V {
    const P: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    // SAFETY: no pointer involved.
    unsafe {
        let x = x.max(V::splat(-4.0)).min(V::splat(4.0));
        let square = x.mul(x);
        x.mul(polynomial(square, &P)).div(polynomial(square, &Q))
    }
}

/// `tanh x = 1 - 2 / (e^2x + 1)`.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: no pointer involved.
    unsafe {
        // Beyond 10 it is 1 in float32; NaN must not be cut off, and goes through `sub`.
        let double = x.add(x);
        let power = exp(double);
        let result = V::splat(1.0).sub(V::splat(2.0).div(power.add(V::splat(1.0))));
        result.add(x.sub(x))
    }
}

/// Horner's scheme, highest power first.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize>(x: V, coefficients: &[f32; N]) -> V {
    // SAFETY: no pointer involved.
    unsafe {
        let mut sum = V::splat(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            sum = sum.multiply_add(x, V::splat(coefficient));
        }
        sum
    }
}
