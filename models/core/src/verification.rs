//! Whether a model is known to compute what its authors' library computes.

/// What comparing a loaded model with its certificate has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// It gives the answers of the authors' library.
    Verified,
    /// There is no certificate of it.
    #[default]
    Unverified,
    /// It gives others, and does not answer.
    Failed,
}

impl Verification {
    /// The name in catalogues and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}
