//! Lines and paragraphs out of characters and their places. A PDF says neither, save that marked ones name
//! headings; so the rules here are those by which a reader sees them: a gap, a smaller or larger letter, an indent.
//!
//! All lengths are in units of the size of the letters they are compared with.

use super::draw::Glyph;
use super::order;
use crate::builder::Builder;
use crate::extraction::{Extraction, Kind};
use hayro_font::kurbo::Vec2;
use std::collections::BTreeMap;

/// Up or down, within which characters stand on one line: covers superscripts and not the next line.
const SAME_LINE: f64 = 0.5;

/// Along the line, beyond which what follows is another column or cell.
const COLUMN_GAP: f64 = 2.5;

/// Between characters, beyond which there is a space: more than kerning, less than the narrowest space.
const WORD_GAP: f64 = 0.17;

/// Between lines of one paragraph, at the most; a tenth more than the usual double spacing would part its lines.
const LINE_GAP: f64 = 1.75;

/// More than the gap between the lines before, by which a new paragraph is known.
const MORE_GAP: f64 = 1.3;

/// Begins a paragraph further right than the line before.
const INDENT: f64 = 0.8;

/// Of a column's width: a line that ends before it, with a full stop, ends its paragraph.
const SHORT_LINE: f64 = 0.75;

/// By which letters of one paragraph may differ in size.
const SAME_SIZE: f64 = 1.12;

/// By which a heading's letters are larger than those of running text, at the least.
const HEADING_SIZE: f64 = 1.15;

/// The longest heading, in bytes.
const HEADING_LENGTH: usize = 250;

/// The same character drawn this close by is drawn twice to look bold.
const TWICE: f64 = 0.15;

/// How many characters back another drawing of the same one is looked for.
const TWICE_WITHIN: usize = 256;

/// A document whose pages are being read.
#[derive(Default)]
pub struct Document {
    paragraphs: Vec<Paragraph>,
    /// How much text there is of each size, in tenths of a point.
    sizes: BTreeMap<u32, usize>,
}

struct Paragraph {
    page: u32,
    text: String,
    size: f64,
    heading: Option<u8>,
    is_item: bool,
}

impl Document {
    /// Adds the next page.
    pub fn add(&mut self, page: u32, glyphs: Vec<Glyph>) {
        let lines = lines(glyphs);
        let right = lines.iter().map(|line| line.max).fold(f64::MIN, f64::max);
        let left = lines.iter().map(|line| line.min).fold(f64::MAX, f64::min);
        let mut open: Option<Open> = None;
        for line in lines {
            let text = line.text();
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (text, is_item) = without_bullet(text);
            *self.sizes.entry(tenths(line.size)).or_default() += text.len();
            let continues = open.as_ref().filter(|open| !is_item && open.takes(&line, left, right));
            match (continues.is_some(), self.paragraphs.last_mut()) {
                (true, Some(paragraph)) => join(&mut paragraph.text, text),
                _ => {
                    self.paragraphs.push(Paragraph {
                        page,
                        text: text.into(),
                        size: line.size,
                        heading: line.heading,
                        is_item,
                    });
                    open = None;
                }
            }
            open = Some(Open::after(open, line, is_item, text));
        }
    }

    /// The extraction, with the media type still to be named.
    pub fn finish(self, title: Option<String>) -> Extraction {
        let body = self.sizes.iter().max_by_key(|(_, bytes)| **bytes).map_or(0.0, |(size, _)| f64::from(*size) / 10.0);
        let is_large = |p: &Paragraph| p.size >= body * HEADING_SIZE && p.text.len() <= HEADING_LENGTH && !p.is_item;
        let mut large: Vec<u32> = self.paragraphs.iter().filter(|p| is_large(p)).map(|p| tenths(p.size)).collect();
        large.sort_unstable_by(|a, b| b.cmp(a));
        large.dedup();
        let mut builder = Builder::default();
        for paragraph in &self.paragraphs {
            let rank = large.iter().position(|size| *size == tenths(paragraph.size));
            let level = rank.filter(|_| is_large(paragraph)).map(|rank| u8::try_from(rank + 1).unwrap_or(6).min(6));
            builder.begin(match paragraph.heading.or(level) {
                Some(level) => Kind::Heading(level),
                None if paragraph.is_item => Kind::ListItem,
                None => Kind::Paragraph,
            });
            builder.turn_to(paragraph.page);
            builder.words(&paragraph.text);
        }
        builder.finish(title)
    }
}

fn tenths(size: f64) -> u32 {
    (size * 10.0).round() as u32
}

/// A line of a page.
struct Line {
    direction: Vec2,
    /// How far the baseline is to the side of the direction: further up for text across the page.
    across: f64,
    size: f64,
    /// Where along the direction the line begins and ends.
    min: f64,
    max: f64,
    heading: Option<u8>,
    glyphs: Vec<Placed>,
}

struct Placed {
    text: String,
    start: f64,
    end: f64,
    across: f64,
}

fn lines(glyphs: Vec<Glyph>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for glyph in glyphs {
        let direction = lines.last().map(|line| line.direction).filter(|last| last.dot(glyph.direction) > 0.98);
        let direction = direction.unwrap_or(glyph.direction);
        let side = Vec2::new(-direction.y, direction.x);
        let start = glyph.start.to_vec2().dot(direction);
        let placed = Placed {
            start,
            end: glyph.end.to_vec2().dot(direction).max(start),
            across: glyph.start.to_vec2().dot(side),
            text: glyph.text,
        };
        match lines.last_mut() {
            Some(line) if line.takes(&placed, direction, glyph.size, glyph.heading) => line.add(placed, glyph.size),
            _ => lines.push(Line {
                direction,
                across: placed.across,
                size: glyph.size,
                min: placed.start,
                max: placed.end,
                heading: glyph.heading,
                glyphs: vec![placed],
            }),
        }
    }
    lines
}

