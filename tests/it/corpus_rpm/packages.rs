//! Every real package: read, checked, unpacked, and compared with what rpm says of it.

#[cfg(feature = "e2e")]
use std::collections::BTreeMap;
use std::fmt::Write as _;
#[cfg(feature = "e2e")]
use std::fs::File;
use std::path::{Path, PathBuf};

#[cfg(feature = "e2e")]
use archive::MemberKind;
#[cfg(feature = "e2e")]
use base::digest::Sha256;
use packages::Keyring;
use packages::rpm::Package;
#[cfg(feature = "e2e")]
use packages::rpm::{Capability, read_members};

use super::corpus;
use crate::support::{collected, project};

/// All packages, sorted, with their names from the corpus.
fn packages() -> Vec<(String, PathBuf)> {
    let root = corpus();
    let mut found: Vec<(String, PathBuf)> = walkdir::WalkDir::new(root.join("rpms"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "rpm" || ending == "drpm"))
        .map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), path))
        .collect();
    found.sort();
    found
}

/// Files that hold keys: those of distributions, and those beside packages.
pub fn key_files() -> Vec<(String, PathBuf)> {
    let root = corpus();
    let is_key = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        path.starts_with(root.join("keys")) || name.ends_with(".key")
    };
    let mut found: Vec<(String, PathBuf)> = ["keys", "rpms", "repodata"]
        .iter()
        .flat_map(|folder| walkdir::WalkDir::new(root.join(folder)))
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file() && is_key(path))
        .map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), path))
        .collect();
    found.sort();
    found
}

fn keys() -> Keyring {
    let mut all: Option<Keyring> = None;
    for (_, path) in key_files() {
        if let Ok(ring) = Keyring::parse(&std::fs::read(path).unwrap()) {
            match &mut all {
                Some(all) => all.extend(ring),
                None => all = Some(ring),
            }
        }
    }
    all.unwrap()
}

/// Compares a committed table with what came out.
#[track_caller]
pub fn assert_table(name: &str, table: &str) {
    let path = project().join("tests/fixtures").join(name);
    if std::env::var_os("UPDATE_CORPUS_TABLE").is_some() {
        std::fs::write(&path, table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<_> = table.lines().zip(committed.lines()).filter(|(now, was)| now != was).take(5).collect();
    assert!(table == committed, "{name} is stale (UPDATE_CORPUS_TABLE=1 renews it); first differences: {differing:#?}");
}

#[test]
fn every_real_package_has_its_result() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let (sound, weak) = (keys(), keys().accepting_weak());
    let mut text = String::from(
        "# Written by the test `every_real_package_has_its_result`: of each package of the corpus what it holds, or why it is refused, and\n\
         # whose signature it has: what is accepted, what is accepted only with weak-signatures, or why it is not.\n",
    );
    for (name, path) in packages() {
        let read = match Package::read(&path) {
            Ok(package) => format!("{} files, {} scripts", package.files.len(), package.scriptlets.len()),
            Err(problem) => format!("refused: it {problem}"),
        };
        let signed = match (Package::verify(&path, &sound), Package::verify(&path, &weak)) {
            (Ok(by), _) => format!("{by:?}"),
            (Err(problem), Ok(by)) => {
                format!("{by:?} ({})", problem.split(": the archive's maintainer").next().unwrap())
            }
            (Err(problem), Err(_)) => problem.replace('\n', " "),
        };
        let _ = writeln!(text, "{name}\t{read}\t{signed}");
    }
    assert_table("rpm-corpus.tsv", &text);
}

/// What a payload holds: path, and the digest of a file or the target of a link.
#[cfg(feature = "e2e")]
type Payload = BTreeMap<String, String>;

#[cfg(feature = "e2e")]
fn payload(path: &Path) -> Result<Payload, String> {
    let mut found = Payload::new();
    read_members(std::io::BufReader::new(File::open(path).unwrap()), &mut |member| {
        let content = match member.kind {
            MemberKind::File(content) => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
                Sha256::of(&bytes).to_string()
            }
            MemberKind::Symlink(target) => format!("-> {target}"),
        };
        found.insert(member.path, content);
        Ok(())
    })?;
    Ok(found)
}

/// An epoch of 0 is none.
#[cfg(feature = "e2e")]
fn without_epoch(line: &str) -> String {
    line.replace(" 0:", " ")
}

/// A program's output, whatever it says of itself.
#[cfg(feature = "e2e")]
fn said(command: &mut std::process::Command) -> Vec<u8> {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")).stdout
}

/// What rpm2cpio and GNU cpio get out of it.
#[cfg(feature = "e2e")]
fn unpacked(path: &Path) -> Payload {
    let folder = tempfile::tempdir().unwrap();
    let script = "rpm2cpio \"$0\" | cpio -idm --quiet --no-absolute-filenames 2>/dev/null; true";
    said(std::process::Command::new("sh").args(["-c", script]).arg(path).current_dir(folder.path()));
    let mut found = Payload::new();
    for entry in walkdir::WalkDir::new(folder.path()).into_iter().flatten() {
        let below = entry.path().strip_prefix(folder.path()).unwrap().display().to_string();
        if entry.file_type().is_symlink() {
            found.insert(below, format!("-> {}", std::fs::read_link(entry.path()).unwrap().display()));
        } else if entry.file_type().is_file() {
            found.insert(below, Sha256::of(&std::fs::read(entry.path()).unwrap()).to_string());
        }
    }
    found
}

