//! What a node runs, in which order, and with which environment.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::Phase;

/// What the image says: written by the build.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ImagePlan {
    /// A script and its arguments, separated by blanks.
    #[serde(default)]
    postscripts: Vec<String>,
    #[serde(default)]
    postbootscripts: Vec<String>,
    /// Seconds for each script; 0: as long as it takes.
    pub timeout: u64,
    pub on_failure: OnFailure,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// What a script that fails means for the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnFailure {
    /// It is reported.
    #[default]
    Report,
    /// The node has failed.
    Fail,
}

/// What the server says of this node.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct NodePlan {
    /// What all nodes have.
    #[serde(default)]
    defaults: Lists,
    /// What the node's groups have, and what is its own.
    #[serde(default)]
    own: Lists,
    /// Scripts that the server has, by name.
    #[serde(default)]
    pub files: BTreeMap<String, FileOfServer>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Lists {
    #[serde(default)]
    postscripts: Vec<String>,
    #[serde(default)]
    postbootscripts: Vec<String>,
}

impl Lists {
    fn of(&self, phase: Phase) -> &[String] {
        match phase {
            Phase::Postscripts => &self.postscripts,
            Phase::Postbootscripts => &self.postbootscripts,
        }
    }
}

/// A script that the server has.
#[derive(Debug, Deserialize)]
pub(crate) struct FileOfServer {
    /// SHA-256 in hexadecimal digits; also its address.
    pub sha256: String,
}

/// A script to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub name: String,
    pub arguments: Vec<String>,
    /// Whether the recipe names it.
    pub is_of_the_image: bool,
}

impl NodePlan {
    /// What is known of a node is its environment alone.
    pub(crate) fn of_environment(environment: BTreeMap<String, String>) -> Self {
        Self { environment, ..Self::default() }
    }
}

impl ImagePlan {
    /// Reads the image's file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The scripts of a list in the order in which they run: those of all nodes, the image's, those of groups and the node. What is
/// named twice with the same arguments runs at its first place. As xCAT does: xcatdefaults, osimage, node.
pub(super) fn items(phase: Phase, image: &ImagePlan, node: &NodePlan) -> Vec<Item> {
    let of_image = match phase {
        Phase::Postscripts => &image.postscripts,
        Phase::Postbootscripts => &image.postbootscripts,
    };
    let all = node.defaults.of(phase).iter().map(|text| (text, false));
    let all = all.chain(of_image.iter().map(|text| (text, true)));
    let all = all.chain(node.own.of(phase).iter().map(|text| (text, false)));
    let mut found: Vec<Item> = Vec::new();
    for (text, is_of_the_image) in all {
        let mut words = text.split_whitespace().map(str::to_owned);
        // Below the directory of the scripts: no list leads out of it.
        let is_below = |name: &String| {
            name.split('/')
                .all(|part| !part.is_empty() && (!part.starts_with('.') || fault::planted("node-script-leads-out")))
        };
        let Some(name) = words.next().filter(is_below) else { continue };
        let item = Item { name, arguments: words.collect(), is_of_the_image };
        if fault::planted("node-script-twice")
            || !found.iter().any(|known| (&known.name, &known.arguments) == (&item.name, &item.arguments))
        {
            found.push(item);
        }
    }
    found
}

/// The environment of scripts: what xCAT's have, where it is known. The nearest counts: the node's variables above the image's.
pub(super) fn environment(
    image: &ImagePlan,
    node: &NodePlan,
    server: Option<(String, String)>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    set("HOME", "/root".to_owned());
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    // As the image's locale says: systemd has it from there.
    if let Ok(lang) = std::env::var("LANG") {
        set("LANG", lang);
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    set("NODE", name.trim().split('.').next().unwrap_or_default().to_owned());
    if let Some((host, port)) = server {
        if host.parse::<std::net::IpAddr>().is_ok() {
            set("MASTER_IP", host.clone());
        }
        set("MASTER", host);
        set("HTTPPORT", port);
    }
    all.extend(image.environment.clone());
    all.extend(node.environment.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_add_up_as_xcats_do_and_what_is_twice_runs_first() {
        let image: ImagePlan = serde_json::from_str(
            r#"{"timeout": 5, "on_failure": "fail", "postscripts": ["mount a", "both"], "environment": {"A": "image", "B": "image"}}"#,
        )
        .unwrap();
        let node: NodePlan = serde_json::from_str(
            r#"{"defaults": {"postscripts": ["first", "both"]}, "own": {"postscripts": ["mount a", "mount b", "../etc/passwd", ".x", "/a", "custom/a"]},
                "environment": {"B": "node"}, "later": 1}"#,
        )
        .unwrap();
        let names: Vec<String> = items(Phase::Postscripts, &image, &node)
            .iter()
            .map(|item| format!("{} {} {}", item.name, item.arguments.join(" "), item.is_of_the_image))
            .collect();
        assert_eq!(names, ["first  false", "both  false", "mount a true", "mount b false", "custom/a  false"]);
        assert!(items(Phase::Postbootscripts, &image, &node).is_empty());
        let environment = environment(&image, &node, None);
        assert_eq!((&*environment["A"], &*environment["B"]), ("image", "node"));
    }
}
