//! How RPM distributions name their kernels. Whose release a package has is no matter of names: see [`super::releases`].

/// Endings of names that bring neither kernel nor modules.
const OTHERS: [&str; 11] = [
    "-headers",
    "-devel",
    "-tools",
    "-tools-libs",
    "-doc",
    "-docs",
    "-docs-html",
    "-macros",
    "-source",
    "-syms",
    "-obs-build",
];

pub fn is_kernel(name: &str) -> bool {
    (name == "kernel" || name.starts_with("kernel-"))
        && !name.contains("abi")
        && !OTHERS.iter().any(|ending| name.ends_with(ending))
        && !name.contains("-devel-")
        && !name.contains("-source-")
}

/// How the package with the headers of a kernel is called, for messages.
pub fn headers(kernel: &str) -> String {
    let whole = ["-core", "-base"].iter().find_map(|ending| kernel.strip_suffix(ending)).unwrap_or(kernel);
    format!("{whole}-devel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_bring_no_kernel_are_told_apart() {
        for name in ["kernel", "kernel-core", "kernel-modules-extra", "kernel-default-base", "kernel-uek"] {
            assert!(is_kernel(name), "{name}");
        }
        for name in
            ["kernel-headers", "kernel-devel", "kernel-abi-stablelists", "kernel-tools", "kernel-syms", "systemd"]
                .into_iter()
                .chain(["kernelshark", "kernel-docs", "kernel-source-rt", "kernel-obs-build"])
        {
            assert!(!is_kernel(name), "{name}");
        }
    }

    #[test]
    fn headers_are_called_by_the_whole_kernel() {
        for (kernel, name) in [
            ("kernel-core", "kernel-devel"),
            ("kernel-uek", "kernel-uek-devel"),
            ("kernel-default-base", "kernel-default-devel"),
        ] {
            assert_eq!(headers(kernel), name);
        }
    }
}
