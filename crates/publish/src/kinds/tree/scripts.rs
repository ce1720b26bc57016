//! Boot scripts for iPXE. Source of the commands: ipxe.org/cmd.

use std::fmt::Write;
use std::path::Path;

use crate::{Form, Image, Node, Request};

/// Where the files are, as a script says it where the variable `imgbuild-base` is not set: as the destination says, or by the directory's
/// name below the server that gave the node its address.
pub(crate) fn base_of(request: &Request<'_>, directory: &Path) -> String {
    if let Some(url) = request.destination.served_at() {
        return url.to_owned();
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("http://${{next-server}}/{name}")
}

fn head(image: &Image, base: &str) -> String {
    format!(
        "#!ipxe\n# {} {}, written by imgbuild\nisset ${{imgbuild-base}} || set imgbuild-base {base}\n",
        image.name, image.build
    )
}

/// Loads the build's kernel and imgbuild's initrd.
fn boot(image: &Image, form: &Form, node: Option<&Node>) -> String {
    let url = format!("${{imgbuild-base}}/builds/{}", image.build);
    let mut words = form.boot_words(&url);
    words.extend(node.iter().flat_map(|node| node.kernel_args.iter().cloned()));
    if !words.iter().any(|word| word.starts_with("BOOTIF=") || word.starts_with("netdev=")) {
        words.push("BOOTIF=01-${netX/mac:hexhyp}".to_owned());
    }
    let mut text = String::new();
    let initrd = &image.initrd.name;
    let _ = writeln!(text, "kernel {url}/{} initrd={initrd} {}", image.kernel.name, words.join(" "));
    let _ = writeln!(text, "initrd --name {initrd} {url}/{initrd}\nboot");
    text
}

/// The script of a node, or of all nodes alike.
pub(crate) fn script(image: &Image, form: &Form, node: Option<&Node>, base: &str) -> String {
    head(image, base) + &boot(image, form, node)
}

/// The script of a node whose build is not here. It does not end, because what called it would go on with another build.
pub(super) fn stop(image: &Image, node: &str, build: &str) -> String {
    format!(
        "#!ipxe\n# {}, written by imgbuild\necho imgbuild: {node} is pinned to build {build}, which was not published here\n\
         sleep 60 ||\nreboot\n",
        image.name
    )
}

/// The script that nodes load first: it leads to a node's own, if it has one.
pub(super) fn first(image: &Image, form: &Form, has_nodes: bool, base: &str) -> String {
    let mut text = head(image, base);
    if has_nodes {
        text += "chain ${imgbuild-base}/nodes/01-${netX/mac:hexhyp}.ipxe ||\n";
    }
    text + &boot(image, form, None)
}
