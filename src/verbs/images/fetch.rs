//! `imgbuild fetch`: downloads a published image.

use std::path::PathBuf;

use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::output::reporter::Reporter;
use base::digest::Sha256;
use build::{DownloadNews, FetchError, fetch};
use packages::{DistroError, Fetcher};

/// Arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address of a published image: the directory with its build.json (http, https or file)
    #[arg(value_name = "URL")]
    pub url: String,
    /// Directory for its files; data of an earlier image there is reused
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
    /// Expected SHA-256 of its build.json
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    pub digest: Option<Sha256>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn digest(text: &str) -> Result<Sha256, String> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    Sha256::parse(text).map_err(|_| "64 hexadecimal digits, as sha256sum prints them".to_owned())
}

pub(crate) fn exit(error: &FetchError) -> Exit {
    match error {
        FetchError::Server(DistroError::Store(_))
        | FetchError::Unreached { .. }
        | FetchError::Keep { .. }
        | FetchError::Store(_) => Exit::Machine,
        FetchError::Server(_)
        | FetchError::NotThere { .. }
        | FetchError::AFile { .. }
        | FetchError::Planted { .. }
        | FetchError::NotAnImage { .. }
        | FetchError::Digest { .. }
        | FetchError::Foreign { .. } => Exit::Input,
    }
}

/// JSON with the version of its form.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    let mut document = serde_json::json!({"format_version": "1.0"});
    if let (Some(all), Ok(serde_json::Value::Object(own))) = (document.as_object_mut(), serde_json::to_value(value)) {
        all.extend(own);
    }
    format!("{document:#}\n")
}

pub(crate) fn is_address(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["http://", "https://", "file:"].iter().any(|scheme| text.starts_with(scheme))
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    if !is_address(&own.url) {
        render::say(&format!("error: `{}` is not a URL\n  help: start it with http://, https:// or file://", own.url));
        return Exit::Usage;
    }
    let target = arguments.directory.join(&own.target);
    let reporter = Reporter::new(arguments);
    let report = reporter.of(None);
    let outcome = fetch(&own.url, &target, own.digest, &Fetcher::new(), &DownloadNews(&report, "the image"));
    reporter.end();
    let brought = match outcome {
        Ok(brought) => brought,
        Err(error) => {
            return render::refused(exit(&error), error);
        }
    };
    brought.notes.iter().for_each(|note| render::say(&format!("note: {}", one_line(note))));
    if own.json {
        render::print_json(&json(&brought));
        return Exit::Done;
    }
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let place = target.display();
    render::say(&match brought.unchanged {
        true => format!("{place} already has the image: {:.1} MB", mega(brought.size)),
        false => format!(
            "{place}: {:.1} of {:.1} MB came from the server, {} of {} frames",
            mega(brought.moved),
            mega(brought.size),
            brought.frames_moved,
            brought.frames
        ),
    });
    for (names, what) in
        [(&brought.statements, "fetched besides"), (&brought.left_alone, "left alone, not part of the image")]
    {
        if !names.is_empty() {
            render::say(&format!("{what}: {}", one_line(&names.join(", "))));
        }
    }
    Exit::Done
}
