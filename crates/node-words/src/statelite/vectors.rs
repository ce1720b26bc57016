//! What xCAT 2.19's own script did with real mounts: image with /etc/hosts, /etc/ssh/sshd_config, /var/log/m, /root/.bashrc; two trees.

use std::collections::BTreeSet;

use super::*;

/// Files by area: `D` image, `P` state, `L` disk, `s1`, `s2`, `local` trees; a path that ends in `/` is an empty directory.
struct Files(BTreeSet<String>);

fn letter(area: Area) -> &'static str {
    match area {
        Area::Root => "root",
        Area::Image => "D",
        Area::Memory => "T",
        Area::State => "P",
        Area::Disk => "L",
        Area::Tree(0) => "s1",
        Area::Tree(1) => "s2",
        Area::Tree(_) => "s3",
    }
}

impl View for Files {
    fn look(&self, place: &Place) -> Seen {
        let name = format!("{}{}", letter(place.area), place.path);
        if self.0.contains(&name) {
            return Seen::File;
        }
        let below = format!("{name}/");
        match self.0.iter().find(|file| file.starts_with(&below)) {
            Some(file) if *file == below && self.0.iter().filter(|file| file.starts_with(&below)).count() == 1 => {
                Seen::EmptyFolder
            }
            Some(_) => Seen::Folder,
            None => Seen::Nothing,
        }
    }
}

fn shown(action: &Action) -> String {
    let name = |place: &Place| format!("{}{}", letter(place.area), place.path);
    match action {
        Action::Copy { from, to } => format!("copy {} {}", name(from), name(to)),
        Action::Concatenate { from, to } => {
            format!("join {} {}", from.iter().map(name).collect::<Vec<_>>().join("+"), name(to))
        }
        Action::Bind { from, on, read_only } => {
            let how = if *read_only { "bind-ro" } else { "bind" };
            match on.area {
                Area::Root => format!("{how} {} {}", name(from), on.path),
                _ => format!("{how} {} {}", name(from), name(on)),
            }
        }
        Action::Overlay { lowers, upper, on } => {
            format!("overlay {} {} {}/", lowers.iter().map(name).collect::<Vec<_>>().join("+"), name(upper), on.path)
        }
        Action::Link { at, to } => format!("link {} {}", name(at), name(to)),
        Action::Mounts(at) => format!("mounts {}", name(at)),
        Action::Redirect(path) => format!("redirect {path}"),
        Action::Missing(path) => format!("missing {path}"),
    }
}

