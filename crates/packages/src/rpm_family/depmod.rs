//! depmod in transactions that bring kernels.
//!
//! Each package of a kernel indexes all modules in its script, which takes seconds where they are compressed. While such a
//! transaction runs, something else stands in depmod's place, which notes releases that have an index; afterwards the real one
//! runs once for each of them, and not at all where the modules are those of the layer below, which was indexed when it was made.

use std::collections::BTreeMap;

/// File below /imgbuild with the stand-in.
pub(super) const FILE: &str = "depmod";

/// Directory below /imgbuild with a list of modules for each release that the layer below has indexed.
pub(super) const INDEXED: &str = "indexed";

/// Where the stand-in notes releases: in the target's /run, which is no part of a layer.
const NOTED: &str = "/run/imgbuild/depmod";

/// The stand-in. Only a run for a whole release waits, and only where there is an index, so that a script that makes an initrd
/// finds one; anything else (`-n`, single modules) is the real program's at once. That one waits in a directory beside its own,
/// because it is a relative link to kmod.
pub(super) const STAND_IN: &str = r#"#!/bin/sh
# stands in for depmod while packages are installed
release=
case $# in
1) release=$1;;
2) test "$1" != -a || release=$2;;
esac
case $release in
*/*) ;;
[0-9]*) test -e "/lib/modules/$release/modules.dep.bin" && echo "$release" >>/run/imgbuild/depmod && exit 0;;
esac
for at in sbin usr/sbin usr/bin bin; do
test ! -x /$at.imgbuild/depmod || exec /$at.imgbuild/depmod "$@"
done
exit 127
"#;

const DIRECTORIES: &str = "sbin usr/sbin usr/bin bin";

/// Puts the stand-in into the place of depmod.
pub(super) fn before() -> String {
    format!(
        "for at in {DIRECTORIES}; do\n\
         test ! -L /target/$at && test -e /target/$at/depmod || continue\n\
         mkdir /target/$at.imgbuild\n\
         mv /target/$at/depmod /target/$at.imgbuild/depmod\n\
         cp /imgbuild/{FILE} /target/$at/depmod\n\
         chmod 755 /target/$at/depmod\n\
         done\n"
    )
}

/// Puts depmod back, unless a package brought another one or took it away, and runs it for what was noted.
pub(super) fn after() -> String {
    format!(
        "for at in {DIRECTORIES}; do\n\
         test -d /target/$at.imgbuild || continue\n\
         if test ! -L /target/$at/depmod && test -f /target/$at/depmod && \
         test \"$(cat /target/$at/depmod)\" = \"$(cat /imgbuild/{FILE})\"; then\n\
         mv /target/$at.imgbuild/depmod /target/$at/depmod\n\
         else rm /target/$at.imgbuild/depmod; fi\n\
         rmdir /target/$at.imgbuild\n\
         done\n\
         modules() {{\n\
         ls -1R \"/target/usr/lib/modules/$1/\" | while read -r line; do case $line in\n\
         /*:) at=${{line#/target/}}; at=${{at%:}}; at=${{at%/}};;\n\
         *.ko|*.ko.xz|*.ko.gz|*.ko.zst) echo \"$at/$line\";;\n\
         esac; done | sort\n\
         }}\n\
         if test -e /target{NOTED}; then\n\
         for release in $(sort -u /target{NOTED}); do\n\
         if test -L /target/lib && test -e \"/imgbuild/{INDEXED}/$release\" && \
         test \"$(modules \"$release\")\" = \"$(sort \"/imgbuild/{INDEXED}/$release\")\"; then continue; fi\n\
         chroot /target depmod -a \"$release\"\n\
         done\n\
         fi\n"
    )
}

const MODULES: &str = "usr/lib/modules/";

/// The release and the path of a module, by its path without a slash in front.
fn module(path: &str) -> Option<(&str, String)> {
    let path = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/")?;
    let (release, _) = path.split_once('/')?;
    let is_module = [".ko", ".ko.xz", ".ko.gz", ".ko.zst"].iter().any(|ending| path.ends_with(ending));
    is_module.then(|| (release, format!("{MODULES}{path}")))
}

fn by_release<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Vec<String>> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (release, path) in paths.filter_map(module) {
        found.entry(release).or_default().push(path);
    }
    found.values_mut().for_each(|paths| paths.sort());
    found
}

/// The modules of each release whose index in the layer below is also right after the transaction: the layer has one, and
/// its modules are those of the packages, by the paths of both.
pub(super) fn indexed<'a>(
    below: impl Iterator<Item = &'a str> + Clone,
    brought: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    let has_index: Vec<&str> =
        below.clone().filter_map(|path| path.strip_prefix(MODULES)?.strip_suffix("/modules.dep.bin")).collect();
    let brought = by_release(brought.map(|path| path.trim_start_matches('/')));
    by_release(below)
        .into_iter()
        .filter(|(release, modules)| {
            has_index.contains(release)
                && (brought.get(release) == Some(modules) || fault::planted("depmod-index-of-others"))
        })
        .map(|(release, modules)| (release.to_owned(), modules.join("\n") + "\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_holds_where_layer_and_packages_have_the_same_modules() {
        let below = [
            "usr/lib/modules/6.1/modules.dep.bin",
            "usr/lib/modules/6.1/kernel/a.ko.xz",
            "usr/lib/modules/6.1/kernel/b.ko",
            "usr/lib/modules/5.9/kernel/a.ko",
        ];
        let all = [
            "/lib/modules/6.1/kernel/b.ko",
            "/lib/modules/6.1/kernel/a.ko.xz",
            "/lib/modules/5.9/kernel/a.ko",
            "/lib/modules/6.1/extra/c.ko",
        ];
        let of = |brought: &[&'static str]| indexed(below.into_iter(), brought.iter().copied());
        let found = of(&all[..3]);
        // The other release has no index.
        assert_eq!(found.keys().collect::<Vec<_>>(), ["6.1"]);
        assert_eq!(found["6.1"], "usr/lib/modules/6.1/kernel/a.ko.xz\nusr/lib/modules/6.1/kernel/b.ko\n");
        assert!(of(&all[1..3]).is_empty() && of(&all).is_empty());
    }
}
