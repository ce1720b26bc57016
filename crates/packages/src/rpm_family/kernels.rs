//! How RPM distributions name their kernels. Whose release a package has is no matter of names: see [`super::releases`].

pub(super) use recipe::is_kernel_name as is_kernel;

/// How the package with the headers of a kernel is called, for messages.
pub(super) fn headers(kernel: &str) -> String {
    let whole = ["-core", "-base"].iter().find_map(|ending| kernel.strip_suffix(ending)).unwrap_or(kernel);
    format!("{whole}-devel")
}

#[cfg(test)]
mod tests {
    use super::*;

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
