//! Dense numbers of what a process has several of.

/// A model loaded in this process. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u16);

/// A tenant known to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// A device of this process, with a replica of every model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u16);

impl ModelId {
    /// Where a model's own is in a table of all.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl DeviceId {
    /// Where a device's own is in a table of all.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
