//! A small image made by hand, as the standards say, and what becomes of corrupt ones.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn both(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn record(name: &[u8], sector: u32, size: u32, flags: u8, system: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both(sector));
    out.extend(both(size));
    out.extend([0; 7]);
    out.push(flags);
    out.extend([0, 0, 1, 0, 0, 1, name.len() as u8]);
    out.extend_from_slice(name);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out.extend_from_slice(system);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out[0] = out.len() as u8;
    out
}

fn name(text: &str) -> Vec<u8> {
    let mut field = vec![b'N', b'M', text.len() as u8 + 5, 1, 0];
    field.extend_from_slice(text.as_bytes());
    field
}

fn mode(mode: u32) -> Vec<u8> {
    let mut field = vec![b'P', b'X', 36, 1];
    field.extend(both(mode));
    field.resize(36, 0);
    field
}

/// `rhdd3`, `rpms/x86_64/Driver.rpm` and a link, with Rock Ridge names unless `plain`.
fn image(plain: bool) -> Vec<u8> {
    let mut sectors = vec![vec![0u8; 2048]; 16];
    let susp = if plain { Vec::new() } else { vec![b'S', b'P', 7, 1, 0xbe, 0xef, 0] };
    let with = |fields: Vec<u8>| if plain { Vec::new() } else { fields };
    let mut primary = vec![1];
    primary.extend(b"CD001\x01");
    primary.resize(156, 0);
    primary.extend(record(&[0], 18, 2048, 2, &[]));
    sectors.push(primary);
    sectors.push(b"\xffCD001\x01".to_vec());
    let mut link = name("newest");
    link.extend([b'S', b'L', 5 + 2 + 2 + 4, 1, 0, 0b0100, 0, 0, 4]);
    link.extend(b"rpms");
    sectors.push(
        [
            record(&[0], 18, 2048, 2, &susp),
            record(&[1], 18, 2048, 2, &[]),
            record(b"NEWEST.;1", 0, 0, 0, &with(link)),
            record(b"RHDD3.;1", 20, 5, 0, &with([mode(0o100_444), name("rhdd3")].concat())),
            record(b"RPMS", 19, 2048, 2, &with(name("rpms"))),
        ]
        .concat(),
    );
    sectors.push(record(b"DRIVER.RPM;1", 20, 5, 0, &with(name("Driver.rpm"))));
    sectors.push(b"hello".to_vec());
    sectors
        .into_iter()
        .flat_map(|mut sector| {
            sector.resize(2048, 0);
            sector
        })
        .collect()
}

fn files(bytes: Vec<u8>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    read_iso(&mut Cursor::new(bytes), &mut |member| {
        let text = match member.kind {
            MemberKind::File(content) => {
                let mut text = Vec::new();
                content.read_to_end(&mut text).map_err(|error| error.to_string())?;
                format!("{:o} {}", member.mode, String::from_utf8_lossy(&text))
            }
            MemberKind::Symlink(target) => format!("-> {target}"),
        };
        found.push((member.path, text));
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn rock_ridge_gives_names_modes_and_links() {
    let found = files(image(false)).unwrap();
    let shown: Vec<String> = found.iter().map(|(path, text)| format!("{path} {text}")).collect();
    assert_eq!(shown, ["newest -> ../rpms", "rhdd3 444 hello", "rpms/Driver.rpm 644 hello"]);
}

#[test]
fn plain_names_lose_their_version_and_their_capitals() {
    let names: Vec<String> = files(image(true)).unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["newest", "rhdd3", "rpms/driver.rpm"]);
}

#[test]
fn directories_that_hold_one_another_are_refused() {
    let mut bytes = image(false);
    // The directory `rpms` holds the top again.
    let at = 19 * 2048;
    bytes[at..at + 2048].fill(0);
    let again = record(b"AGAIN", 18, 2048, 2, &[]);
    bytes[at..at + again.len()].copy_from_slice(&again);
    assert!(files(bytes).unwrap_err().contains("form a loop"));
    assert!(files(image(false)[..19 * 2048].to_vec()).is_err());
    assert!(files(Vec::new()).is_err());
}

proptest! {
    #[test]
    fn no_image_makes_it_panic(
        changes in proptest::collection::vec((16usize * 2048..20 * 2048, any::<u8>()), 1..12),
        low in proptest::collection::vec((18usize * 2048..18 * 2048 + 400, any::<u8>()), 0..8),
        cut in 0usize..21 * 2048,
    ) {
        let mut bytes = image(false);
        for (at, byte) in changes.into_iter().chain(low) {
            bytes[at] = byte;
        }
        let _ = files(bytes.clone());
        bytes.truncate(cut);
        let _ = files(bytes);
    }
}
