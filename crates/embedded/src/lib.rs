//! imgbuild-init, the program of each initrd, for each CPU that images may have: bytes that the build script has compiled.
//!
//! It knows nothing else: an edit of imgbuild-init compiles this crate again, and links.

/// The program for the CPU of this one. Process 1 of the sandboxes is the same file.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

/// The same with the faults that tests plant on nodes.
#[cfg(feature = "e2e")]
pub const PLANTED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-planted"));

/// The same for each other CPU, by what `uname -m` prints there; empty where this imgbuild was built without it.
pub const INITS: [(&str, &[u8]); 3] = [
    ("x86_64", include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-x86_64"))),
    ("aarch64", include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-aarch64"))),
    ("ppc64le", include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-ppc64le"))),
];

/// imgbuild-init: the program of each initrd.
pub fn init_program() -> &'static [u8] {
    #[cfg(feature = "e2e")]
    if fault::is_planted_on_nodes() {
        return PLANTED;
    }
    INIT
}

#[cfg(all(test, feature = "e2e"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_of_the_tests_can_have_faults() {
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, b"IMGBUILD_PLANTED").is_some();
        assert!(!has(INIT) && INITS.iter().all(|(_, bytes)| !has(bytes)));
        assert!(has(PLANTED));
    }
}
