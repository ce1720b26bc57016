//! System calls: all of this program's unsafe code.

use std::ffi::CString;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::name::bytes_of;
use std::time::Duration;

fn c(text: &str) -> io::Result<CString> {
    Ok(CString::new(bytes_of(text).into_owned())?)
}

/// The path that a text stands for.
fn os(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes_of(text)))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (source, target, kind, data) = (c(source)?, c(target)?, c(kind)?, c(data)?);
    // SAFETY: all pointers are to live, terminated strings.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
        .map(drop)
}

/// Mounts /proc, /sys, /dev and /run.
pub fn mount_kernel_trees() {
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for (source, target, kind, flags, data) in [
        ("proc", "/proc", "proc", quiet, ""),
        ("sysfs", "/sys", "sysfs", quiet, ""),
        ("devtmpfs", "/dev", "devtmpfs", libc::MS_NOSUID, "mode=755"),
        ("tmpfs", "/run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755"),
    ] {
        let _ = std::fs::create_dir_all(target);
        if let Err(error) = mount(source, target, kind, flags, data) {
            crate::say!("{target} cannot be mounted: {error}");
        }
    }
}

/// Makes the file system of the new root.
pub fn mount_root(target: &str, size: &str, flags: Option<&str>) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    // Inodes cost memory as well; without a limit of their own the size's default would be too low for small files.
    let flags = flags.map(|flags| format!(",{flags}")).unwrap_or_default();
    mount("imgbuild", target, "tmpfs", 0, &format!("mode=755,size={size},nr_inodes=0{flags}"))
}

/// Mounts an image for reading.
pub fn mount_image(device: &str, target: &str, kind: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    mount(device, target, kind, libc::MS_RDONLY, "")
}

/// Mounts a disk that keeps frames. Nothing on it is a program or a device, and no link of it is followed.
pub fn mount_cache(device: &str, target: &str, kind: &str) -> io::Result<()> {
    /// Source: Linux 5.10, include/uapi/linux/mount.h.
    const MS_NOSYMFOLLOW: libc::c_ulong = 256;
    std::fs::create_dir_all(target)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    mount(device, target, kind, flags | MS_NOSYMFOLLOW, "")
}

/// Joins what can only be read with a tmpfs that takes what is written.
pub fn mount_overlay(target: &str, lower: &str, upper: &str) -> io::Result<()> {
    for path in [target.to_owned(), format!("{upper}/upper"), format!("{upper}/work")] {
        std::fs::create_dir_all(path)?;
    }
    mount("imgbuild", target, "overlay", 0, &format!("lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"))
}

/// A control call with a number; gives the number that it answers.
pub fn control_number(fd: std::os::fd::RawFd, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the request takes a number and no pointer.
    check(unsafe { libc::ioctl(fd, request as _, argument) })
}

/// A control call with a structure.
pub fn control_bytes(fd: std::os::fd::RawFd, request: u64, argument: &mut [u8]) -> io::Result<i32> {
    // SAFETY: the pointer is to live bytes, as many as the request's structure has.
    check(unsafe { libc::ioctl(fd, request as _, argument.as_mut_ptr()) })
}

/// Shows the kernel's side of SELinux.
pub fn mount_selinux(target: &str) -> io::Result<()> {
    mount("selinuxfs", target, "selinuxfs", libc::MS_NOSUID | libc::MS_NOEXEC, "")
}

