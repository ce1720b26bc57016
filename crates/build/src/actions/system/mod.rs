//! The system layer: fstab, machine-id, time zone, names, and who may log in (D24, D34, D35).

pub mod inputs;
pub mod inside;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: /etc/locale.conf in RPM images; 3: host keys that sshd asks for.
pub const VERSION: u32 = 4;
