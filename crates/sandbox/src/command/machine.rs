//! Calls of the kernel that tell of the machine: each answers as the files of /proc and /sys do (`tree/machine.rs`).

use rustix::io::Errno;

use super::supervisor::write;
use crate::filter;
use crate::tree::machine::{FREE_MEMORY, MEMORY, PROCESSORS, UPTIME};

/// Answers a call by its name; gives what it returns.
/// Errors: That of the call.
pub(super) fn answer(asked: &libc::seccomp_notif, name: &str) -> Result<usize, Errno> {
    let [first, second, third, ..] = asked.data.args;
    let is_wide = !filter::is_of_32_bits(asked.data.arch);
    match name {
        "sched_getaffinity" => {
            // The length is a number of 32 bits, of whole words. Source: kernel/sched/syscalls.c.
            let (length, word) = (second as u32 as usize, if is_wide { 8 } else { 4 });
            if length == 0 || length % word != 0 {
                return Err(Errno::INVAL);
            }
            let count = if fault::planted("processors-of-host") { 1 } else { PROCESSORS };
            let mask = ((1u64 << count) - 1).to_le_bytes();
            let mask = &mask[..length.min(mask.len())];
            write(asked, third, mask)?;
            Ok(mask.len())
        }
        "sysinfo" => write(asked, first, &sysinfo(is_wide)).map(|()| 0),
        // The first processor, and the first node of memory.
        "getcpu" => {
            for place in [first, second].into_iter().filter(|place| *place != 0) {
                write(asked, place, &[0; 4])?;
            }
            Ok(0)
        }
        _ => Err(Errno::NOSYS),
    }
}

/// `struct sysinfo` of linux/sysinfo.h: its first ten fields and two behind the number of processes are long integers.
fn sysinfo(is_wide: bool) -> Vec<u8> {
    // In 32 bits memory is counted by pages.
    let unit: u32 = if is_wide { 1 } else { 4096 };
    let mut bytes = Vec::new();
    let long = |bytes: &mut Vec<u8>, value: u64| {
        if is_wide { bytes.extend(value.to_ne_bytes()) } else { bytes.extend((value as u32).to_ne_bytes()) }
    };
    // Uptime, three loads, memory in all and free, and what is shared, buffered, swapped, or free of that.
    for value in [UPTIME, 0, 0, 0, MEMORY / u64::from(unit), FREE_MEMORY / u64::from(unit), 0, 0, 0, 0] {
        long(&mut bytes, value);
    }
    long(&mut bytes, 1);
    long(&mut bytes, 0);
    long(&mut bytes, 0);
    bytes.extend(unit.to_ne_bytes());
    bytes.resize(if is_wide { 112 } else { 64 }, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CommandRequest, supervisor};
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    /// What a shell prints that may run on one processor alone, below the filter and its supervisor.
    fn printed(script: &str) -> String {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (outer, inner) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).env_remove("OMP_NUM_THREADS").stdout(Stdio::piped());
        // SAFETY: only system calls between fork and exec; the set outlives its call.
        unsafe {
            command.pre_exec(move || {
                let one = 1u64;
                libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<u64>(), &raw const one);
                // Without it only root may have a filter.
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                supervisor::hand_over(&inner, filter::install(false, false)?.as_ref());
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        let end = supervisor::end_of(child.id() as i32).unwrap();
        let request = CommandRequest { kernel: Some("6.1.0-test".to_owned()), ..CommandRequest::default() };
        supervisor::serve(&supervisor::receive(&outer).unwrap(), end.as_fd(), &request);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn calls_have_fixed_processors_and_memory() {
        let pages = "echo $(($(getconf _PHYS_PAGES) * $(getconf PAGESIZE)))";
        let script = format!("nproc; taskset 1 nproc; taskset -p 1 $$ >/dev/null && nproc; {pages}; uname -r");
        assert_eq!(printed(&script), format!("4\n4\n4\n{MEMORY}\n6.1.0-test\n"));
    }

    #[test]
    fn a_masks_length_is_in_whole_words_and_the_structure_of_memory_as_long_as_the_kernels() {
        assert_eq!((sysinfo(true).len(), sysinfo(false).len()), (112, 64));
        let total = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        assert_eq!(u64::from(total(&sysinfo(false)[16..20])) * u64::from(total(&sysinfo(false)[52..56])), MEMORY);
        assert_eq!(sysinfo(true)[32..40], MEMORY.to_ne_bytes());
        let lengths = "import ctypes; call = ctypes.CDLL(None).syscall; place = ctypes.create_string_buffer(64); \
                       print([call(NUMBER, 0, length, place) for length in (0, 4, 7, 8, 64)])";
        let lengths = lengths.replace("NUMBER", &libc::SYS_sched_getaffinity.to_string());
        assert_eq!(printed(&format!("python3 -c '{lengths}'")), "[-1, -1, -1, 8, 8]\n");
    }
}
