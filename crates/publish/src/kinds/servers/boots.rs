//! What nodes boot: the image's words and their own, and which of them a pin keeps on another build.

use crate::{Error, Form, Image, Node, Request};

/// Bytes of a command line that every kernel takes: x86's COMMAND_LINE_SIZE is 2048 with the zero at its end.
const LINE_LIMIT: usize = 2047;

/// Nodes of a request, by what becomes of them.
#[derive(Debug)]
pub(in crate::kinds) struct Boots<'a> {
    /// They boot this build.
    pub current: Vec<&'a Node>,
    /// Their file pins another one.
    pub pinned: Vec<(&'a Node, &'a str)>,
}

pub(in crate::kinds) fn boots<'a>(request: &Request<'a>) -> Boots<'a> {
    let mut all = Boots { current: Vec::new(), pinned: Vec::new() };
    for node in request.nodes {
        match node.build.as_deref() {
            Some(build) if !is_of(build, request.image) => all.pinned.push((node, build)),
            _ => all.current.push(node),
        }
    }
    all
}

/// A pin may be longer or shorter than the name of the build.
fn is_of(pin: &str, image: &Image) -> bool {
    !pin.is_empty() && (image.build.starts_with(pin) || pin.starts_with(&image.build))
}

/// The form that nodes boot.
/// Errors: [`Error::Unfit`] where the build says of none, as a directory that was copied by hand.
pub(in crate::kinds) fn first_form<'a>(request: &Request<'a>) -> Result<&'a Form, Error> {
    request.image.first().ok_or_else(|| Error::Unfit {
        destination: request.destination.to_string(),
        problem: format!(
            "{} says of no packed image how it is booted",
            request.image.directory.join("build.json").display()
        ),
        help: "build the image again with `imgbuild build`".to_owned(),
    })
}

/// The words of a command line, the image's first. Each word stands for itself: none has a space, which no server keeps.
/// Errors: [`Error::Unfit`] that names the word, or the node whose line is too long.
pub(in crate::kinds) fn command_line(
    request: &Request<'_>,
    words: Vec<String>,
    node: Option<&Node>,
) -> Result<Vec<String>, Error> {
    let own = node.map_or(&[][..], |node| &node.kernel_args);
    let all: Vec<String> = words.into_iter().chain(own.iter().cloned()).collect();
    let unfit = |problem: String, help: &str| Error::Unfit {
        destination: request.destination.to_string(),
        problem,
        help: help.to_owned(),
    };
    let is_odd = |word: &&String| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control());
    if let Some(word) = all.iter().find(is_odd) {
        let problem = format!("the word `{}` of the kernel's command line is empty or has spaces", word.escape_debug());
        return Err(unfit(problem, "write it without spaces in ‹[boot] cmdline› or in nodes.toml's kernel_args"));
    }
    // iPXE takes them for the end of a command.
    if let Some(word) = all.iter().find(|word| ["||", "&&"].contains(&word.as_str())) {
        let problem = format!("the word `{word}` of the kernel's command line ends a command of boot scripts");
        return Err(unfit(problem, "remove it from ‹[boot] cmdline› or from nodes.toml's kernel_args"));
    }
    let length: usize = all.iter().map(|word| word.len() + 1).sum();
    if length > LINE_LIMIT {
        let whose = node.map_or_else(|| "the image".to_owned(), |node| node.name.clone());
        let problem = format!("the command line of {whose} has {length} bytes, the limit is {LINE_LIMIT}");
        return Err(unfit(problem, "remove words from ‹[boot] cmdline› or from nodes.toml's kernel_args"));
    }
    Ok(all)
}
