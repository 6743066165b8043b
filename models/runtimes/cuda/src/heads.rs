//! What is computed from the last hidden states, in float32.

use cudarc::driver::PushKernelArg;
use cudarc::driver::sys::CUdeviceptr;
use models_core::card::Pooling;
use models_core::weights::{HeadActivation, HeadRows};

use super::device::Fault;
use super::encoder::{NONE, Pass, blocks_of, rows, start};
use super::weights::DeviceHeadLayer;

/// Rows that a layer takes: hidden states in the encoder's format, or float32.
#[derive(Clone, Copy)]
struct Rows {
    address: CUdeviceptr,
    width: usize,
    is_float32: bool,
}

impl Pass<'_> {
    /// Pools, then takes the rows through the layers, from one buffer to the other and from the last to the
    /// result.
    pub(super) fn head(&self) -> Result<(), Fault> {
        let head = &self.weights.head;
        let (buffers, hidden) = (self.buffers, self.weights.spec.hidden_size);
        let result = self.address(&self.memory.result, 0);
        let mut scratch = [self.address(&buffers.pooled, 0), self.address(&buffers.hidden, 0)];
        let (mut here, count) = match &head.rows {
            HeadRows::Tokens => {
                let state = self.address(&buffers.state, 0);
                (Rows { address: state, width: hidden, is_float32: false }, self.shape.tokens)
            }
            HeadRows::Pooled(ways) => {
                let width = ways.len() * hidden;
                let address = if head.layers.is_empty() { result } else { scratch[0] };
                for (index, way) in ways.iter().enumerate() {
                    let to = address + (index * hidden * size_of::<f32>()) as CUdeviceptr;
                    self.pool(to, width, *way)?;
                }
                scratch.reverse();
                (Rows { address, width, is_float32: true }, self.shape.sequences)
            }
        };
        for (index, layer) in head.layers.iter().enumerate() {
            let to = if index + 1 == head.layers.len() { result } else { scratch[0] };
            scratch.reverse();
            let width = self.head_layer(layer, here, to, count)?;
            here = Rows { address: to, width, is_float32: true };
        }
        Ok(())
    }

    fn pool(&self, to: CUdeviceptr, stride: usize, way: Pooling) -> Result<(), Fault> {
        let ends = self.address(&self.memory.input, self.shape.ends());
        let unpooled = self.address(&self.memory.input, self.shape.unpooled());
        let (hidden, stride) = (self.weights.spec.hidden_size as i32, stride as i32);
        let way: i32 = match way {
            Pooling::Mean => 0,
            Pooling::Cls => 1,
            Pooling::LastToken => 2,
            Pooling::Max => 3,
            Pooling::MeanSqrtLen => 4,
            Pooling::WeightedMean => 5,
        };
        let mut launch = self.compute.launch_builder(&self.kernels.pool);
        launch.arg(&self.buffers.state).arg(&ends).arg(&unpooled).arg(&to).arg(&hidden).arg(&stride);
        launch.arg(&way);
        start(&mut launch, blocks_of(self.shape.sequences as u32))
    }

    /// The width of what it writes.
    fn head_layer(
        &self,
        layer: &DeviceHeadLayer,
        from: Rows,
        to: CUdeviceptr,
        count: usize,
    ) -> Result<usize, Fault> {
        let Rows { address, width, is_float32 } = from;
        let (count_i32, inputs) = (count as i32, width as i32);
        let kernels = self.kernels;
        if let DeviceHeadLayer::Linear { weight, bias, outputs, activation } = layer {
            let kernel = if is_float32 { &kernels.classify_float32 } else { &kernels.classify };
            let (classes, activation) = (*outputs as i32, number(*activation));
            let mut launch = self.compute.launch_builder(kernel);
            launch.arg(&address).arg(weight).arg(bias).arg(&to);
            launch.arg(&count_i32).arg(&inputs).arg(&classes).arg(&activation);
            start(&mut launch, rows(count))?;
            return Ok(*outputs);
        }
        let (weight, bias, epsilon) = match layer {
            DeviceHeadLayer::Norm(weight, bias, epsilon) => {
                (self.address(weight, 0), self.address(bias, 0), *epsilon)
            }
            DeviceHeadLayer::Linear { .. } | DeviceHeadLayer::Normalize => (NONE, NONE, 0.0),
        };
        let kernel = if is_float32 { &kernels.scale_float32 } else { &kernels.scale };
        let mut launch = self.compute.launch_builder(kernel);
        launch.arg(&address).arg(&weight).arg(&bias).arg(&to);
        launch.arg(&count_i32).arg(&inputs).arg(&epsilon);
        start(&mut launch, rows(count))?;
        Ok(width)
    }
}

/// As `rows::Activation` of the kernels numbers them.
fn number(activation: HeadActivation) -> i32 {
    match activation {
        HeadActivation::Identity => 0,
        HeadActivation::Gelu => 1,
        HeadActivation::GeluTanh => 2,
        HeadActivation::Relu => 3,
        HeadActivation::Silu => 4,
        HeadActivation::Tanh => 5,
        HeadActivation::Sigmoid => 6,
    }
}
