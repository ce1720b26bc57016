//! `plan --against REV` of a recipe that inherits: each edit is told where somebody made it.

use std::fmt::Write;

use super::against::{Edit, in_images};
use crate::support::Space;
use crate::support::cluster::{chmod, commit_all, write_cluster};

/// Edits of a recipe that inherits all but its name; the lock stays, so that what leaves it is not told here.
const CHILD_EDITS: &[Edit] = &[
    ("nothing", |_| ()),
    ("removes an item", |space| {
        space.edit(CHILD, "\n[image]", "remove.kernel.drivers = [\"+ice\"]\n\n[image]");
    }),
    ("removes packages", |space| {
        space.edit(CHILD, "\n[image]", "remove.packages.install = [\"less\"]\n\n[image]");
    }),
    ("removes a list", |space| {
        space.edit(CHILD, "\n[image]", "remove.packages.lists = [\"../../base/compute.pkglist\"]\n\n[image]");
    }),
    ("removes a key of which there is a default", |space| {
        space.edit(CHILD, "\n[image]", "remove.pack.level = true\n\n[image]");
    }),
    ("removes a whole table", |space| {
        space.edit(CHILD, "\n[image]", "remove.postinstall = true\n\n[image]");
    }),
    ("removes users and services", |space| {
        space.edit(CHILD, "\n[image]", "remove.users.slurm = true\nremove.services = true\n\n[image]");
    }),
    ("overrides a file", |space| {
        space.write("images/compute/own.sh", "#!/bin/sh\n");
        chmod(&space.path().join("images/compute/own.sh"), 0o755);
        space.edit(CHILD, "\n[image]", "postinstall.script = \"own.sh\"\n\n[image]");
    }),
    ("overrides a value", |space| {
        space.edit(CHILD, "\n[image]", "pack.level = 9\n\n[image]");
    }),
    ("the parent overrides for all", |space| {
        space.edit("base/image.toml", "level = 3", "level = 9").edit("base/image.toml", "    \"+ice\",\n", "");
    }),
    ("the parent's packages in another order, and the child adds one", |space| {
        space.edit("base/compute.pkglist", "htop\nudev\n", "udev\nhtop\n");
        space.edit(CHILD, "\n[image]", "packages.install = [\"jq\"]\n\n[image]");
    }),
    ("the parent names a list no more", |space| {
        space.edit("base/image.toml", "lists = [\"compute.exlist\"]\n", "");
    }),
    ("the parent has a list elsewhere", |space| {
        std::fs::create_dir(space.path().join("lists")).unwrap();
        std::fs::rename(space.path().join("base/compute.pkglist"), space.path().join("lists/compute.pkglist")).unwrap();
        space.edit("base/image.toml", "lists = [\"compute.pkglist\"]", "lists = [\"../lists/compute.pkglist\"]");
    }),
    ("the parent's argument in front of the child's", |space| {
        space.edit("base/image.toml", "[\"one\"]", "[\"zero\", \"one\"]");
    }),
    ("the parent's user has another home and group", |space| {
        space.edit("base/image.toml", "gid = 901, home = \"/srv/slurm\"", "gid = 905, home = \"/srv/sl\"");
    }),
    ("a file of the parent's script", |space| {
        space.write("base/site/old.conf", "old\nand more\n");
    }),
    ("inherits no more", |space| {
        let own = "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n\n[packages]\nbase = \"essential\"\ninstall = [\"htop\"]\n";
        space.write(CHILD, own);
    }),
    ("removes in a variant", |space| {
        space.edit(
            CHILD,
            "compute\"\n",
            "compute\"\n\n[variant.small]\nimage.name = \"compute\"\nremove.kernel.drivers = true\n",
        );
        std::fs::copy(
            space.path().join("images/compute/image.lock"),
            space.path().join("images/compute/image.small.lock"),
        )
        .unwrap();
    }),
];

const CHILD: &str = "images/compute/image.toml";

/// Edits of a recipe that hides much of what it inherits: what is hidden no more is said where it was hidden.
const HIDING_EDITS: &[Edit] = &[
    ("removes no item", |space| {
        space.edit(CHILD, "remove.kernel.drivers = [\"+ice\"]\n", "");
    }),
    ("removes no package", |space| {
        space.edit(CHILD, "remove.packages.install = [\"less\"]\n", "");
    }),
    ("removes another item", |space| {
        space.edit(CHILD, "remove.kernel.drivers = [\"+ice\"]\n", "remove.kernel.drivers = [\"+icee\"]\n");
    }),
    ("removes no list", |space| {
        space.edit(CHILD, "remove.exclude.lists = [\"../../base/compute.exlist\"]\n", "");
    }),
    ("overrides no more", |space| {
        space.edit(CHILD, "pack.level = 9\n", "").edit(CHILD, "users.slurm.uid = 950\n", "");
    }),
    ("removes what it overrode", |space| {
        space.edit(CHILD, "pack.level = 9\n", "remove.pack.level = true\n");
    }),
    ("inherits through another", |space| {
        space.write("mid/image.toml", "extends = \"../base/image.toml\"\n[services]\nmask = [\"cron\"]\n");
        space.edit(CHILD, "../../base/image.toml", "../../mid/image.toml");
    }),
];

#[test]
fn what_is_hidden_no_more_is_said_where_it_was_hidden() {
    let hidden = "remove.kernel.drivers = [\"+ice\"]\nremove.packages.install = [\"less\"]\nremove.exclude.lists = [\"../../base/compute.exlist\"]\npack.level = 9\nusers.slurm.uid = 950\n";
    let table = inherited(HIDING_EDITS, hidden);
    insta::assert_snapshot!(table);
}

#[test]
fn what_a_recipe_takes_from_its_parent_stands_where_it_says_so() {
    let table = inherited(CHILD_EDITS, "");
    insta::assert_snapshot!(table);
}

/// What edits of a recipe that inherits rebuild, and why; `more` is what it says besides.
fn inherited(edits: &[Edit], more: &str) -> String {
    let mut table = String::new();
    for (name, make) in edits {
        let space = Space::new();
        space.write("imgbuild.toml", "images = [\"images/*\"]\n");
        write_cluster(&space, "base");
        space.edit("base/image.toml", "name = \"compute\"\n", "");
        let own = "[image]\nname = \"compute\"\n";
        space.write(CHILD, &format!("# The compute node.\nextends = \"../../base/image.toml\"\n{more}\n{own}"));
        std::fs::rename(space.path().join("base/image.lock"), space.path().join("images/compute/image.lock")).unwrap();
        if more.contains("packages.install") {
            space.edit("images/compute/image.lock", ", \"less\"]", "]");
        }
        commit_all(space.path());
        make(&space);
        let ran = in_images(&space, &["plan", "--against", "main"]).good();
        let plan: Vec<&str> = ran.out.lines().skip(1).collect();
        let _ = writeln!(table, "== {name}\n{}", plan.join("\n"));
    }
    table
}
