//! Lines of a `.repo` file: INI as Python's configparser has it.

use std::sync::Arc;

use base::source::{Finding, SourceFile, Span};

/// An option: its name, its value with continuation lines, where it stands.
pub(super) struct Setting {
    /// In lower case.
    pub name: String,
    /// With line breaks where it goes on.
    pub value: String,
    pub span: Span,
}

/// A section: its name, where it begins, its options.
pub(super) type Section = (String, Span, Vec<Setting>);

pub(super) fn sections(file: &Arc<SourceFile>) -> (Vec<Section>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut start = 0;
    // Messages show the lines around a mistake, too.
    let shown = &without_secrets(file);
    for line in file.text.split_inclusive('\n') {
        let text = line.trim_end();
        let span = Span::new(shown, start..start + text.len());
        start += line.len();
        let trimmed = text.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with(';') {
            continue;
        }
        if text.starts_with(char::is_whitespace) {
            let last = sections.last_mut().and_then(|(_, _, settings)| settings.last_mut());
            match last {
                Some(setting) => {
                    setting.value.push('\n');
                    setting.value.push_str(trimmed);
                }
                None => findings.push(
                    Finding::error("repo_file::indented", &span, "an indented line does not continue any option")
                        .help("start options in the first column"),
                ),
            }
            continue;
        }
        if let Some(id) = text.strip_prefix('[') {
            let Some(id) = id.strip_suffix(']').map(str::trim).filter(|id| !id.is_empty()) else {
                findings.push(
                    Finding::error("repo_file::section", &span, "a section is not closed, or has no name")
                        .help("write `[name]` on a line of its own"),
                );
                continue;
            };
            if sections.iter().any(|(known, _, _)| known == id) {
                let message = format!("the repository `{}` is defined twice in this file", id.escape_default());
                findings.push(Finding::error("repo_file::twice", &span, message).help("give each its own name"));
            }
            sections.push((id.to_owned(), span, Vec::new()));
            continue;
        }
        let Some((name, value)) = text.split_once(['=', ':']) else {
            findings.push(
                Finding::error("repo_file::line", &span, "a line is not an option")
                    .label("expected `option = value`")
                    .help("comments start with `#`"),
            );
            continue;
        };
        let Some((_, _, settings)) = sections.last_mut() else {
            findings.push(
                Finding::error("repo_file::no_section", &span, "an option is before the first section")
                    .help("start with `[name]`"),
            );
            continue;
        };
        let setting = Setting { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned(), span };
        settings.push(setting);
    }
    (sections, findings)
}

/// The file as messages may show it: each byte of a password and of a token is an asterisk.
fn without_secrets(file: &Arc<SourceFile>) -> Arc<SourceFile> {
    let mut text = String::with_capacity(file.text.len());
    let mut is_list = false;
    for line in file.text.split_inclusive('\n') {
        let option = (!line.starts_with(char::is_whitespace)).then(|| line.split_once(['=', ':'])).flatten();
        let name = option.map(|(name, _)| name.trim().to_ascii_lowercase());
        if let Some(name) = &name {
            is_list = matches!(name.as_str(), "mirrorlist" | "metalink");
        }
        let end = line.trim_end().len();
        let mut hidden = Vec::new();
        // Also where they are indented or commented out.
        if let Some((before, _)) = line.split_once(['=', ':']) {
            let word = before.trim_start_matches(|c: char| c.is_whitespace() || c == '#' || c == ';').trim_end();
            if ["password", "proxy_password"].iter().any(|secret| word.eq_ignore_ascii_case(secret)) {
                hidden.push(before.len() + 1..end);
            }
        }
        for (at, _) in line.match_indices("://") {
            let rest = &line[at + 3..end];
            let rest = &rest[..rest.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(rest.len())];
            let authority = rest.find(['/', '?']).unwrap_or(rest.len());
            if let Some(user) = rest[..authority].rfind('@') {
                hidden.push(at + 3..at + 3 + user);
            }
            if let Some(query) = rest.find('?').filter(|_| !is_list) {
                hidden.push(at + 3 + query + 1..at + 3 + rest.len());
            }
        }
        hidden.sort_by_key(|range| range.start);
        let mut done = 0;
        for range in hidden {
            text.push_str(&line[done..range.start.max(done)]);
            text.push_str(&"*".repeat(range.end.saturating_sub(range.start.max(done))));
            done = range.end.max(done);
        }
        text.push_str(&line[done..]);
    }
    SourceFile::new(file.name.as_str(), &file.path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_secrets() {
        let text = "[a]\npassword = é secret\nbaseurl=https://u:p@h/x,\n  https://h/y/?token z\nmirrorlist=https://v@h/m?arch=x\nproxy_password: q\n  # Password=r\n";
        let file = SourceFile::new("a.repo", "/a.repo", text);
        let shown = without_secrets(&file);
        assert_eq!(shown.text.len(), text.len());
        assert_eq!(
            shown.text,
            "[a]\npassword =**********\nbaseurl=https://***@h/x,\n  https://h/y/?***** z\nmirrorlist=https://*@h/m?arch=x\nproxy_password:**\n  # Password=*\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn every_text_keeps_its_length(text in "[=: \n/@?,a-c\u{e9}]{0,40}", front in "(password=|baseurl=a://)?") {
            let text = format!("{front}{text}");
            let file = SourceFile::new("a.repo", "/a.repo", text.as_str());
            proptest::prop_assert_eq!(without_secrets(&file).text.len(), text.len());
        }
    }
}
