//! Commands whose work imgbuild does not do: they say so, what to do instead, and fail.

use super::{Done, Name, Shell};

/// Runs the command.
pub fn run(shell: &Shell, name: Name, arguments: &[String]) -> Done {
    let image = arguments.iter().find_map(|word| word.strip_prefix("osimage="));
    let image =
        image.or_else(|| arguments.last().map(String::as_str)).filter(|word| !word.starts_with('-')).unwrap_or("IMAGE");
    Err(match name {
        Name::Nodeset => shell.fail(&format!(
            "nodes' boot loaders are not written here.\n  With xCAT: packimage {image}, then its own nodeset (in /opt/xcat/sbin).\n  \
             Without: imgbuild boot-entry {image} prints what iPXE, GRUB, PXELINUX and dnsmasq need"
        )),
        _ => shell.fail(
            "statelite images are not built: only stateless ones; files that a node keeps are its postscripts' affair",
        ),
    })
}
