//! Bytes to text, and from places in that text back to the bytes.

use crate::extraction::Run;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::borrow::Cow;

/// A document as text.
pub struct Decoded<'a> {
    /// The text, without a byte order mark.
    pub text: Cow<'a, str>,
    /// Which text came from which bytes, without gaps in the text. Lengths that are equal map byte by byte.
    segments: Vec<Run>,
}

impl Decoded<'_> {
    /// Places in the decoded text to places in the document: cuts `runs` where the decoding changes.
    pub fn locate(&self, runs: Vec<Run>) -> Vec<Run> {
        match &self.segments[..] {
            [only] if is_linear(only) => shift(runs, only.source_start),
            _ => runs.iter().flat_map(|run| self.cut(run)).collect(),
        }
    }

    fn cut<'s>(&'s self, run: &'s Run) -> impl Iterator<Item = Run> + 's {
        let first = self.segments.partition_point(|segment| segment.end <= run.source_start);
        let segments = self.segments[first..].iter().take_while(|segment| segment.start < run.source_end);
        let whole = !is_linear(run);
        let covered = whole.then(|| self.cover(run));
        let parts = segments.filter(move |_| !whole).map(|segment| overlap(run, segment));
        covered.into_iter().chain(parts)
    }

    /// A run that stands for its source as a whole keeps doing so.
    fn cover(&self, run: &Run) -> Run {
        let place = |at: usize, end: bool| {
            let index = self.segments.partition_point(|segment| segment.end < at + usize::from(!end));
            self.segments.get(index).map_or(0, |segment| match (is_linear(segment), end) {
                (true, _) => segment.source_start + (at - segment.start),
                (false, true) => segment.source_end,
                (false, false) => segment.source_start,
            })
        };
        Run { source_start: place(run.source_start, false), source_end: place(run.source_end, true), ..*run }
    }
}

fn is_linear(run: &Run) -> bool {
    run.end - run.start == run.source_end - run.source_start
}

fn shift(mut runs: Vec<Run>, by: usize) -> Vec<Run> {
    for run in &mut runs {
        run.source_start += by;
        run.source_end += by;
    }
    runs
}

/// The part of a linear `run` that `segment` decoded.
fn overlap(run: &Run, segment: &Run) -> Run {
    let from = run.source_start.max(segment.start);
    let to = run.source_end.min(segment.end);
    let (source_start, source_end) = if is_linear(segment) {
        (segment.source_start + (from - segment.start), segment.source_start + (to - segment.start))
    } else {
        (segment.source_start, segment.source_end)
    };
    Run {
        start: run.start + (from - run.source_start),
        end: run.start + (to - run.source_start),
        source_start,
        source_end,
    }
}

/// Decodes UTF-8 and UTF-16 by their byte order mark, UTF-8 without one, and otherwise Windows-1252, which is what
/// a Latin-1 document means in practice. A document that is UTF-8 but for some broken bytes stays UTF-8.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    match Encoding::for_bom(bytes) {
        Some((encoding, mark)) if encoding == UTF_16LE => wide(&bytes[mark..], mark, u16::from_le_bytes),
        Some((encoding, mark)) if encoding == UTF_16BE => wide(&bytes[mark..], mark, u16::from_be_bytes),
        Some((_, mark)) => utf8(&bytes[mark..], mark),
        None => utf8(bytes, 0),
    }
}

fn utf8(bytes: &[u8], offset: usize) -> Decoded<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Decoded {
            text: Cow::Borrowed(text),
            segments: vec![Run { start: 0, end: text.len(), source_start: offset, source_end: offset + text.len() }],
        },
        Err(_) if offset > 0 || is_mostly_utf8(bytes) => repaired(bytes, offset),
        Err(_) => narrow(bytes),
    }
}

/// More characters beyond ASCII than broken bytes: other encodings hardly ever look so.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let mut sound = 0;
    let mut broken = 0;
    for chunk in bytes.utf8_chunks() {
        sound += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    sound > broken
}

/// Appends decoded text with its origin.
#[derive(Default)]
struct Decoder {
    text: String,
    segments: Vec<Run>,
}

impl Decoder {
    fn push(&mut self, text: &str, source_start: usize, source_end: usize) {
        let start = self.text.len();
        self.text.push_str(text);
        self.segments.push(Run { start, end: self.text.len(), source_start, source_end });
    }

    fn finish<'a>(self) -> Decoded<'a> {
        Decoded { text: Cow::Owned(self.text), segments: self.segments }
    }
}

fn repaired<'a>(bytes: &[u8], mut offset: usize) -> Decoded<'a> {
    let mut decoder = Decoder::default();
    for chunk in bytes.utf8_chunks() {
        let (sound, broken) = (chunk.valid(), chunk.invalid().len());
        if !sound.is_empty() {
            decoder.push(sound, offset, offset + sound.len());
        }
        offset += sound.len();
        if broken > 0 {
            decoder.push("\u{fffd}", offset, offset + broken);
        }
        offset += broken;
    }
    decoder.finish()
}

fn narrow<'a>(bytes: &[u8]) -> Decoded<'a> {
    let mut decoder = Decoder::default();
    let mut offset = 0;
    for stretch in bytes.chunk_by(|a, b| a.is_ascii() == b.is_ascii()) {
        let (text, _) = WINDOWS_1252.decode_without_bom_handling(stretch);
        decoder.push(&text, offset, offset + stretch.len());
        offset += stretch.len();
    }
    decoder.finish()
}

/// UTF-16, a word at a time, so that a sentence can be found in the document.
fn wide<'a>(bytes: &[u8], mark: usize, unit: fn([u8; 2]) -> u16) -> Decoded<'a> {
    let units: Vec<u16> = bytes.chunks(2).map(|pair| pair.try_into().map_or(0xfffd, unit)).collect();
    let mut decoder = Decoder::default();
    let mut offset = mark;
    for word in units.chunk_by(|a, b| !is_space(*a) || is_space(*b)) {
        let end = (offset + word.len() * 2).min(mark + bytes.len());
        decoder.push(&String::from_utf16_lossy(word), offset, end);
        offset = end;
    }
    decoder.finish()
}

fn is_space(unit: u16) -> bool {
    u8::try_from(unit).is_ok_and(|byte| byte.is_ascii_whitespace())
}
