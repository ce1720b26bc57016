//! The vectors P1 to P45 of the reference, section 14.1.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::xcat::LoadError;

pub(crate) struct Memory(pub HashMap<PathBuf, String>, pub HashMap<String, String>);

impl Memory {
    fn path(path: &str, from: &SourceFile) -> PathBuf {
        let folder = from.path.parent().unwrap_or(Path::new("/"));
        folder.join(path)
    }
}

impl Loader for Memory {
    fn load(&self, path: &str, from: &SourceFile) -> Result<Arc<SourceFile>, LoadError> {
        let full = Self::path(path, from);
        match self.0.get(&full) {
            Some(text) => Ok(SourceFile::new(full.display().to_string(), &full, text)),
            None => Err(LoadError::Missing("no such file".to_owned())),
        }
    }

    fn exists(&self, path: &str, from: &SourceFile) -> bool {
        self.0.contains_key(&Self::path(path, from))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.1.get(name).cloned()
    }
}

fn memory() -> Memory {
    let mut files: HashMap<PathBuf, String> = [
        ("/D/inc", "x\n  y\n#c\n--z\n"),
        ("/D/leaf", "topleaf\n"),
        ("/D/sub/in2", "#INCLUDE:leaf#\n"),
        ("/D/sub/leaf", "subleaf\n"),
        ("/D/inc3", "p,q\n#NEW_INSTALL_LIST#\nr\n"),
        ("/D/loop", "#INCLUDE:loop#\n"),
    ]
    .map(|(path, text)| (PathBuf::from(path), text.to_owned()))
    .into();
    for number in 0..40 {
        let text = if number == 39 { "end\n".to_owned() } else { format!("#INCLUDE:c{}#\n", number + 1) };
        files.insert(format!("/D/c{number}").into(), text);
    }
    Memory(files, [("D".to_owned(), "/D".to_owned())].into())
}

