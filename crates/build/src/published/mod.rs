//! What lies in the output directory: artefacts, layouts of other tools, and what drifted there.

pub mod artefacts;
pub mod assemble;
pub mod copies;
pub mod drift;
mod earlier;
pub mod forms;
pub mod layouts;
pub mod oci;
pub mod otherwise;
pub mod unpacked;
