//! What is learnt.

use serde::{Deserialize, Serialize};

use crate::products::dot;

/// How scores become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Classes exclude each other: their probabilities add up to one.
    Softmax,
    /// Classes are told one by one.
    Sigmoid,
}

/// A learnt classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[classes x columns]`; what they give is divided by the temperature already.
    pub weights: Vec<f32>,
    /// One for each class, divided by the temperature already.
    pub biases: Vec<f32>,
    /// How scores become probabilities.
    pub link: Link,
    /// Where the most probable class is less probable than this, the text is probably none of them.
    pub unknown_below: f32,
}

impl Head {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.biases.len()
    }

    /// Values of a vector.
    pub fn columns(&self) -> usize {
        self.weights.len() / self.biases.len().max(1)
    }

    /// Scores of a vector of unit length, before [`link`](Self::link).
    pub fn scores(&self, vector: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.columns().max(1));
        rows.zip(&self.biases).map(|(row, bias)| dot(row, vector) as f32 + bias).collect()
    }

    /// Probabilities of a vector's classes.
    pub fn probabilities(&self, vector: &[f32]) -> Vec<f32> {
        let mut scores = self.scores(vector);
        probabilities(self.link, &mut scores);
        scores
    }
}

/// Makes probabilities of an example's scores.
pub(crate) fn probabilities(link: Link, scores: &mut [f32]) {
    match link {
        Link::Softmax => {
            let max = scores.iter().fold(f32::NEG_INFINITY, |max, score| max.max(*score));
            scores.iter_mut().for_each(|score| *score = (*score - max).exp());
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        Link::Sigmoid => scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
    }
}
