//! xCAT's `copycds`: translates its flags to `imgbuild import media` (reference 10).

use clap::Parser;

use super::{Done, Shell};
use crate::output::render;

/// Creates repositories and default images from distribution media
#[derive(Debug, Parser)]
#[command(name = "copycds", disable_version_flag = true)]
pub(super) struct Arguments {
    /// ISO images, devices or directories
    #[arg(required = true)]
    pub media: Vec<String>,
    /// Distribution name: rocky9.4
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub name: Option<String>,
    /// CPU of the media
    #[arg(short = 'a', long = "arch", value_name = "ARCH")]
    pub arch: Option<String>,
    /// Directory of the repository [default: /install/NAME/ARCH]
    #[arg(short = 'p', long = "path", value_name = "DIR")]
    pub path: Option<String>,
    /// Only show what the media are
    #[arg(short = 'i', long = "inspection")]
    pub inspect: bool,
    /// Write no image definitions
    #[arg(short = 'o', long = "noosimage")]
    pub only_repository: bool,
    /// Stop if a medium was copied before
    #[arg(short = 'w', long = "nonoverwrite")]
    pub keep: bool,
}

pub(super) fn run(shell: &Shell, own: &Arguments) -> Done {
    let here =
        |path: &String| std::path::absolute(path).map_or_else(|_| path.clone(), |path| path.display().to_string());
    let mut words: Vec<String> = ["import", "media"].map(str::to_owned).to_vec();
    words.extend(own.media.iter().map(here));
    words.extend(["--into", "."].map(str::to_owned));
    match &own.path {
        Some(path) => words.extend(["--destination".to_owned(), here(path)]),
        None => words.extend(["--repository", "/install"].map(str::to_owned)),
    }
    for (flag, value) in [("--name", &own.name), ("--arch", &own.arch)] {
        words.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    if own.inspect || own.keep {
        let mut look = words.clone();
        look.extend(["--dry-run", "--json"].map(str::to_owned));
        let text = shell.output(&look.iter().map(String::as_str).collect::<Vec<_>>())?;
        let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        for one in report["media"].as_array().into_iter().flatten() {
            let part = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            if own.inspect {
                render::print_as_is(&format!(
                    "DISTNAME:{}\nARCH:{}\nDISCNO:{}\n",
                    part("name"),
                    part("arch"),
                    part("disc")
                ));
            } else if std::path::Path::new(&part("repository")).is_dir() {
                return Err(shell.fail(&format!("-w: {} was copied before", part("repository"))));
            }
        }
        if own.inspect {
            return Ok(());
        }
    }
    if own.only_repository {
        words.push("--only-repository".to_owned());
    }
    shell.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}
