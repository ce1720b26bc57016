//! Device nodes that package scripts make. None can be made where they run, and an image needs none: nodes have their own `/dev`. So a
//! file stands for one until the layer is made, which leaves it out by name. No I/O.

/// What a file that stands for a device begins with.
const START: &str = "imgbuild: stands for the character device ";

/// Whether each Linux has it, so that it tells nothing of a machine. Source: Linux, Documentation/admin-guide/devices.txt.
pub fn is_common(major: u32, minor: u32) -> bool {
    match (major, minor) {
        // null, zero, full, random, urandom, kmsg.
        (1, 3 | 5 | 7 | 8 | 9 | 11) => true,
        // Consoles and serial lines.
        (4, 0..=95) => true,
        // tty, console, ptmx.
        (5, 0..=2) => true,
        // net/tun, fuse.
        (10, 200 | 229) => true,
        _ => false,
    }
}

/// All that are common.
pub fn common() -> impl Iterator<Item = (u32, u32)> {
    [1, 4, 5, 10]
        .into_iter()
        .flat_map(|major| (0..=255).map(move |minor| (major, minor)))
        .filter(|(a, b)| is_common(*a, *b))
}

/// The content of a file that stands for a device.
pub fn stand_in(major: u32, minor: u32) -> String {
    format!("{START}{major}:{minor}\n")
}

/// Major and minor number of the kernel's encoding. Source: Linux, `new_decode_dev`.
pub fn numbers(device: u64) -> (u32, u32) {
    let device = device as u32;
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_a_machine_is_not_common() {
        for (major, minor) in [(1, 3), (1, 9), (5, 2), (4, 63), (10, 229)] {
            assert!(is_common(major, minor) && common().any(|one| one == (major, minor)), "{major}:{minor}");
        }
        // Memory, ports, disks, and overlayfs' mark of what is gone.
        for (major, minor) in [(1, 1), (1, 2), (1, 4), (8, 0), (10, 200 + 256), (0, 0), (10, 237)] {
            assert!(!is_common(major, minor), "{major}:{minor}");
        }
        assert_eq!((numbers(0x103), numbers(0x0050_0001), numbers(0xae5)), ((1, 3), (0, 0x501), (10, 229)));
    }
}
