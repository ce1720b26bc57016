//! Repositories as the solver reads them inside: the metadata that were fetched and checked, or such as are made here.

use std::fmt::Write as _;

use crate::DistroError;
use crate::rpm::{Candidate, Capability, MetadataFile, Repository, ending};
use crate::rpm_family::resolve::solver::shown_id;
use base::digest::Sha256;
use store::{Scratch, StoreError};

/// Metadata that solvers read; others of the repository are not shown.
const KINDS: [&str; 5] = ["primary", "filelists", "group", "group_gz", "modules"];

/// Metadata of a repository: path below it and content.
type Files = Vec<(String, Vec<u8>)>;

/// Lays a repository out in a directory that the sandbox is shown. Gives the repomd.xml that it gets there, which has the
/// digests of all that a solver reads.
pub(crate) fn lay_out(scratch: &Scratch, repository: &Repository) -> Result<String, DistroError> {
    let root = shown_id(&repository.id);
    let mut entries = String::new();
    for (path, bytes) in made(repository, &mut entries) {
        scratch.write_link(&format!("{root}/{path}"), &bytes, 0o644)?;
    }
    for file in repository.metadata.iter().filter(|file| KINDS.contains(&file.kind.as_str())) {
        let location = shown(file)?;
        scratch.link(&file.file, &format!("{root}/{location}"))?;
        let (kind, digits) = (file.checksum.kind(), file.checksum.digits());
        entry(&mut entries, &file.kind, &location, &digits, kind, file.size);
    }
    let repomd = repomd(&entries);
    scratch.write_link(&format!("{root}/{REPOMD}"), repomd.as_bytes(), 0o644)?;
    Ok(repomd)
}

/// The same as files to keep: as they were fetched, with their signature, where they were fetched.
pub(crate) fn index_of(repository: &Repository) -> Result<Files, DistroError> {
    let mut entries = String::new();
    let mut files = made(repository, &mut entries);
    if !files.is_empty() {
        files.push((REPOMD.to_owned(), repomd(&entries).into_bytes()));
        return Ok(files);
    }
    for file in &repository.metadata {
        let bytes = std::fs::read(&file.file).map_err(|source| StoreError::io("read", &file.file, source))?;
        files.push((file.location.clone(), bytes));
    }
    files.push((REPOMD.to_owned(), repository.repomd.clone()));
    files.extend(repository.signature.clone().map(|bytes| (format!("{REPOMD}.asc"), bytes)));
    Ok(files)
}

const REPOMD: &str = "repodata/repomd.xml";

fn repomd(entries: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n<revision>1</revision>\n{entries}</repomd>\n"
    )
}

/// Metadata of a directory of packages, which has none.
fn made(repository: &Repository, entries: &mut String) -> Files {
    if !repository.metadata.is_empty() {
        return Vec::new();
    }
    let all = &repository.candidates;
    let files = [("primary", primary(all)), ("filelists", filelists(all))];
    let files = files.map(|(kind, text)| {
        let path = format!("repodata/{kind}.xml");
        entry(entries, kind, &path, &Sha256::of(text.as_bytes()).to_string(), "sha256", text.len() as u64);
        (path, text.into_bytes())
    });
    files.to_vec()
}

/// Where a solver finds a metadata file: at the path that it has, unless an address would read it as something else.
fn shown(file: &MetadataFile) -> Result<String, DistroError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if file.location.chars().all(is_plain) {
        return Ok(file.location.clone());
    }
    let ending = ending(file).map_err(|source| StoreError::io("read", &file.file, source))?;
    Ok(format!("repodata/{}.xml{ending}", file.kind))
}

fn entry(text: &mut String, kind: &str, location: &str, digits: &str, of: &str, size: u64) {
    let _ = writeln!(
        text,
        "<data type=\"{}\"><checksum type=\"{of}\">{digits}</checksum><location href=\"{}\"/><timestamp>1</timestamp><size>{size}</size></data>",
        escaped(kind),
        escaped(location)
    );
}

