//! `imgbuild size --excluded`: what the exclude list takes away.

use crate::output::render;
use build::ExcludedLine;

/// Human-readable text, those that take most away first.
pub(super) fn text(image: &str, lines: &[ExcludedLine]) -> String {
    let mut lines: Vec<&ExcludedLine> = lines.iter().collect();
    lines.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| b.entries.cmp(&a.entries)));
    let entries: usize = lines.iter().map(|line| line.entries).sum();
    let bytes = lines.iter().map(|line| line.bytes).sum();
    let mut text = format!("{image}: the exclude list removes {entries} entries, {} unpacked\n", render::bytes(bytes));
    text.push_str(&format!("  {:>9} {:>9}  line\n", "entries", "unpacked"));
    for line in lines {
        let place = line.place.as_ref().map(|place| format!("  ({place})")).unwrap_or_default();
        text.push_str(&format!("  {:>9} {:>9}  {}{place}\n", line.entries, render::bytes(line.bytes), line.pattern));
    }
    text
}

/// The same for programs, in the order of the lists.
pub(super) fn json(images: &[(String, Vec<ExcludedLine>)]) -> String {
    let images: Vec<serde_json::Value> =
        images.iter().map(|(name, lines)| serde_json::json!({"name": name, "excluded": lines})).collect();
    format!("{:#}\n", serde_json::json!({"format_version": "1.0", "images": images}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_most_away_comes_first() {
        let line = |pattern: &str, entries, bytes| ExcludedLine {
            pattern: pattern.to_owned(),
            place: Some("a.exlist:3".to_owned()),
            entries,
            bytes,
        };
        insta::assert_snapshot!(text("mini", &[line("./none", 0, 0), line("./usr/share/doc*", 3000, 12_345_678)]), @r"
        mini: the exclude list removes 3000 entries, 12.3 MB unpacked
            entries  unpacked  line
               3000   12.3 MB  ./usr/share/doc*  (a.exlist:3)
                  0       0 B  ./none  (a.exlist:3)
        ");
    }
}
