//! Answers the system calls of a command for which the filter asks: renames, which go on after a directory of lower layers was made
//! again, starts of programs, which go on after one that something stands in for was covered, uname(2), which tells of the image's kernel,
//! those that tell of the machine, and mknod(2), which gives what stands for a common device.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::stand_ins::Covers;
use super::{CommandRequest, devices, machine, renames, uname};
use crate::filter;

/// Requests of the kernel's notifications. Source: linux/seccomp.h, SECCOMP_IOCTL_NOTIF_RECV and _SEND; the same on all
/// architectures that number ioctls as x86 does.
const RECEIVE: libc::Ioctl = 0xC050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xC018_2101_u32 as libc::Ioctl;

/// Answers until no one is left who could ask: until then `waits` is open. `request` says what uname(2) tells, and what stands in.
pub(super) fn serve(listener: &OwnedFd, waits: BorrowedFd<'_>, request: &CommandRequest) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut covers = Covers::new(&request.stand_ins);
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(waits, PollFlags::IN)];
        let timeout = covers.timeout().and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut ready, timeout.as_ref()) {
            Ok(0) => {
                covers.give_up();
                continue;
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if !ready[1].revents().is_empty() || ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        // SAFETY: all bytes zero is a value of both structures; they outlive the calls, which fill and read them.
        unsafe {
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) != 0 {
                // Who asked is gone.
                continue;
            }
            let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
            answer.id = asked.id;
            let goes_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
            let result = match filter::name_of(asked.data.arch, asked.data.nr).unwrap_or_default() {
                "uname" => uname::answer(&asked, request.release()).map(|()| 0),
                name if name.starts_with("exec") => {
                    let _ = covers.before_start(&asked);
                    answer.flags = goes_on;
                    Ok(0)
                }
                name if name.starts_with("rename") => {
                    if !fault::planted("rename-not-made-room") {
                        let _ = renames::make_room(&asked);
                    }
                    answer.flags = goes_on;
                    Ok(0)
                }
                name if name.starts_with("mknod") => match devices::answer(&asked) {
                    Some(0) => Ok(0),
                    Some(error) => Err(Errno::from_raw_os_error(error)),
                    None => {
                        answer.flags = goes_on;
                        Ok(0)
                    }
                },
                name => machine::answer(&asked, name),
            };
            match result {
                Ok(value) => answer.val = value as i64,
                Err(error) => answer.error = -error.raw_os_error(),
            }
            libc::ioctl(listener.as_raw_fd(), SEND, &raw const answer);
        }
    }
}

/// Writes into the memory of the process that asked.
/// Errors: EFAULT when not all can be written there.
pub(super) fn write(asked: &libc::seccomp_notif, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let pid = i32::try_from(asked.pid).map_err(|_| Errno::SRCH)?;
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local piece is live, as long as said, and only read; the remote one is written by the kernel, which checks it.
    let written = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    if usize::try_from(written) == Ok(bytes.len()) { Ok(()) } else { Err(Errno::FAULT) }
}

/// Sends a descriptor to the process at the other end, which waits for one or for the end.
pub(super) fn hand_over(channel: &OwnedFd, descriptor: Option<&OwnedFd>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|one| one.as_fd()).collect();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let _ = sendmsg(channel, &[std::io::IoSlice::new(b".")], &mut ancillary, SendFlags::empty());
}

/// Receives it; none if nothing was sent, or the other end was closed.
pub(super) fn receive(channel: &OwnedFd) -> Option<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    recvmsg(channel, &mut [std::io::IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// A descriptor that can be read from once a child has ended.
pub(super) fn end_of(child: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: a plain system call; what it gives is a new descriptor that no one else owns.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
    // SAFETY: as above.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