/// Text of an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no other control characters at all.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// A list of dependencies. Source: createrepo_c's primary.xml.
fn dependencies<'a>(text: &mut String, name: &str, all: impl Iterator<Item = (&'a Capability, bool)>) {
    let mut inner = String::new();
    for (one, pre) in all {
        let _ = write!(inner, "<rpm:entry name=\"{}\"", escaped(&one.name));
        if let Some((relation, evr)) = one.version.as_deref() {
            let flags = match (relation.less, relation.greater, relation.equal) {
                (true, false, true) => "LE",
                (true, false, false) => "LT",
                (false, true, true) => "GE",
                (false, true, false) => "GT",
                _ => "EQ",
            };
            let _ = write!(inner, " flags=\"{flags}\" epoch=\"{}\" ver=\"{}\"", evr.epoch, escaped(&evr.version));
            if !evr.release.is_empty() {
                let _ = write!(inner, " rel=\"{}\"", escaped(&evr.release));
            }
        }
        inner.push_str(if pre { " pre=\"1\"/>\n" } else { "/>\n" });
    }
    if !inner.is_empty() {
        let _ = write!(text, "<rpm:{name}>\n{inner}</rpm:{name}>\n");
    }
}

fn version(candidate: &Candidate) -> String {
    let evr = &candidate.evr;
    format!("<version epoch=\"{}\" ver=\"{}\" rel=\"{}\"/>", evr.epoch, escaped(&evr.version), escaped(&evr.release))
}

/// primary.xml of packages that were read from their files.
fn primary(candidates: &[Candidate]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"{}\">\n",
        candidates.len()
    );
    for one in candidates {
        let (kind, digits) = (one.checksum.kind(), one.checksum.digits());
        let _ = write!(
            text,
            "<package type=\"rpm\">\n<name>{}</name>\n<arch>{}</arch>\n{}\n<checksum type=\"{kind}\" pkgid=\"YES\">{digits}</checksum>\n<summary></summary>\n<description></description>\n<packager></packager>\n<url></url>\n<time file=\"0\" build=\"0\"/>\n<size package=\"{}\" installed=\"{}\" archive=\"0\"/>\n<location href=\"{}\"/>\n<format>\n",
            escaped(&one.name),
            escaped(&one.arch),
            version(one),
            one.size,
            one.installed_size,
            escaped(&one.location),
        );
        if let Some(source) = &one.source {
            let _ = writeln!(text, "<rpm:sourcerpm>{}</rpm:sourcerpm>", escaped(source));
        }
        let plain = |all: &'static str, list: &[Capability], text: &mut String| {
            dependencies(text, all, list.iter().map(|one| (one, false)));
        };
        plain("provides", &one.provides, &mut text);
        dependencies(&mut text, "requires", one.requires.iter().map(|one| (&one.capability, one.pre)));
        plain("conflicts", &one.conflicts, &mut text);
        plain("obsoletes", &one.obsoletes, &mut text);
        plain("recommends", &one.weak.recommends, &mut text);
        plain("suggests", &one.weak.suggests, &mut text);
        plain("supplements", &one.weak.supplements, &mut text);
        plain("enhances", &one.weak.enhances, &mut text);
        for file in &one.files {
            let _ = writeln!(text, "<file>{}</file>", escaped(file));
        }
        text.push_str("</format>\n</package>\n");
    }
    text.push_str("</metadata>\n");
    text
}

/// filelists.xml of them; primary has all files already.
fn filelists(candidates: &[Candidate]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<filelists xmlns=\"http://linux.duke.edu/metadata/filelists\" packages=\"{}\">\n",
        candidates.len()
    );
    for one in candidates {
        let digits = one.checksum.digits();
        let _ = writeln!(
            text,
            "<package pkgid=\"{digits}\" name=\"{}\" arch=\"{}\">{}",
            escaped(&one.name),
            escaped(&one.arch),
            version(one)
        );
        for file in &one.files {
            let _ = writeln!(text, "<file>{}</file>", escaped(file));
        }
        text.push_str("</package>\n");
    }
    text.push_str("</filelists>\n");
    text
}
