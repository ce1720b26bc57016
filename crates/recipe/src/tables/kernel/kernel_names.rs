//! Kernel packages that stand in package lists (D18).

use crate::Distro;
use base::source::{Finding, Span};
use xcat::{PackageList, matches};

/// Names that mean a kernel, by distribution.
fn patterns(distro: Distro) -> &'static [&'static str] {
    match distro {
        Distro::Debian => &["linux-image-*", "linux-image", "kernel"],
        // The metapackages without `image` bring headers beside the kernel.
        Distro::Ubuntu => {
            &["linux-image-*", "linux-image", "kernel", "linux-generic*", "linux-virtual*", "linux-lowlatency*"]
        }
        Distro::Sles | Distro::Opensuse => {
            &["kernel", "kernel-default", "kernel-default-base", "kernel-azure", "kernel-rt"]
        }
        Distro::Oracle => &["kernel", "kernel-core", "kernel-uek", "kernel-uek-core"],
        _ => &["kernel", "kernel-core", "kernel-rt", "kernel-rt-core", "kernel-lt", "kernel-ml", "kernel-uek"],
    }
}

/// Takes kernel packages out of a list; gives the one that they name, with its place.
pub(crate) fn lift_kernels(distro: Distro, list: &mut PackageList) -> Option<(String, Span)> {
    let mut found: Option<(String, Span)> = None;
    for pass in &mut list.passes {
        pass.install.retain(|item| {
            let is_kernel = patterns(distro).iter().any(|pattern| matches(pattern, &item.name))
                && !item.name.ends_with("-dbg")
                && !item.name.ends_with("-template");
            if !is_kernel {
                return true;
            }
            list.findings.push(
                Finding::note(
                    "recipe::kernel_in_list",
                    &item.span,
                    format!("`{}` is a kernel and is handled by ‹[kernel]›", item.name),
                )
                .help(format!("write it there: ‹[kernel] package = \"{}\"›", item.name)),
            );
            // Bare `kernel` is xCAT's word for the distribution's default.
            let generic = matches!(item.name.as_str(), "kernel" | "linux-image");
            match &found {
                _ if generic => {}
                None => found = Some((item.name.clone(), item.span.clone())),
                Some((known, _)) if *known == item.name => {}
                Some((known, span)) => list.findings.push(
                    Finding::error(
                        "recipe::two_kernels",
                        &item.span,
                        format!("`{}` and `{known}` ({span}) are two kernels", item.name),
                    )
                    .help("an image boots one kernel: keep one of the lines"),
                ),
            }
            false
        });
    }
    list.passes
        .retain(|pass| !pass.install.is_empty() || !pass.remove_before.is_empty() || !pass.remove_after.is_empty());
    found
}
