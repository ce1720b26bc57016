//! Changes of inputs, by a generator of which each input's number gives the state.

/// What an input is made of: where its checksums are, and what is worth changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Bytes,
    Text,
    /// tar, whose headers have sums that are made right again.
    Tar,
}

/// Numbers that look random. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64, count: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ count.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    pub fn below(&mut self, most: usize) -> usize {
        if most == 0 { 0 } else { (self.next() % most as u64) as usize }
    }

    fn of_list<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 62,
    u64::MAX >> 1,
    u64::MAX,
];

const WORDS: [&str; 24] = [
    "0",
    "-1",
    "4294967296",
    "18446744073709551615",
    "9223372036854775807",
    "1e999",
    "NaN",
    "../",
    "/",
    "..",
    "\0",
    "\n\n",
    "\u{202e}",
    "\u{feff}",
    "\"",
    "'",
    "[[",
    "{{",
    "${",
    "$(",
    "#",
    "\\",
    "é",
    "\u{10ffff}",
];

const LONGEST: usize = 1 << 20;

pub fn mutated(seeds: &[Vec<u8>], form: Form, random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        change(&mut bytes, seeds, random);
        bytes.truncate(LONGEST);
    }
    if form == Form::Tar && random.below(8) > 0 {
        right_sums(&mut bytes);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let length = bytes.len() - at;
    let most = 1 << random.below(13);
    let piece = 1 + random.below(length.min(most));
    let piece = piece.min(length);
    match random.below(13) {
        0 if length > 0 => bytes[at] ^= 1 << random.below(8),
        1 if length > 0 => bytes[at] = random.next() as u8,
        2 => {
            let number = random.of_list(&NUMBERS);
            let width = random.of_list(&[1, 2, 4, 8]).min(length);
            let big = random.below(2) == 0;
            let all = if big { number.to_be_bytes() } else { number.to_le_bytes() };
            let from = if big { 8 - width } else { 0 };
            bytes[at..at + width].copy_from_slice(&all[from..from + width]);
        }
        3 => drop(bytes.drain(at..at + piece)),
        4 => {
            let copy = bytes[at..at + piece].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        5 => {
            let copy = bytes[at..at + piece].to_vec();
            let to = random.below(bytes.len() + 1).min(bytes.len() - copy.len());
            bytes[to..to + copy.len()].copy_from_slice(&copy);
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let until = from + random.below((other.len() - from + 1).min(4096));
            bytes.splice(at..at, other[from..until].iter().copied());
        }
        7 => bytes.truncate(at),
        8 => {
            let word = random.of_list(&WORDS);
            let until = at + random.below(4).min(length);
            bytes.splice(at..until, word.bytes());
        }
        // A number in digits becomes another one of as many.
        9 => {
            if let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) {
                for byte in bytes[at + start..].iter_mut().take_while(|byte| byte.is_ascii_digit()) {
                    *byte = b"0789"[random.below(4)];
                }
            }
        }
        // A line twice, or many times.
        10 => {
            let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let end =
                bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| at + newline + 1);
            let times = 1 << random.below(9);
            let copy = bytes[start..end].repeat(times.min(LONGEST / (end - start).max(1)));
            bytes.splice(start..start, copy);
        }
        // Brackets and quotes in one another.
        11 => {
            let times = 1 << random.below(12);
            let byte = random.of_list(b"[{(<\"'/.a0 \n");
            bytes.splice(at..at, std::iter::repeat_n(byte, times));
        }
        _ => bytes[at..at + piece].iter_mut().for_each(|byte| *byte = 0),
    }
}

/// Makes the sums of tar's headers right.
fn right_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}
