//! Configuration of what computes.

use serde::Deserialize;

/// What computes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Names")]
pub enum Device {
    /// Every GPU that this build can use, or the CPU if there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPUs of these numbers, or nothing. Each has a replica of every model.
    Cuda(Vec<usize>),
}

/// As it is written: `"auto"`, `"cpu"`, `"cuda:0"`, `["cuda:0", "cuda:1"]`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `auto`, `cpu`, `cuda:<number>` or a list of GPUs")]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl TryFrom<Names> for Device {
    type Error = String;

    fn try_from(names: Names) -> Result<Self, String> {
        let gpu = |name: &str, expected: &str| {
            let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{name:?}: expected {expected}"))
        };
        let numbers = match names {
            Names::One(name) if name == "auto" => return Ok(Self::Auto),
            Names::One(name) if name == "cpu" => return Ok(Self::Cpu),
            Names::One(name) => vec![gpu(&name, "`auto`, `cpu`, `cuda:<number>` or a list of GPUs")?],
            Names::Several(names) => {
                names.iter().map(|name| gpu(name, "`cuda:<number>`")).collect::<Result<_, _>>()?
            }
        };
        let twice = (1..numbers.len()).find(|index| numbers[..*index].contains(&numbers[*index]));
        match twice {
            Some(index) => Err(format!("cuda:{} is named twice", numbers[index])),
            None if numbers.is_empty() => Err("a list of GPUs without any".to_owned()),
            None => Ok(Self::Cuda(numbers)),
        }
    }
}

impl Device {
    /// The GPUs that compute; none: the CPU does. How many there are is asked only if that decides.
    pub fn gpus(&self, available: impl FnOnce() -> usize) -> Vec<usize> {
        match self {
            Self::Auto => (0..available()).collect(),
            Self::Cpu => Vec::new(),
            Self::Cuda(numbers) => numbers.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn devices() {
        let check = |text: &str, expected: Result<Device, &str>| {
            #[derive(Debug, Deserialize)]
            struct Of {
                device: Device,
            }
            let found = toml::from_str::<Of>(&format!("device = {text}"));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.device, expected, "{text}"),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        };
        check("\"auto\"", Ok(Device::Auto));
        check("\"cpu\"", Ok(Device::Cpu));
        check("\"cuda:3\"", Ok(Device::Cuda(vec![3])));
        check("[\"cuda:1\", \"cuda:0\"]", Ok(Device::Cuda(vec![1, 0])));
        check("\"cuda\"", Err("list of GPUs"));
        check("\"cuda:-1\"", Err("cuda:<number>"));
        check("7", Err("list of GPUs"));
        check("[\"cuda:1\", \"cpu\"]", Err("\"cpu\": expected `cuda:<number>`"));
        check("[\"cuda:1\", \"cuda:1\"]", Err("cuda:1 is named twice"));
        check("[]", Err("without any"));
        let unasked = || panic!("asked");
        assert_eq!(Device::Auto.gpus(|| 2), [0, 1]);
        assert_eq!((Device::Auto.gpus(|| 0), Device::Cpu.gpus(unasked)), (vec![], vec![]));
        assert_eq!(Device::Cuda(vec![1]).gpus(unasked), [1]);
    }
}
