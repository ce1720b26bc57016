//! Why an action runs: causes, the hands behind them, and both in words.

pub(crate) mod cause;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod items;
pub(crate) mod lists;
pub(crate) mod removals;
pub(crate) mod words;
