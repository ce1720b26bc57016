use proptest::prelude::*;

use super::contexts::{FileContexts, Texts};
use super::*;
use base::digest::Digest;

const FILE: Kind = Kind::File { size: 0, digest: Digest([0; 32]) };

fn contexts(rules: &str) -> FileContexts {
    let (contexts, unusable) = FileContexts::parse(Texts { rules: [rules, "", ""], ..Texts::default() });
    assert!(unusable.iter().all(Vec::is_empty), "{unusable:?}");
    contexts
}

/// The label of a path, `none` without one.
fn of(rules: &str, path: &str, kind: &Kind) -> String {
    contexts(rules).label(path, kind).unwrap_or("none").to_owned()
}

fn file(rules: &str, path: &str) -> String {
    of(rules, path, &FILE)
}

#[test]
fn patterns_are_anchored_at_both_ends() {
    let rules = "/usr/bin(/.*)? bin";
    for path in ["/usr/bin", "/usr/bin/", "/usr/bin/a", "/usr/bin/a/b"] {
        assert_eq!(file(rules, path), "bin", "{path}");
    }
    for path in ["/usr/bin2", "/x/usr/bin", "/usr"] {
        assert_eq!(file(rules, path), "none", "{path}");
    }
}

#[test]
fn the_last_line_that_matches_counts() {
    let rules = "/.* default\n/etc(/.*)? etc\n/etc/.*\\.key key\n/etc/k.* other\n";
    assert_eq!(file(rules, "/srv"), "default");
    assert_eq!(file(rules, "/etc/x.key"), "key");
    assert_eq!(file(rules, "/etc/k.key"), "other");
    // However long what is fixed in it is.
    assert_eq!(file("/usr/lib/long/.* long\n/usr/.* short", "/usr/lib/long/a"), "short");
}

#[test]
fn a_line_without_meta_characters_counts_more_than_any_that_has_them() {
    assert_eq!(file("/etc/passwd exact\n/etc/.* pattern\n/.* all", "/etc/passwd"), "exact");
    // A dot that is escaped is not a meta-character.
    assert_eq!(file("/etc/a\\.b exact\n/etc/a.b pattern", "/etc/a.b"), "exact");
    assert_eq!(file("/etc/a\\.b exact\n/etc/a.b pattern", "/etc/axb"), "pattern");
    assert_eq!(file("/etc/passwd first\n/etc/passwd second", "/etc/passwd"), "second");
}

#[test]
fn a_type_restricts_a_line() {
    let rules = "/dev/x any\n/dev/x -b block\n/dev/x -c character\n/d(/.*)? -d dir\n/d(/.*)? -- file\n/d(/.*)? -l link\n/d(/.*)? -s sock\n/d(/.*)? -p pipe";
    assert_eq!(of(rules, "/dev/x", &Kind::Block(1, 2)), "block");
    assert_eq!(of(rules, "/dev/x", &Kind::Character(1, 2)), "character");
    assert_eq!(of(rules, "/dev/x", &Kind::Fifo), "any");
    let kinds = [
        (Kind::Directory, "dir"),
        (FILE, "file"),
        (Kind::Symlink("x".into()), "link"),
        (Kind::Socket, "sock"),
        (Kind::Fifo, "pipe"),
    ];
    for (kind, label) in kinds {
        assert_eq!(of(rules, "/d/a", &kind), label);
    }
    assert_eq!(of(rules, "/d/a", &Kind::Block(1, 2)), "none");
}

#[test]
fn none_takes_a_label_away() {
    let rules = "/.* default\n/mnt/[^/]*/.* <<none>>";
    assert_eq!((file(rules, "/mnt/a/b"), file(rules, "/mnt/a")), ("none".to_owned(), "default".to_owned()));
}

#[test]
fn local_lines_come_after_homes_and_those_after_the_policy_s() {
    let texts =
        Texts { rules: ["/a/.* policy\n/h exact", "/a/b.* home", "/a/bc.* local\n/h.* local"], ..Texts::default() };
    let (contexts, _) = FileContexts::parse(texts);
    let label = |path| contexts.label(path, &FILE);
    assert_eq!((label("/a/x"), label("/a/bx"), label("/a/bc")), (Some("policy"), Some("home"), Some("local")));
    assert_eq!(label("/h"), Some("exact"));
}

#[test]
fn substituted_folders_have_the_labels_of_others() {
    let texts = Texts {
        rules: ["/usr/bin/.* bin\n/srv/x x\n/y y\n/opt/bin2 other\n", "", ""],
        subs: "# of the site\n/data /opt\n/root2 /\n",
        subs_dist: "/bin /usr/bin\n/opt/bin /bin\n/opt/bin /usr/bin\n",
    };
    let (contexts, _) = FileContexts::parse(texts);
    let label = |path| contexts.label(path, &FILE);
    assert_eq!(label("/bin/sh"), Some("bin"));
    // The site's first, then the distribution's, each once; the later line first.
    assert_eq!(label("/data/bin/sh"), Some("bin"));
    assert_eq!((label("/opt/bin2"), label("/root2/y")), (Some("other"), Some("y")));
}

