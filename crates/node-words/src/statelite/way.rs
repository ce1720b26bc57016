//! What becomes of a path: xCAT's options of `litefile`, and `overlay`.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A copy in memory, mounted over the path.
    Tmpfs,
    /// A copy in memory, reached by a link.
    Link,
    /// Copied once to the node's state, mounted from there.
    Persistent,
    /// Copied once to the node's state, reached by a link.
    LinkPersistent,
    /// Copied once to the node's disk, mounted from there.
    Localdisk,
    /// A tree's, mounted read-only.
    Ro,
    /// A tree's, reached by a link.
    LinkRo,
    /// The files of all trees, one behind the other, in memory.
    Con,
    LinkCon,
    /// What is written lies in memory, above the image's.
    Overlay,
    /// What is written lies in the node's state, above the image's.
    OverlayPersistent,
    /// What is written lies on the node's disk, above the image's.
    OverlayLocaldisk,
}

/// Where what is written to a path lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    Memory,
    State,
    Disk,
    /// It cannot be written.
    Nowhere,
}

/// Why options mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayProblem {
    Unknown(String),
    Together(String),
}

impl Way {
    pub const ALL: [Self; 12] = [
        Self::Tmpfs,
        Self::Link,
        Self::Persistent,
        Self::LinkPersistent,
        Self::Localdisk,
        Self::Ro,
        Self::LinkRo,
        Self::Con,
        Self::LinkCon,
        Self::Overlay,
        Self::OverlayPersistent,
        Self::OverlayLocaldisk,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Link => "link",
            Self::Persistent => "persistent",
            Self::LinkPersistent => "link,persistent",
            Self::Localdisk => "localdisk",
            Self::Ro => "ro",
            Self::LinkRo => "link,ro",
            Self::Con => "con",
            Self::LinkCon => "link,con",
            Self::Overlay => "overlay",
            Self::OverlayPersistent => "overlay,persistent",
            Self::OverlayLocaldisk => "overlay,localdisk",
        }
    }

    /// Reads options. Nothing means `tmpfs,rw`, which xCAT's liteimg turns into `link`.
    pub fn parse(options: &str) -> Result<Self, WayProblem> {
        const KNOWN: [&str; 8] = ["tmpfs", "rw", "link", "persistent", "localdisk", "ro", "con", "overlay"];
        let mut words: Vec<&str> = options.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        for word in &mut words {
            // As releases before 2.3 called it.
            if *word == "tempfs" {
                *word = "tmpfs";
            }
            if !KNOWN.contains(word) {
                return Err(WayProblem::Unknown((*word).to_owned()));
            }
        }
        let is_old_link = words.contains(&"tmpfs") && words.contains(&"rw");
        words.sort_unstable();
        words.dedup();
        match words[..] {
            [] => Ok(Self::Link),
            _ if is_old_link && words.len() == 2 => Ok(Self::Link),
            ["tmpfs"] | ["rw"] => Ok(Self::Tmpfs),
            ["link"] | ["link", "tmpfs"] | ["link", "rw"] => Ok(Self::Link),
            ["persistent"] | ["persistent", "rw"] => Ok(Self::Persistent),
            ["link", "persistent"] => Ok(Self::LinkPersistent),
            ["localdisk"] | ["localdisk", "rw"] => Ok(Self::Localdisk),
            ["ro"] => Ok(Self::Ro),
            ["link", "ro"] => Ok(Self::LinkRo),
            ["con"] => Ok(Self::Con),
            ["con", "link"] => Ok(Self::LinkCon),
            ["overlay"] | ["overlay", "tmpfs"] | ["overlay", "rw"] => Ok(Self::Overlay),
            ["overlay", "persistent"] => Ok(Self::OverlayPersistent),
            ["localdisk", "overlay"] => Ok(Self::OverlayLocaldisk),
            _ => Err(WayProblem::Together(options.trim().to_owned())),
        }
    }

    /// Whether the image's path becomes a link.
    pub fn is_link(self) -> bool {
        matches!(self, Self::Link | Self::LinkPersistent | Self::LinkRo | Self::LinkCon)
    }

    /// Whether what is written lies above the image's directory.
    pub fn is_overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::OverlayPersistent | Self::OverlayLocaldisk)
    }

    /// Whether only a file can be so.
    pub fn is_for_files(self) -> bool {
        matches!(self, Self::Con | Self::LinkCon)
    }

    /// Where what is written lies.
    pub fn home(self) -> Home {
        match self {
            Self::Tmpfs | Self::Link | Self::Con | Self::LinkCon | Self::Overlay => Home::Memory,
            Self::Persistent | Self::LinkPersistent | Self::OverlayPersistent => Home::State,
            Self::Localdisk | Self::OverlayLocaldisk => Home::Disk,
            Self::Ro | Self::LinkRo => Home::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_any_order_and_as_older_releases_wrote_them() {
        for way in Way::ALL {
            assert_eq!(Way::parse(way.name()), Ok(way));
            let turned: Vec<&str> = way.name().rsplit(',').collect();
            assert_eq!(Way::parse(&turned.join(" , ")), Ok(way));
        }
        for (text, way) in [
            ("", Way::Link),
            ("tmpfs,rw", Way::Link),
            ("rw", Way::Tmpfs),
            ("tempfs", Way::Tmpfs),
            ("tempfs,rw", Way::Link),
            ("tmpfs,tmpfs", Way::Tmpfs),
        ] {
            assert_eq!(Way::parse(text), Ok(way), "{text}");
        }
        assert_eq!(Way::parse("bogus"), Err(WayProblem::Unknown("bogus".to_owned())));
        assert_eq!(Way::parse("tmpfs,persist"), Err(WayProblem::Unknown("persist".to_owned())));
        for text in ["ro,rw", "persistent,ro", "tmpfs,persistent", "con,ro", "localdisk,persistent", "link,localdisk"] {
            assert_eq!(Way::parse(text), Err(WayProblem::Together(text.to_owned())), "{text}");
        }
    }
}
