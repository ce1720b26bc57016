//! Kernels and drivers, what dracut makes of them, dumps of kernels that crashed.

pub(crate) mod dracut;
pub(crate) mod drivers;
pub(crate) mod kdump;
pub(crate) mod kernel_names;
