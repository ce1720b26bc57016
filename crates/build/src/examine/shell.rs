//! A shell in the image's tree; what it changes is thrown away.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::inside::unpack::unpack;
use base::digest::Digest;
use sandbox::helper::News;
use sandbox::{CommandRequest, CommandResult, TreeMount, run_command};
use store::{in_scratch, lower_directories, make_directories, root_of};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShellTree {
    /// Layers, lowest first.
    Layers(Vec<Digest>),
    /// A packed image, no matter who made it: it is unpacked first.
    Packed(PathBuf),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShellRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub tree: ShellTree,
    pub arguments: Vec<String>,
    pub terminal: String,
    /// Log file, relative to the store's directory; stays empty.
    pub log: String,
}

pub(crate) fn inside(request: ShellRequest, _: News<'_>) -> Result<CommandResult, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "upper", "work", "tree"])?;
        let (lower, root) = match &request.tree {
            ShellTree::Layers(layers) => (lower_directories(layers)?, root_of(layers)?),
            ShellTree::Packed(file) => {
                let root = unpack(file, &at("tree"))?;
                (vec![at("tree")], root)
            }
        };
        run_command(&CommandRequest {
            root: TreeMount { lower, upper: at("upper"), work: at("work"), root },
            arguments: request.arguments.clone(),
            environment: [
                ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/root"),
                ("TERM", &request.terminal),
                ("LC_ALL", "C.UTF-8"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            log: request.log.clone(),
            mount_point: at("mount"),
            interactive: true,
            ..CommandRequest::default()
        })
    })
}