/// Takes a file system away, whoever still uses it.
pub fn unmount(target: &str) {
    if let Ok(target) = c(target) {
        // SAFETY: the pointer is to a live, terminated string.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Takes a file system away that nobody uses any more, and waits until all of it is on its disk; true where it is gone.
pub fn unmount_now(target: &str) -> bool {
    // SAFETY: the pointer is to a live, terminated string.
    c(target).is_ok_and(|target| unsafe { libc::umount2(target.as_ptr(), 0) } == 0)
}

/// Has a file system keep room for a file; one that cannot promise it is asked nothing.
pub fn reserve(fd: std::os::fd::RawFd, size: u64) -> io::Result<()> {
    let size = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the call takes numbers alone.
    match check(unsafe { libc::fallocate(fd, 0, 0, size) }) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other.map(drop),
    }
}

/// Moves a mount.
pub fn move_mount(from: &str, to: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(to);
    mount(from, to, "", libc::MS_MOVE, "")
}

/// What cannot happen.
pub enum Never {}

/// Frees the initrd, makes `root` the root, does what is `last`, and executes `init` in this process.
pub fn become_root(root: &str, init: &str, last: impl FnOnce() -> io::Result<()>) -> io::Result<Never> {
    std::env::set_current_dir(root)?;
    free_initrd();
    mount(".", "/", "", libc::MS_MOVE, "")?;
    let (here, init) = (c(".")?, c(init)?);
    let arguments = [init.as_ptr(), std::ptr::null()];
    // SAFETY: all pointers are to live, terminated strings; execv takes a null-terminated array of them.
    unsafe {
        check(libc::chroot(here.as_ptr()))?;
        check(libc::chdir(c"/".as_ptr()))?;
    }
    last()?;
    // SAFETY: as above.
    unsafe {
        check(libc::execv(init.as_ptr(), arguments.as_ptr()))?;
    }
    Err(io::Error::other("execv returned"))
}

/// Removes the files of the initrd: they would take memory for ever. Mounts below are left alone.
fn free_initrd() {
    use std::os::unix::fs::MetadataExt;
    fn remove(path: &Path, device: u64) {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                remove(&entry.path(), device);
                let _ = std::fs::remove_dir(entry.path());
            } else {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    if let Ok(metadata) = Path::new("/").symlink_metadata() {
        remove(Path::new("/"), metadata.dev());
    }
}

/// Loads a module from a file.
pub fn load_module(path: &Path, options: &str) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let options = c(options)?;
    // SAFETY: the descriptor is open and the string is live and terminated. Source: finit_module(2).
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What `uname -r` prints.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Sets the host name.
pub fn set_host_name(name: &str) {
    // SAFETY: pointer and length belong to one live string.
    unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
}

/// Memory that can be used, in bytes. Source: proc(5), MemAvailable.
pub fn memory_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A random number; from the clock where the kernel has none yet.
pub fn random_u32() -> u32 {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer is live and as long as said. GRND_NONBLOCK: early in the boot the pool may be empty.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if got == 4 {
        return u32::from_ne_bytes(bytes);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos().wrapping_mul(2_654_435_761)
}

/// Waits until the kernel has random numbers, which makes it collect them from its own timing where the processor has no
/// generator: from Linux 5.4 on that takes a second, and without anybody who waits it is not done. TLS needs them, and so does
/// the image. Source: Linux, drivers/char/random.c, `try_to_generate_entropy`.
pub fn ask_for_randomness() {
    let mut byte = 0u8;
    // SAFETY: the buffer is live and as long as said.
    unsafe { libc::getrandom((&raw mut byte).cast(), 1, 0) };
}

/// Starts the machine again.
pub fn reboot() -> ! {
    // SAFETY: no pointers; the machine is in memory only, so nothing has to be written first.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    stop_here()
}

/// Does nothing for ever: the first process must not end.
pub fn stop_here() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Waits for children that the kernel hands to the first process.
pub fn reap_orphans_quietly() {
    loop {
        let mut status = 0;
        // SAFETY: `status` is live.
        if unsafe { libc::waitpid(-1, &raw mut status, 0) } < 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Runs something in a process of its own that outlives this program's exec; gives its number.
pub fn fork_daemon(work: impl FnOnce()) -> io::Result<libc::pid_t> {
    // SAFETY: the child uses the heap, which glibc's fork leaves usable; other threads only sleep or wait.
    match check(unsafe { libc::fork() })? {
        0 => {
            // SAFETY: no pointers.
            unsafe { libc::setsid() };
            work();
            std::process::exit(0);
        }
        child => Ok(child),
    }
}

/// Goes to the topmost control group, where no service manager looks for what is left of a service.
pub fn leave_control_group() {
    for file in ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/systemd/cgroup.procs"] {
        // Without systemd there is no such file, and nothing to leave.
        if Path::new(file).exists() {
            let _ = std::fs::write(file, "0");
        }
    }
}

/// Ends a process.
pub fn end(process: libc::pid_t) {
    // SAFETY: no pointers; the number is that of a child.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid: it is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn control(code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that these requests take. Source: netdevice(7).
    check(unsafe { libc::ioctl(socket.as_raw_fd(), code as _, std::ptr::from_mut(request)) }).map(drop)
}

/// Brings an interface up.
pub fn set_up(name: &str) -> io::Result<()> {
    let mut wanted = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: the request above filled this member of the union.
    let flags = unsafe { wanted.ifr_ifru.ifru_flags };
    wanted.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(libc::SIOCSIFFLAGS, &mut wanted)
}

/// Takes an interface down, and its address away.
pub fn set_down(name: &str) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::UNSPECIFIED);
    // There may be none.
    let _ = control(libc::SIOCSIFADDR, &mut wanted);
    let mut wanted = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: the request above filled this member of the union.
    let flags = unsafe { wanted.ifr_ifru.ifru_flags };
    wanted.ifr_ifru.ifru_flags = flags & !(libc::IFF_UP as libc::c_short);
    control(libc::SIOCSIFFLAGS, &mut wanted)
}

/// Sets the MTU.
pub fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_mtu = libc::c_int::from(mtu);
    control(libc::SIOCSIFMTU, &mut wanted)
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inner = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: sockaddr_in and sockaddr have the same size, and the family says which one it is.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inner) }
}

