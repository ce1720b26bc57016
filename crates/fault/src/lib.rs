//! Named places at which tests stop the program to kill it, and what it asks of the inside, for tests that ask the same elsewhere; in
//! other builds they are nothing.
//!
//! `IMGBUILD_FAULT=NAME` with `IMGBUILD_FAULT_FILE=PATH`: anyone who comes to the place NAME for the first time writes PATH
//! and waits until it is gone: for ever, where the test kills it. With `IMGBUILD_FAULT=NAME+` it goes on: the kill comes while it works.
//!
//! `IMGBUILD_PLANTED=NAME` breaks a promise at the place that asks for that name ([`planted`]): a test has to notice.

#[cfg(feature = "e2e")]
pub const VARIABLES: [&str; 4] =
    ["IMGBUILD_FAULT", "IMGBUILD_FAULT_FILE", "IMGBUILD_PLANTED", "IMGBUILD_PLANTED_REACHED"];

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

/// Whether this fault is planted; `tests/planted/faults.toml` has all of them. The file that `IMGBUILD_PLANTED_REACHED` names, where
/// it exists, gets a line when a planted fault is reached: a test may fail for another reason.
#[cfg(feature = "e2e")]
pub fn planted(name: &str) -> bool {
    use std::io::Write;
    static PLANTED: std::sync::LazyLock<Option<(String, Option<std::fs::File>)>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("IMGBUILD_PLANTED").ok()?;
        // Open from the beginning: where a fault is reached, the file may be out of sight.
        let note = std::env::var_os("IMGBUILD_PLANTED_REACHED");
        Some((name, note.and_then(|file| std::fs::File::options().append(true).open(file).ok())))
    });
    static REACHED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let Some((_, note)) = PLANTED.as_ref().filter(|(planted, _)| planted == name) else { return false };
    if !REACHED.swap(true, std::sync::atomic::Ordering::Relaxed) {
        match note {
            Some(file) => _ = writeln!(&mut &*file, "{name}"),
            // A node: its console is all that tests see of it.
            None if name.starts_with("node-") => println!("imgbuild: the planted fault {name} is reached"),
            None => {}
        }
    }
    true
}

/// No fault is planted.
#[cfg(not(feature = "e2e"))]
pub const fn planted(_: &str) -> bool {
    false
}

/// Whether a fault of imgbuild-init is planted: nodes then have the program that knows its faults.
#[cfg(feature = "e2e")]
pub fn is_planted_on_nodes() -> bool {
    std::env::var("IMGBUILD_PLANTED").is_ok_and(|name| name.starts_with("node-"))
}

/// Keeps a question and its answer in a file of the directory that `IMGBUILD_ASKED` names, and other names of packages beside it.
#[cfg(feature = "e2e")]
pub fn asked<T: std::fmt::Display>(store: &std::path::Path, conversation: impl FnOnce() -> T) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let Some(directory) = std::env::var_os("IMGBUILD_ASKED") else { return };
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::path::Path::new(&directory).join(format!("{number:04}.json"));
    let text = conversation().to_string();
    if text.contains("\"links/") {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(store.join("links"))
            .arg(file.with_extension("links"))
            .status();
        assert!(copied.is_ok_and(|status| status.success()));
    }
    let _ = std::fs::write(file, text);
}

/// Nothing is kept.
#[cfg(not(feature = "e2e"))]
pub fn asked<T>(_: &std::path::Path, _: impl FnOnce() -> T) {}
