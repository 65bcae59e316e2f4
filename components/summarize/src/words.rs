//! The words of a sentence, as they are compared.
//!
//! Words are those of UAX #29, in small letters, reduced to their stems. Where a script does not part words by spaces,
//! and in Korean, whose spaces part phrases, each pair of neighbouring characters is a word: a dictionary-free method
//! that retrieval in these languages has long used (as in Lucene's CJK analyzer).

use std::ops::RangeInclusive;

use unicode_segmentation::UnicodeSegmentation;

use crate::language::Language;

/// Blocks of scripts that are compared by pairs of characters.
const PAIRED: [RangeInclusive<char>; 17] = [
    '\u{0e00}'..='\u{0eff}',   // Thai, Lao
    '\u{1000}'..='\u{109f}',   // Myanmar
    '\u{1100}'..='\u{11ff}',   // Hangul Jamo
    '\u{1780}'..='\u{17ff}',   // Khmer
    '\u{2e80}'..='\u{2fdf}',   // CJK and Kangxi radicals
    '\u{3005}'..='\u{3007}',   // ideographic iteration mark and zero
    '\u{3040}'..='\u{30ff}',   // Hiragana, Katakana
    '\u{3130}'..='\u{318f}',   // Hangul compatibility Jamo
    '\u{31f0}'..='\u{31ff}',   // Katakana extensions
    '\u{3400}'..='\u{4dbf}',   // CJK extension A
    '\u{4e00}'..='\u{9fff}',   // CJK
    '\u{a960}'..='\u{a97f}',   // Hangul Jamo extended A
    '\u{aa60}'..='\u{aa7f}',   // Myanmar extended A
    '\u{ac00}'..='\u{d7ff}',   // Hangul
    '\u{f900}'..='\u{faff}',   // CJK compatibility
    '\u{ff66}'..='\u{ffdc}',   // half-width Katakana and Hangul
    '\u{20000}'..='\u{3ffff}', // CJK extensions B and on
];

/// Whether a character belongs to a script that is compared by pairs of characters.
#[must_use]
pub fn is_paired(character: char) -> bool {
    character.is_alphanumeric() && PAIRED.iter().any(|block| block.contains(&character))
}

/// Whether most letters of `text` belong to such a script.
#[must_use]
pub fn is_mostly_paired(text: &str) -> bool {
    let letters = text.chars().filter(|character| character.is_alphanumeric());
    let (paired, all) =
        letters.fold((0_usize, 0_usize), |(paired, all), letter| (paired + usize::from(is_paired(letter)), all + 1));
    paired * 2 > all
}

/// Whether a character is of a script that is written without spaces even between sentences, or its punctuation.
#[must_use]
pub fn is_chinese_or_japanese(character: char) -> bool {
    const BLOCKS: [RangeInclusive<char>; 6] = [
        '\u{2e80}'..='\u{30ff}',
        '\u{31f0}'..='\u{31ff}',
        '\u{3400}'..='\u{9fff}',
        '\u{f900}'..='\u{faff}',
        '\u{ff00}'..='\u{ff9f}',
        '\u{20000}'..='\u{3ffff}',
    ];
    BLOCKS.iter().any(|block| block.contains(&character))
}

/// `text` with its lines joined: by a space, except in Chinese and Japanese.
#[must_use]
pub fn unwrap_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()) {
        let is_apart = |character: Option<char>| character.is_some_and(|character| !is_chinese_or_japanese(character));
        if is_apart(joined.chars().next_back()) || (!joined.is_empty() && is_apart(line.chars().next())) {
            joined.push(' ');
        }
        joined.push_str(line);
    }
    joined
}

/// How many words `text` has, as UAX #29 counts them; a character each in scripts without spaces.
#[must_use]
pub fn count(text: &str) -> usize {
    text.unicode_words().count()
}

/// The words of `text` that tell it from others, in its order.
#[must_use]
pub fn terms(text: &str, language: &Language) -> Vec<String> {
    let mut terms = Vec::new();
    let mut paired = String::new();
    for segment in text.split_word_bounds() {
        if segment.chars().any(is_paired) {
            paired.push_str(segment);
            continue;
        }
        add_pairs(&mut paired, &mut terms);
        if segment.chars().any(char::is_alphanumeric) {
            terms.extend(language.stem(&segment.to_lowercase()));
        }
    }
    add_pairs(&mut paired, &mut terms);
    terms
}

/// Adds the pairs of neighbouring characters of `run`, and empties it. Marks such as Thai vowels belong to the
/// character before them.
fn add_pairs(run: &mut String, terms: &mut Vec<String>) {
    let characters: Vec<&str> = run.graphemes(true).collect();
    match characters.as_slice() {
        [] => {}
        [single] => terms.push((*single).to_owned()),
        several => terms.extend(several.windows(2).map(|pair| pair.concat())),
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stemmed_and_stop_words_left_out() {
        assert_eq!(terms("The bridges, tested.", &Language::new("eng")), ["bridg", "test"]);
    }

    #[test]
    fn scripts_without_spaces_give_pairs() {
        assert_eq!(terms("橋の検査は、橋", &Language::unknown()), ["橋の", "の検", "検査", "査は", "橋"]);
        assert_eq!(terms("다리를 점검", &Language::unknown()), ["다리", "리를", "점검"]);
        assert_eq!(terms("WebAssembly入門", &Language::unknown()), ["webassembly", "入門"]);
    }

    #[test]
    fn marks_stay_with_their_character() {
        assert_eq!(terms("น้ำดี", &Language::unknown()), ["น้ำดี"]);
    }

    #[test]
    fn lines_are_joined_as_the_script_joins_words() {
        assert_eq!(unwrap_lines("one\r\n  two"), "one two");
        assert_eq!(unwrap_lines("日本\n語"), "日本語");
        assert_eq!(unwrap_lines("日本\nabc"), "日本 abc");
        assert_eq!(unwrap_lines(" a  b "), "a  b");
    }

    #[test]
    fn a_text_without_words_has_no_terms() {
        assert!(terms(" — … 🙂 ", &Language::unknown()).is_empty());
        assert!(!is_mostly_paired(""));
        assert!(is_mostly_paired("日本語 ab"));
    }
}