#[test]
fn alternatives_and_optional_letters_do_not_hide_a_line() {
    assert_eq!(file("/a/x|/b/y either", "/b/y"), "none");
    // As in libselinux: the first folder is compared and cut off, and the anchors stand beside the alternatives.
    assert_eq!(file("/a/x|/b/y either", "/a/x-more"), "either");
    assert_eq!(file("/(usr|opt)/bin/.* bin", "/opt/bin/x"), "bin");
    assert_eq!(file("/usr/(bin|sbin)/x bin", "/usr/sbin/x"), "bin");
    assert_eq!(file("/usr/lib64?/x lib", "/usr/lib6/x"), "lib");
    assert_eq!(file("/usr/lib/\\.build-id(/.*)? lib", "/usr/lib/.build-id/ab"), "lib");
    assert_eq!(file("/var/a{0}/x lib", "/var//x"), "lib");
    assert_eq!(file("/dev/[hs]d[^/]+ -b disk\n/dev/[hs]d[^/]+ any", "/dev/sda1"), "any");
}

#[test]
fn lines_that_cannot_be_used_are_told_and_the_others_count() {
    let texts = Texts {
        rules: ["# comment\n\n/a(b x\n/etc(?=x) y\n/only\n/c -z z\n/d -- d\n", "/e[ e", ""],
        ..Texts::default()
    };
    let (contexts, unusable) = FileContexts::parse(texts);
    assert_eq!(contexts.label("/d", &FILE), Some("d"));
    let files = ["f".to_owned(), "f.homedirs".to_owned(), "f.local".to_owned()];
    insta::assert_snapshot!(messages(&files, &unusable).join("\n"), @r"
    /f:3: the pattern `/a(b` cannot be compiled: unclosed group; the line is left out
    /f:4: the pattern `/etc(?=x)` cannot be compiled: look-around, including look-ahead and look-behind, is not supported; the line is left out
    /f:5: a pattern without a label; the line is left out
    /f:6: `-z` is not a type of file (--, -d, -l, -c, -b, -p, -s); the line is left out
    /f.homedirs:1: the pattern `/e[` cannot be compiled: unclosed character class; the line is left out
    ");
}

fn entry(kind: Kind, group: Option<&str>) -> Entry {
    Entry { kind, link_group: group.map(str::to_owned), ..Entry::whiteout() }
}

#[test]
fn entries_are_named_only_where_their_label_is_not_their_folder_s() {
    let contexts = contexts(
        "/.* def\n/ root\n/usr(/.*)? usr\n/usr/bin(/.*)? bin\n/usr/bin/z z\n/proc <<none>>\n/etc/resolv\\.conf net\n/etc(/.*)? etc",
    );
    let directory = entry(Kind::Directory, None);
    let plain = entry(FILE, None);
    let linked = entry(FILE, Some("usr/bin/a"));
    let entries = BTreeMap::from([
        (".", &directory),
        ("etc", &directory),
        ("proc", &directory),
        ("usr", &directory),
        ("usr/bin/a", &linked),
        ("usr/bin/x", &plain),
        ("usr/bin/z", &linked),
        ("usr/share", &directory),
    ]);
    let (labels, count) = reckon(&contexts, &entries);
    let text: Vec<String> = labels.iter().map(|(label, paths)| format!("{label}: {}", paths.join(" "))).collect();
    // usr/bin is not packed, but made for what lies in it; usr/bin/z is another name of usr/bin/a.
    insta::assert_snapshot!(text.join("\n"), @r"
    <<none>>: proc
    bin: usr/bin
    etc: etc
    net: etc/resolv.conf
    root: .
    usr: usr
    ");
    assert_eq!(count, 11);
}

#[test]
fn the_config_says_which_policy_and_whether() {
    let config = |text| Config::parse(text);
    assert_eq!(config("SELINUX=enforcing\nSELINUXTYPE=mls \n"), Config { disabled: false, policy: "mls".into() });
    assert_eq!(config("#SELINUXTYPE=mls\nSELINUX=Disabled\n"), Config { disabled: true, policy: "targeted".into() });
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", path in "/[a-z/é]{0,20}") {
        let (contexts, _) = FileContexts::parse(Texts { rules: [&text, &text, ""], subs: &text, subs_dist: "" });
        let _ = contexts.label(&path, &FILE);
    }

    /// The index by folders and fixed parts finds what trying all lines finds.
    #[test]
    fn a_lookup_finds_what_trying_all_lines_finds(
        lines in proptest::collection::vec("(/[ab]|/\\.\\*|/\\[ab\\]|\\(/a\\)\\?|/a\\?|/b\\+|\\|){1,4}", 1..8),
        path in "(/[ab]{1,2}){1,3}"
    ) {
        let rules: String = lines.iter().enumerate().map(|(number, line)| format!("{line} {number}\n")).collect();
        let (contexts, unusable) = FileContexts::parse(Texts { rules: [&rules, "", ""], ..Texts::default() });
        prop_assume!(unusable.iter().all(Vec::is_empty));
        let one = |number: usize| {
            let rules = format!("{} {number}", lines[number]);
            FileContexts::parse(Texts { rules: [&rules, "", ""], ..Texts::default() }).0.label(&path, &FILE).is_some()
        };
        let plain = |number: &usize| !lines[*number].contains(['.', '?', '+', '|', '[', '(']);
        let matching: Vec<usize> = (0..lines.len()).filter(|number| one(*number)).collect();
        let expected = matching.iter().rev().find(|number| plain(number)).or(matching.last()).map(ToString::to_string);
        prop_assert_eq!(contexts.label(&path, &FILE), expected.as_deref());
    }
}
