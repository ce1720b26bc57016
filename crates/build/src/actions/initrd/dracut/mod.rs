//! An initrd that the release's own dracut composes, with a module of imgbuild that boots as imgbuild's own initrd does.
//!
//! dracut runs in a tools root and only composes: its archive is not compressed, and is read, put in order and
//! written by imgbuild, so that the same inputs give the same bytes (D21, D22).

pub(crate) mod inputs;
pub(crate) mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use serde::{Deserialize, Serialize};

use super::compose::{
    InitrdAnswer, InitrdRequest, Tree, add_firmware, driver_settings, folder_of, read_module, select, write,
};
use crate::actions::kernel::modules::{Selection, plain_path};
use archive::{Body, Content, Found, read_archive, write_trailer};
use base::digest::Digest;
use recipe::normal_name;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, TreeMount, run_command, shown};
use store::{LayerReader, TreeEditor, in_scratch, lower_directories, make_directories};

/// Part of the keys; raised with what the action gives. 1: first; 2: zstd compresses it as a whole; 4: microcode; 5: the names of
/// its drivers; 6: modules of dracut see fixed processors and memory.
pub(crate) const VERSION: u32 = 6;

/// Runs dracut in the tools root.
const COMPOSE: &str = include_str!("compose.sh");

/// imgbuild's dracut module, but for the program and the list of drivers.
const MODULE: [(&str, &str); 3] = [
    ("module-setup.sh", include_str!("module/module-setup.sh")),
    ("parse-imgbuild.sh", include_str!("module/parse-imgbuild.sh")),
    ("mount-imgbuild.sh", include_str!("module/mount-imgbuild.sh")),
];

/// Answers that this is a container, where no device nodes can be made, and nothing of the machine: dracut would choose
/// drivers by it.
const DETECT_VIRT: &str = "#!/bin/sh\ncase $1 in\n-c | --container) echo other; exit 0 ;;\nesac\necho none\nexit 1\n";

/// Where the sandbox shows what dracut works with; it must not look like a place of the release.
const PLACE: &str = "/imgbuild";

/// Files of depmod's input that the modules themselves do not hold.
const MODULE_LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DracutRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub initrd: InitrdRequest,
    pub tools: Vec<Digest>,
    /// dracut's modules that are added to its own choice.
    pub add: Vec<String>,
    pub omit: Vec<String>,
    pub conf: Vec<(String, String)>,
    /// Log file, relative to the store's directory.
    pub log: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum DracutAnswer {
    /// The initrd, or names of drivers that the kernel lacks; and what dracut was asked to install but could not find.
    Made(Box<InitrdAnswer>, Vec<String>),
    Failed(CommandResult),
}

pub(crate) fn inside(request: DracutRequest, news: News<'_>) -> Result<DracutAnswer, String> {
    in_scratch(&request.scratch, || {
        let initrd = &request.initrd;
        let reader = LayerReader::open(&initrd.layers)?;
        let (_, selection, mut answer) = select(&reader, initrd)?;
        if !answer.missing.is_empty() {
            return Ok(DracutAnswer::Made(Box::new(answer), Vec::new()));
        }
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "root", "root-work", "work"])?;
        let work = TreeEditor::open(&at("work"))?;
        provide(&work, &request, &reader)?;
        let mut modules = Vec::new();
        let mut drivers = String::new();
        for path in &selection.paths {
            let bytes = read_module(&reader, &initrd.release, path)?;
            work.write(&format!("lib/modules/{}/{}", initrd.release, plain_path(path)), &bytes, 0o644)?;
            drivers.push_str(&format!("{}\n", normal_name(path)));
            modules.push((path, bytes));
        }
        work.write("module/drivers", drivers.as_bytes(), 0o644)?;
        news("dracut is composing the initrd");
        let result = run_command(&command(&request, lower_directories(&request.tools)?))?;
        if result.status != 0 {
            return Ok(DracutAnswer::Failed(result));
        }
        let archive = work.open_file("out/initrd").ok_or("dracut left no regular file")?;
        let mut composed = read_archive(&mut BufReader::new(archive))
            .map_err(|error| format!("dracut left an archive that cannot be read: {error}"))?;
        check(&composed, &selection, &initrd.release)?;
        normalise(&mut composed);
        let is_merged = composed.get("lib").is_some_and(|found| matches!(found.content, Content::Symlink(_)));
        let mut tree = Tree::new(initrd.epoch, is_merged);
        for (path, found) in &composed {
            match &found.content {
                Content::Directory => tree.add(path, found.mode, Body::Directory)?,
                Content::File(bytes) => tree.file(path, found.mode, bytes)?,
                Content::Symlink(target) => tree.add(path, 0o777, Body::Symlink(target))?,
                Content::Special => {}
            }
        }
        tree.add("dev/console", 0o600, Body::Character(5, 1))?;
        tree.add("dev/null", 0o666, Body::Character(1, 3))?;
        for (path, bytes) in &modules {
            add_firmware(&reader, &mut tree, &selection, (path, bytes), &mut answer)?;
        }
        write_trailer(&mut tree.out).map_err(|error| error.to_string())?;
        write(initrd, &reader, &tree.out)?;
        let log = std::fs::read(&request.log).unwrap_or_default();
        Ok(DracutAnswer::Made(Box::new(answer), not_installed(&String::from_utf8_lossy(&log))))
    })
}

