//! Heads as kernels take them: of a size that there is a kernel for, with numbers that are turned together as
//! far apart as there are pairs. Zeros fill them up, which change no product. Pure, so that it is tested
//! without a GPU.

use models_core::EncoderSpec;
use models_core::spec::{Rotary, RotaryPairs};
use models_core::weights::LinearWeights;

/// Sizes of a head for which there is a kernel of attention.
pub(super) const HEAD_SIZES: [usize; 4] = [32, 64, 96, 128];

/// The size of an encoder's heads in the kernel of attention: the least that has room for them.
pub(super) fn head_size(spec: &EncoderSpec) -> usize {
    HEAD_SIZES.into_iter().find(|size| *size >= spec.head_size).unwrap_or(spec.head_size)
}

/// Where the numbers of a layer's heads go.
pub(super) struct Arrangement {
    /// For each place in a head of queries or keys, which of the checkpoint's numbers it has.
    turned: Vec<Option<usize>>,
    /// The same for values.
    plain: Vec<Option<usize>>,
    /// Numbers of a head in the checkpoint.
    size: usize,
    /// Heads of queries and of keys, whose numbers are turned.
    turned_heads: usize,
}

impl Arrangement {
    /// For a layer whose queries and keys are turned by `rotary`.
    pub(super) fn new(spec: &EncoderSpec, rotary: Option<&Rotary>) -> Self {
        let pairs = match rotary {
            Some(Rotary { inverse_frequencies, pairs: RotaryPairs::Neighbours }) => inverse_frequencies.len(),
            Some(Rotary { pairs: RotaryPairs::Halves, .. }) | None => 0,
        };
        let size = spec.head_size;
        let source = |at: usize| match at {
            at if at < pairs => 2 * at,
            at if at < 2 * pairs => 2 * (at - pairs) + 1,
            at => at,
        };
        let place = |at: usize| (at < size).then_some(at);
        let plain: Vec<_> = (0..head_size(spec)).map(place).collect();
        let turned = plain.iter().map(|at| at.map(source)).collect();
        Self { turned, plain, size, turned_heads: spec.num_attention_heads + spec.num_key_value_heads }
    }

    /// Rows of heads of queries or keys, one behind the other.
    pub(super) fn turned(&self, numbers: &[f32]) -> Vec<f32> {
        numbers.chunks_exact(self.size).flat_map(|head| filled(&self.turned, head)).collect()
    }

    /// The layer of queries, keys and values, with the rows of each head filled up.
    pub(super) fn query_key_value(&self, linear: &LinearWeights) -> LinearWeights {
        let inputs = linear.inputs();
        let heads = linear.weight.chunks_exact(self.size * inputs).enumerate();
        let places = |head: usize| if head < self.turned_heads { &self.turned } else { &self.plain };
        let mut weight = Vec::with_capacity(linear.weight.len() / self.size * self.plain.len());
        for (index, head) in heads {
            for place in places(index) {
                match place {
                    Some(at) => weight.extend_from_slice(&head[at * inputs..(at + 1) * inputs]),
                    None => weight.resize(weight.len() + inputs, 0.0),
                }
            }
        }
        let biases = linear.bias.chunks_exact(self.size).enumerate();
        let bias = biases.flat_map(|(index, head)| filled(places(index), head)).collect();
        LinearWeights { weight, bias }
    }

    /// The layer behind the heads, with the columns of each head filled up.
    pub(super) fn output(&self, linear: &LinearWeights) -> LinearWeights {
        let heads = linear.weight.chunks_exact(self.size);
        let weight = heads.flat_map(|head| filled(&self.plain, head)).collect();
        LinearWeights { weight, bias: linear.bias.clone() }
    }
}

fn filled<'a>(places: &'a [Option<usize>], numbers: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    places.iter().map(|place| place.map_or(0.0, |at| numbers[at]))
}

#[cfg(test)]
mod tests {
    use models_core::{EncoderSizes, HiddenActivation};

    use super::*;

    fn spec(head_size: usize) -> EncoderSpec {
        let sizes = EncoderSizes {
            vocab_size: 3,
            hidden_size: head_size,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: 8,
            hidden_act: HiddenActivation::Gelu,
            max_position_embeddings: 4,
            layer_norm_eps: 1e-5,
        };
        sizes.spec()
    }

    #[test]
    fn heads_are_filled_up_and_neighbours_parted() {
        let sizes = [1, 32, 33, 64, 80, 128].map(|size| head_size(&spec(size)));
        assert_eq!(sizes, [32, 32, 64, 64, 96, 128]);
        let rotary = |pairs| Rotary { pairs, ..Rotary::new(10_000.0, 4) };
        let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        for (rotary, expected) in [
            (None, numbers),
            (Some(rotary(RotaryPairs::Halves)), numbers),
            (Some(rotary(RotaryPairs::Neighbours)), [0.0, 2.0, 1.0, 3.0, 4.0, 5.0]),
        ] {
            let heads = Arrangement::new(&spec(6), rotary.as_ref());
            let turned = heads.turned(&numbers);
            assert_eq!((&turned[..6], turned.len()), (&expected[..], 32));
            assert!(turned[6..].iter().all(|number| *number == 0.0));
            // One input: weights are a column, of queries, keys and values.
            let three: Vec<f32> = [numbers, numbers, numbers].concat();
            let linear = LinearWeights { weight: three.clone(), bias: three };
            let linear = heads.query_key_value(&linear);
            assert_eq!(linear.weight, linear.bias);
            assert_eq!((&linear.weight[..6], &linear.weight[32..38]), (&expected[..], &expected[..]));
            assert_eq!((&linear.weight[64..70], linear.weight.len()), (&numbers[..], 96));
            let output = heads.output(&LinearWeights { weight: numbers.into(), bias: vec![7.0] });
            assert_eq!((&output.weight[..6], output.weight.len(), output.inputs()), (&numbers[..], 32, 32));
        }
    }
}
