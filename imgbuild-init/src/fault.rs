//! Promises that are broken on purpose, to see that a test notices: `tests/planted/faults.toml` has them. Only the program that
//! tests put into initrds has them (feature `e2e`).

/// Whether this fault is planted: by the environment, which for the first process is the kernel's command line.
#[cfg(feature = "e2e")]
pub fn planted(name: &str) -> bool {
    static REACHED: std::sync::Once = std::sync::Once::new();
    let is_planted = std::env::var("IMGBUILD_PLANTED").is_ok_and(|planted| planted == name);
    if is_planted {
        REACHED.call_once(|| println!("imgbuild: the planted fault {name} is reached"));
    }
    is_planted
}

/// No fault is planted.
#[cfg(not(feature = "e2e"))]
pub const fn planted(_: &str) -> bool {
    false
}
