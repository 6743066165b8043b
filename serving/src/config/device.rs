//! Configuration of what computes.

use serde::Deserialize;

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Device {
    /// The first GPU if this build can use one and there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, or nothing.
    Cuda(usize),
}

impl TryFrom<String> for Device {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Self::Cuda).ok_or("expected `auto`, `cpu` or `cuda:<number>`")
            }
        }
    }
}

impl Device {
    /// The GPU that computes, where there are so many.
    pub fn gpu(self, available: usize) -> Option<usize> {
        match self {
            Self::Auto => (available > 0).then_some(0),
            Self::Cpu => None,
            Self::Cuda(number) => Some(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let check = |text: &str, expected: Option<Device>| {
            assert_eq!(Device::try_from(text.to_owned()).ok(), expected, "{text}");
        };
        check("auto", Some(Device::Auto));
        check("cpu", Some(Device::Cpu));
        check("cuda:3", Some(Device::Cuda(3)));
        check("cuda", None);
        check("cuda:-1", None);
        check("gpu", None);
        assert_eq!(
            (Device::Auto.gpu(0), Device::Auto.gpu(2), Device::Cuda(1).gpu(0)),
            (None, Some(0), Some(1))
        );
    }
}
