//! The examples that clusters need: each is checked, and built where the long tests are asked for.

use std::process::Command;

use crate::support::Space;

/// Name, what makes the files that are not in git, and packages that must come in.
const EXAMPLES: [(&str, &[&str], &[&str]); 5] = [
    ("slurm", &["make-site"], &["slurmd", "munge"]),
    ("infiniband", &["make-packages"], &["rdma-core", "ibverbs-utils"]),
    ("gpu", &[], &["nvidia-persistenced"]),
    ("lustre", &["make-packages"], &["lustre-client-utils"]),
    ("scratch", &[], &["e2fsprogs"]),
];

#[test]
fn examples_for_clusters_are_good_and_build() {
    let builds = std::env::var_os("IMGBUILD_LONG_TESTS").is_some();
    for (name, makes, packages) in EXAMPLES {
        let space = Space::example(name).with_store(&super::store());
        for script in makes {
            let ran = Command::new(space.path().join(script)).current_dir(space.path()).output().unwrap();
            assert!(ran.status.success(), "{name}: {script}: {}", String::from_utf8_lossy(&ran.stderr));
        }
        let ran = space.run(&["check"]).good();
        assert!(ran.err.contains("(0 warnings"), "{name}: {}", ran.err);
        if builds {
            space.run(&["build"]).good();
            let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
            for package in packages {
                assert!(lock.contains(&format!("{{ name = \"{package}\",")), "{name}: {package} is not in the lock");
            }
        }
    }
}
