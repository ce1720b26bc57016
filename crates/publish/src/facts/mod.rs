//! What a provisioner is given: the image and the nodes.

pub(crate) mod image;
pub(crate) mod node;
#[cfg(test)]
pub(crate) mod tests;
