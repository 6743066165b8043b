//! Examples: vectors and the classes that they have.

use crate::LearnError;

/// The classes of each example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// One each: classes exclude each other.
    One(Vec<u32>),
    /// Any number each: classes are told one by one.
    Many(Vec<Vec<u32>>),
}

impl Targets {
    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::One(targets) => targets.len(),
            Self::Many(targets) => targets.len(),
        }
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes of an example.
    pub fn of(&self, example: usize) -> &[u32] {
        match self {
            Self::One(targets) => &targets[example..=example],
            Self::Many(targets) => &targets[example],
        }
    }

    /// Those of the examples in another order.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        match self {
            Self::One(targets) => Self::One(order.iter().map(|&at| targets[at]).collect()),
            Self::Many(targets) => Self::Many(order.iter().map(|&at| targets[at].clone()).collect()),
        }
    }
}

/// What is learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// Vectors of unit length, one after the other.
    vectors: Vec<f32>,
    columns: usize,
    classes: usize,
    targets: Targets,
    /// How many examples each class has.
    counts: Vec<usize>,
}

impl Examples {
    /// Examples of `classes` classes: `vectors` is `[examples x columns]`, of unit length.
    ///
    /// # Errors
    /// They do not fit together, there are too few classes, or one has no example.
    pub fn new(
        vectors: Vec<f32>,
        columns: usize,
        classes: usize,
        targets: Targets,
    ) -> Result<Self, LearnError> {
        let examples = targets.len();
        if columns == 0 || examples.checked_mul(columns) != Some(vectors.len()) {
            return Err(LearnError::Shape { values: vectors.len(), examples, columns });
        }
        let least = match targets {
            Targets::One(_) => 2,
            Targets::Many(_) => 1,
        };
        if classes < least {
            return Err(LearnError::TooFewClasses { classes, least });
        }
        if let Some(at) = vectors.iter().position(|value| !value.is_finite()) {
            return Err(LearnError::NotFinite { example: at / columns });
        }
        let mut counts = vec![0; classes];
        // The example that was last counted for a class: each counts once.
        let mut last = vec![usize::MAX; classes];
        for example in 0..examples {
            for &class in targets.of(example) {
                let known = last.get_mut(class as usize).filter(|last| **last != example);
                *known.ok_or(LearnError::WrongClass { example, class })? = example;
                counts[class as usize] += 1;
            }
        }
        if let Some(class) = counts.iter().position(|count| *count == 0) {
            return Err(LearnError::NoExample { class });
        }
        Ok(Self { vectors, columns, classes, targets, counts })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Values of a vector.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The classes of each example.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// How many examples each class has.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// All vectors, one after the other.
    pub(crate) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// The same examples in another order.
    pub(crate) fn reordered(self, order: &[usize]) -> Self {
        let rows = order.iter().map(|&at| &self.vectors[at * self.columns..(at + 1) * self.columns]);
        let mut vectors = Vec::with_capacity(self.vectors.len());
        rows.for_each(|row| vectors.extend_from_slice(row));
        Self { vectors, targets: self.targets.reordered(order), ..self }
    }

    /// Moves all vectors so that their mean is zero, and gives that mean.
    pub(crate) fn centre(&mut self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.columns];
        for row in self.vectors.chunks_exact(self.columns) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / self.len() as f64) as f32).collect();
        self.shift(&mean, -1.0);
        mean
    }

    /// Adds `sign` times `offset` to each vector.
    pub(crate) fn shift(&mut self, offset: &[f32], sign: f32) {
        for row in self.vectors.chunks_exact_mut(self.columns) {
            row.iter_mut().zip(offset).for_each(|(value, by)| *value += sign * by);
        }
    }
}
