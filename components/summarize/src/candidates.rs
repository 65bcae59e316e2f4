//! The sentences that may stand in a summary.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::document::Document;
use crate::language::Language;
use crate::sentences::sentences;
use crate::words::{count, is_mostly_paired, terms, unwrap_lines};

/// The most sentences that are compared with each other. It bounds memory and time, whatever the input.
pub const MOST_SENTENCES: usize = 20_000;

/// A shorter sentence says too little by itself, such as a label.
const FEWEST_WORDS: usize = 5;

/// The same in scripts without spaces, in characters.
const FEWEST_PAIRED: usize = 10;

/// A sentence and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// Which document it is in.
    pub document: usize,
    /// Which of its blocks.
    pub block: usize,
    /// Where in the document's text.
    pub range: Range<usize>,
    /// How many words it has.
    pub words: usize,
    /// Its terms and how often it has each, in the order of their numbers.
    pub terms: Vec<(usize, f64)>,
}

/// What a summary is chosen from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// The sentences that may stand in a summary, in the order of the input.
    pub sentences: Vec<Sentence>,
    /// How many different terms they have; terms are numbered below this.
    pub vocabulary: usize,
    /// How many words the input has, in all its sentences.
    pub words: usize,
    /// How many sentences there were to choose candidates from.
    pub found: usize,
}

/// A sentence before its terms are known.
struct Place {
    document: usize,
    block: usize,
    range: Range<usize>,
}

impl Place {
    fn text<'a>(&self, documents: &'a [Document]) -> &'a str {
        &documents[self.document].text[self.range.clone()]
    }

    fn sentence(&self, words: usize, terms: Vec<(usize, f64)>) -> Sentence {
        Sentence { document: self.document, block: self.block, range: self.range.clone(), words, terms }
    }
}

/// The candidates of `documents`: sentences that say something by themselves, or all sentences where none does.
/// Where there are more than `most`, they are taken at even distances.
#[must_use]
pub fn collect(documents: &[Document], language: &Language, most: usize) -> Candidates {
    let places = places(documents, language);
    let (fit, unfit): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|place| is_fit(place.text(documents)));
    let words = fit.iter().chain(&unfit).map(|place| count(place.text(documents))).sum();
    let mut candidates = Candidates { words, ..Candidates::default() };
    let places = if fit.is_empty() { unfit } else { fit };
    candidates.found = places.len();
    let places: Vec<Place> = spread(places, most).collect();
    candidates.add(documents, language, &places);
    if candidates.sentences.is_empty() {
        candidates.add_without_terms(documents, &places);
    }
    candidates
}

impl Candidates {
    /// Adds the sentences at `places`, each wording once: a repeated one would support itself.
    fn add(&mut self, documents: &[Document], language: &Language, places: &[Place]) {
        let mut numbers = BTreeMap::new();
        let mut known = BTreeSet::new();
        for place in places {
            let text = place.text(documents);
            let words = terms(text, language);
            if words.is_empty() || !known.insert(words.clone()) {
                continue;
            }
            let terms = counted(words, &mut numbers);
            self.sentences.push(place.sentence(count(text), terms));
        }
        self.vocabulary = numbers.len();
    }

    /// Adds the sentences at `places` that have words, each wording once. Where all their words are such that mean
    /// little, nothing tells one from another but their order.
    fn add_without_terms(&mut self, documents: &[Document], places: &[Place]) {
        let mut known = BTreeSet::new();
        for place in places {
            let text = place.text(documents);
            let words = count(text);
            if words > 0 && known.insert(unwrap_lines(text).to_lowercase()) {
                self.sentences.push(place.sentence(words, Vec::new()));
            }
        }
    }
}

fn places(documents: &[Document], language: &Language) -> Vec<Place> {
    let mut places = Vec::new();
    for (document, source) in documents.iter().enumerate() {
        for (block, place) in source.blocks.iter().enumerate() {
            let start = place.range.start;
            let found = sentences(&source.text[place.range.clone()], language);
            places.extend(found.into_iter().map(|range| Place {
                document,
                block,
                range: start + range.start..start + range.end,
            }));
        }
    }
    places
}

/// Whether a sentence says something by itself: it is long enough, and does not announce what follows.
fn is_fit(text: &str) -> bool {
    let fewest = if is_mostly_paired(text) { FEWEST_PAIRED } else { FEWEST_WORDS };
    !text.ends_with([':', '：']) && count(text) >= fewest
}

/// `most` of `all` at even distances, or all if they are fewer.
fn spread<T>(all: Vec<T>, most: usize) -> impl Iterator<Item = T> {
    let (length, kept) = (all.len(), all.len().min(most));
    let is_kept = move |index: usize| (index * kept) / length != ((index + 1) * kept) / length;
    all.into_iter().enumerate().filter(move |(index, _)| is_kept(*index)).map(|(_, item)| item)
}

/// The numbers of `terms`, given in the order in which terms first appear, and how often each appears.
fn counted(terms: Vec<String>, numbers: &mut BTreeMap<String, usize>) -> Vec<(usize, f64)> {
    let mut counts = BTreeMap::new();
    for term in terms {
        let next = numbers.len();
        *counts.entry(*numbers.entry(term).or_insert(next)).or_insert(0.0) += 1.0;
    }
    counts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Block;

    fn document(text: &str) -> Document {
        let blocks = vec![Block { range: 0..text.len(), page: None }];
        Document::new("d".to_owned(), text.to_owned(), blocks, Vec::new()).unwrap()
    }

    fn texts(text: &str) -> Vec<String> {
        let documents = [document(text)];
        let candidates = collect(&documents, &Language::new("eng"), MOST_SENTENCES);
        candidates.sentences.into_iter().map(|sentence| text[sentence.range].to_owned()).collect()
    }

    #[test]
    fn labels_announcements_and_repetitions_are_left_out() {
        let text = "Short one. These bridges were tested in spring this year. The following bridges were all tested:";
        assert_eq!(texts(text), ["These bridges were tested in spring this year."]);
        let repeated = "These bridges were tested in spring this year. ".repeat(2);
        assert_eq!(texts(&repeated).len(), 1);
    }

    #[test]
    fn where_nothing_is_fit_all_is() {
        assert_eq!(texts("Bridges. Rivers:"), ["Bridges.", "Rivers:"]);
        assert!(texts(" \n ").is_empty());
    }

    #[test]
    fn where_no_word_means_much_the_sentences_are_taken_in_their_order() {
        let text = "To be, or not to be. And so it was with us. It was not so for them. To be, or not to be.";
        assert_eq!(texts(text), ["To be, or not to be.", "And so it was with us.", "It was not so for them."]);
        assert!(texts("— … 🙂").is_empty());
    }

    #[test]
    fn too_many_are_thinned_evenly() {
        let thinned = |length: usize, most| spread((0..length).collect(), most).collect::<Vec<_>>();
        assert_eq!(thinned(10, 5), [1, 3, 5, 7, 9]);
        assert_eq!(thinned(3, 5), [0, 1, 2]);
        assert_eq!(thinned(0, 5), [0; 0]);
        assert_eq!(thinned(100_001, 20_000).len(), 20_000);
    }
}
