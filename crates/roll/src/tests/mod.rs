//! Rolls of nodes that exist in memory alone.

mod kills;
mod table;
mod world;
