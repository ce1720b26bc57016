//! Why an action runs: causes, the hands behind them, and both in words.

pub mod cause;
pub mod explain;
pub mod follow;
pub mod items;
pub mod lists;
pub mod removals;
pub mod words;
