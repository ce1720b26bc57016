//! Rows of xCAT's tables, as they count for one image.

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRow {
    /// Name of an image, its groups, `ALL`, or nothing for all.
    pub image: String,
    pub file: String,
    pub options: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeRow {
    /// Order: lower ones are looked at first.
    pub priority: u64,
    /// As of [`FileRow`].
    pub image: String,
    /// `server:/dir`.
    pub directory: String,
    pub options: String,
}

/// How much a row's image counts: the text of the image's groups, nothing, `ALL`, its name. A list of groups never matches one of
/// them. Source: xCAT 2.19, litetree.pm.
fn class(of_row: &str, image: &str, groups: &str) -> Option<usize> {
    match of_row {
        name if name == image => Some(3),
        "ALL" if fault::planted("statelite-all-before-own") => Some(4),
        "ALL" => Some(2),
        "" => Some(1),
        name if name == groups => Some(0),
        _ => None,
    }
}

/// Numbers of the rows that count, by path: where several have a file, the later one of the later class.
pub fn merge_files(rows: &[FileRow], image: &str, groups: &str) -> Vec<usize> {
    let mut counted: Vec<(usize, usize)> =
        rows.iter().enumerate().filter_map(|(at, row)| Some((class(&row.image, image, groups)?, at))).collect();
    counted.sort_unstable();
    let mut by_path = std::collections::BTreeMap::new();
    for (_, at) in counted {
        by_path.insert(rows[at].file.as_str(), at);
    }
    by_path.into_values().collect()
}

/// Numbers of the rows that count, in their order: an equal priority of a later class replaces.
pub fn merge_trees(rows: &[TreeRow], image: &str, groups: &str) -> Vec<usize> {
    let mut counted: Vec<(usize, usize)> =
        rows.iter().enumerate().filter_map(|(at, row)| Some((class(&row.image, image, groups)?, at))).collect();
    counted.sort_unstable();
    let mut by_priority = std::collections::BTreeMap::new();
    for (_, at) in counted {
        by_priority.insert(rows[at].priority, at);
    }
    by_priority.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_that_means_the_image_most_counts() {
        let row = |image: &str, file: &str| FileRow {
            image: image.to_owned(),
            file: file.to_owned(),
            options: String::new(),
        };
        let rows = [
            row("compute", "/a"),
            row("ALL", "/a"),
            row("", "/b"),
            row("one,two", "/b"),
            row("one", "/c"),
            row("other", "/d"),
            row("ALL", "/e"),
            row("ALL", "/e"),
        ];
        assert_eq!(merge_files(&rows, "compute", "one,two"), [0, 2, 7]);
        assert_eq!(merge_files(&rows, "compute", "one"), [0, 2, 4, 7]);
        let tree = |priority, image: &str| TreeRow { priority, image: image.to_owned(), ..TreeRow::default() };
        let rows = [tree(10, "ALL"), tree(9, ""), tree(10, "compute"), tree(9, "x"), tree(100, "")];
        assert_eq!(merge_trees(&rows, "compute", ""), [1, 2, 4]);
    }
}
