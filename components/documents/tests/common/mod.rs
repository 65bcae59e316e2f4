//! The invariants of an extraction, as the crate states them.
#![allow(dead_code, reason = "each test uses its part of this")]

use documents::{Extraction, Kind};

/// Fails where `extraction` breaks an invariant that holds for every document.
pub fn check(extraction: &Extraction, document: &[u8]) {
    let text = &extraction.text;
    let mut last = None;
    for block in &extraction.blocks {
        assert!(block.start < block.end, "empty block {block:?}");
        assert!(text.get(block.start..block.end).is_some(), "{block:?} cuts a character");
        if let Some(last) = last {
            assert!(text[last..block.start].contains('\n'), "no line feed before {block:?}");
        }
        last = Some(block.end);
    }
    assert_eq!(last.unwrap_or(0), text.len(), "text after the last block");
    let mut last = 0;
    for run in &extraction.runs {
        assert!(last <= run.start && run.start < run.end, "{run:?} overlaps or is empty");
        assert!(text.get(run.start..run.end).is_some(), "{run:?} cuts a character");
        assert!(run.source_start <= run.source_end && run.source_end <= document.len(), "{run:?} is outside");
        last = run.end;
    }
}

/// Fails where a run as long as its source is not the source's bytes, save for white space.
pub fn check_bytes(extraction: &Extraction, document: &[u8]) {
    for run in &extraction.runs {
        let text = &extraction.text.as_bytes()[run.start..run.end];
        let source = &document[run.source_start..run.source_end];
        if text.len() == source.len() {
            for (t, s) in text.iter().zip(source) {
                assert!(
                    t == s || (t.is_ascii_whitespace() && s.is_ascii_whitespace()),
                    "{run:?} differs from its source"
                );
            }
        }
    }
}

/// The blocks with their text.
pub fn blocks(extraction: &Extraction) -> Vec<(Kind, &str)> {
    extraction.blocks.iter().map(|block| (block.kind, &extraction.text[block.start..block.end])).collect()
}

/// Where in the document the first occurrence of `needle` in the text came from.
pub fn source_of(extraction: &Extraction, needle: &str) -> (usize, usize) {
    let start = extraction.text.find(needle).expect("the needle is in the text");
    let end = start + needle.len();
    let place = |at: usize, is_end: bool| {
        let run = extraction
            .runs
            .iter()
            .find(|run| if is_end { run.start < at && at <= run.end } else { run.start <= at && at < run.end })
            .expect("text has a source");
        match (run.end - run.start == run.source_end - run.source_start, is_end) {
            (true, _) => run.source_start + (at - run.start),
            (false, false) => run.source_start,
            (false, true) => run.source_end,
        }
    };
    (place(start, false), place(end, true))
}
