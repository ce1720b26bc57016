//! manifest.xml of a bundle that imgexport wrote (section 9.2), nested and flat.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Definition, LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS, is_word};
use base::source::{Finding, Severity, SourceFile, Span};
use base::xml::{Event, Reader};

/// A file or folder that goes along with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Where it lay; its last part is its name in the bundle.
    pub src: String,
    pub dest: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub definition: Definition,
    pub kernel: Option<String>,
    /// Where the initrd goes.
    pub ramdisk: Option<String>,
    /// Where the packed image goes.
    pub rootimg: Option<String>,
    /// Where the tree of a statelite image goes.
    pub rootimgtree: Option<String>,
    /// Where the rows of litefile go.
    pub litefile: Option<String>,
    pub needs_media: bool,
    pub extras: Vec<Extra>,
    /// Names of scripts for nodes, in order.
    pub postscripts: Option<String>,
    pub postbootscripts: Option<String>,
}

/// Attributes whose values are lists of files.
pub const FILE_ATTRIBUTES: [&str; 6] = ["template", "pkglist", "otherpkglist", "postinstall", "exlist", "synclists"];

#[derive(Debug, Clone, Default)]
struct Element {
    name: String,
    text: String,
    inner: Vec<Element>,
    span: Option<Span>,
}

impl Element {
    fn child(&self, name: &str) -> Option<&Element> {
        self.inner.iter().find(|one| one.name == name)
    }

