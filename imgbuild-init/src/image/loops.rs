//! Loop devices. Source: loop(4), and Linux, include/uapi/linux/loop.h.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const LOOP_SET_FD: u64 = 0x4c00;
const LOOP_SET_STATUS64: u64 = 0x4c04;
const LOOP_CLR_FD: u64 = 0x4c01;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
/// Detaches the file once the device is no longer used.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `struct loop_info64`, in bytes.
const INFO: usize = 232;
/// Place of `lo_flags` in it.
const FLAGS: usize = 52;

/// A device that shows a file, as long as this or a mount holds it.
pub(super) struct Device {
    /// Where it is.
    pub path: String,
    _held: File,
}

/// Shows a file that is open for reading as a block device.
///
/// # Errors
/// The kernel's.
pub(super) fn attach(image: &File) -> io::Result<Device> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..16 {
        let number = crate::sys::control_number(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0)?;
        let path = format!("/dev/loop{number}");
        let device = File::open(&path)?;
        match crate::sys::control_number(device.as_raw_fd(), LOOP_SET_FD, u64::try_from(image.as_raw_fd()).unwrap_or(0))
        {
            Ok(_) => {}
            // Someone was faster.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => continue,
            Err(error) => return Err(error),
        }
        let mut info = [0u8; INFO];
        info[FLAGS..FLAGS + 4].copy_from_slice(&LO_FLAGS_AUTOCLEAR.to_ne_bytes());
        if let Err(error) = crate::sys::control_bytes(device.as_raw_fd(), LOOP_SET_STATUS64, &mut info) {
            let _ = crate::sys::control_number(device.as_raw_fd(), LOOP_CLR_FD, 0);
            return Err(error);
        }
        return Ok(Device { path, _held: device });
    }
    Err(io::Error::other("all loop devices are in use"))
}
