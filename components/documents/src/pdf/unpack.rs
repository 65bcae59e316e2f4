//! How much a stream unpacks to, found out before it is unpacked.

use crate::extraction::Error;
use crate::limits;
use hayro_syntax::Filter;
use hayro_syntax::object::Stream;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

/// The most that a byte of each packing becomes: 258 bytes for two bits; a string as long as the table for twelve
/// bits; 128 bytes for two; four bytes for one.
const DEFLATE_RATIO: usize = 1032;
const LZW_RATIO: usize = 2731;
const RUN_LENGTH_RATIO: usize = 64;
const ASCII_RATIO: usize = 4;

/// What an estimate that cannot be checked costs, as a multiple of the packed bytes: what text commonly unpacks to.
const COMMON_RATIO: usize = 8;

/// What may still be unpacked from a document.
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(limits::UNPACKED)
    }
}

impl Budget {
    /// Pays for unpacking a stream, or refuses.
    pub fn pay(&mut self, stream: &Stream<'_>) -> Result<(), Error> {
        let packed = stream.raw_data();
        let filters = stream.filters();
        self.pay_for(&packed, &filters)
    }

    fn pay_for(&mut self, packed: &[u8], filters: &[Filter]) -> Result<(), Error> {
        let mut size = Size::Known(packed.to_vec());
        for filter in filters {
            size = match (size, filter) {
                (size, Filter::Crypt) => size,
                (Size::Known(data), Filter::FlateDecode) => inflate(&data, self.0)?,
                (Size::Known(data), Filter::Ascii85Decode) => Size::Known(ascii_85(&data)),
                (Size::Known(data), Filter::AsciiHexDecode) => Size::AtMost(data.len()),
                (Size::Known(data), filter) => Size::AtMost(data.len().saturating_mul(ratio(*filter))),
                (Size::AtMost(most), filter) => Size::AtMost(most.saturating_mul(ratio(*filter))),
            };
            self.check(size.bytes())?;
        }
        let cost = match &size {
            Size::Known(data) => data.len(),
            Size::AtMost(most) => (*most).min(packed.len().saturating_mul(COMMON_RATIO)),
        };
        self.check(cost)?;
        self.0 -= cost;
        Ok(())
    }

    fn check(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.0 { Err(too_large()) } else { Ok(()) }
    }
}

/// What a stream becomes.
enum Size {
    Known(Vec<u8>),
    AtMost(usize),
}

impl Size {
    fn bytes(&self) -> usize {
        match self {
            Self::Known(data) => data.len(),
            Self::AtMost(most) => *most,
        }
    }
}

fn too_large() -> Error {
    Error::too_large("what the PDF's streams unpack to", limits::UNPACKED, "bytes")
}

/// Pictures stay packed: no text comes of them.
fn ratio(filter: Filter) -> usize {
    match filter {
        Filter::FlateDecode => DEFLATE_RATIO,
        Filter::LzwDecode => LZW_RATIO,
        Filter::RunLengthDecode => RUN_LENGTH_RATIO,
        Filter::Ascii85Decode | Filter::AsciiHexDecode => ASCII_RATIO,
        Filter::CcittFaxDecode | Filter::Jbig2Decode | Filter::DctDecode | Filter::JpxDecode | Filter::Crypt => 1,
    }
}

/// Inflates as far as the bound. Data that is damaged may be taken further by a reader that is more lenient.
fn inflate(data: &[u8], most: usize) -> Result<Size, Error> {
    match decompress_to_vec_zlib_with_limit(data, most) {
        Ok(inflated) => Ok(Size::Known(inflated)),
        Err(error) if error.status == TINFLStatus::HasMoreOutput => Err(too_large()),
        Err(_) => Ok(Size::AtMost(data.len().saturating_mul(DEFLATE_RATIO))),
    }
}

/// Decodes five characters to four bytes, `z` to four zeros; other characters are skipped, as readers do.
fn ascii_85(data: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(data.len());
    let mut group = Vec::with_capacity(5);
    for byte in data.iter().take_while(|byte| **byte != b'~') {
        match byte {
            b'z' if group.is_empty() => decoded.extend([0; 4]),
            b'!'..=b'u' => group.push(byte - b'!'),
            _ => {}
        }
        if group.len() == 5 {
            decoded.extend(base_85(&group));
            group.clear();
        }
    }
    if let Some(bytes) = group.len().checked_sub(1) {
        group.resize(5, 84);
        decoded.extend(&base_85(&group)[..bytes]);
    }
    decoded
}