/// The list in the reference's own notation, with `E` and `W` for what was said.
fn read(files: &[&str], flavor: Flavor) -> String {
    let files: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(number, text)| SourceFile::new(format!("list{number}"), format!("/D/list{number}"), *text))
        .collect();
    let list = parse_pkglist(&files, flavor, &memory());
    let names = |items: &[Item]| {
        items
            .iter()
            .map(|item| match &item.subdirectory {
                Some(folder) => format!("{folder}:{}", item.name),
                None => item.name.clone(),
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut out = Vec::new();
    for pass in &list.passes {
        let mut text = format!("[{}]", names(&pass.install));
        if !pass.remove_before.is_empty() {
            text.push_str(&format!(" pre[{}]", names(&pass.remove_before)));
        }
        if !pass.remove_after.is_empty() {
            text.push_str(&format!(" post[{}]", names(&pass.remove_after)));
        }
        if !pass.environment.is_empty() {
            let words: Vec<_> = pass.environment.iter().map(|v| format!("{}={}", v.name, v.value)).collect();
            text.push_str(&format!(" env[{}]", words.join(" ")));
        }
        out.push(text);
    }
    let mut text = out.join(" ; ");
    for finding in &list.findings {
        let mark = if finding.severity == Severity::Error { "E" } else { "W" };
        text.push_str(&format!(" {mark}:{}", finding.code));
    }
    text.trim_start().to_owned()
}

#[test]
fn vectors_of_package_lists() {
    use Flavor::{DebianPackages as D, OtherPackages as O, Packages as P};
    let table: &[(&str, &[&str], Flavor, &str)] = &[
        ("P1", &["bash\nkernel\n"], P, "[bash kernel]"),
        ("P2", &["bash,kernel\n"], P, "[bash kernel]"),
        ("P3", &["bash, kernel\n"], P, "[bash kernel]"),
        ("P4", &["bash kernel\n"], P, "[bash kernel] W:pkglist::blank_between"),
        ("P5", &["  bash\n"], P, "[bash]"),
        ("P6", &["#note\nfoo\n\n   \n"], P, "[foo]"),
        ("P7", &["bash # shell\nvim\n"], P, "[bash vim] W:pkglist::trailing_comment"),
        ("P8", &["foo\r\nbar\r\n"], P, "[foo bar]"),
        ("P9", &["-perl\n"], O, "[] pre[perl]"),
        ("P9", &["-perl\n"], P, "[] pre[perl] W:pkglist::removal"),
        ("P10", &["--perl\n"], O, "[] post[perl]"),
        ("P11", &["---perl\n"], O, "E:pkglist::three_dashes"),
        ("P12", &["  -perl\n"], O, "[] pre[perl] W:pkglist::blank_before_removal"),
        ("P13", &["a, -b\n"], O, "[a] pre[b] W:pkglist::blank_before_removal"),
        ("P14", &["a,-b\n"], O, "[a] pre[b]"),
        ("P15", &["-\n"], O, "E:pkglist::no_name"),
        ("P16", &["-sub/dir/pkg\n"], O, "[] pre[pkg]"),
        ("P17", &["xcat/xcat-core/xCATsn\n"], O, "[xcat/xcat-core:xCATsn]"),
        ("P18", &["xcat/xcat-core/xCATsn\n"], P, "[xCATsn] W:pkglist::folder_ignored"),
        // Beyond the reference: a suite, as apt-get has it.
        (
            "P18",
            &["curl/stable-backports\n-a/b\nx/y/z\n"],
            D,
            "[curl/stable-backports z] pre[b] W:pkglist::removal W:pkglist::folder_ignored",
        ),
        ("P19", &["xcat/xcat-core/\n"], O, "E:pkglist::ends_in_slash"),
        ("P20", &["/abs/dir/pkg\n"], O, "E:pkglist::absolute"),
        // Beyond the reference: what dnf and zypper take in the place of a name.
        (
            "P20",
            &["/usr/bin/less\n-/usr/bin/vi\n/usr/../x\n//\n"],
            P,
            "[/usr/bin/less] E:pkglist::no_name E:pkglist::absolute E:pkglist::ends_in_slash",
        ),
        (
            "P42",
            &["perl(Foo::Bar), libz.so.1()(64bit)\npkgconfig(gtk+-3.0)\ngolang(a.b/c)\n-perl(X)\na(;)\n(a)\na)(\n"],
            P,
            "[perl(Foo::Bar) libz.so.1()(64bit) pkgconfig(gtk+-3.0) golang(a.b/c)] E:pkglist::no_name E:pkglist::character E:pkglist::character E:pkglist::character",
        ),
        ("P42", &["perl(Foo)\n"], O, "E:pkglist::character"),
        // Patterns of apt.
        ("P42", &["?name(^lib-x$)\n?name(a|b)/suite\n"], P, "[?name(^lib-x$) ?name(a|b)/suite]"),
        ("P42", &["~n^lib-x$\n~nlib/suite\n~n^(a|b)$/suite\n"], P, "[~n^lib-x$ ~nlib/suite ~n^(a|b)$/suite]"),
        ("P42", &["~n(a$\n"], P, "E:pkglist::character"),
        ("P42", &["~$a\n"], P, "E:pkglist::character"),
        ("P42", &["?name(a\n"], P, "E:pkglist::character"),
        (
            "P21",
            &["@base\n@ X Window System\n@^minimal-environment\n"],
            P,
            "[@base @X Window System @^minimal-environment]",
        ),
        ("P22", &["#INCLUDE:inc#\n"], O, "[x y] post[z]"),
        ("P23", &["#INCLUDE:nosuch#\nfoo\n"], P, "[foo] E:include::missing"),
        ("P24", &["#INCLUDE:loop#\n"], P, "E:include::cycle"),
        ("P25", &["#INCLUDE:c0#\n"], P, "[end]"),
        ("P26", &["#INCLUDE:sub/in2#\n"], P, "[subleaf] W:include::other_folder"),
        ("P27", &["foo#INCLUDE:leaf#bar\n"], P, "E:pkglist::glued_directive"),
        ("P28", &["#INCLUDE:inc# trailing\n"], P, "E:pkglist::text_after_directive"),
        ("P29", &["#INCLUDE:inc#,extra\n"], O, "[x y extra] post[z]"),
        ("P30", &["# INCLUDE:inc#\n"], O, "W:pkglist::looks_like_directive"),
        ("P30", &["# INCLUDE:inc#\na\n"], P, "[a] W:pkglist::looks_like_directive"),
        ("P44", &["# INCLUDE:inc#\n"], P, "W:pkglist::looks_like_directive E:pkglist::empty"),
        ("P31", &["#INCLUDE:$D/leaf#\n"], P, "[topleaf]"),
        ("P32", &["#INCLUDE:${NOPE}/leaf#\n"], P, "E:include::variable"),
        ("P33", &["#INCLUDE:a^b#\nfoo\n"], P, "[foo] E:include::missing"),
        ("P34", &["a\n#NEW_INSTALL_LIST#\nb\n#NEW_INSTALL_LIST#\n-c\n--d\n"], O, "[a] ; [b] ; [] pre[c] post[d]"),
        ("P35", &["#NEW_INSTALL_LIST#\na\n"], P, "[a]"),
        ("P36", &["#INCLUDE:inc3#\ns\n"], P, "[p q] ; [r s]"),
        ("P37", &["a\n#NEW_INSTALL_LIST#\nb\n", "c\n"], P, "[a c] ; [b]"),
        ("P38", &["#ENV:A=1#\nfoo\n#ENV:B=2 C=3#\n"], P, "[foo] env[A=1 B=2 C=3]"),
        ("P39", &["#ENV:A=1,B=2#\nfoo\n"], P, "[foo] env[A=1 B=2] W:pkglist::comma_in_env"),
        ("P40", &["#ENV:A=1# foo\n"], P, "E:pkglist::text_after_directive"),
        ("P41", &["#new_install_list#\na\n"], P, "[a] W:pkglist::looks_like_directive"),
        ("P42", &["a;b\n"], P, "E:pkglist::character"),
        ("P43", &["foo-1.2*\n"], P, "[foo-1.2*]"),
        ("P44", &["# nothing\n"], P, "E:pkglist::empty"),
        ("P44", &["# nothing\n"], O, ""),
        ("P45", &["a\na\n"], P, "[a]"),
    ];
    for (id, files, flavor, expected) in table {
        assert_eq!(&read(files, *flavor), expected, "{id}");
    }
}

#[test]
fn removals_and_names_are_told_apart_word_by_word() {
    use Flavor::OtherPackages as O;
    for (text, expected) in [
        ("a -b --c\n", "[a] pre[b] post[c] W:pkglist::blank_between"),
        ("-a -b\n", "[] pre[a b] W:pkglist::blank_between"),
        ("a/-b\n", "E:pkglist::no_name"),
        ("a,#c,d\n", "[a d] W:pkglist::ignored_item"),
        ("@a;b\n", "E:pkglist::group"),
        ("-@ X Y\n", "E:pkglist::no_name"),
        ("#ENV:A=1# #ENV:B=2#\n", "E:pkglist::text_after_directive"),
        ("#NEW_INSTALL_LIST\na\n", "[a] W:pkglist::looks_like_directive"),
        ("a/..\n", "E:pkglist::no_name"),
        ("*\n", "E:pkglist::no_name"),
        ("a//b\n", "E:pkglist::folder"),
    ] {
        assert_eq!(read(&[text], O), expected, "{text}");
    }
}

#[test]
fn a_missing_include_names_its_chain() {
    let file = SourceFile::new("top", "/D/top", "#INCLUDE:mid#\n");
    let mut memory = memory();
    memory.0.insert("/D/mid".into(), "\n#INCLUDE:gone#\n".to_owned());
    let list = parse_pkglist(&[file], Flavor::Packages, &memory);
    assert_eq!(list.findings[0].label, "included by top -> /D/mid");
    assert_eq!(list.findings[0].span.as_ref().unwrap().to_string(), "/D/mid:2:1");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-c@#,:\\- \\t\\n/$INCLUDE]{0,60}|\\PC{0,60}") {
        let _ = read(&[&text], Flavor::OtherPackages);
    }
}

/// Lists that include the next one three times each, forty of them.
fn fan(more: &str) -> Memory {
    let text = |number: usize| match number {
        40 => "end\n".to_owned(),
        _ => format!("{more}p{number}\n{}", format!("#INCLUDE:f{}#\n", number + 1).repeat(3)),
    };
    let files = (0..=40).map(|number| (PathBuf::from(format!("/D/f{number}")), text(number)));
    Memory(files.collect(), HashMap::new())
}

#[test]
fn lists_that_include_one_another_several_times_are_read_once() {
    let top = SourceFile::new("list", "/D/list", "#INCLUDE:f0#\nlast\n#NEW_INSTALL_LIST#\n#INCLUDE:f39#\n");
    let list = parse_pkglist(&[Arc::clone(&top)], Flavor::Packages, &fan(""));
    assert!(list.findings.is_empty(), "{:?}", list.findings);
    let names = |pass: usize| list.passes[pass].install.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(0).len(), 42);
    assert_eq!(names(0)[39..], ["p39", "end", "last"]);
    // Another pass has it again.
    assert_eq!(names(1), ["p39", "end"]);
    let list = crate::xcat::parse_exlist(&[top], &fan(""));
    assert_eq!(list.exclude.iter().filter(|pattern| pattern.text == "end").count(), 1);
}

#[test]
fn lists_that_multiply_are_refused() {
    let top = SourceFile::new("list", "/D/list", "#INCLUDE:f0#\n");
    let list = parse_pkglist(&[top], Flavor::Packages, &fan("#ENV:A=1#\n"));
    let codes: Vec<&str> = list.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["include::many"]);
}
