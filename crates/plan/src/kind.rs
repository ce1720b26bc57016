//! The kinds of work that actions do.

/// A kind of work. What depends on the kind is a `match` without a rest, so that a new one is asked for everywhere.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Packages are resolved and image.lock is written; not an action of the graph, but planned, run and logged as one.
    Lock,
    /// A tools root: packages that are only unpacked.
    Unpack,
    /// The image's lowest layer: the essential packages, configured.
    Bootstrap,
    /// The image's lowest layer, where it is a container image.
    Container,
    /// A transaction of the package manager.
    Install,
    /// The kernel, its modules and the drivers that go with them.
    Kernel,
    /// A driver that is built from source.
    Driver,
    /// Settings: keys, locale, host name, fstab.
    System,
    /// A playbook of Ansible.
    Role,
    /// The postinstall script.
    Postinstall,
    /// Units that are enabled, disabled and masked.
    Services,
    /// Checks after the last layer.
    Gate,
    /// xCAT's side of a node.
    #[serde(rename = "xcat")]
    NodeSupport,
    /// Scripts that nodes run, and what runs them.
    Postscripts,
    /// Synced files.
    Sync,
    /// The initrd.
    Initrd,
    /// The initrd that dracut composes.
    Dracut,
    /// The packed image.
    Pack,
    /// The list of paths that are a node's own.
    Statelite,
    /// Artefacts are published; planned and logged as an action.
    Publish,
}

impl ActionKind {
    pub const ALL: [Self; 20] = [
        Self::Lock,
        Self::Unpack,
        Self::Bootstrap,
        Self::Container,
        Self::Install,
        Self::Kernel,
        Self::Driver,
        Self::System,
        Self::Role,
        Self::Postinstall,
        Self::Services,
        Self::Gate,
        Self::NodeSupport,
        Self::Postscripts,
        Self::Sync,
        Self::Initrd,
        Self::Dracut,
        Self::Pack,
        Self::Statelite,
        Self::Publish,
    ];

    /// As keys, logs and JSON have it: what was written by an earlier imgbuild is known by it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Unpack => "unpack",
            Self::Bootstrap => "bootstrap",
            Self::Container => "container",
            Self::Install => "install",
            Self::Kernel => "kernel",
            Self::Driver => "driver",
            Self::System => "system",
            Self::Role => "role",
            Self::Postinstall => "postinstall",
            Self::Services => "services",
            Self::Gate => "gate",
            Self::NodeSupport => "xcat",
            Self::Postscripts => "postscripts",
            Self::Sync => "sync",
            Self::Initrd => "initrd",
            Self::Dracut => "dracut",
            Self::Pack => "pack",
            Self::Statelite => "statelite",
            Self::Publish => "publish",
        }
    }

    /// The kind with a name; none for one that a later imgbuild wrote.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What imgbuild calls the maker: the noun in "imgbuild's cpio writer 3 -> 4".
    pub fn maker(self) -> &'static str {
        match self {
            Self::Lock => "resolver",
            Self::Unpack => "package unpacker",
            Self::Bootstrap => "base builder",
            Self::Container => "container unpacker",
            Self::Install => "package installer",
            Self::Kernel => "kernel unpacker",
            Self::Driver => "driver builder",
            Self::System => "settings writer",
            Self::Role => "role runner",
            Self::Postinstall => "postinstall runner",
            Self::Services => "service configurator",
            Self::Gate => "gate",
            Self::NodeSupport => "xCAT node support",
            Self::Postscripts => "postscripts writer",
            Self::Sync => "synclist copier",
            Self::Initrd => "initrd writer",
            Self::Dracut => "dracut runner",
            Self::Pack => "cpio writer",
            Self::Statelite => "statelite list writer",
            Self::Publish => "publisher",
        }
    }
}

impl ActionKind {
    /// Whether its layer is made of files and words of the recipe, and not of packages.
    pub fn is_of_the_recipe(self) -> bool {
        match self {
            Self::System
            | Self::Role
            | Self::Postinstall
            | Self::Services
            | Self::NodeSupport
            | Self::Postscripts
            | Self::Sync => true,
            Self::Lock
            | Self::Unpack
            | Self::Bootstrap
            | Self::Container
            | Self::Install
            | Self::Kernel
            | Self::Driver
            | Self::Gate
            | Self::Initrd
            | Self::Dracut
            | Self::Pack
            | Self::Statelite
            | Self::Publish => false,
        }
    }
}

impl ActionKind {
    /// Whether it runs programs of the image: package scripts, a compiler, those of the recipe.
    pub fn runs_programs_of_the_image(self) -> bool {
        match self {
            Self::Bootstrap
            | Self::Install
            | Self::Driver
            | Self::Role
            | Self::Postinstall
            | Self::Services
            | Self::Dracut => true,
            Self::Lock
            | Self::Unpack
            | Self::Container
            | Self::Kernel
            | Self::System
            | Self::Gate
            | Self::NodeSupport
            | Self::Postscripts
            | Self::Sync
            | Self::Initrd
            | Self::Pack
            | Self::Statelite
            | Self::Publish => false,
        }
    }
}

impl ActionKind {
    /// Whether it only writes a few files, so that a job of its own takes longer than its work.
    pub fn is_quick(self) -> bool {
        match self {
            Self::System
            | Self::Services
            | Self::Gate
            | Self::NodeSupport
            | Self::Postscripts
            | Self::Sync
            | Self::Statelite => true,
            Self::Lock
            | Self::Unpack
            | Self::Bootstrap
            | Self::Container
            | Self::Install
            | Self::Kernel
            | Self::Driver
            | Self::Role
            | Self::Postinstall
            | Self::Initrd
            | Self::Dracut
            | Self::Pack
            | Self::Publish => false,
        }
    }
}

impl std::fmt::Display for ActionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        for kind in ActionKind::ALL {
            assert_eq!(ActionKind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(ActionKind::named("later"), None);
    }
}
