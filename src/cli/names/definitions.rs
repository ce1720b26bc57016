//! `lsdef` of osimages (section 1.1 of the reference).

use clap::Parser;

use super::{Done, Shell};
use crate::cli::output::render;

/// Shows definitions of images
#[derive(Debug, Parser)]
#[command(name = "lsdef", disable_version_flag = true)]
pub struct Arguments {
    /// Names of osimages
    pub names: Vec<String>,
    /// Kind of the objects
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
    /// Names, as xCAT also takes them
    #[arg(short = 'o', value_name = "NAMES", value_delimiter = ',')]
    pub objects: Vec<String>,
    /// All attributes
    #[arg(short = 'l', long)]
    pub long: bool,
    /// As stanzas for mkdef
    #[arg(short = 'z', long)]
    pub stanza: bool,
    /// Only these attributes
    #[arg(short = 'i', value_name = "ATTRIBUTES")]
    pub attributes: Option<String>,
}

/// Runs the command.
pub fn run(shell: &Shell, own: &Arguments) -> Done {
    let kind = own.kind.as_deref().unwrap_or("node");
    if kind != "osimage" {
        return Err(shell.fail(&format!(
            "objects of the type {kind} stay with xCAT (/opt/xcat/bin/lsdef); here is `lsdef -t osimage`"
        )));
    }
    let names: Vec<&str> = own.names.iter().chain(&own.objects).map(String::as_str).collect();
    if own.stanza {
        return shell.quietly(&[&["export", "xcat"], names.as_slice()].concat());
    }
    if let Some(attributes) = &own.attributes {
        for name in &names {
            shell.quietly(&["show", name, "-i", attributes])?;
        }
        return if names.is_empty() { Err(shell.fail("-i needs the name of an osimage")) } else { Ok(()) };
    }
    if own.long || !names.is_empty() {
        return shell.quietly(&[&["list", "-l"], names.as_slice()].concat());
    }
    let (text, done) = shell.listing(&["list", "-l"])?;
    for name in text.lines().filter_map(|line| line.strip_prefix("Object name: ")) {
        render::print_as_is(&format!("{name}  (osimage)\n"));
    }
    done
}
