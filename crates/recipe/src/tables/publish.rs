//! Where an image goes besides `out/`: `KIND:WHERE`, as `[publish] to` and `--publish` say it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Model, Spans};
use base::source::{Finding, Span};

/// Who takes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishKind {
    /// An osimage's rootimgdir.
    Xcat,
    Warewulf,
    Confluent,
    Openchami,
    Grendel,
    Cobbler,
    /// A directory that any web server serves, with a boot script.
    Tree,
    /// systemd's own initrd, by `rd.systemd.pull=`.
    Systemd,
}

/// What a kind can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Directory,
    Url,
    FileOrUrl,
}

impl PublishKind {
    pub const ALL: [Self; 8] = [
        Self::Xcat,
        Self::Warewulf,
        Self::Confluent,
        Self::Openchami,
        Self::Grendel,
        Self::Cobbler,
        Self::Tree,
        Self::Systemd,
    ];

    /// The word before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xcat => "xcat",
            Self::Warewulf => "warewulf",
            Self::Confluent => "confluent",
            Self::Openchami => "openchami",
            Self::Grendel => "grendel",
            Self::Cobbler => "cobbler",
            Self::Tree => "tree",
            Self::Systemd => "systemd",
        }
    }

    fn takes(self) -> Takes {
        match self {
            Self::Xcat | Self::Warewulf | Self::Confluent | Self::Tree | Self::Systemd => Takes::Directory,
            Self::Openchami | Self::Cobbler => Takes::Url,
            Self::Grendel => Takes::FileOrUrl,
        }
    }

    /// Whether its directory can be followed by `?files=URL`, the address under which nodes get it.
    fn takes_address(self) -> bool {
        matches!(self, Self::Confluent | Self::Tree | Self::Systemd)
    }

    /// How it is written, for messages.
    fn form(self) -> &'static str {
        match self {
            Self::Xcat => "xcat:/install/netboot/OS/ARCH/PROFILE",
            Self::Warewulf => "warewulf:/var/lib/warewulf",
            Self::Confluent => "confluent:/var/lib/confluent/public/os/PROFILE",
            Self::Openchami => "openchami:https://HOST",
            Self::Grendel => "grendel:/DIRECTORY/images.json or grendel:http://HOST",
            Self::Cobbler => "cobbler:http://HOST/cobbler_api",
            Self::Tree => "tree:/srv/www/NAME",
            Self::Systemd => "systemd:/srv/www/NAME",
        }
    }
}

/// What stands behind the colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishPlace {
    /// Absolute path of a directory, or of grendel's file.
    Path(PathBuf),
    /// Absolute path of a directory, and its address for nodes, without a slash at its end.
    Served(PathBuf, String),
    /// Address of a server, without a slash at its end.
    Url(String),
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    pub kind: PublishKind,
    pub place: PublishPlace,
}

impl Destination {
    /// The directory or file, if it is one of this machine.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            PublishPlace::Path(path) | PublishPlace::Served(path, _) => Some(path),
            PublishPlace::Url(_) => None,
        }
    }

    /// The address for nodes of a directory, if it was given.
    pub fn served_at(&self) -> Option<&str> {
        match &self.place {
            PublishPlace::Served(_, url) => Some(url),
            PublishPlace::Path(_) | PublishPlace::Url(_) => None,
        }
    }

    /// The address, if it is a server.
    pub fn url(&self) -> Option<&str> {
        match &self.place {
            PublishPlace::Path(_) | PublishPlace::Served(..) => None,
            PublishPlace::Url(url) => Some(url),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            PublishPlace::Path(path) => write!(f, "{}:{}", self.kind.name(), path.display()),
            PublishPlace::Served(path, url) => write!(f, "{}:{}?files={url}", self.kind.name(), path.display()),
            PublishPlace::Url(url) => write!(f, "{}:{url}", self.kind.name()),
        }
    }
}

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADestination {
    #[error("it does not say who takes the image; write KIND:WHERE, with KIND one of {}", kinds())]
    Kindless,
    #[error("there is no kind `{0}`; the kinds are {names}", names = kinds())]
    Kind(String),
    #[error("`{text}` is not an absolute path; write {}", kind.form())]
    Path { kind: PublishKind, text: String },
    #[error("`{text}` is not an address; write {}", kind.form())]
    Url { kind: PublishKind, text: String },
    #[error("`{text}` is not an option; write {}?files=http://HOST/PATH", kind.form())]
    Option { kind: PublishKind, text: String },
    /// A password in a recipe, or in the list of processes.
    #[error("the address names a user or a password; leave them out: credentials are read from files")]
    Credentials,
}

fn kinds() -> String {
    PublishKind::ALL.map(PublishKind::name).join(", ")
}

/// A path that stays what it is when it is written again: absolute, without `..` and control characters.
fn is_directory(text: &str) -> bool {
    let parts = || text.split('/');
    text.starts_with('/')
        && parts().any(|part| !part.is_empty())
        && parts().all(|part| part != "." && part != "..")
        && !text.contains(char::is_control)
}

/// The host of an address.
fn authority(text: &str) -> Option<&str> {
    let rest = ["http://", "https://", "s3://"].into_iter().find_map(|start| text.strip_prefix(start))?;
    let is_good = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && is_good)
}

