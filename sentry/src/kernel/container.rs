//! Which container of a sandbox a process belongs to.

/// A container among those that share a sandbox. Processes inherit it and never change it; guests do not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ContainerId(pub u32);

impl ContainerId {
    /// The one that the sandbox was made for.
    pub const FIRST: Self = Self(0);
}