#[test]
#[cfg(feature = "e2e")]
fn every_real_package_is_what_rpm_says_of_it() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    use std::process::Command;
    let query = |path: &Path, format: &str| -> Vec<String> {
        let mut command = Command::new("rpm");
        command.args(["-qp", "--nosignature", "--nodigest", "--qf", format]).arg(path);
        String::from_utf8_lossy(&said(&mut command)).lines().map(str::to_owned).collect()
    };
    let shown = |one: &Capability| one.to_string();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (name, path) in packages() {
        let Ok(package) = Package::read(&path) else { continue };
        let mut differs = |what: &str, own: Vec<String>, theirs: Vec<String>| {
            if own != theirs {
                let other = own.iter().zip(&theirs).find(|(a, b)| a != b);
                wrong.push(format!("{name}: {what}: {} and {}: {other:?}", own.len(), theirs.len()));
            }
        };
        let format = "[%{FILENAMES}|%{FILEMODES:octal}|%{FILEUSERNAME}|%{FILEGROUPNAME}|%{LONGFILESIZES}|%{FILEDIGESTS}|%{FILELINKTOS}|%{FILEFLAGS}\n]";
        let own = package.files.iter().map(|file| {
            let flags = u32::from(file.config) | u32::from(file.ghost) << 6;
            format!(
                "{}|{:o}|{}|{}|{}|{}|{}|{flags}",
                file.path, file.mode, file.user, file.group, file.size, file.digest, file.link
            )
        });
        let theirs = query(&path, format).into_iter().map(|line| {
            let (rest, flags) = line.rsplit_once('|').unwrap();
            format!("{rest}|{}", flags.parse::<u32>().unwrap_or(0) & 0o101)
        });
        differs("files", own.collect(), theirs.collect());
        let capabilities: Vec<String> = package
            .files
            .iter()
            .filter(|file| !file.capabilities.is_empty())
            .map(|file| format!("{} {}", file.path, file.capabilities))
            .collect();
        let theirs = query(&path, "[%{FILENAMES} %{FILECAPS}\n]");
        differs(
            "capabilities",
            capabilities,
            theirs.into_iter().filter(|line| !line.ends_with(' ') && !line.ends_with(" (none)")).collect(),
        );
        let candidate = &package.candidate;
        for (what, own, tag) in [
            ("provides", candidate.provides.iter().map(shown).collect::<Vec<_>>(), "PROVIDE"),
            ("requires", candidate.requires.iter().map(|one| shown(&one.capability)).collect(), "REQUIRE"),
            ("conflicts", candidate.conflicts.iter().map(shown).collect(), "CONFLICT"),
            ("obsoletes", candidate.obsoletes.iter().map(shown).collect(), "OBSOLETE"),
            ("recommends", candidate.weak.recommends.iter().map(shown).collect(), "RECOMMEND"),
            ("suggests", candidate.weak.suggests.iter().map(shown).collect(), "SUGGEST"),
            ("supplements", candidate.weak.supplements.iter().map(shown).collect(), "SUPPLEMENT"),
            ("enhances", candidate.weak.enhances.iter().map(shown).collect(), "ENHANCE"),
        ] {
            let theirs = query(&path, &format!("[%{{{tag}NEVRS}}\n]"));
            differs(what, own, theirs.into_iter().map(|line| without_epoch(line.trim_end())).collect());
        }
        let evr = query(&path, "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\n");
        let own = format!("{} {} {}", candidate.name, candidate.evr, candidate.arch);
        differs("name", vec![own], evr.iter().map(|line| without_epoch(line)).collect());
        match payload(&path) {
            // rpm 4.18 unpacks nothing of version 6: what its header says of each file is another witness.
            Ok(own) if name.contains("/v6/") => {
                let of_header = package.files.iter().filter(|file| !file.ghost && file.digest.len() == 64);
                let of_header =
                    of_header.map(|file| (file.path.trim_start_matches('/').to_owned(), file.digest.clone()));
                let files = own.into_iter().filter(|(_, content)| !content.starts_with("-> "));
                let lines =
                    |payload: Payload| payload.into_iter().map(|(path, content)| format!("{path} {content}")).collect();
                differs("payload", lines(files.collect()), lines(of_header.collect()));
            }
            Ok(own) => {
                let theirs = unpacked(&path);
                let lines =
                    |payload: Payload| payload.into_iter().map(|(path, content)| format!("{path} {content}")).collect();
                differs("payload", lines(own), lines(theirs));
            }
            Err(problem) => wrong.push(format!("{name}: payload: {problem}")),
        }
        compared += 1;
    }
    assert!(wrong.is_empty() && compared > 380, "{compared} compared, {} differ:\n{}", wrong.len(), wrong.join("\n"));
}