/// Sets address and netmask.
pub fn set_address(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_addr = socket_address(address);
    control(libc::SIOCSIFADDR, &mut wanted)?;
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    wanted.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(bits));
    control(libc::SIOCSIFNETMASK, &mut wanted)
}

/// Adds the default route.
pub fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: an all-zero rtentry is valid: it is plain data with a null device name.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that SIOCADDRT takes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw mut route) }).map(drop)
}

/// A socket for whole IPv4 packets on one interface. Source: packet(7).
pub struct PacketSocket {
    socket: OwnedFd,
    index: libc::c_int,
}

impl PacketSocket {
    /// Opens it.
    pub fn open(name: &str) -> io::Result<Self> {
        let interface = c(name)?;
        // SAFETY: the pointer is to a live, terminated string.
        let index = unsafe { libc::if_nametoindex(interface.as_ptr()) } as libc::c_int;
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let protocol = (libc::ETH_P_IP as u16).to_be();
        let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, libc::c_int::from(protocol))?;
        let address = Self::address(index);
        // SAFETY: the address is live and its size is the one given.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(Self { socket, index })
    }

    fn address(index: libc::c_int) -> libc::sockaddr_ll {
        // SAFETY: an all-zero sockaddr_ll is valid: it is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = index;
        address.sll_halen = 6;
        address.sll_addr = [255; 8];
        address
    }

    /// Sends a packet to everybody.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let address = Self::address(self.index);
        // SAFETY: buffer and address are live and as long as said.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for a packet; none when the time is over.
    pub fn receive(&self, buffer: &mut [u8], wait: Duration) -> Option<usize> {
        let mut ready = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: one live pollfd.
        if unsafe { libc::poll(&raw mut ready, 1, milliseconds) } <= 0 {
            return None;
        }
        // SAFETY: the buffer is live and as long as said.
        let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(got).ok()
    }
}

/// Owner, mode and time of an entry.
pub struct Made {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
}

/// Makes something, and its folders where an exclude list dropped them: mode 755, owner root.
fn with_parents<T>(path: &str, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = os(path).parent() {
                std::fs::create_dir_all(parent)?;
            }
            make()
        }
        other => other,
    }
}

/// The directory that an archive is unpacked into; names never lead out of it.
pub struct Root {
    path: String,
}

impl Root {
    /// Uses a directory.
    pub fn open(path: &str) -> io::Result<Self> {
        std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of a name: its directories were made by this archive's first frame, so none of them is a link.
    fn at(&self, name: &str) -> io::Result<CString> {
        c(&format!("{}/{name}", self.path))
    }

    fn finish(path: &CString, made: &Made, link: bool) -> io::Result<()> {
        let times = [libc::timespec { tv_sec: i64::from(made.mtime), tv_nsec: 0 }; 2];
        // SAFETY: the path is live and terminated, and there are two times.
        unsafe {
            check(libc::lchown(path.as_ptr(), made.uid, made.gid))?;
            if !link {
                check(libc::chmod(path.as_ptr(), made.mode))?;
            }
            check(libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)).map(drop)
        }
    }

