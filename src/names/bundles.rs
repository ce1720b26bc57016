//! xCAT's `imgexport` and `imgimport`: translates their flags to `imgbuild export bundle` and `import bundle`
//! (reference 9).

use clap::Parser;

use super::{Done, Ended, Shell};
use crate::verbs::nodes::{checked, root_of};
use nodes::Attr;

/// Writes an image into one file
#[derive(Debug, Parser)]
#[command(name = "imgexport", disable_version_flag = true)]
pub(super) struct ExportArguments {
    /// The osimage
    pub image: String,
    /// The file [default: IMAGE.tgz]
    pub destination: Option<String>,
    /// Extra file or folder to include, and its destination
    #[arg(short = 'e', long = "extra", value_name = "SRC[:DEST]")]
    pub extra: Vec<String>,
    /// Include the names of this node's postscripts
    #[arg(short = 'p', long = "postscripts", value_name = "NODE")]
    pub node: Option<String>,
    /// Not supported
    #[arg(short = 'R', value_name = "USER@HOST")]
    pub remote: Option<String>,
    /// Show more
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// Imports an image from a bundle
#[derive(Debug, Parser)]
#[command(name = "imgimport", disable_version_flag = true)]
pub(super) struct ImportArguments {
    /// The bundle
    pub bundle: String,
    /// Nodes that get the bundle's postscripts
    #[arg(short = 'p', long = "postscripts", value_name = "NODES")]
    pub nodes: Option<String>,
    /// Another profile
    #[arg(short = 'f', long = "profile", value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Not supported
    #[arg(short = 'R', value_name = "USER@HOST")]
    pub remote: Option<String>,
    /// The bundle is not compressed (detected automatically)
    #[arg(short = 'n', long)]
    pub nozip: bool,
    /// Show more
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// A path from where the administrator stands; imgbuild runs in the workspace.
fn from_here(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

pub(super) fn export(shell: &Shell, own: &ExportArguments) -> Done {
    if let Some(remote) = &own.remote {
        return Err(shell.fail(&format!("-R {remote}: write the bundle here, and copy it with scp")));
    }
    shell.hand_on_unknown(&own.image)?;
    shell.hand_on_unbuildable(&own.image)?;
    let to = own.destination.clone().unwrap_or_else(|| format!("{}.tgz", own.image));
    let to = from_here(&to);
    let mut words = vec!["export".to_owned(), "bundle".to_owned(), own.image.clone(), "-o".to_owned(), to];
    for extra in &own.extra {
        let (source, dest) =
            extra.split_once(':').map_or((extra.as_str(), None), |(source, dest)| (source, Some(dest)));
        let dest = dest.map_or_else(String::new, |dest| format!(":{dest}"));
        words.extend(["--extra".to_owned(), format!("{}{dest}", from_here(source))]);
    }
    let mut scratch = None;
    if let Some(node) = &own.node {
        words.extend(["--postscripts".to_owned(), node.clone()]);
        if let Some(table) = postscripts_of(shell, node)? {
            let failed = |error: std::io::Error| shell.fail(&format!("cannot create a temporary file: {error}"));
            let folder = files::sweep::Swept::below(&std::env::temp_dir(), "imgbuild-imgexport-").map_err(failed)?;
            let file = folder.path().join("postscripts.csv");
            std::fs::write(&file, table).map_err(failed)?;
            words.extend(["--tables".to_owned(), file.display().to_string()]);
            scratch = Some(folder);
        }
    }
    let done = shell.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    drop(scratch);
    done
}

/// The scripts of a node as a table of xCAT's: by nodes.toml, or by xCAT's own `lsdef`, which knows the node's groups. None where neither
/// knows the node: xCAT's tables are looked at then.
fn postscripts_of(shell: &Shell, node: &str) -> Result<Option<String>, Ended> {
    let row = |scripts: &str, later: &str| {
        let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let values = [node, scripts, later].map(cell).join(",");
        Some(format!("#node,postscripts,postbootscripts,comments,disable\n{values},,\n"))
    };
    let known = checked(&root_of(&shell.workspace)).ok().flatten();
    if let Some(own) = known.as_ref().and_then(|nodes| nodes.get(node)) {
        let [scripts, later] = [Attr::Postscripts, Attr::Postbootscripts].map(|attr| own.list(attr).join(","));
        return Ok(row(&scripts, &later));
    }
    let Some(lsdef) = shell.real_called("lsdef") else { return Ok(None) };
    let output = std::process::Command::new(&lsdef)
        .args(["-t", "node", "-o", node, "-i", "postscripts,postbootscripts"])
        .output();
    let output = output.map_err(|error| shell.fail(&format!("`{}` cannot be run: {error}", lsdef.display())))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim().to_owned()
    };
    match output.status.success() {
        true => Ok(row(&value("postscripts"), &value("postbootscripts"))),
        false => Ok(None),
    }
}

pub(super) fn import(shell: &Shell, own: &ImportArguments) -> Done {
    if let Some(remote) = &own.remote {
        return Err(shell.fail(&format!("-R {remote}: fetch the bundle with scp, and import it from here")));
    }
    let bundle = from_here(&own.bundle);
    let mut words = vec!["import", "bundle", &bundle, "--into", "."];
    if let Some(profile) = &own.profile {
        words.extend(["-p", profile]);
    }
    shell.run(&words)?;
    if let Some(nodes) = &own.nodes {
        shell.say(&format!(
            "-p {nodes}: xCAT stores which scripts nodes run: chdef {nodes} postscripts=... with the names listed above"
        ));
    }
    Ok(())
}
