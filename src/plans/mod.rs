//! How plans are made, remembered, kept in files and printed.

pub(crate) mod emit;
pub(crate) mod formats;
pub(crate) mod graph;
pub(crate) mod memo;
pub(crate) mod planfile;
pub(crate) mod planned;
pub(crate) mod planning;
