//! `imgbuild delta`: shows what `fetch` would transfer.

use super::fetch::exit;
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use build::delta;
use packages::Fetcher;

/// Arguments of `delta`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The published image you have: a directory or URL (http, https or file)
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The published image that would replace it
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn address(directory: &std::path::Path, place: &str) -> String {
    if super::fetch::is_address(place) {
        return place.to_owned();
    }
    let path = directory.join(place);
    format!("file://{}", std::path::absolute(&path).unwrap_or(path).display())
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    let at = |place: &str| address(&arguments.directory, place);
    let delta = match delta(&at(&own.old), &at(&own.new), &Fetcher::new()) {
        Ok(delta) => delta,
        Err(error) => {
            return render::refused(exit(&error), error);
        }
    };
    if own.json {
        render::print_json(&super::fetch::json(&delta));
        return Exit::Done;
    }
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let mut text = String::new();
    for file in &delta.files {
        let frames = match file.frames {
            0 => String::new(),
            all => format!("  {} of {all} frames", file.frames_moved),
        };
        text.push_str(&format!(
            "{:>9.1} of {:>9.1} MB  {}{frames}\n",
            mega(file.moved),
            mega(file.size),
            one_line(&file.name)
        ));
    }
    text.push_str(&format!("{:>9.1} of {:>9.1} MB to transfer\n", mega(delta.moved), mega(delta.size)));
    render::print(&text);
    Exit::Done
}