/// Puts what dracut works with into the directory that it sees as [`PLACE`].
fn provide(work: &TreeEditor, request: &DracutRequest, reader: &LayerReader) -> Result<(), String> {
    let initrd = &request.initrd;
    work.write("compose", COMPOSE.as_bytes(), 0o755)?;
    work.write("bin/systemd-detect-virt", DETECT_VIRT.as_bytes(), 0o755)?;
    for (name, text) in MODULE {
        work.write(&format!("module/{name}"), text.as_bytes(), 0o755)?;
    }
    let init = std::fs::read(&initrd.init).map_err(|error| format!("imgbuild-init: {error}"))?;
    work.write("module/imgbuild-init", &init, 0o755)?;
    if !initrd.ca.is_empty() {
        work.write("module/ca.pem", initrd.ca.as_bytes(), 0o644)?;
    }
    for (name, text) in &request.conf {
        work.write(&format!("conf/{name}"), text.as_bytes(), 0o644)?;
    }
    for (name, bytes) in driver_settings(reader)? {
        work.write(&format!("modprobe.d/{name}"), &bytes, 0o644)?;
    }
    for name in MODULE_LISTS {
        if let Some(bytes) = reader.read(&format!("{}/{name}", folder_of(&initrd.release)))? {
            work.write(&format!("lib/modules/{}/{name}", initrd.release), &bytes, 0o644)?;
        }
    }
    Ok(())
}

fn command(request: &DracutRequest, tools: Vec<String>) -> CommandRequest {
    let at = |name: &str| format!("{}/{name}", request.scratch);
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let path = format!("{PLACE}/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    CommandRequest {
        root: TreeMount { lower: tools, upper: at("root"), work: at("root-work"), root: None },
        binds: vec![Bind { source: at("work"), target: PLACE.to_owned(), writable: true }],
        arguments: vec![
            "/bin/bash".to_owned(),
            format!("{PLACE}/compose"),
            request.initrd.release.clone(),
            std::iter::once("imgbuild").chain(request.add.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
            request.omit.join(" "),
        ],
        environment: vec![
            variable("PATH", &path),
            variable("DRACUT_PATH", &path.replace(':', " ")),
            // Nodes and attributes cannot be made in a user namespace; imgbuild adds the nodes that are needed.
            variable("DRACUT_NO_MKNOD", "1"),
            variable("DRACUT_NO_XATTR", "1"),
            variable("HOME", "/root"),
            variable("LC_ALL", "C.UTF-8"),
            variable("TZ", "UTC"),
            variable("TERM", "dumb"),
            variable("SOURCE_DATE_EPOCH", &request.initrd.epoch.to_string()),
        ],
        log: request.log.clone(),
        mount_point: at("mount"),
        ..CommandRequest::default()
    }
}

/// dracut says it in its log only when a driver or a part cannot be copied, and goes on.
fn check(composed: &BTreeMap<String, Found>, selection: &Selection, release: &str) -> Result<(), String> {
    let has = |path: &str| composed.contains_key(path) || composed.contains_key(&format!("usr/{path}"));
    let modules = selection.paths.iter().map(|path| format!("lib/modules/{release}/{}", plain_path(path)));
    let own = ["init", "bin/imgbuild-init"].map(str::to_owned);
    let missing: Vec<String> = own.into_iter().chain(modules).filter(|path| !has(path)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("dracut left these files out of the initrd: {}", missing.join(", ")))
}

/// Names that dracut could not find: it says so in its log and goes on.
fn not_installed(log: &str) -> Vec<String> {
    let name =
        |line: &str| Some(line.split_once("ERROR: installing '")?.1.trim_end().trim_end_matches('\'').to_owned());
    log.lines().filter_map(name).map(|name| shown(&name)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Takes out what differs from run to run or tells of the build.
fn normalise(composed: &mut BTreeMap<String, Found>) {
    composed.retain(|path, found| {
        let is_directory = found.content == Content::Directory;
        let is_kept = !["dev/", "tmp/", "var/tmp/", "var/log/"].iter().any(|start| path.starts_with(start))
            && path != "var/cache/ldconfig/aux-cache";
        is_kept || (is_directory && path.starts_with("var/"))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Found {
        Found { mode: 0o644, content: Content::File(Vec::new()) }
    }

    #[test]
    fn what_tells_of_the_build_is_taken_out() {
        let names = ["dev/kmsg", "etc/x", "tmp/y", "var/cache/ldconfig/aux-cache", "var/log/z"];
        let mut composed: BTreeMap<String, Found> = names.map(|name| (name.to_owned(), file())).into();
        normalise(&mut composed);
        assert_eq!(composed.into_keys().collect::<Vec<_>>(), ["etc/x"]);
    }

    #[test]
    fn what_dracut_could_not_install_is_read_from_its_log() {
        let log = "dracut: *** x ***\ndracut-install: ERROR: installing '/no/such'\ndracut-install: ERROR: installing 'halt'\n\
                   dracut-install: ERROR: installing '/no/such'\n";
        assert_eq!(not_installed(log), ["/no/such", "halt"]);
    }

    #[test]
    fn a_driver_that_dracut_left_out_is_an_error() {
        let selection =
            Selection { paths: vec!["kernel/a.ko.xz".into(), "kernel/b.ko".into()], ..Selection::default() };
        let names = ["init", "usr/bin/imgbuild-init", "usr/lib/modules/1/kernel/a.ko"];
        let mut composed: BTreeMap<String, Found> = names.map(|name| (name.to_owned(), file())).into();
        let problem = check(&composed, &selection, "1").unwrap_err();
        assert_eq!(problem, "dracut left these files out of the initrd: lib/modules/1/kernel/b.ko");
        composed.insert("lib/modules/1/kernel/b.ko".to_owned(), file());
        assert_eq!(check(&composed, &selection, "1"), Ok(()));
    }
}
