//! The weights of a linear layer.

/// A linear layer `y = x W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWeights {
    /// `[out, in]`, row-major.
    pub weight: Vec<f32>,
    /// `[out]`
    pub bias: Vec<f32>,
}

impl LinearWeights {
    /// Size of what it gives.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Size of what it takes.
    pub fn inputs(&self) -> usize {
        self.weight.len().checked_div(self.bias.len()).unwrap_or(0)
    }
}
