//! Ids of actions, the stage and the layer: all of them are made here.

use plan::Stage;

/// Renewing the lock, as plans and news call it.
pub const LOCK: &str = "rootfs/lock";
pub const TOOLS: &str = "rootfs/tools";
pub const DRIVER_TOOLS: &str = "rootfs/tools-driver";
/// What postinstall scripts run, over the base.
pub const POSTINSTALL_TOOLS: &str = "rootfs/tools-postinstall";
/// Ansible, over the base.
pub const ROLE_TOOLS: &str = "rootfs/tools-roles";
pub const DRACUT_TOOLS: &str = "rootfs/tools-dracut";
pub const BASE: &str = "rootfs/base";
pub const SYNC: &str = "rootfs/sync";
pub const POSTINSTALL: &str = "rootfs/postinstall";
pub const GATE: &str = "rootfs/gate";
pub const PAYLOAD: &str = "kernel/payload";
pub const INITRD: &str = "initrd/stateless";
/// The initrd in gzip, for a recipe that names something else.
pub const INITRD_GZIP: &str = "initrd/stateless-gzip";
/// The initrd of a recipe whose nodes have paths of their own, beside the other one.
pub const INITRD_STATELITE: &str = "initrd/statelite";
/// The initrd of the kernel that writes a dump when a node's crashes.
pub const INITRD_KDUMP: &str = "initrd/kdump";
pub const STATELITE: &str = "pack/statelite";
pub const PACK: &str = "pack/rootimg";
/// The packed image in gzip, for a recipe that names something else.
pub const PACK_GZIP: &str = "pack/rootimg-gzip";
/// What the ids of further forms begin with.
const PACKED: &str = "pack/rootimg-";
/// Publishing, in the history only.
pub const PUBLISH: &str = "publish";

/// The action that packs one more form of the recipe, by the name of its file.
pub fn pack_also(rootimg: &str) -> String {
    format!("{PACKED}{}", rootimg.trim_start_matches("rootimg."))
}

pub fn is_pack(id: &str) -> bool {
    id == PACK || id.starts_with(PACKED)
}

/// The action that makes a layer of a transaction, or of another part of the root file system.
pub fn layer(name: &str) -> String {
    id(Stage::Rootfs, name)
}

/// The layer of a role, by its name.
pub fn role_layer(name: &str) -> String {
    format!("role-{name}")
}

/// The action of a role, by its name.
pub fn role(name: &str) -> String {
    layer(&role_layer(name))
}

pub fn id(stage: Stage, name: &str) -> String {
    format!("{}/{name}", stage.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use recipe::PassRole;

    #[test]
    fn transactions_have_the_ids_of_their_names() {
        for (id, name) in [
            (TOOLS, PassRole::TOOLS),
            (DRIVER_TOOLS, PassRole::DRIVER_TOOLS),
            (POSTINSTALL_TOOLS, PassRole::POSTINSTALL_TOOLS),
            (ROLE_TOOLS, PassRole::ROLE_TOOLS),
            (DRACUT_TOOLS, PassRole::DRACUT_TOOLS),
            (BASE, PassRole::BASE),
        ] {
            assert_eq!(id, layer(name));
        }
    }
}
