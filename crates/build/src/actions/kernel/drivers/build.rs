//! Builds modules from a driver's source, in a tools root with the kernel's headers and a compiler. Runs inside.

use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::actions::packages::inputs::TOOLS_EPOCH;
use archive::{MemberKind, plain, read_tar};
use base::digest::Digest;
use packages::tools_tree;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, run_command};
use store::scan;
use store::{ScanAnswer, ScanRequest, Store, TreeEditor, in_scratch, make_directories};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub tools: Vec<Digest>,
    /// Files of the source: path, blob, mode. One file is a tar archive.
    pub files: Vec<(String, String, u32)>,
    pub is_directory: bool,
    pub release: String,
    /// The image's CPU, as `uname -m` prints it.
    pub machine: String,
    pub make: Vec<String>,
    /// Log file, relative to the store's directory.
    pub log: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum BuildAnswer {
    Made(ScanAnswer),
    Failed(CommandResult),
    Refused(String),
}

/// Where the source is while it is built: part of what the compiler writes, so always the same.
const SOURCE: &str = "/build/driver";

/// Sees to the build as dkms does, or calls make; then collects the modules.
///
/// dkms.conf is a script for bash by its own documentation (dkms(8)), so bash reads it. Where modules go is decided here, as
/// dkms does on Debian, SUSE and the RHEL family: below `updates`, unless the file says `/updates...` or `/extra...`.
const SCRIPT: &str = r#"set -e
release=$1
machine=$2
build=/lib/modules/$release/build
shift 2
# Some Makefiles ask for the running kernel.
mkdir -p /usr/local/bin
printf '#!/bin/sh\nfor word; do case $word in -r) echo "%s"; exit;; -m|-p|-i) echo %s; exit;; esac; done\necho Linux\n' "$release" "$machine" >/usr/local/bin/uname
chmod 755 /usr/local/bin/uname
if test ! -e "$build"; then
    # Debian's, Red Hat's and SUSE's places; which of them is this kernel's is what modules take their vermagic from.
    for headers in /usr/src/linux-headers-* /usr/src/kernels/* /usr/src/linux-*-obj/*/*; do
        said=$headers/include/generated/utsrelease.h
        if test -e "$said" && grep -qF "\"$release\"" "$said" && test ! -e "$build"; then
            mkdir -p "/lib/modules/$release"
            ln -sfn "$headers" "$build"
        fi
    done