/// A vector: its number, entries, files besides those of the image, and what is done.
type Vector = (u32, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

const VECTORS: &[Vector] = &[
    (1, &[("tmpfs", "/etc/hosts")], &[], &["copy D/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"]),
    (1, &[("rw", "/etc/hosts")], &[], &["copy D/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"]),
    (1, &[("tempfs", "/etc/hosts")], &[], &["copy D/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"]),
    (
        2,
        &[("tmpfs", "/etc/hosts")],
        &["s1/etc/hosts", "s2/etc/hosts"],
        &["copy s1/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"],
    ),
    (3, &[("tmpfs", "/etc/ssh/")], &[], &["copy D/etc/ssh T/etc/ssh", "bind T/etc/ssh /etc/ssh"]),
    (4, &[("tmpfs", "/etc/ssh/")], &["s1/etc/ssh/"], &["copy D/etc/ssh T/etc/ssh", "bind T/etc/ssh /etc/ssh"]),
    (
        5,
        &[("tmpfs", "/etc/ssh/")],
        &["s1/etc/ssh/key", "s1/etc/ssh/.dot"],
        &["copy s1/etc/ssh T/etc/ssh", "bind T/etc/ssh /etc/ssh"],
    ),
    // A tree without a server: the third one here.
    (
        6,
        &[("tmpfs", "/etc/hosts")],
        &["s3/etc/hosts"],
        &["copy s3/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"],
    ),
    (7, &[("persistent", "/etc/hosts")], &[], &["copy D/etc/hosts P/etc/hosts", "bind P/etc/hosts /etc/hosts"]),
    (7, &[("persistent", "/var/log/")], &[], &["copy D/var/log P/var/log", "bind P/var/log /var/log"]),
    (8, &[("persistent", "/etc/hosts")], &["P/etc/hosts", "s1/etc/hosts"], &["bind P/etc/hosts /etc/hosts"]),
    // A directory that was emptied stays empty.
    (8, &[("persistent", "/var/log/")], &["P/var/log/"], &["bind P/var/log /var/log"]),
    (
        10,
        &[("persistent", "/var/"), ("persistent", "/var/log/")],
        &[],
        &["copy D/var P/var", "bind P/var /var", "bind P/var/log /var/log"],
    ),
    (12, &[("localdisk", "/var/log/")], &[], &["copy D/var/log L/var/log", "bind L/var/log /var/log"]),
    (13, &[("localdisk", "/etc/hosts")], &["L/etc/hosts"], &["bind L/etc/hosts /etc/hosts"]),
    (14, &[("ro", "/etc/hosts")], &["s1/etc/hosts"], &["bind-ro s1/etc/hosts /etc/hosts"]),
    (15, &[("ro", "/etc/hosts")], &[], &["bind-ro D/etc/hosts /etc/hosts"]),
    (
        16,
        &[("con", "/etc/hosts")],
        &["s1/etc/hosts", "s2/etc/hosts"],
        &["join s1/etc/hosts+s2/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"],
    ),
    (17, &[("con", "/etc/hosts")], &[], &["join D/etc/hosts T/etc/hosts"]),
    (18, &[("link", "/etc/hosts")], &[], &["copy D/etc/hosts T/etc/hosts", "redirect /etc/hosts"]),
    (18, &[("tmpfs,rw", "/etc/ssh/")], &[], &["copy D/etc/ssh T/etc/ssh", "redirect /etc/ssh/"]),
    (
        20,
        &[("link,persistent", "/etc/hosts")],
        &[],
        &["copy D/etc/hosts P/etc/hosts", "link T/etc/hosts P/etc/hosts", "redirect /etc/hosts"],
    ),
    (21, &[("link,ro", "/etc/hosts")], &["s1/etc/hosts"], &["link T/etc/hosts s1/etc/hosts", "redirect /etc/hosts"]),
    // Without a tree the image's own is there, and nothing would lead to itself.
    (21, &[("link,ro", "/etc/hosts")], &[], &[]),
    (
        22,
        &[("link,con", "/etc/hosts")],
        &["s1/etc/hosts", "s2/etc/hosts"],
        &["join s1/etc/hosts+s2/etc/hosts T/etc/hosts", "redirect /etc/hosts"],
    ),
    (
        23,
        &[("link", "/root/"), ("link", "/root/.bashrc")],
        &["s1/root/.bashrc", "s1/root/x"],
        // The tree's /root has the child, so that the image's is taken; then the child comes from the tree.
        &["copy D/root T/root", "copy s1/root/.bashrc T/root/.bashrc", "redirect /root/"],
    ),
    (
        24,
        &[("link", "/root/"), ("link,persistent", "/root/.bashrc")],
        &[],
        &[
            "copy D/root T/root",
            "copy D/root/.bashrc P/root/.bashrc",
            "bind P/root/.bashrc T/root/.bashrc",
            "redirect /root/",
        ],
    ),
    (
        25,
        &[("tmpfs", "/var/"), ("tmpfs", "/var/log/")],
        &[],
        &["copy D/var T/var", "bind T/var /var", "copy D/var/log T/var/log"],
    ),
    (
        26,
        &[("tmpfs", "/etc/"), ("tmpfs", "/etc/hosts")],
        &["s1/etc/hosts", "s1/etc/z"],
        &["copy D/etc T/etc", "bind T/etc /etc", "copy s1/etc/hosts T/etc/hosts"],
    ),
    (
        27,
        &[("tmpfs", "/var/"), ("ro", "/var/log/")],
        &["s1/var/log/m"],
        &["copy D/var T/var", "bind T/var /var", "bind-ro s1/var/log /var/log"],
    ),
    (28, &[("tmpfs", "/nosuch")], &[], &["missing /nosuch"]),
];

fn entries(list: &[(&str, &str)]) -> Vec<Entry> {
    list.iter().map(|(way, path)| Entry::new(path, Way::parse(way).unwrap())).collect()
}

fn actions(list: &[(&str, &str)], more: &[&str]) -> Vec<String> {
    let image = ["D/etc/hosts", "D/etc/ssh/sshd_config", "D/var/log/m", "D/root/.bashrc"];
    let files = Files(image.iter().chain(more).map(|file| (*file).to_owned()).collect());
    // The order of the list says nothing.
    let (mut turned, list) = (entries(list), entries(list));
    turned.reverse();
    let made = resolve(&list, 3, &files);
    assert_eq!(resolve(&turned, 3, &files), made);
    made.iter().map(shown).collect()
}

#[test]
fn all_vectors_of_xcats_own_script() {
    for (number, list, more, expected) in VECTORS {
        assert_eq!(conflicts(&entries(list)), [], "{number}");
        assert_eq!(actions(list, more), *expected, "{number}: {list:?}");
    }
}

#[test]
fn what_its_script_does_by_mistake_is_refused() {
    // 11: the child would lie in memory, where nothing shows it. 21: a child by a link to a tree would not be there.
    assert_eq!(
        conflicts(&entries(&[("persistent", "/var/"), ("tmpfs", "/var/log/")]))[0].conflict,
        Conflict::BelowPersistent
    );
    assert_eq!(
        conflicts(&entries(&[("link", "/root/"), ("link,ro", "/root/.bashrc")]))[0].conflict,
        Conflict::BelowLink
    );
    // 29: a directory in memory and nothing else.
    assert_eq!(Way::parse("bogus"), Err(WayProblem::Unknown("bogus".to_owned())));
}

#[test]
fn overlays_join_trees_and_image() {
    assert_eq!(
        actions(&[("overlay", "/etc/"), ("tmpfs", "/etc/hosts")], &["s1/etc/z"]),
        ["overlay s1/etc+D/etc T/etc /etc/", "copy D/etc/hosts T/etc/hosts", "bind T/etc/hosts /etc/hosts"]
    );
    assert_eq!(actions(&[("overlay,localdisk", "/var/")], &[]), ["overlay D/var L/var /var/"]);
    assert_eq!(actions(&[("overlay,persistent", "/")], &[]), ["overlay D P /"]);
    assert_eq!(actions(&[("overlay", "/nosuch/")], &[]), ["missing /nosuch/"]);
}

#[test]
fn what_is_below_a_disk_or_deeper_is_mounted_over_it() {
    assert_eq!(
        actions(&[("localdisk", "/var/"), ("tmpfs", "/var/log/"), ("persistent", "/var/log/m")], &["L/var/x"]),
        [
            "bind L/var /var",
            "copy D/var/log T/var/log",
            "bind T/var/log /var/log",
            "copy D/var/log/m P/var/log/m",
            "bind P/var/log/m /var/log/m"
        ]
    );
    // A child that came into the list when the folder was kept already.
    assert_eq!(
        actions(&[("persistent", "/etc/"), ("persistent", "/etc/hosts")], &["P/etc/ssh/a"]),
        ["bind P/etc /etc", "copy D/etc/hosts P/etc/hosts", "bind P/etc/hosts /etc/hosts"]
    );
    assert_eq!(
        actions(&[("link,persistent", "/etc/"), ("link,persistent", "/etc/hosts")], &[]),
        ["copy D/etc P/etc", "link T/etc P/etc", "redirect /etc/"]
    );
}

#[test]
fn mtab_leads_to_what_is_mounted() {
    assert_eq!(actions(&[("link", "/etc/mtab")], &[]), ["mounts T/etc/mtab", "redirect /etc/mtab"]);
    assert_eq!(
        actions(&[("tmpfs", "/etc/"), ("link", "/etc/mtab")], &[]),
        ["copy D/etc T/etc", "bind T/etc /etc", "mounts T/etc/mtab"]
    );
}