/// The address of `files=URL`.
fn served_at(kind: PublishKind, option: &str) -> Result<String, NotADestination> {
    let refused = || NotADestination::Option { kind, text: option.to_owned() };
    let url = option.strip_prefix("files=").ok_or_else(refused)?;
    // It becomes a word of boot scripts: of others and of variables they would make something else.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]%+,=@".contains(c);
    match authority(url).filter(|_| !url.starts_with("s3://") && url.chars().all(is_plain)) {
        Some(host) if host.contains('@') => Err(NotADestination::Credentials),
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => Err(refused()),
    }
}

impl FromStr for Destination {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, NotADestination> {
        let Some((name, place)) = text.split_once(':') else { return Err(NotADestination::Kindless) };
        let kind = PublishKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = match kind {
            Some(kind) => kind,
            None if name.contains('/') => return Err(NotADestination::Kindless),
            None => return Err(NotADestination::Kind(name.to_owned())),
        };
        let path = || {
            let served = place.split_once('?').filter(|_| kind.takes_address());
            let directory = served.map_or(place, |(directory, _)| directory);
            if !is_directory(directory) {
                return Err(NotADestination::Path { kind, text: directory.to_owned() });
            }
            match served {
                None => Ok(PublishPlace::Path(PathBuf::from(directory))),
                Some((_, option)) => Ok(PublishPlace::Served(PathBuf::from(directory), served_at(kind, option)?)),
            }
        };
        let url = || match authority(place) {
            Some(host) if host.contains('@') => Err(NotADestination::Credentials),
            Some(_) => Ok(PublishPlace::Url(place.trim_end_matches('/').to_owned())),
            None => Err(NotADestination::Url { kind, text: place.to_owned() }),
        };
        let place = match kind.takes() {
            Takes::Directory => path()?,
            Takes::Url => url()?,
            Takes::FileOrUrl if place.starts_with('/') => path()?,
            Takes::FileOrUrl => url()?,
        };
        Ok(Self { kind, place })
    }
}

/// The destinations of a recipe, in its order; a recipe that was checked has no other.
pub fn destinations_of(model: &Model) -> Vec<Destination> {
    model.publish.to.iter().filter_map(|text| text.parse().ok()).collect()
}

pub(crate) fn check(model: &Model, spans: &Spans, whole: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: Vec<Destination> = Vec::new();
    for (index, text) in model.publish.to.iter().enumerate() {
        let at = spans.nearest(&format!("publish.to[{index}]")).unwrap_or(whole);
        let refused = |message: String, help: &str| {
            Finding::error("publish::to", at, message).label("here").help(help.to_owned())
        };
        match text.parse::<Destination>() {
            Err(problem) => {
                let message = format!("the image cannot be published in `{text}`: {problem}");
                findings.push(refused(message, "write for instance ‹[publish] to = [\"tree:/srv/www/compute\"]›"));
            }
            Ok(destination) if destination.kind == PublishKind::Xcat => {
                let message = "xcat:DIR is an option of a build, not a line of a recipe";
                let help = "remove the line, and run `imgbuild build --publish xcat:DIR`";
                findings.push(refused(message.to_owned(), help));
            }
            Ok(destination) if known.contains(&destination) => {
                findings.push(refused(format!("`{destination}` is listed twice"), "remove the line"));
            }
            Ok(destination) => known.push(destination),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_an_address_where_one_is_given() {
        let served: Destination = "tree:/srv/www/a?files=http://h/a/".parse().unwrap();
        assert_eq!((served.path(), served.served_at()), (Some(Path::new("/srv/www/a")), Some("http://h/a")));
        let plain: Destination = "tree:/srv/www/a".parse().unwrap();
        assert_eq!((plain.path(), plain.served_at()), (Some(Path::new("/srv/www/a")), None));
    }

    #[test]
    fn a_destination_is_a_kind_and_what_the_kind_takes() {
        for text in [
            "xcat:/install/a:b",
            "warewulf:/var/lib/warewulf",
            "confluent:/p",
            "tree:/srv/www/a",
            "systemd:/srv/www/a",
            "grendel:/etc/images.json",
            "grendel:http://10.0.0.1:6667",
            "openchami:https://h",
            "openchami:s3://bucket/prefix",
            "cobbler:http://h/cobbler_api",
            "tree:/srv/www/a?files=https://h/a",
            "confluent:/p?files=http://[fd00::1]:8080/confluent-public/os/p",
            // A name of xCAT's own may have it.
            "xcat:/install/a?b",
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.to_string(), text);
            assert!(destination.path().is_some() != destination.url().is_some());
        }
        for (text, said) in [
            ("/srv", "does not say who"),
            ("/a:b", "does not say who"),
            ("", "does not say who"),
            ("kickstart:/a", "no kind `kickstart`"),
            ("tree:srv", "not an absolute path; write tree:/srv/www/NAME"),
            ("tree:/", "not an absolute path"),
            ("tree:/a/../b", "not an absolute path"),
            ("warewulf:http://h", "not an absolute path"),
            ("cobbler:/etc", "not an address"),
            ("openchami:http://", "not an address"),
            ("openchami:http://a b", "not an address"),
            ("cobbler:http://u:p@h/", "a user or a password"),
            ("tree:/srv/a?files=http://u:p@h/", "a user or a password"),
            ("tree:/srv/a?server=h", "`server=h` is not an option; write tree:/srv/www/NAME?files=http://HOST/PATH"),
            ("confluent:/p?files=10.0.0.1", "is not an option"),
            ("systemd:/p?files=http://h/${x}", "is not an option"),
            ("tree:srv?files=http://h", "`srv` is not an absolute path"),
        ] {
            let problem = text.parse::<Destination>().unwrap_err().to_string();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
