//! What a transaction of image.lock is for. The lock has its name; what depends on it asks for the role.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassRole {
    /// The tools root: the package manager and what indexes modules; a root of its own.
    Tools,
    /// What resolves packages, where the tools root does not; a root of its own, which only locking needs.
    SolverTools,
    /// What builds drivers; a root of its own.
    DriverTools,
    /// What a postinstall script may run; over the base, and not in the image.
    PostinstallTools,
    /// Ansible, for roles; over the base, and not in the image.
    RoleTools,
    /// What dracut needs to compose an initrd; over the base, and not in the image.
    DracutTools,
    /// The image's lowest layer.
    Base,
    Packages,
    Otherpkgs,
    Kernel,
}

impl PassRole {
    pub const TOOLS: &str = "tools";
    /// Name of the root with what resolves packages.
    pub const SOLVER_TOOLS: &str = "tools-solver";
    pub const DRIVER_TOOLS: &str = "tools-driver";
    /// Name of the transaction with what postinstall scripts run.
    pub const POSTINSTALL_TOOLS: &str = "tools-postinstall";
    /// Name of the transaction with Ansible.
    pub const ROLE_TOOLS: &str = "tools-roles";
    pub const DRACUT_TOOLS: &str = "tools-dracut";
    /// Name of the image's lowest layer.
    pub const BASE: &str = "base";
    pub const KERNEL: &str = "kernel";

    /// The role of a transaction with a name. What has no name of its own is a pass of the package lists.
    pub fn of(name: &str) -> Self {
        match name {
            Self::TOOLS => Self::Tools,
            Self::SOLVER_TOOLS => Self::SolverTools,
            Self::DRIVER_TOOLS => Self::DriverTools,
            Self::POSTINSTALL_TOOLS => Self::PostinstallTools,
            Self::ROLE_TOOLS => Self::RoleTools,
            Self::DRACUT_TOOLS => Self::DracutTools,
            Self::BASE => Self::Base,
            Self::KERNEL => Self::Kernel,
            name if name.starts_with("otherpkgs-") => Self::Otherpkgs,
            _ => Self::Packages,
        }
    }

    /// The name of a part of a transaction that is cut, from 0 on: `packages-1`, `packages-1.2`, `packages-1.3`.
    pub fn part_name(whole: &str, part: usize) -> String {
        if part == 0 { whole.to_owned() } else { format!("{whole}.{}", part + 1) }
    }

    /// The name of the transaction that a part is of: that of its request.
    pub fn whole_name(part: &str) -> &str {
        part.split_once('.').map_or(part, |(whole, _)| whole)
    }

    pub fn is_in_image(self) -> bool {
        match self {
            Self::Tools
            | Self::SolverTools
            | Self::DriverTools
            | Self::PostinstallTools
            | Self::RoleTools
            | Self::DracutTools => false,
            Self::Base | Self::Packages | Self::Otherpkgs | Self::Kernel => true,
        }
    }

    /// Whether it is a root of its own that is computed without a solver.
    pub fn is_root(self) -> bool {
        matches!(self, Self::Tools | Self::SolverTools)
    }

    /// Whether it goes over the base alone, and not into the image.
    pub fn is_aside(self) -> bool {
        matches!(self, Self::PostinstallTools | Self::RoleTools | Self::DracutTools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_roles() {
        for (name, role, in_image) in [
            ("tools", PassRole::Tools, false),
            ("tools-driver", PassRole::DriverTools, false),
            ("tools-postinstall", PassRole::PostinstallTools, false),
            ("tools-roles", PassRole::RoleTools, false),
            ("base", PassRole::Base, true),
            ("packages-1", PassRole::Packages, true),
            ("packages-1.2", PassRole::Packages, true),
            ("otherpkgs-2", PassRole::Otherpkgs, true),
            ("kernel", PassRole::Kernel, true),
        ] {
            assert_eq!((PassRole::of(name), PassRole::of(name).is_in_image()), (role, in_image));
        }
        for part in 0..3 {
            assert_eq!(PassRole::whole_name(&PassRole::part_name("packages-1", part)), "packages-1");
        }
    }
}
