//! How plans are made, remembered, kept in files and printed.

pub mod emit;
pub mod formats;
pub mod graph;
pub mod memo;
pub mod planfile;
pub mod planned;
pub mod planning;
