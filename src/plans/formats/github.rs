//! Annotations of GitHub Actions. Source: "Workflow commands for GitHub Actions" (docs.github.com), "Setting a notice
//! message"; the escapes are those of actions/toolkit, packages/core/src/command.ts.

use super::Annotation;

/// One command a line. GitHub shows ten notices of a step; those on lines of the change come first.
pub(super) fn text_of(annotations: &[Annotation]) -> String {
    let mut text = String::new();
    for annotation in annotations {
        let mut properties = Vec::new();
        if let Some(file) = &annotation.file {
            properties.push(format!("file={}", property(file)));
            properties.extend(annotation.line.map(|line| format!("line={line}")));
        }
        properties.push(format!("title={}", property(&annotation.effect())));
        text.push_str(&format!("::notice {}::{}\n", properties.join(","), data(&annotation.message)));
    }
    text
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, which ends at a comma or a colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_command_or_a_property_is_escaped() {
        let annotation = Annotation {
            file: Some("a,b:c.toml".to_owned()),
            line: Some(3),
            recipe: "image.toml".to_owned(),
            message: "100%\r\n::error::x".to_owned(),
            rebuilds: vec![("mini".to_owned(), vec!["rootfs".to_owned(), "pack".to_owned()])],
        };
        assert_eq!(
            text_of(&[annotation]),
            "::notice file=a%2Cb%3Ac.toml,line=3,title=imgbuild rebuilds mini%3A rootfs%2C pack::100%25%0D%0A::error::x\n"
        );
    }
}