fi
test -e "$build" || { echo "the tools root has no headers for $release"; exit 1; }
for pair in awk:mawk awk:gawk cc:gcc gcc:gcc-[0-9]* cc:gcc-[0-9]*; do
    name=${pair%%:*}
    if ! command -v "$name" >/dev/null; then
        for found in /usr/bin/${pair#*:}; do case $found in *-ar|*-nm|*-ranlib) ;; *) test -x "$found" && ln -sf "$found" "/usr/local/bin/$name";; esac; done
    fi
done
out="/out/usr/lib/modules/$release"
keep() {
    mkdir -p "$out$2"
    strip --strip-debug "$1" -o "$out$2/$3.ko"
    chmod 644 "$out$2/$3.ko"
}
# A token for each job besides the first, by which make runs as many as imgbuild does; nothing that runs sees how many that are.
case $(make --version | sed -n '1s/^GNU Make //p') in 3.*|4.[01]|4.[01].*) jobs=fds;; *) jobs=auth;; esac
mkfifo /build/jobserver
exec 19<>/build/jobserver
cat /build/jobs >&19
rm /build/jobs /build/jobserver
export MAKEFLAGS="-j --jobserver-$jobs=19,19"
unset jobs
cd /build/driver
if test -e dkms.conf && test $# = 0; then
    kernelver=$release
    arch=$machine
    kernel_source_dir=$build
    dkms_tree=/build/dkms
    PACKAGE_NAME=$(sed -n 's/^ *PACKAGE_NAME=//p' dkms.conf | tr -d "\"'" | head -n 1)
    PACKAGE_VERSION=$(sed -n 's/^ *PACKAGE_VERSION=//p' dkms.conf | tr -d "\"'" | head -n 1)
    source_tree=/build/dkms
    # What dkms(8) gives a configuration besides.
    module=$PACKAGE_NAME
    module_version=$PACKAGE_VERSION
    parallel_jobs=$(nproc)
    mkdir -p "$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION"
    ln -s /build/driver "$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build"
    # The path by which it calls the source is no part of a module.
    KCFLAGS="$KCFLAGS -ffile-prefix-map=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build=."
    set +e
    . ./dkms.conf
    set -e
    if test -n "$PRE_BUILD"; then eval "./$PRE_BUILD"; fi
    command=${MAKE[0]}
    for index in ${!MAKE_MATCH[@]}; do
        if [[ $kernelver =~ ${MAKE_MATCH[$index]} ]]; then command=${MAKE[$index]}; fi
    done
    if test -z "$command"; then command="make -C $build M=/build/driver"; fi
    eval "$command"
    test ${#BUILT_MODULE_NAME[@]} -gt 0 || BUILT_MODULE_NAME[0]=$PACKAGE_NAME
    for index in ${!BUILT_MODULE_NAME[@]}; do
        name=${BUILT_MODULE_NAME[$index]}
        from=/build/driver/${BUILT_MODULE_LOCATION[$index]}
        to=${DEST_MODULE_LOCATION[$index]}
        case $to in /updates|/updates/*|/extra|/extra/*) ;; *) to=/updates;; esac
        test -e "$from/$name.ko" || { echo "error: dkms.conf names $name, and the build made no ${BUILT_MODULE_LOCATION[$index]}$name.ko"; exit 1; }
        keep "$from/$name.ko" "${to%/}" "${DEST_MODULE_NAME[$index]:-$name}"
    done
else
    if test $# = 0; then set -- -C "$build" M=/build/driver modules; fi
    make "$@"
    find /build/driver -name '*.ko' -type f | LC_ALL=C sort >/build/made
    while read -r path; do
        name=${path##*/}
        keep "$path" /updates "${name%.ko}"
    done </build/made
fi
"#;

/// Lines of a log that say why a build failed; the last ones where none does.
fn reasons(log: &str, last: &[String]) -> Vec<String> {
    const SHOWN: usize = 20;
    let says = |line: &&str| {
        [" error: ", "fatal error:", "ERROR: ", "error: ", "undefined!", "Error ", "No rule to make", "not found"]
            .iter()
            .any(|word| line.contains(word))
    };
    let found: Vec<String> = log.lines().filter(says).take(SHOWN).map(sandbox::shown).collect();
    if found.is_empty() { last.to_vec() } else { found }
}

