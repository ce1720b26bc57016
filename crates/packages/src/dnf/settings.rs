//! dnf.conf for a question. Source: dnf.conf(5), yum.conf(5).

use crate::rpm_family::Question;

/// What packages provide that stand beside other versions of themselves: what yum, dnf or dnf5 has for it by default, so that it is the
/// same in all, and what transactions do.
pub(super) const INSTALL_ONLY: [&str; 14] = [
    "kernel",
    "kernel-PAE",
    "kernel-PAE-debug",
    "kernel-bigmem",
    "kernel-debug",
    "kernel-devel",
    "kernel-enterprise",
    "kernel-smp",
    "kernel-source",
    "kernel-unsupported",
    "installonlypkg(kernel)",
    "installonlypkg(kernel-module)",
    "installonlypkg(vm)",
    "multiversion(kernel)",
];

/// The settings: one file with all repositories, nothing from elsewhere. Signatures and digests were checked already. `plugins` is the
/// directory of the only plugin, with its own settings.
pub(super) fn settings(question: &Question<'_>, plugins: Option<&str>) -> String {
    let plugins = match plugins {
        Some(folder) => format!("plugins=1\npluginpath={folder}\npluginconfpath={folder}"),
        None => "plugins=0".to_owned(),
    };
    let mut text = format!(
        "[main]\n\
         gpgcheck=0\n\
         repo_gpgcheck=0\n\
         install_weak_deps=0\n\
         best=1\n\
         obsoletes=1\n\
         {plugins}\n\
         zchunk=0\n\
         deltarpm=0\n\
         color=never\n\
         assumeyes=0\n\
         reposdir=/nonexistent\n\
         varsdir=/nonexistent\n\
         cachedir=/imgbuild/state/cache\n\
         persistdir=/imgbuild/state/persist\n\
         logdir=/imgbuild/state/log\n\
         metadata_expire=-1\n\
         skip_if_unavailable=0\n\
         clean_requirements_on_remove=0\n\
         installonly_limit=0\n\
         installonlypkgs={}\n\
         protected_packages=\n\
         protected_multilib=0\n\
         multilib_policy=best\n\
         arch={}\n\
         module_platform_id={}\n",
        INSTALL_ONLY.join(" "),
        question.arch,
        question.platform
    );
    for repository in question.repositories {
        let id = &repository.id;
        text.push_str(&format!(
            "\n[{id}]\nname={id}\nbaseurl=file:///repo/{id}\nenabled=1\ngpgcheck=0\npriority={}\n",
            repository.priority
        ));
        let held = question.held_back.iter().filter(|(of, _)| of == id).map(|(_, nevra)| nevra);
        let exclude: Vec<&String> = repository.exclude.iter().chain(held).collect();
        // yum knows `exclude` alone, dnf5 `excludepkgs` alone.
        for (name, globs) in [
            ("exclude", exclude.clone()),
            ("excludepkgs", exclude),
            ("includepkgs", repository.include.iter().collect()),
        ] {
            if !globs.is_empty() {
                let globs: Vec<&str> = globs.into_iter().map(String::as_str).collect();
                text.push_str(&format!("{name}={}\n", globs.join("\n    ")));
            }
        }
        if repository.module_hotfixes {
            text.push_str("module_hotfixes=1\n");
        }
    }
    text
}

/// The file by which dnf knows in an image that a stream is switched on. Source: dnf's modularity documentation.
pub(super) fn module_file((name, stream): (&str, &str)) -> (String, String) {
    (
        format!("etc/dnf/modules.d/{name}.module"),
        format!("[{name}]\nname={name}\nstream={stream}\nprofiles=\nstate=enabled\n"),
    )
}
