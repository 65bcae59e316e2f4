//! An extracted document, checked: what an extractor says about its own text is not trusted.

use std::ops::Range;

/// A document to summarize.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The name of the source.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The blocks of running text, in the order of the text.
    pub blocks: Vec<Block>,
    /// Where the text came from, in its order; empty where the places in the text are the places to name.
    pub runs: Vec<Run>,
}

/// A paragraph, an item of a list or a quotation. Headings, code and tables hold no sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it is in the text, in bytes.
    pub range: Range<usize>,
    /// The page it begins on.
    pub page: Option<u32>,
}

/// A stretch of the text and the bytes of the document it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where it is in the text.
    pub text: Range<u64>,
    /// Where it is in the document.
    pub source: Range<u64>,
}

/// Why what an extractor gave cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the extractor placed a block of `{name}` at {start} to {end}, which is no part of its text")]
pub struct MisplacedBlock {
    name: String,
    start: usize,
    end: usize,
}

impl Document {
    /// A document whose blocks all lie within its text.
    ///
    /// # Errors
    /// Where a block does not, or cuts a character.
    pub fn new(name: String, text: String, blocks: Vec<Block>, runs: Vec<Run>) -> Result<Self, MisplacedBlock> {
        if let Some(block) = blocks.iter().find(|block| text.get(block.range.clone()).is_none()) {
            return Err(MisplacedBlock { name, start: block.range.start, end: block.range.end });
        }
        Ok(Self { name, text, blocks, runs })
    }

    /// The bytes of the source that `range` of the text came from: from the first to the last, where other bytes such
    /// as markup lie between.
    #[must_use]
    pub fn source_range(&self, range: &Range<usize>) -> Range<u64> {
        let text = range.start as u64..range.end as u64;
        let first = self.runs.partition_point(|run| run.text.end <= text.start);
        let after = self.runs.partition_point(|run| run.text.start < text.end);
        let Some(touched) = self.runs.get(first..after) else { return text };
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else { return text };
        let start = first.start_of(text.start);
        start..last.end_of(text.end).max(start)
    }
}

impl Run {
    /// Whether a byte of the text is a byte of the document, as it is except in what was decoded, such as `&amp;`.
    fn is_verbatim(&self) -> bool {
        self.text.end.checked_sub(self.text.start) == self.source.end.checked_sub(self.source.start)
    }

    fn start_of(&self, text: u64) -> u64 {
        match self.is_verbatim() {
            true => self.source.start.saturating_add(text.saturating_sub(self.text.start)),
            false => self.source.start,
        }
    }

    fn end_of(&self, text: u64) -> u64 {
        match self.is_verbatim() {
            true => self.source.end.saturating_sub(self.text.end.saturating_sub(text)),
            false => self.source.end,
        }
    }
}

#[cfg(test)]
#[allow(clippy::reversed_empty_ranges, reason = "what a hostile extractor could say")]
mod tests {
    use super::*;

    fn run(text: Range<u64>, source: Range<u64>) -> Run {
        Run { text, source }
    }

    #[test]
    fn a_range_within_a_run_moves_with_it() {
        let document = Document { runs: vec![run(0..5, 2..7), run(6..20, 10..24)], ..Document::default() };
        assert_eq!(document.source_range(&(1..4)), 3..6);
        assert_eq!(document.source_range(&(8..10)), 12..14);
    }

    #[test]
    fn a_range_over_several_runs_goes_from_the_first_to_the_last() {
        let document =
            Document { runs: vec![run(0..5, 2..7), run(5..6, 7..12), run(6..20, 12..26)], ..Document::default() };
        assert_eq!(document.source_range(&(3..8)), 5..14);
        assert_eq!(document.source_range(&(5..6)), 7..12);
        assert_eq!(document.source_range(&(0..6)), 2..12);
    }

    #[test]
    fn without_runs_places_are_those_in_the_text() {
        assert_eq!(Document::default().source_range(&(3..8)), 3..8);
    }

    #[test]
    fn hostile_runs_do_no_harm() {
        let runs = vec![run(9..3, u64::MAX..0), run(0..u64::MAX, 5..u64::MAX), run(4..2, 0..0)];
        let document = Document { runs, ..Document::default() };
        for start in 0..12 {
            let range = document.source_range(&(start..start + 3));
            assert!(range.start <= range.end);
        }
    }

    #[test]
    fn a_block_outside_of_its_text_is_refused() {
        let block = |range| vec![Block { range, page: None }];
        let new = |range| Document::new("d".to_owned(), "é.".to_owned(), block(range), Vec::new());
        assert!(new(0..3).is_ok());
        assert!(new(0..1).is_err());
        assert!(new(0..4).is_err());
        assert!(new(2..0).is_err());
    }
}
