//! Puts text, blocks and runs together, and keeps their invariants.

use crate::extraction::{Block, Extraction, Kind, Run};

/// An extraction in the making. Sources are places in the decoded text.
#[derive(Default)]
pub struct Builder {
    text: String,
    blocks: Vec<Block>,
    runs: Vec<Run>,
    /// The block that text goes to, and where it began.
    open: Option<Kind>,
    start: usize,
    page: Option<u32>,
    /// White space that has been read and matters only if more text follows: where it begins in the source.
    space: Option<Option<usize>>,
}

impl Builder {
    /// The page that the block which was begun stands on.
    pub fn turn_to(&mut self, page: u32) {
        self.page = Some(page);
    }

    /// Begins a block, and ends the one before it.
    pub fn begin(&mut self, kind: Kind) {
        self.end();
        self.open = Some(kind);
    }

    /// Whether text has a block to go to.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Adds running text that stands in the source at `source`: white space becomes one space.
    pub fn flow(&mut self, text: &str, source: usize) {
        let mut at = 0;
        for piece in text.as_bytes().chunk_by(|a, b| a.is_ascii_whitespace() == b.is_ascii_whitespace()) {
            let next = at + piece.len();
            if piece[0].is_ascii_whitespace() {
                self.space(Some(source + at));
            } else {
                self.verbatim(&text[at..next], source + at);
            }
            at = next;
        }
    }

    /// Adds running text that has no place in the source: white space becomes one space.
    pub fn words(&mut self, text: &str) {
        for (index, word) in text.split(|c: char| c.is_ascii_whitespace()).enumerate() {
            if index > 0 {
                self.space(None);
            }
            if !word.is_empty() {
                self.unplaced(word);
            }
        }
    }

    /// Adds a space, unless the block begins or ends with one already.
    pub fn space(&mut self, source: Option<usize>) {
        if self.is_begun() && self.space.is_none() && !self.text.ends_with([' ', '\n']) {
            self.space = Some(source);
        }
    }

    /// Adds text as it stands in the source at `source`.
    pub fn verbatim(&mut self, text: &str, source: usize) {
        self.replaced(text, source, source + text.len());
    }

    /// Adds text that stands for a stretch of the source.
    pub fn replaced(&mut self, text: &str, source_start: usize, source_end: usize) {
        self.write_space();
        let start = self.write(text);
        self.run(start, source_start, source_end);
    }

    /// Adds text that has no place in the source.
    pub fn unplaced(&mut self, text: &str) {
        self.write_space();
        self.write(text);
    }

    /// Ends the block. One without text is no block.
    pub fn end(&mut self) {
        self.space = None;
        let Some(kind) = self.open.take().filter(|_| self.start < self.text.len()) else {
            return;
        };
        let end = self.start + self.text[self.start..].trim_end().len();
        self.cut(end);
        if self.start < end {
            self.blocks.push(Block { kind, start: self.start, end, page: self.page });
        } else {
            self.cut(self.blocks.last().map_or(0, |block| block.end));
        }
        self.start = self.text.len();
    }

    /// The extraction, with the media type still to be named.
    pub fn finish(mut self, title: Option<String>) -> Extraction {
        self.end();
        Extraction { media_type: "", title, text: self.text, blocks: self.blocks, runs: self.runs }
    }

    fn is_begun(&self) -> bool {
        self.open.is_some() && self.start < self.text.len()
    }

    fn write_space(&mut self) {
        if let Some(source) = self.space.take() {
            let start = self.write(" ");
            if let Some(source) = source {
                self.run(start, source, source + 1);
            }
        }
    }

    /// Writes to the open block, and answers where.
    fn write(&mut self, text: &str) -> usize {
        if self.open.is_none() {
            self.open = Some(Kind::Paragraph);
        }
        if !self.is_begun() {
            if !self.blocks.is_empty() {
                self.text.push('\n');
            }
            self.start = self.text.len();
        }
        self.text.push_str(text);
        self.text.len() - text.len()
    }

    fn run(&mut self, start: usize, source_start: usize, source_end: usize) {
        let end = self.text.len();
        if start == end {
            return;
        }
        let is_linear = end - start == source_end - source_start;
        match self.runs.last_mut() {
            Some(last)
                if is_linear
                    && last.end == start
                    && last.source_end == source_start
                    && last.end - last.start == last.source_end - last.source_start =>
            {
                last.end = end;
                last.source_end = source_end;
            }
            _ => self.runs.push(Run { start, end, source_start, source_end }),
        }
    }

    /// Takes back the text from `end` on. Blocks that have ended are before it.
    fn cut(&mut self, end: usize) {
        self.text.truncate(end);
        while let Some(last) = self.runs.last_mut().filter(|run| run.end > end) {
            let excess = last.end - end;
            if last.start >= end || last.end - last.start != last.source_end - last.source_start {
                self.runs.pop();
            } else {
                last.end = end;
                last.source_end -= excess;
            }
        }
    }
}
