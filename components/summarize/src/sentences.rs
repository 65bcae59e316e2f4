//! Where sentences begin and end.
//!
//! The boundaries are those of UAX #29, which knows the full stops of all scripts, mended where it needs to know the
//! language: full stops after abbreviations, initials and ordinals. A line break within a paragraph ends nothing.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::language::Language;
use crate::words::is_mostly_paired;

/// A longer sentence is cut: it is a text without full stops, such as a list or a Thai text.
const LONGEST: usize = 600;

/// The same for scripts without spaces, whose characters say more each, and some of which have no full stops.
const LONGEST_PAIRED: usize = 200;

/// Abbreviations before which or after which a name or a number commonly comes, so that their full stop ends no
/// sentence. What a small letter follows needs no entry: UAX #29 knows.
const ABBREVIATIONS: [&str; 44] = [
    "abb.", "abs.", "art.", "bd.", "bzw.", "ca.", "cf.", "ch.", "co.", "dr.", "ed.", "e.g.", "eq.", "fig.", "gen.",
    "hr.", "i.e.", "jr.", "m.", "mlle.", "mme.", "mr.", "mrs.", "ms.", "mt.", "no.", "nr.", "pp.", "prof.", "rev.",
    "sen.", "sg.", "sr.", "sra.", "st.", "str.", "tab.", "u.a.", "usw.", "vgl.", "vol.", "vs.", "z.b.", "г.",
];

/// The sentences of a block of text, as ranges of bytes without the space around them, in their order.
#[must_use]
pub fn sentences(block: &str, language: &Language) -> Vec<Range<usize>> {
    // Line ends are bytes of one length with the space that stands for them, so that the ranges are those of `block`.
    let line = block.replace(['\n', '\r'], " ");
    let mut found = Vec::new();
    let mut start = 0;
    for (at, segment) in line.split_sentence_bound_indices() {
        let end = at + segment.len();
        if !continues(line[start..end].trim_end(), &line[end..], language) {
            add(&line, start..end, &mut found);
            start = end;
        }
    }
    add(&line, start..line.len(), &mut found);
    found
}

/// Whether a sentence goes on after `text`, though UAX #29 sees its end there.
fn continues(text: &str, rest: &str, language: &Language) -> bool {
    if rest.trim_start().is_empty() {
        return false;
    }
    let Some(last) = text.split_whitespace().next_back() else { return false };
    let last = last.trim_start_matches(['(', '[', '"', '\'', '„', '“', '«', '‘']);
    let Some(stem) = last.strip_suffix('.') else { return false };
    let is_initial = stem.chars().count() == 1 && stem.chars().all(char::is_uppercase);
    let is_ordinal =
        language.has_ordinal_stops() && (1..=2).contains(&stem.len()) && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_initial || is_ordinal || ABBREVIATIONS.contains(&last.to_lowercase().as_str())
}

/// Adds a sentence, without the space around it and in pieces if it is too long.
fn add(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let mut range = trim(text, range);
    let longest = if is_mostly_paired(&text[range.clone()]) { LONGEST_PAIRED } else { LONGEST };
    while let Some(end) = cut(&text[range.clone()], longest) {
        let middle = range.start + end;
        let piece = trim(text, range.start..middle);
        if !piece.is_empty() {
            found.push(piece);
        }
        range = trim(text, middle..range.end);
    }
    if !range.is_empty() {
        found.push(range);
    }
}

/// Where to cut a text of more than `longest` characters: after the last space before, else between two characters.
fn cut(text: &str, longest: usize) -> Option<usize> {
    let (limit, _) = text.char_indices().nth(longest)?;
    let space = text[..limit].rfind(char::is_whitespace).filter(|at| *at > 0);
    let grapheme = || text.grapheme_indices(true).map(|(at, _)| at).take_while(|at| *at <= limit).last();
    // A cluster of more marks than a sentence may have characters is cut within.
    Some(space.or_else(grapheme).filter(|at| *at > 0).unwrap_or(limit))
}

fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..(start + part.trim().len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split<'a>(text: &'a str, code: &str) -> Vec<&'a str> {
        sentences(text, &Language::new(code)).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn full_stops_of_all_scripts_end_sentences() {
        assert_eq!(split("One. Two! Three?", "eng"), ["One.", "Two!", "Three?"]);
        assert_eq!(split("最初です。次です！", "jpn"), ["最初です。", "次です！"]);
        assert_eq!(split("पहला वाक्य। दूसरा वाक्य।", "hin"), ["पहला वाक्य।", "दूसरा वाक्य।"]);
        assert_eq!(split("هل هذا سؤال؟ نعم.", "ara"), ["هل هذا سؤال؟", "نعم."]);
    }

    #[test]
    fn abbreviations_initials_and_ordinals_end_none() {
        assert_eq!(split("Dr. Smith met J. Doe. They spoke.", "eng"), ["Dr. Smith met J. Doe.", "They spoke."]);
        assert_eq!(split("Am 3. Oktober war es so. Dann nicht.", "deu"), ["Am 3. Oktober war es so.", "Dann nicht."]);
        assert_eq!(split("It has 3. Then more.", "eng"), ["It has 3.", "Then more."]);
    }

    #[test]
    fn a_line_break_ends_no_sentence() {
        assert_eq!(split("One line\r\nand another. Next.", "eng"), ["One line\r\nand another.", "Next."]);
    }

    #[test]
    fn an_abbreviation_at_the_end_ends_the_sentence() {
        assert_eq!(split("Apples, pears etc. and so on vs. ", "eng"), ["Apples, pears etc. and so on vs."]);
    }

    #[test]
    fn a_text_without_full_stops_is_cut_at_spaces() {
        let text = "word ".repeat(400);
        let pieces = split(&text, "eng");
        assert!(pieces.len() > 1);
        assert!(pieces.iter().all(|piece| piece.chars().count() <= LONGEST && piece.starts_with("word")));
        let joined = "字".repeat(1000);
        assert!(split(&joined, "cmn").iter().all(|piece| piece.chars().count() <= LONGEST_PAIRED));
    }

    proptest! {
        #[test]
        fn sentences_are_parts_in_order_and_lose_nothing_but_space(text in "(\\PC|[.!?。।\\s\u{300}\u{200d}]){0,200}") {
            let found = sentences(&text, &Language::new("deu"));
            let mut at = 0;
            let mut kept = String::new();
            for range in found {
                prop_assert!(at <= range.start && range.start < range.end);
                prop_assert!(text[at..range.start].chars().all(char::is_whitespace));
                at = range.end;
                kept.push_str(&text[range]);
            }
            prop_assert!(text[at..].chars().all(char::is_whitespace));
        }
    }
}