    fn value(&self, name: &str) -> Option<String> {
        let text = self.child(name)?.text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

fn tree(file: &Arc<SourceFile>) -> Result<Element, Finding> {
    let mut reader = Reader::new(file.text.as_bytes()).without_doctype();
    let mut open = vec![Element::default()];
    loop {
        let at = usize::try_from(reader.position()).unwrap_or(usize::MAX).min(file.text.len());
        let span = Span::new(file, at..at);
        let broken = |problem: String| {
            Finding::error("manifest::xml", &span, format!("the manifest {}", problem.trim_start_matches("it ")))
                .help("the bundle is damaged, or was not written by imgexport")
        };
        match reader.event() {
            Ok(Some(Event::Start { name, attributes })) => {
                let mut element = Element { name: name.to_owned(), span: Some(span), ..Element::default() };
                // XML::Simple reads attributes like elements.
                for (key, value) in attributes.iter() {
                    element.inner.push(Element { name: key.to_owned(), text: value.to_owned(), ..Element::default() });
                }
                open.push(element);
            }
            Ok(Some(Event::End { text, .. })) => {
                let Some(mut ended) = open.pop() else { return Err(broken("is truncated".to_owned())) };
                ended.text = text.to_owned();
                match open.last_mut() {
                    Some(outer) => outer.inner.push(ended),
                    None => return Err(broken("is truncated".to_owned())),
                }
            }
            Ok(None) => break,
            Err(problem) => return Err(broken(problem)),
        }
    }
    let whole = Span::new(file, 0..0);
    let root = open.pop().and_then(|top| top.inner.into_iter().next());
    root.filter(|root| root.name == "xcatimage").ok_or_else(|| {
        Finding::error("manifest::root", &whole, "the manifest has no element `xcatimage`")
            .help("name a bundle that imgexport or `imgbuild export bundle` wrote")
    })
}

/// Whether a path of a manifest may be written below a folder: absolute, without `..`.
pub fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.ends_with('/')
        && !path.contains(|c: char| c.is_control())
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Reads a manifest; with errors among the findings nothing may be made of it.
pub fn parse_manifest(file: &Arc<SourceFile>) -> (Option<Manifest>, Vec<Finding>) {
    let root = match tree(file) {
        Ok(root) => root,
        Err(finding) => return (None, vec![finding]),
    };
    let mut findings = Vec::new();
    let whole = root.span.clone().unwrap_or_else(|| Span::new(file, 0..0));
    let is_nested = root.child("osimage").is_some() || root.child("linuximage").is_some();
    let records: Vec<&Element> = match is_nested {
        true => ["linuximage", "osimage"].iter().filter_map(|name| root.child(name)).collect(),
        false => vec![&root],
    };
    let mut definition = Definition::osimage("");
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    for element in records.iter().flat_map(|record| &record.inner) {
        let name = element.name.as_str();
        if !OSIMAGE_COLUMNS.contains(&name) && !LINUXIMAGE_COLUMNS.contains(&name) {
            continue;
        }
        let value = element.text.trim();
        if name == "imagename" {
            definition.name = value.to_owned();
            continue;
        }
        let name = if name == "comments" { "usercomment" } else { name };
        definition.set(name, value, element.span.clone());
        spans.extend(element.span.clone().map(|span| (name.to_owned(), span)));
    }
    if !is_nested {
        let old = "a manifest of an old release of xCAT, with all attributes at the top";
        findings.push(Finding::note("manifest::flat", &whole, old));
        if definition.get("postscripts").is_some() || definition.get("postbootscripts").is_some() {
            let message = "the postscripts belong to both the image and nodes";
            findings.push(
                Finding::warning("manifest::postscripts", &whole, message)
                    .help("they are kept with the image; for nodes set them in xCAT's table postscripts"),
            );
        }
    }
    for needed in ["imagename", "provmethod", "profile", "osvers", "osarch"] {
        let is_there =
            if needed == "imagename" { !definition.name.is_empty() } else { definition.get(needed).is_some() };
        if !is_there {
            findings.push(
                Finding::error("manifest::missing", &whole, format!("the manifest has no `{needed}`"))
                    .help("imgimport would refuse it too"),
            );
        }
    }
    let place = |name: &str| root.value(name);
    let manifest = Manifest {
        kernel: place("kernel"),
        ramdisk: place("ramdisk"),
        rootimg: place("rootimg"),
        rootimgtree: place("rootimgtree"),
        litefile: place("litefile"),
        needs_media: place("media").as_deref() == Some("required"),
        extras: extras(&root),
        postscripts: if is_nested { place("postscripts") } else { None },
        postbootscripts: if is_nested { place("postbootscripts") } else { None },
        definition,
    };
    check(&manifest, &whole, &spans, &mut findings);
    (Some(manifest), findings)
}

fn extras(root: &Element) -> Vec<Extra> {
    let all = root.inner.iter().filter(|one| one.name == "extra");
    all.filter_map(|one| Some(Extra { src: one.value("src")?, dest: one.value("dest")? })).collect()
}

fn check(manifest: &Manifest, whole: &Span, spans: &BTreeMap<String, Span>, findings: &mut Vec<Finding>) {
    let error = |code: &'static str, message: String| Finding::error(code, whole, message);
    let needed: &[(&str, &Option<String>)] = match manifest.definition.get("provmethod") {
        Some("netboot") => {
            &[("kernel", &manifest.kernel), ("ramdisk", &manifest.ramdisk), ("rootimg", &manifest.rootimg)]
        }
        Some("statelite") => {
            &[("kernel", &manifest.kernel), ("ramdisk", &manifest.ramdisk), ("rootimgtree", &manifest.rootimgtree)]
        }
        Some("install" | "sysclone" | "raw") | None => &[],
        Some(other) => {
            let message = format!("provmethod `{other}` is not supported");
            findings.push(error("manifest::provmethod", message).help("one of netboot, statelite, install"));
            &[]
        }
    };
    for (name, value) in needed {
        if value.is_none() {
            let help = "imgimport would refuse the bundle too: export it again, with all files in rootimgdir";
            findings.push(error("manifest::missing", format!("the manifest has no `{name}`")).help(help));
        }
    }
    let mut paths: Vec<(String, String)> = Vec::new();
    for (name, value) in [
        ("kernel", &manifest.kernel),
        ("ramdisk", &manifest.ramdisk),
        ("rootimg", &manifest.rootimg),
        ("rootimgtree", &manifest.rootimgtree),
        ("litefile", &manifest.litefile),
    ] {
        paths.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    for attribute in FILE_ATTRIBUTES {
        paths.extend(files(&manifest.definition, attribute).into_iter().map(|path| (attribute.to_owned(), path)));
    }
    let rootimgdir = manifest.definition.get("rootimgdir").map(|path| path.trim_end_matches('/').to_owned());
    paths.extend(rootimgdir.map(|path| ("rootimgdir".to_owned(), path)));
    for name in ["osvers", "osarch", "profile"] {
        let value = manifest.definition.get(name).unwrap_or_default();
        // That one is missing was said.
        if !value.is_empty() && !is_word(value) {
            let message = format!("`{}` is not a valid {name}", value.escape_debug());
            findings.push(error("manifest::word", message).help("nothing was written: do not trust this bundle"));
        }
    }
    for extra in &manifest.extras {
        paths.push(("extra".to_owned(), extra.src.trim_end_matches('/').to_owned()));
        paths.push(("extra".to_owned(), extra.dest.trim_end_matches('/').to_owned()));
    }
    for (name, path) in paths {
        if !is_plain_path(&path) {
            let span = spans.get(&name).unwrap_or(whole);
            findings.push(
                Finding::error(
                    "manifest::path",
                    span,
                    format!("`{}` is not a valid path for `{name}`", path.escape_debug()),
                )
                .label("it is not absolute, or escapes its root")
                .help("nothing was written: do not trust this bundle"),
            );
        }
    }
    findings.sort_by_key(|one| std::cmp::Reverse(one.severity == Severity::Error));
}

/// The files of an attribute; of postinstall without the arguments.
pub fn files(definition: &Definition, attribute: &str) -> Vec<String> {
    let items = definition.list(attribute);
    match attribute {
        "postinstall" => items.iter().filter_map(|one| one.split_whitespace().next().map(str::to_owned)).collect(),
        _ => items,
    }
}

pub fn write_manifest(manifest: &Manifest) -> String {
    let line = |depth: usize, name: &str, value: &str| {
        format!("{}<{name}>{}</{name}>\n", "  ".repeat(depth), quick_escape(value))
    };
    let mut parts: Vec<(String, String)> = Vec::new();
    for (name, value) in [
        ("kernel", &manifest.kernel),
        ("litefile", &manifest.litefile),
        ("postbootscripts", &manifest.postbootscripts),
        ("postscripts", &manifest.postscripts),
        ("ramdisk", &manifest.ramdisk),
        ("rootimg", &manifest.rootimg),
        ("rootimgtree", &manifest.rootimgtree),
    ] {
        parts.extend(value.as_ref().map(|value| (name.to_owned(), line(1, name, value))));
    }
    for extra in &manifest.extras {
        let inner = line(2, "dest", &extra.dest) + &line(2, "src", &extra.src);
        parts.push(("extra".to_owned(), format!("  <extra>\n{inner}  </extra>\n")));
    }
    for (record, columns) in [("linuximage", &LINUXIMAGE_COLUMNS[..]), ("osimage", &OSIMAGE_COLUMNS[..])] {
        let mut lines: Vec<(String, String)> = vec![("imagename".to_owned(), manifest.definition.name.clone())];
        for (name, attribute) in &manifest.definition.attributes {
            let name = if name == "usercomment" { "comments" } else { name };
            // Both tables have comments; the image's are in osimage.
            if columns.contains(&name) && !(name == "comments" && record == "linuximage") {
                lines.push((name.to_owned(), attribute.value.clone()));
            }
        }
        lines.sort();
        let inner: String = lines.iter().map(|(name, value)| line(2, name, value)).collect();
        parts.push((record.to_owned(), format!("  <{record}>\n{inner}  </{record}>\n")));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let inner: String = parts.into_iter().map(|(_, text)| text).collect();
    format!("<?xml version=\"1.0\"?>\n<xcatimage>\n{inner}</xcatimage>\n")
}

/// A text as XML has it; characters that XML has not are left out.
fn quick_escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Manifest>, Vec<(Severity, String)>) {
        let (manifest, findings) = parse_manifest(&SourceFile::new("manifest.xml", "/m", text));
        (manifest, findings.into_iter().map(|one| (one.severity, one.message)).collect())
    }

    const BASE: &str = "<osimage><imagename>i</imagename><provmethod>netboot</provmethod><profile>compute</profile>\
        <osvers>rocky9.4</osvers><osarch>x86_64</osarch></osimage>\
        <kernel>/i/kernel</kernel><ramdisk>/i/initrd-stateless.gz</ramdisk><rootimg>/i/rootimg.cpio.gz</rootimg>";

    fn with(more: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<xcatimage>{BASE}{more}</xcatimage>\n")
    }

    /// Section 14.5.
    #[test]
    fn vectors() {
        let (m1, messages) = read(&with(
            "<linuximage><imagename>i</imagename><pkglist>/a/x.pkglist,/a/y.pkglist</pkglist></linuximage>\
             <extra><dest>/install/postscripts</dest><src>/install/postscripts/setlimits</src></extra>\
             <postscripts>syslog,remoteshell</postscripts>",
        ));
        let m1 = m1.unwrap();
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(
            (m1.definition.list("pkglist").len(), m1.extras.len(), m1.postscripts.as_deref()),
            (2, 1, Some("syslog,remoteshell"))
        );
        let flat = "<xcatimage><imagename>myimage</imagename><osarch>x86_64</osarch><osvers>sles12</osvers><profile>c</profile>\
            <provmethod>netboot</provmethod><kernel>/i/kernel</kernel><ramdisk>/i/initrd-diskless.gz</ramdisk>\
            <rootimg>/i/rootimg.gz</rootimg><postscripts>syslog</postscripts></xcatimage>";
        let (m2, messages) = read(flat);
        assert_eq!((m2.unwrap().definition.name.as_str(), messages.len()), ("myimage", 2));
        assert!(messages.iter().all(|(severity, _)| *severity != Severity::Error), "{messages:?}");
        let two = "<extra><dest>/d</dest><src>/a</src></extra>";
        assert_eq!(read(&with(&two.repeat(2))).0.unwrap().extras.len(), 2);
        let m5 = read(&with("<linuximage><synclists></synclists></linuximage>")).0.unwrap();
        assert_eq!(m5.definition.get("synclists"), None);
        let refused = |text: &str, said: &str| {
            let messages = read(text).1;
            assert!(
                messages.iter().any(|(severity, message)| *severity == Severity::Error && message.contains(said)),
                "{said}: {messages:?}"
            );
        };
        refused(&with("").replace("netboot", "netboot2"), "provmethod `netboot2` is not supported");
        refused(&with("").replace("<ramdisk>/i/initrd-stateless.gz</ramdisk>", ""), "no `ramdisk`");
        refused(&with("<linuximage><pkglist>../../etc/cron.d/x</pkglist></linuximage>"), "../../etc/cron.d/x");
        refused(&with("<extra><dest>/a/../../etc</dest><src>/x</src></extra>"), "is not a valid path for `extra`");
        let m15 = read(
            &with("<osimage><description>a &amp; b</description></osimage>")
                .replace("</osimage><kernel>", "<description>a &amp; b</description></osimage><kernel>"),
        );
        assert_eq!(m15.0.unwrap().definition.get("description"), Some("a & b"));
        refused("<!DOCTYPE x [<!ENTITY a \"b\">]><xcatimage>&a;</xcatimage>", "DOCTYPE");
        refused("<xcatimage>&a;</xcatimage>", "unknown entity");
        refused("<other/>", "no element `xcatimage`");
        refused("<xcatimage><osimage>", "ends within");
        refused("", "no element `xcatimage`");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (manifest, _) = read(&with("<extra><dest>/d</dest><src>/a</src></extra><postscripts>a,b</postscripts>"));
        let mut manifest = manifest.unwrap();
        manifest.definition.set("description", "a & \"b\" <c>", None);
        manifest.definition.set("usercomment", "x", None);
        let (again, messages) = read(&write_manifest(&manifest));
        let mut again = again.unwrap();
        for one in [&mut again, &mut manifest] {
            one.definition.attributes.values_mut().for_each(|attribute| attribute.span = None);
        }
        assert!(messages.is_empty() && again == manifest, "{messages:?} {again:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(<[a-z]{1,3}>|</[a-z]{1,3}>|<xcatimage>|&amp;|&|é|<!DOCTYPE a>|[a-z /]){0,40}") {
            read(&text);
        }
    }
}
