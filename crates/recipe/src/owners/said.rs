//! `[sync.owner]`: what a recipe says of a synced file's owner and mode.

use crate::is_account_name;

/// An owner and a mode, as a recipe says them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Name or number of the user.
    pub user: Option<String>,
    pub group: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaidProblem {
    #[error("`{0}` is not an owner and a mode")]
    Form(String),
    #[error("`{0}` is not a mode: four octal digits at most, up to 7777")]
    Mode(String),
    #[error("`{0}` is not the name or number of an account")]
    Account(String),
}

/// The number that a text is, if it is one: -1 is no account. Source: chown(2).
pub fn account_number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number != u32::MAX)
}

fn mode(text: &str) -> Result<u32, SaidProblem> {
    let wrong = || SaidProblem::Mode(text.to_owned());
    let is_octal = (3..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777).ok_or_else(wrong)
}

impl Said {
    /// Reads `USER:GROUP MODE`, or a part of it: a word that begins with 0 is a mode.
    /// Errors: [`SaidProblem`].
    pub fn parse(text: &str) -> Result<Self, SaidProblem> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (owner, bits) = match words.as_slice() {
            [one] if one.len() > 1 && one.starts_with('0') => (None, Some(*one)),
            [one] => (Some(*one), None),
            [owner, bits] => (Some(*owner), Some(*bits)),
            _ => return Err(SaidProblem::Form(text.to_owned())),
        };
        let account = |name: &str| match account_number(name).is_some() || is_account_name(name) {
            true => Ok(name.to_owned()),
            false => Err(SaidProblem::Account(name.to_owned())),
        };
        let (user, group) = match owner.map(|owner| owner.split_once(':').map_or((owner, None), |(u, g)| (u, Some(g))))
        {
            Some((user, group)) => (Some(account(user)?), group.map(account).transpose()?),
            None => (None, None),
        };
        Ok(Self { user, group, mode: bits.map(mode).transpose()? })
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user.as_deref().unwrap_or("-"), self.group.as_deref().unwrap_or("-"))?;
        self.mode.map_or(Ok(()), |mode| write!(f, " {mode:04o}"))
    }
}