pub(crate) fn inside(request: BuildRequest, news: News<'_>) -> Result<BuildAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["tree", "build/driver", "mount", "root", "root-work"])?;
        std::fs::write(at("build/jobs"), "+".repeat(rayon::current_num_threads() - 1))
            .map_err(|error| format!("cannot write the jobs of make: {error}"))?;
        news("unpacking the driver's source");
        let source = TreeEditor::open(&at("build/driver"))?;
        if let Err(problem) = unpack(&source, &request) {
            return Ok(BuildAnswer::Refused(problem));
        }
        news(&format!("building for {}", request.release));
        let substitute = |word: &String| {
            word.replace("{build}", &format!("/lib/modules/{}/build", request.release))
                .replace("{release}", &request.release)
                .replace("{source}", SOURCE)
        };
        let mut arguments: Vec<String> =
            ["/bin/bash", "-c", SCRIPT, "driver", &request.release, &request.machine].map(str::to_owned).to_vec();
        arguments.extend(request.make.iter().map(substitute));
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let epoch = TOOLS_EPOCH.to_string();
        let result = run_command(&CommandRequest {
            root: tools_tree(&request.tools, at("root"), at("root-work"))?,
            binds: vec![
                Bind { source: at("build"), target: "/build".to_owned(), writable: true },
                Bind { source: at("tree"), target: "/out".to_owned(), writable: true },
            ],
            arguments,
            environment: vec![
                variable("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                variable("LC_ALL", "C"),
                variable("TZ", "UTC"),
                variable("HOME", "/build"),
                variable("SOURCE_DATE_EPOCH", &epoch),
                variable("KBUILD_BUILD_TIMESTAMP", &format!("@{epoch}")),
                variable("KBUILD_BUILD_USER", "imgbuild"),
                variable("KBUILD_BUILD_HOST", "imgbuild"),
                variable("KCFLAGS", "-ffile-prefix-map=/build/driver=."),
                variable("KERNELDIR", &format!("/lib/modules/{}/build", request.release)),
                variable("KDIR", &format!("/lib/modules/{}/build", request.release)),
                variable("KVER", &request.release),
            ],
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })?;
        if result.status != 0 {
            let log = String::from_utf8_lossy(&std::fs::read(&request.log).unwrap_or_default()).into_owned();
            let last_lines = reasons(&log, &result.last_lines);
            return Ok(BuildAnswer::Failed(CommandResult { last_lines, ..result }));
        }
        let answer = scan(&ScanRequest { tree: at("tree"), base: Vec::new(), epoch: TOOLS_EPOCH, whole: false })?;
        let text = std::fs::read_to_string(Store::manifest_name(&answer.layer)).unwrap_or_default();
        if !text.contains(".ko") {
            return Ok(BuildAnswer::Refused("the build made no module".to_owned()));
        }
        Ok(BuildAnswer::Made(answer))
    })
}

/// Writes the source into the build directory; of an archive with one folder at its top, what is in that.
fn unpack(source: &TreeEditor, request: &BuildRequest) -> Result<(), String> {
    if request.is_directory {
        for (path, blob, mode) in &request.files {
            let bytes = std::fs::read(blob).map_err(|error| format!("{path}: {error}"))?;
            source.write(path, &bytes, *mode)?;
        }
        return Ok(());
    }
    let (name, blob, _) = request.files.first().ok_or("the source is empty")?;
    let open = || {
        let file = File::open(blob).map_err(|error| format!("{name}: {error}"))?;
        plain(file).map_err(|error| format!("{name}: {error}"))
    };
    let mut top: Option<Option<String>> = None;
    read_tar(&mut open()?, &mut |member| {
        let first = member.path.split_once('/').map(|(first, _)| first.to_owned());
        top = Some(match top.take() {
            None => first,
            Some(known) if known == first => known,
            Some(_) => None,
        });
        Ok(())
    })?;
    let prefix = top.ok_or("the archive is empty")?.map(|top| format!("{top}/")).unwrap_or_default();
    read_tar(&mut open()?, &mut |member| {
        let path = member.path.strip_prefix(&prefix).unwrap_or(&member.path).to_owned();
        match member.kind {
            MemberKind::File(stream) => {
                let mut bytes = Vec::new();
                std::io::copy(stream, &mut bytes).map_err(|error| format!("{path}: {error}"))?;
                source.write(&path, &bytes, if member.mode & 0o111 == 0 { 0o644 } else { 0o755 })
            }
            MemberKind::Symlink(target) => source.symlink(&path, &target),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::reasons;

    #[test]
    fn the_compilers_words_are_found_in_a_long_log() {
        let log = "  CC x\nx.c:3:1: error: unknown type name 'foo'\n  noise\nmake[1]: *** [x.o] Error 1\n";
        let found = reasons(log, &[]);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("unknown type name"));
        assert_eq!(reasons("nothing", &["last".to_owned()]), ["last"]);
    }
}
