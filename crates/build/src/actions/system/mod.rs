//! The system layer: fstab, machine-id, time zone, names, and who may log in (D24, D34, D35).

pub(crate) mod inputs;
pub(crate) mod inside;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: /etc/locale.conf in RPM images; 3: host keys that sshd asks for.
pub(crate) const VERSION: u32 = 4;
