//! What is done to rows between products.

use half::bf16;

use super::super::super::buffer::Buffer;
use super::super::*;
use super::*;

#[test]
fn normalization() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for width in [1, 3, 16, 35, 384] {
                for is_centred in [true, false] {
                    normalized::<N>(kernels, width, is_centred, true);
                    normalized::<N>(kernels, width, is_centred, false);
                }
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

fn normalized<N: Rounded>(kernels: &Kernels<N>, width: usize, is_centred: bool, is_in_place: bool) {
    let (count, stride, epsilon) = (3, width + 5, 1e-5_f32);
    let mut values = random(7, count * width);
    // A mean far from zero and a row without variance.
    values[..width].iter_mut().for_each(|value| *value += 100.0);
    values[width..2 * width].fill(4.0);
    let (weight, bias) = (random(8, width), random(9, width));
    let mut buffer = rows::<f32>(&values, width, stride, 0);
    let mut copy = Buffer::zeroed::<N>(count * stride);
    let task = NormalizeTask {
        rows: count,
        width,
        values: buffer.pointer(0),
        stride,
        copy: copy.pointer::<N>(0),
        copy_stride: stride,
        weight: weight.as_ptr(),
        bias: bias.as_ptr(),
        epsilon,
        is_centred,
        is_in_place,
    };
    // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
    unsafe { (kernels.normalize)(&task) }
    for row in 0..count {
        let values: Vec<f64> = values[row * width..(row + 1) * width].iter().map(|&v| f64::from(v)).collect();
        let mean = if is_centred { values.iter().sum::<f64>() / width as f64 } else { 0.0 };
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        for at in 0..width {
            let expected = (values[at] - mean) / (variance + f64::from(epsilon)).sqrt()
                * f64::from(weight[at])
                + f64::from(bias[at]);
            let context = format!("{} row {row} of {width}, {is_centred} {is_in_place}", kernels.name);
            let copied = copy.as_mut_slice::<N>()[row * stride + at].value();
            assert_near(copied, expected, 2e-4 + N::EPSILON * expected.abs(), &context);
            let found = f64::from(buffer.as_mut_slice::<f32>()[row * stride + at]);
            if is_in_place {
                assert_near(found, expected, 2e-4, &context);
                assert_near(copied, found, N::EPSILON * found.abs(), &context);
            } else {
                assert_near(found, values[at], 0.0, &context);
            }
        }
    }
}

#[test]
fn rotation() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for (head, pairs) in [(1, 0), (2, 1), (7, 3), (32, 16), (20, 7), (64, 32), (128, 64), (48, 8)] {
                rotated::<N>(kernels, head, pairs, true);
                rotated::<N>(kernels, head, pairs, false);
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

fn rotated<N: Rounded>(kernels: &Kernels<N>, head: usize, pairs: usize, has_norm: bool) {
    let context = format!("{} {pairs} pairs of {head}, {has_norm}", kernels.name);
    let (count, heads, epsilon) = (3, 2, 1e-6_f32);
    let (width, stride) = (heads * head, heads * head + 6);
    let positions = [5_u32, 0, 2];
    let values = random(11, count * width);
    let (angles, norm) = (random(12, 6 * 2 * pairs), random(13, head));
    let mut buffer = rows::<N>(&values, width, stride, 1);
    for row in 0..=count {
        let end = if row < count { row * stride + width } else { row * stride };
        buffer.as_mut_slice::<N>()[end..(row + 1) * stride].fill(N::from_f32(UNTOUCHED));
    }
    let task = RotaryTask {
        values: buffer.pointer::<N>(0),
        stride,
        rows: count,
        heads,
        head,
        norm: if has_norm { norm.as_ptr() } else { std::ptr::null() },
        epsilon,
        positions: positions.as_ptr(),
        angles: angles.as_ptr(),
        pairs,
    };
    // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
    unsafe { (kernels.rotate)(&task) }
    for row in 0..count {
        let found = &buffer.as_mut_slice::<N>()[row * stride..(row + 1) * stride];
        let angles = &angles[positions[row] as usize * 2 * pairs..];
        for of_head in 0..heads {
            let start = row * width + of_head * head;
            let numbers: Vec<f64> =
                values[start..start + head].iter().map(|&value| N::from_f32(value).value()).collect();
            let square = numbers.iter().map(|value| value * value).sum::<f64>() / head as f64;
            let scale = 1.0 / (square + f64::from(epsilon)).sqrt();
            let scaled =
                |at: usize| if has_norm { numbers[at] * scale * f64::from(norm[at]) } else { numbers[at] };
            for at in 0..head {
                let expected = match at {
                    at if at < pairs => {
                        scaled(at) * f64::from(angles[at])
                            - scaled(pairs + at) * f64::from(angles[pairs + at])
                    }
                    at if at < 2 * pairs => {
                        let pair = at - pairs;
                        scaled(at) * f64::from(angles[pair]) + scaled(pair) * f64::from(angles[pairs + pair])
                    }
                    at => scaled(at),
                };
                let found = found[of_head * head + at].value();
                assert_near(found, expected, 1e-5 + N::EPSILON * expected.abs(), &context);
            }
        }
        assert!(found[width..].iter().all(|found| found.value() == f64::from(UNTOUCHED)), "{context}");
    }
    let behind = &buffer.as_mut_slice::<N>()[count * stride..];
    assert!(behind.iter().take(stride).all(|found| found.value() == f64::from(UNTOUCHED)), "{context}");
}
