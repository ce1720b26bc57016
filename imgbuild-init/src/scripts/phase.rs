//! The two lists of scripts.

/// Which list is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the usual services are reported to be there.
    Postscripts,
    /// After that.
    Postbootscripts,
}

impl Phase {
    /// By that name.
    pub(crate) fn named(text: &str) -> Option<Self> {
        [Self::Postscripts, Self::Postbootscripts].into_iter().find(|phase| phase.name() == text)
    }

    /// The list, as recipe and nodes.toml call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postscripts => "postscripts",
            Self::Postbootscripts => "postbootscripts",
        }
    }
}