    /// Makes a directory, or gives an existing one its owner and mode.
    pub fn directory(&self, name: &str, made: &Made) -> io::Result<()> {
        let path = self.at(name)?;
        // SAFETY: the path is live and terminated.
        match with_parents(&format!("{}/{name}", self.path), || check(unsafe { libc::mkdir(path.as_ptr(), 0o755) })) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        Self::finish(&path, made, false)
    }

    /// Makes a file.
    pub fn file(&self, name: &str, made: &Made, content: &mut dyn Read) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = format!("{}/{name}", self.path);
        let open = || {
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(os(&path))
        };
        let mut file = with_parents(&path, open)?;
        io::copy(content, &mut file)?;
        drop(file);
        Self::finish(&c(&path)?, made, false)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, name: &str, target: &[u8], made: &Made) -> io::Result<()> {
        let (path, target) = (self.at(name)?, CString::new(target)?);
        // SAFETY: both paths are live and terminated.
        let make = || check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) });
        with_parents(&format!("{}/{name}", self.path), make)?;
        Self::finish(&path, made, true)
    }

    /// Gives a file another name.
    pub fn hard_link(&self, name: &str, to: &str) -> io::Result<()> {
        let place = format!("{}/{name}", self.path);
        with_parents(&place, || std::fs::hard_link(os(&format!("{}/{to}", self.path)), os(&place)))
    }

    /// Makes a device, pipe or socket.
    pub fn special(&self, name: &str, kind: u32, device: (u32, u32), made: &Made) -> io::Result<()> {
        let path = self.at(name)?;
        // SAFETY: the path is live and terminated.
        let make = || check(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, libc::makedev(device.0, device.1)) });
        with_parents(&format!("{}/{name}", self.path), make)?;
        Self::finish(&path, made, false)
    }
}

/// Gives a file another name.
pub fn hard_link(root: &str, name: &str, to: &str) -> io::Result<()> {
    Root::open(root)?.hard_link(name, to)
}

/// Sets a directory's time.
pub fn set_time(root: &str, name: &str, time: u32) -> io::Result<()> {
    let path = c(&format!("{root}/{name}"))?;
    let times = [libc::timespec { tv_sec: i64::from(time), tv_nsec: 0 }; 2];
    // SAFETY: the path is live and terminated, and there are two times.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
        .map(drop)
}

/// Sets an extended attribute of a path itself, links included.
pub fn set_attribute(path: &Path, attribute: &str, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (path, attribute) = (CString::new(path.as_os_str().as_bytes())?, c(attribute)?);
    // SAFETY: the strings are live and terminated, and the value is as long as said.
    check(unsafe { libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
        .map(drop)
}

/// Sets an extended attribute; the value is hexadecimal.
pub fn set_xattr(root: &str, name: &str, attribute: &str, value: &str) -> io::Result<()> {
    let bytes: Option<Vec<u8>> =
        (0..value.len()).step_by(2).map(|at| u8::from_str_radix(value.get(at..at + 2)?, 16).ok()).collect();
    let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
    let (path, attribute) = (c(&format!("{root}/{name}"))?, c(attribute)?);
    let set = || {
        // SAFETY: the strings are live and terminated, and the value is as long as said.
        check(unsafe { libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) })
    };
    let mut outcome = set();
    if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP))
        && attribute.to_bytes().starts_with(b"system.")
    {
        // An overlay gives no ACL to what still lies in an image that has none: a change of mode brings it up first.
        // Source: Linux, fs/overlayfs, ovl_posix_acl_xattr_set.
        let full = format!("{root}/{name}");
        let mode = std::fs::symlink_metadata(&full).map(|found| found.permissions())?;
        std::fs::set_permissions(&full, mode)?;
        outcome = set();
    }
    match outcome {
        // tmpfs has no user attributes before Linux 6.6; nothing that boots needs them.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) && attribute.to_bytes().starts_with(b"user.") => {
            crate::say!("this kernel keeps no user attributes in memory: {name} is without");
            Ok(())
        }
        other => other.map(drop),
    }
}
