//! What changes in the files of loaders, line by line.

use nodes::deploy::Changes;

/// Lines of two texts with `-`, `+` or a space before each, by their longest common subsequence: these files are short.
fn lines(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        let (sign, line) = if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
            (' ', a[i - 1])
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', a[i - 1])
        } else {
            j += 1;
            ('+', b[j - 1])
        };
        text.push(sign);
        text.push_str(line);
        text.push('\n');
    }
    text
}

pub(super) fn text(changes: &Changes) -> String {
    let one = |change: &nodes::deploy::Changed| {
        format!("--- {0}: {1}\n+++ {0}: {1}\n{2}", change.node, change.path, lines(&change.before, &change.after))
    };
    changes.changed.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_that_stay_are_told_from_those_that_change() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\nd\n"), " a\n-b\n+x\n c\n+d\n");
        assert_eq!(lines("", "a\n"), "+a\n");
        assert_eq!(lines("a\n", ""), "-a\n");
    }
}
