//! Another profile for an image of a bundle (imgimport -f, section 9.3).

use crate::definitions::share;
use xcat::definitions::{FILE_ATTRIBUTES, Manifest, files, platform};

/// Where a file of a bundle's folder goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub name: String,
    /// Its path on a management node.
    pub path: String,
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The lists of a manifest and where they go, each once.
pub(super) fn lists(manifest: &Manifest) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    for attribute in FILE_ATTRIBUTES {
        for path in files(&manifest.definition, attribute) {
            let one = Placed { name: base(&path).to_owned(), path };
            if !placed.contains(&one) {
                placed.push(one);
            }
        }
    }
    placed
}

/// Gives the manifest another profile; where each list goes then.
pub(super) fn with_profile(manifest: &mut Manifest, new: &str) -> Vec<Placed> {
    let get = |attribute: &str| manifest.definition.get(attribute).unwrap_or_default().to_owned();
    let (old, osvers, arch, method) = (get("profile"), get("osvers"), get("osarch"), get("provmethod"));
    if old == new {
        return lists(manifest);
    }
    let kind = if method == "install" { "install" } else { "netboot" };
    let custom = format!("/install/custom/{kind}/{}", platform(&osvers).unwrap_or(""));
    let moved = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_shipped = folder.strip_prefix(share()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let folder = if is_shipped { custom.trim_end_matches('/') } else { folder };
        let name = match name.contains(&old) && !old.is_empty() {
            true => name.replacen(&old, new, 1),
            false => format!("{new}.{name}"),
        };
        format!("{folder}/{name}")
    };
    // What a list includes from its own folder goes where the list goes.
    let of_lists: Vec<String> = lists(manifest).into_iter().map(|one| one.path).collect();
    for extra in &mut manifest.extras {
        let is_beside = |list: &String| list.rsplit_once('/').is_some_and(|(folder, _)| folder == extra.dest);
        if extra.dest.starts_with(share()) && of_lists.iter().any(is_beside) {
            extra.dest = custom.trim_end_matches('/').to_owned();
        }
    }
    let placed: Vec<Placed> = lists(manifest).into_iter().map(|one| Placed { path: moved(&one.path), ..one }).collect();
    for attribute in FILE_ATTRIBUTES {
        let items = manifest.definition.list(attribute);
        let renamed: Vec<String> = items
            .iter()
            .map(|item| match item.split_once(' ') {
                Some((path, arguments)) if attribute == "postinstall" => format!("{} {arguments}", moved(path)),
                _ => moved(item),
            })
            .collect();
        manifest.definition.set(attribute, &renamed.join(","), None);
    }
    if manifest.definition.get("rootimgdir").is_some() {
        let folder = format!("/install/netboot/{osvers}/{arch}/{new}");
        manifest.definition.set("rootimgdir", &folder, None);
        for place in [
            &mut manifest.kernel,
            &mut manifest.ramdisk,
            &mut manifest.rootimg,
            &mut manifest.rootimgtree,
            &mut manifest.litefile,
        ] {
            *place = place.as_ref().map(|path| format!("{folder}/{}", base(path)));
        }
    }
    manifest.definition.set("profile", new, None);
    manifest.definition.name = format!("{osvers}-{arch}-{method}-{new}");
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::source::SourceFile;
    use xcat::definitions::parse_manifest;

    /// M9 and M10 of section 14.5.
    #[test]
    fn vectors() {
        let text = "<xcatimage><osimage><imagename>i</imagename><provmethod>netboot</provmethod><profile>compute</profile>\
            <osvers>rhels9.4</osvers><osarch>x86_64</osarch></osimage><linuximage><rootimgdir>/i</rootimgdir>\
            <pkglist>/opt/xcat/share/xcat/netboot/rh/compute.rhels9.x86_64.pkglist</pkglist><exlist>/data/lists/trim.exlist</exlist>\
            </linuximage><kernel>/i/kernel</kernel><ramdisk>/i/initrd-stateless.gz</ramdisk><rootimg>/i/rootimg.cpio.gz</rootimg></xcatimage>";
        let (manifest, _) = parse_manifest(&SourceFile::new("m", "/m", text));
        let mut manifest = manifest.unwrap();
        let placed = with_profile(&mut manifest, "new");
        let get = |attribute: &str| manifest.definition.get(attribute).unwrap();
        assert_eq!(get("pkglist"), "/install/custom/netboot/rh/new.rhels9.x86_64.pkglist");
        assert_eq!(get("exlist"), "/data/lists/new.trim.exlist");
        assert_eq!((manifest.definition.name.as_str(), get("profile")), ("rhels9.4-x86_64-netboot-new", "new"));
        assert_eq!(manifest.kernel.as_deref(), Some("/install/netboot/rhels9.4/x86_64/new/kernel"));
        assert_eq!(placed[0].name, "compute.rhels9.x86_64.pkglist");
    }
}