fn base_85(group: &[u8]) -> [u8; 4] {
    let number = group.iter().fold(0_u32, |number, digit| number.wrapping_mul(85).wrapping_add(u32::from(*digit)));
    number.to_be_bytes()
}

/// How far before its data a stream's dictionary is looked for.
const DICTIONARY: usize = 4096;

/// Measures the streams that hold objects. They are found by their bytes, since reading the file properly would
/// unpack them.
pub fn check_object_streams(bytes: &[u8]) -> Result<(), Error> {
    let mut budget = Budget::default();
    for at in find_all(bytes, b"stream") {
        let data = bytes[at + b"stream".len()..].trim_ascii_start();
        let before = &bytes[at.saturating_sub(DICTIONARY)..at];
        if !before.ends_with(b"end") && data.len() < bytes.len() - at && holds_objects(before) {
            let end = find_all(data, b"endstream").next().unwrap_or(data.len());
            budget.pay_for(&data[..end], &[Filter::FlateDecode])?;
        }
    }
    Ok(())
}

fn holds_objects(dictionary: &[u8]) -> bool {
    let own = find_all(dictionary, b"endstream").last().map_or(dictionary, |end| &dictionary[end..]);
    let names = unescape(own);
    let has = |name: &[u8]| find_all(&names, name).next().is_some();
    has(b"ObjStm") || has(b"XRef") || has(b"/First")
}

/// Resolves `#xx` in names.
fn unescape(dictionary: &[u8]) -> Vec<u8> {
    let mut names = Vec::with_capacity(dictionary.len());
    let mut rest = dictionary;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'#').and_then(|hex| std::str::from_utf8(hex).ok());
        match digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                names.push(byte);
                rest = &tail[2..];
            }
            None => {
                names.push(*first);
                rest = tail;
            }
        }
    }
    names
}

fn find_all<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(bytes, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec_zlib;

    #[test]
    fn sound_streams_cost_what_they_become() {
        let packed = compress_to_vec_zlib(&[b' '; 100_000], 6);
        let mut budget = Budget::default();
        budget.pay_for(&packed, &[Filter::FlateDecode]).unwrap();
        assert_eq!(budget.0, limits::UNPACKED - 100_000);
    }

    #[test]
    fn a_bomb_is_refused_however_it_is_wrapped() {
        let once = compress_to_vec_zlib(&vec![0; limits::UNPACKED + 1], 6);
        let twice = compress_to_vec_zlib(&once, 6);
        for (packed, filters) in [
            (&once, &[Filter::FlateDecode][..]),
            (&twice, &[Filter::FlateDecode, Filter::FlateDecode]),
            (&vec![0; 100_000], &[Filter::LzwDecode]),
            (&vec![0; 100_000], &[Filter::RunLengthDecode, Filter::RunLengthDecode]),
            (&vec![b'z'; limits::UNPACKED / 4 + 1], &[Filter::Ascii85Decode]),
            // Damaged at once, so that only a lenient reader would go on.
            (&vec![0xff; 100_000], &[Filter::FlateDecode]),
        ] {
            let refused = Budget::default().pay_for(packed, filters);
            assert!(matches!(refused, Err(Error::TooLarge(_))), "{filters:?}: {refused:?}");
        }
    }

    #[test]
    fn ascii_85_is_decoded() {
        assert_eq!(ascii_85(b"87cUR\nD]i,\"Ebo80~>"), b"Hello World!");
        assert_eq!(ascii_85(b"z87cUR"), b"\0\0\0\0Hell");
        assert_eq!(ascii_85(b"87cURDZ~>"), b"Hello");
    }

    #[test]
    fn object_streams_are_found_by_any_spelling() {
        let bomb = compress_to_vec_zlib(&vec![0; limits::UNPACKED + 1], 6);
        for dictionary in ["<</Type/ObjStm/N 1/First 8>>", "<</Type /Obj#53tm>>", "<</#46irst 1>>", "<</Type/XRef>>"] {
            let file = [dictionary.as_bytes(), b"stream\r\n", &bomb, b"\nendstream"].concat();
            assert!(matches!(check_object_streams(&file), Err(Error::TooLarge(_))), "{dictionary}");
        }
        let picture = [b"<</Subtype/Image>>stream\n", &bomb[..], b"\nendstream"].concat();
        assert_eq!(check_object_streams(&picture), Ok(()));
    }
}
