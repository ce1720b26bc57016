//! Process 1 of imgbuild's sandbox: it waits for the command, reaps all others, and ends as the command did.
//!
//! Anyone who is root inside may write into its memory (`/proc/1/mem`): it must be one that may be looked at, and the kernel has one rule
//! for both. So it has nothing there by which it could be led elsewhere: no stack and no program but a page of instructions, a shared
//! mapping of a sealed file, into which no one can write, and a page for the status of what ended.

use std::os::fd::{FromRawFd, OwnedFd};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::{ffi::CStr, io, os::fd::AsRawFd};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::check;
use super::end_as;

// Both take: the child, the page for a status, lengths of what lies below and above the two pages, where that above begins, and a
// descriptor to close once all else is gone. Numbers of calls: munmap, close, wait4, exit_group.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(include_str!("reaper-x86_64.s"));

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("reaper-aarch64.s"));

/// Becomes process 1, once it can be looked at and no longer be led elsewhere: then `ready` is closed. Gives the child's status where the
/// kernel gives no such memory.
pub(crate) fn process_one(child: libc::pid_t, ready: libc::c_int) -> i32 {
    // SAFETY: the caller gives this descriptor away.
    let ready = unsafe { OwnedFd::from_raw_fd(ready) };
    // The kernel keeps from process 1 what its own namespace sends, as long as it has no handler; Rust brings two.
    // SAFETY: all bytes zero is the kernel's structure of a signal's default, which outlives the calls.
    unsafe {
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), size_of::<u64>());
        }
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if is_unseen()
        && let Ok(pages) = pages()
    {
        // From here on it is the instructions that close it.
        become_reaper(child, pages, std::os::fd::IntoRawFd::into_raw_fd(ready));
    }
    drop(ready);
    end_as(child)
}

/// Whether the kernel writes nothing into this process's memory when it changes between processes: the C library asks for that (rseq(2)),
/// where the sandbox's filter does not refuse it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn is_unseen() -> bool {
    // SAFETY: nothing is registered at a null pointer; the call gives an error.
    let asked = unsafe { libc::syscall(libc::SYS_rseq, std::ptr::null::<u8>(), 0, 0, 0) };
    asked == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn page() -> usize {
    // SAFETY: it reads a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Makes both pages, the instructions first; gives their address.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn pages() -> io::Result<usize> {
    // SAFETY: both stand at the ends of the instructions above.
    unsafe extern "C" {
        static imgbuild_reaper: u8;
        static imgbuild_reaper_end: u8;
    }
    const NAME: &CStr = c"imgbuild-process-1";
    let (page, begin) = (page(), &raw const imgbuild_reaper);
    let length = (&raw const imgbuild_reaper_end) as usize - begin as usize;
    // SAFETY: the names are live and terminated, the instructions are as long as said, and what is mapped is new memory.
    unsafe {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // Kernels before 6.3 do not know that it may be run; later ones may ask for it.
        let file = check(libc::memfd_create(NAME.as_ptr(), flags | libc::MFD_EXEC))
            .or_else(|_| check(libc::memfd_create(NAME.as_ptr(), flags)))?;
        let file = OwnedFd::from_raw_fd(file);
        if libc::write(file.as_raw_fd(), begin.cast(), length) != length as isize {
            return Err(io::Error::last_os_error());
        }
        let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        check(libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals))?;
        let (read_write, own) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let both = libc::mmap(std::ptr::null_mut(), 2 * page, read_write, own, -1, 0);
        if both == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let (read_run, shared) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | libc::MAP_FIXED);
        if libc::mmap(both, page, read_run, shared, file.as_raw_fd(), 0) == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(both as usize)
    }
}

/// The end of the memory that is taken away: on x86-64 that of all addresses (the vDSO may lie behind the stack), on others that of the
/// stack, whose last bytes are the program's name.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn end_of_memory() -> usize {
    #[cfg(target_arch = "x86_64")]
    return 0x7fff_ffff_f000;
    #[cfg(target_arch = "aarch64")]
    // SAFETY: it reads a number.
    return (unsafe { libc::getauxval(libc::AT_EXECFN) } as usize).next_multiple_of(page());
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn become_reaper(child: libc::pid_t, pages: usize, ready: libc::c_int) -> ! {
    let page = page();
    let (status, behind) = (pages + page, pages + 2 * page);
    let above = end_of_memory().saturating_sub(behind);
    // SAFETY: this is the only thread; the instructions use these registers and the two pages alone, and never come back.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "jmp rcx", in("rcx") pages, in("r12") i64::from(child), in("r13") status, in("r14") pages, in("r15") behind,
            in("r8") above, in("r9") i64::from(ready), options(noreturn)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "br x9", in("x9") pages, in("x20") i64::from(child), in("x21") status, in("x22") pages, in("x23") behind,
            in("x24") above, in("x25") i64::from(ready), options(noreturn)
        );
    }
}
