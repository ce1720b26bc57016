//! What `APPEND:` and `MERGE:` make of a file: the same in an image and on a running node.

/// A file with a text at its end.
pub fn appended(before: &[u8], more: &[u8]) -> Vec<u8> {
    let mut all = before.to_vec();
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all.extend_from_slice(more);
    all
}

/// A file with a text at its end, once: a text that it has already stays where it is, and an earlier text is replaced in its place.
pub fn appended_once(before: &[u8], earlier: Option<&[u8]>, more: &[u8]) -> Vec<u8> {
    let lines = |text: &[u8]| text.strip_suffix(b"\n").map_or_else(|| text.to_vec(), <[u8]>::to_vec);
    let now = lines(more);
    let earlier = earlier.map(lines).filter(|earlier| *earlier != now && !earlier.is_empty());
    if let Some(earlier) = earlier
        && let Some(at) = lines_at(before, &earlier)
    {
        return [&before[..at], &now, &before[at + earlier.len()..]].concat();
    }
    if now.is_empty() || lines_at(before, &now).is_some() { before.to_vec() } else { appended(before, more) }
}

/// Where whole lines of a file are a text, the last time; the text has no line feed at its end.
fn lines_at(all: &[u8], text: &[u8]) -> Option<usize> {
    let is_whole = |at: &usize| {
        let end = at + text.len();
        (*at == 0 || all.get(at - 1) == Some(&b'\n')) && (end == all.len() || all.get(end) == Some(&b'\n'))
    };
    let mut found: Vec<usize> = memchr::memmem::find_iter(all, text).collect();
    found.reverse();
    found.into_iter().find(is_whole)
}

/// Lines with the same first field are replaced, others added. Source: xdcp(1), MERGE.
pub fn merged(before: &[u8], more: &[u8]) -> Vec<u8> {
    let key = |line: &[u8]| line.split(|byte| *byte == b':').next().unwrap_or_default().to_vec();
    let lines = |bytes: &[u8]| {
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let mut all = lines(before);
    for line in lines(more) {
        match all.iter_mut().find(|known| key(known) == key(&line)) {
            Some(known) => *known = line,
            None => all.push(line),
        }
    }
    let mut out = all.join(&b'\n');
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_replaces_by_the_first_field_and_adds_the_rest() {
        let out = merged(b"root:x:0\nbin:x:1\n", b"bin:y:1\nnew:z:9\n");
        assert_eq!(out, b"root:x:0\nbin:y:1\nnew:z:9\n");
        assert_eq!(appended(b"a", b"b\n"), b"a\nb\n");
        // Names are no patterns.
        assert_eq!(merged(b"a.b:q\naxb:z\n", b"a.b:r\n"), b"a.b:r\naxb:z\n");
    }

    #[test]
    fn a_text_is_appended_once_and_edits_around_it_stay() {
        let once = |before: &str, earlier: Option<&str>, more: &str| {
            let out = appended_once(before.as_bytes(), earlier.map(str::as_bytes), more.as_bytes());
            String::from_utf8(out).unwrap()
        };
        for (before, earlier, more, after) in [
            ("base\n", None, "add\n", "base\nadd\n"),
            ("base\nadd\n", None, "add\n", "base\nadd\n"),
            ("base\nadd\nedit\n", Some("add\n"), "more\nadd\n", "base\nmore\nadd\nedit\n"),
            ("base\nadd\nrest\n", Some("add\nrest\n"), "add\n", "base\nadd\n"),
            // What someone removed on the node comes back.
            ("base\n", Some("add\n"), "add\n", "base\nadd\n"),
            // A part of a line is no line.
            ("my add\n", None, "add\n", "my add\nadd\n"),
            ("address\n", None, "add", "address\nadd"),
            ("base\nadd", None, "add", "base\nadd"),
            ("", None, "", ""),
        ] {
            assert_eq!(once(before, earlier, more), after, "{before:?} {earlier:?} {more:?}");
            assert_eq!(once(after, Some(more), more), after, "again: {before:?}");
        }
    }
}
