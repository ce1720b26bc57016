//! Named places at which tests stop the program to kill it, and what it asks of the inside, for tests that ask the same elsewhere; in
//! other builds they are nothing.
//!
//! `IMGBUILD_FAULT=NAME` with `IMGBUILD_FAULT_FILE=PATH`: anyone who comes to the place NAME for the first time writes PATH
//! and waits until it is gone: for ever, where the test kills it. With `IMGBUILD_FAULT=NAME+` it goes on: the kill comes while it works.

#[cfg(feature = "e2e")]
pub const VARIABLES: [&str; 2] = ["IMGBUILD_FAULT", "IMGBUILD_FAULT_FILE"];

/// Variables that a helper process inherits: none.
#[cfg(not(feature = "e2e"))]
pub const VARIABLES: [&str; 0] = [];

#[cfg(feature = "e2e")]
pub fn point(name: &str) {
    let Ok(wanted) = std::env::var("IMGBUILD_FAULT") else { return };
    let goes_on = wanted.strip_suffix('+');
    if goes_on.unwrap_or(&wanted) != name {
        return;
    }
    let Some(file) = std::env::var_os("IMGBUILD_FAULT_FILE") else { return };
    // The first one that comes here, in whichever process.
    static CAME: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if CAME.swap(true, std::sync::atomic::Ordering::Relaxed) {
        return;
    }
    let file = std::path::PathBuf::from(file);
    let made = std::fs::File::options().write(true).create_new(true).open(&file);
    while made.is_ok() && goes_on.is_none() && file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether something is to fail by this name, as it does elsewhere: `IMGBUILD_FAULT=NAME`, without a file.
#[cfg(feature = "e2e")]
pub fn is_planned(name: &str) -> bool {
    std::env::var("IMGBUILD_FAULT").is_ok_and(|wanted| wanted == name)
}

/// Nothing fails on purpose.
#[cfg(not(feature = "e2e"))]
pub fn is_planned(_: &str) -> bool {
    false
}

#[cfg(not(feature = "e2e"))]
pub fn point(_: &str) {}

/// Keeps a question and its answer in a file of the directory that `IMGBUILD_ASKED` names.
#[cfg(feature = "e2e")]
pub fn asked(conversation: impl FnOnce() -> serde_json::Value) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let Some(directory) = std::env::var_os("IMGBUILD_ASKED") else { return };
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::path::Path::new(&directory).join(format!("{number:04}.json"));
    let _ = std::fs::write(file, conversation().to_string());
}

/// Nothing is kept.
#[cfg(not(feature = "e2e"))]
pub fn asked(_: impl FnOnce() -> serde_json::Value) {}
