//! A workflow of GitHub Actions. Source: docs.github.com, "Workflow syntax for GitHub Actions".

use std::collections::BTreeMap;
use std::fmt::Write;

use super::quote::{shell, yaml};
use super::{Emission, Engine};

/// A text that GitHub reads for expressions.
fn plain(text: &str) -> String {
    yaml(&text.replace("${{", "${{ '${{' }}"))
}

/// Ids of jobs: letters, digits, `-` and `_`, with a letter or `_` first.
fn ids(emission: &Emission) -> BTreeMap<&str, String> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let fitting = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let mut all = BTreeMap::new();
    for step in &emission.steps {
        let mut id: String = step.name().chars().map(fitting).collect();
        if !id.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            id.insert(0, '_');
        }
        // `a.b` and `a_b` are two images.
        let times = taken.entry(id.to_ascii_lowercase()).or_default();
        *times += 1;
        if *times > 1 {
            // Three underlines are in no other id but that of an image that has them: it was numbered as well.
            let _ = write!(id, "___{times}");
            taken.insert(id.to_ascii_lowercase(), 1);
        }
        all.insert(step.name(), id);
    }
    all
}

pub(super) fn text_of(emission: &Emission) -> String {
    let ids = ids(emission);
    let mut text = emission.head(Engine::Github);
    text.push_str(
        "name: images\non:\n  push:\n    branches: [main]\n  workflow_dispatch:\npermissions:\n  contents: read\njobs:\n",
    );
    for step in &emission.steps {
        let id = ids.get(step.name()).map_or("", String::as_str);
        let before: Vec<&str> =
            emission.before(step).filter_map(|one| ids.get(one.name())).map(String::as_str).collect();
        let _ = write!(text, "  {id}:\n    name: {}\n    runs-on: [self-hosted, imgbuild]\n", plain(step.name()));
        if !before.is_empty() {
            let _ = writeln!(text, "    needs: [{}]", before.join(", "));
        }
        let _ = write!(
            text,
            "    steps:\n      - uses: actions/checkout@v4\n      - run: {}\n",
            plain(&emission.command(step))
        );
        if let Some(image) = emission.published(step) {
            let collect = format!("tar -C {} -chf {image}.tar {image}", shell(&emission.out));
            let _ = write!(
                text,
                "      - run: {}\n      - uses: actions/upload-artifact@v4\n        with:\n          name: {}\n          path: {}\n",
                plain(&collect),
                plain(image),
                plain(&format!("{image}.tar"))
            );
        }
    }
    text
}
