//! Homes of a recipe's users.

use serde::{Deserialize, Serialize};

use crate::{Model, UserPin};

/// The home of a user of the recipe: a folder that is made there on the way to a file is that user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Without a slash at either end.
    pub path: String,
    pub uid: u32,
    pub gid: u32,
}

/// Homes of a recipe's users, by their names. A folder of the root is no one's own.
pub fn homes(model: &Model) -> Vec<(String, Home)> {
    let of = |(name, pin): (&String, &UserPin)| {
        let path = pin.home.as_ref()?.trim_matches('/').to_owned();
        let gid = pin.gid.or_else(|| model.groups.get(name).copied()).unwrap_or(pin.uid);
        path.contains('/').then(|| (name.clone(), Home { path, uid: pin.uid, gid }))
    };
    model.users.iter().filter_map(of).collect()
}

impl Home {
    /// Whether a path is the home, or lies below it.
    pub fn has(&self, path: &str) -> bool {
        let rest = path.trim_start_matches('/').strip_prefix(&self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}