impl Line {
    fn takes(&self, glyph: &Placed, direction: Vec2, size: f64, heading: Option<u8>) -> bool {
        let size = self.size.max(size);
        self.direction == direction
            && self.heading == heading
            && (self.across - glyph.across).abs() < SAME_LINE * size
            && glyph.start < self.max + COLUMN_GAP * size
            && glyph.end > self.min - COLUMN_GAP * size
    }

    fn add(&mut self, glyph: Placed, size: f64) {
        let is_back = glyph.start < self.max - TWICE * size;
        if is_back && self.glyphs.iter().rev().take(TWICE_WITHIN).any(|other| other.is_same(&glyph, size)) {
            return;
        }
        // A superscript neither moves the line nor makes it smaller.
        if size > self.size {
            self.across = glyph.across;
            self.size = size;
        }
        self.min = self.min.min(glyph.start);
        self.max = self.max.max(glyph.end);
        self.glyphs.push(glyph);
    }

    /// The text in the order of reading, with a space where there is a gap.
    fn text(&self) -> String {
        let from_right = order::has_right_to_left(self.glyphs.iter().map(|glyph| glyph.text.as_str()));
        let jumps_back = self.glyphs.windows(2).any(|pair| pair[1].start < pair[0].start - self.size);
        let mut glyphs: Vec<&Placed> = self.glyphs.iter().collect();
        if from_right || jumps_back {
            glyphs.sort_by(|a, b| a.start.total_cmp(&b.start));
        }
        let mut pieces: Vec<String> = Vec::with_capacity(glyphs.len());
        let mut end = f64::MAX;
        for glyph in glyphs {
            let is_space = !glyph.text.is_empty() && glyph.text.trim().is_empty();
            let has_gap = glyph.start - end > WORD_GAP * self.size;
            let is_open = pieces.last().is_some_and(|last| last != " ");
            if (is_space || has_gap) && is_open {
                pieces.push(" ".into());
            }
            if !is_space {
                pieces.push(glyph.text.clone());
            }
            end = glyph.end;
        }
        if from_right {
            pieces = order::read(pieces);
        }
        pieces.concat()
    }
}

impl Placed {
    fn is_same(&self, other: &Self, size: f64) -> bool {
        self.text == other.text
            && (self.start - other.start).abs() < TWICE * size
            && (self.across - other.across).abs() < TWICE * size
    }
}

/// A paragraph that the next line may continue.
struct Open {
    last: Line,
    /// Between its last two lines.
    gap: Option<f64>,
    is_item: bool,
    /// Whether its last line ends a sentence.
    ends: bool,
}

impl Open {
    fn after(before: Option<Self>, last: Line, is_item: bool, text: &str) -> Self {
        let gap = before.as_ref().map(|before| before.last.across - last.across);
        let is_item = before.map_or(is_item, |before| before.is_item);
        Self {
            last, gap, is_item, ends: text.ends_with(['.', '!', '?', ':', '。', '۔', '।', '؟', '…', '"', '”'])
        }
    }

    /// Whether `line`, on a page whose text stands between `left` and `right`, continues the paragraph.
    fn takes(&self, line: &Line, left: f64, right: f64) -> bool {
        let last = &self.last;
        let size = last.size.max(line.size);
        let gap = last.across - line.across;
        let is_like = last.direction == line.direction
            && last.heading == line.heading
            && size <= last.size.min(line.size) * SAME_SIZE;
        let is_below = gap > SAME_LINE * size
            && gap < LINE_GAP * size
            && self.gap.is_none_or(|before| gap < before * MORE_GAP)
            && line.min < last.max
            && line.max > last.min;
        let is_centred = ((line.min + line.max) - (last.min + last.max)).abs() < 2.0 * size;
        let is_short = self.ends && last.max < left + (right - left) * SHORT_LINE && !is_centred;
        // Lines that are set against the right margin begin where they may.
        let is_from_right = last.max < right - size && line.max > last.max + size && last.min > left + size;
        let is_indented = line.min > last.min + INDENT * size && !is_centred && !self.is_item && !is_from_right;
        is_like && is_below && !is_indented && !is_short
    }
}

/// Adds a line to a paragraph. A word that was parted at the line's end is made whole.
fn join(paragraph: &mut String, line: &str) {
    let parted = paragraph.strip_suffix(['-', '\u{ad}', '\u{2010}']);
    let continues = line.starts_with(char::is_lowercase);
    match parted {
        Some(word) if continues && word.ends_with(char::is_alphabetic) => paragraph.truncate(word.len()),
        _ if paragraph.ends_with(is_ideograph) && line.starts_with(is_ideograph) => {}
        _ => paragraph.push(' '),
    }
    paragraph.push_str(line);
}

/// Scripts that are written without spaces, where a line's end is no space either.
fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

/// The text of a list item without its mark, and whether it is one. Numbers stay, since text refers to them.
fn without_bullet(text: &str) -> (&str, bool) {
    let bullets = ['•', '◦', '▪', '‣', '●', '○', '■', '∙', '·', '\u{f0b7}', '\u{f0a7}', '–', '-', '*'];
    if let Some(item) = text.strip_prefix(bullets).filter(|rest| rest.starts_with(' ')) {
        return (item.trim_start(), true);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.len() - rest.len();
    (text, (1..=3).contains(&digits) && (rest.starts_with(". ") || rest.starts_with(") ")))
}
