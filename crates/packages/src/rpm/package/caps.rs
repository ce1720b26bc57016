//! File capabilities: from the text in a header to the value of `security.capability`. Source: cap_from_text(3),
//! linux/capability.h.

const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// `VFS_CAP_REVISION_2`; the kernel makes it one of the namespace where that is needed.
const REVISION: u32 = 0x0200_0000;

/// The value of the attribute; none for no capabilities.
/// Errors: A text that says what is not understood.
pub(in crate::rpm) fn attribute(text: &str) -> Result<Option<Vec<u8>>, String> {
    let wrong = || format!("has capabilities that cannot be parsed: `{}`", text.escape_default());
    let (mut effective, mut permitted, mut inherited) = (0u64, 0u64, 0u64);
    for clause in text.split_whitespace() {
        let at = clause.find(['=', '+', '-']).ok_or_else(wrong)?;
        let mut mask = 0u64;
        for name in clause[..at].split(',').filter(|name| !name.is_empty() && *name != "all") {
            let lower = name.to_ascii_lowercase();
            let bit = NAMES.iter().position(|known| *known == lower).ok_or_else(wrong)?;
            mask |= 1 << bit;
        }
        if clause[..at].is_empty() || clause[..at].split(',').any(|name| name == "all") {
            mask = (1 << NAMES.len()) - 1;
        }
        let mut operator = b'=';
        for byte in clause.as_bytes()[at..].iter().copied() {
            let mut set = |on: bool, which: u8| {
                let place = match which {
                    b'e' => &mut effective,
                    b'p' => &mut permitted,
                    _ => &mut inherited,
                };
                *place = if on { *place | mask } else { *place & !mask };
            };
            match byte {
                b'=' => {
                    operator = b'=';
                    b"epi".iter().for_each(|which| set(false, *which));
                }
                b'+' | b'-' => operator = byte,
                b'e' | b'p' | b'i' => set(operator != b'-', byte),
                _ => return Err(wrong()),
            }
        }
    }
    if permitted | inherited == 0 {
        return Ok(None);
    }
    let mut value = Vec::with_capacity(20);
    value.extend((REVISION | u32::from(effective != 0)).to_le_bytes());
    for half in [0, 32] {
        value.extend(((permitted >> half) as u32).to_le_bytes());
        value.extend(((inherited >> half) as u32).to_le_bytes());
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn texts_of_headers_become_attributes() {
        let raw = |effective: u8| Some(vec![effective, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(attribute("cap_net_raw=ep").unwrap(), raw(1));
        assert_eq!(attribute("= cap_net_raw+ep").unwrap(), raw(1));
        assert_eq!(attribute("cap_net_raw+p").unwrap(), raw(0));
        assert_eq!(attribute("cap_setuid,cap_setgid=ep").unwrap().unwrap()[4], 0xc0);
        assert_eq!(attribute("cap_bpf=p").unwrap().unwrap()[12], 0x80);
        assert_eq!(attribute("").unwrap(), None);
        assert_eq!(attribute("=").unwrap(), None);
        assert!(attribute("cap_wrong=ep").is_err() && attribute("cap_net_raw").is_err());
    }
}
