//! `imgexport` and `imgimport` (section 9 of the reference).

use clap::Parser;

use super::{Done, Shell};

/// Writes an image into one file
#[derive(Debug, Parser)]
#[command(name = "imgexport", disable_version_flag = true)]
pub struct ExportArguments {
    /// The osimage
    pub image: String,
    /// The file [default: IMAGE.tgz]
    pub destination: Option<String>,
    /// A file or folder that goes along, and where to
    #[arg(short = 'e', long = "extra", value_name = "SRC[:DEST]")]
    pub extra: Vec<String>,
    /// Put the names of this node's postscripts into it
    #[arg(short = 'p', long = "postscripts", value_name = "NODE")]
    pub node: Option<String>,
    /// Not done here
    #[arg(short = 'R', value_name = "USER@HOST")]
    pub remote: Option<String>,
    /// Say more
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// Takes over an image from one file
#[derive(Debug, Parser)]
#[command(name = "imgimport", disable_version_flag = true)]
pub struct ImportArguments {
    /// The bundle
    pub bundle: String,
    /// Nodes that get the bundle's postscripts
    #[arg(short = 'p', long = "postscripts", value_name = "NODES")]
    pub nodes: Option<String>,
    /// Another profile
    #[arg(short = 'f', long = "profile", value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Not done here
    #[arg(short = 'R', value_name = "USER@HOST")]
    pub remote: Option<String>,
    /// The bundle is not compressed; found out without it
    #[arg(short = 'n', long)]
    pub nozip: bool,
    /// Say more
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// A path from where the administrator stands; imgbuild runs in the workspace.
fn from_here(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// Runs `imgexport`.
pub fn export(shell: &Shell, own: &ExportArguments) -> Done {
    if let Some(remote) = &own.remote {
        return Err(shell.fail(&format!("-R {remote}: write the bundle here, and copy it with scp")));
    }
    shell.hand_on_unknown(&own.image)?;
    let to = own.destination.clone().unwrap_or_else(|| format!("{}.tgz", own.image));
    let to = from_here(&to);
    let mut words = vec!["export".to_owned(), "bundle".to_owned(), own.image.clone(), "-o".to_owned(), to];
    for extra in &own.extra {
        let (source, dest) =
            extra.split_once(':').map_or((extra.as_str(), None), |(source, dest)| (source, Some(dest)));
        let dest = dest.map_or_else(String::new, |dest| format!(":{dest}"));
        words.extend(["--extra".to_owned(), format!("{}{dest}", from_here(source))]);
    }
    if let Some(node) = &own.node {
        words.extend(["--postscripts".to_owned(), node.clone()]);
    }
    shell.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs `imgimport`.
pub fn import(shell: &Shell, own: &ImportArguments) -> Done {
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
        shell.say(&format!("-p {nodes}: xCAT keeps which scripts nodes run: chdef {nodes} postscripts=... with the names that are listed above"));
    }
    Ok(())
}
