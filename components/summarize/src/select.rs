//! Which sentences make the summary: maximal marginal relevance, Carbonell and Goldstein (1998).
//!
//! Each choice weighs how central a sentence is against how much it is like one already chosen. Similarity is taken
//! from the graph, so that a choice costs as much as a sentence has edges.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::candidates::Candidates;
use crate::options::Length;
use crate::rank::Graph;

/// How much centrality counts against novelty; the paper's lambda.
const LAMBDA: f64 = 0.7;

/// A sentence that may be chosen, and what it was worth when it was last looked at.
#[derive(Debug, PartialEq)]
struct Offer {
    worth: f64,
    sentence: usize,
}

impl Eq for Offer {}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then(other.sentence.cmp(&self.sentence))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The chosen sentences, in the order of the input. None if the shortest is longer than `length` allows.
#[must_use]
pub fn select(candidates: &Candidates, graph: &Graph, centrality: &[f64], length: &Length) -> Vec<usize> {
    let share = (candidates.words as f64 * length.ratio) as usize;
    let mut repeats = vec![0.0_f64; centrality.len()];
    let worth = |sentence: usize, repeats: &[f64]| LAMBDA * centrality[sentence] - (1.0 - LAMBDA) * repeats[sentence];
    let offers = (0..centrality.len()).map(|sentence| Offer { worth: worth(sentence, &repeats), sentence });
    let mut offers: BinaryHeap<Offer> = offers.collect();
    let mut chosen = Vec::new();
    let mut words = 0_usize;
    while chosen.len() < length.sentences
        && let Some(offer) = offers.pop()
    {
        let sentence = offer.sentence;
        let now = worth(sentence, &repeats);
        // Worth only falls, so that whatever still has the worth it was offered at is worth the most of all.
        if now < offer.worth {
            offers.push(Offer { worth: now, sentence });
            continue;
        }
        let after = words.saturating_add(candidates.sentences[sentence].words);
        if after > length.words || (after > share && !chosen.is_empty()) {
            continue;
        }
        words = after;
        chosen.push(sentence);
        for (other, similarity) in &graph.edges[sentence] {
            repeats[*other] = repeats[*other].max(*similarity);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::Sentence;

    fn candidates(words: &[usize]) -> Candidates {
        let sentences =
            words.iter().map(|words| Sentence { document: 0, block: 0, range: 0..0, words: *words, terms: Vec::new() });
        Candidates { sentences: sentences.collect(), words: words.iter().sum(), ..Candidates::default() }
    }

    fn length(sentences: usize, words: usize, ratio: f64) -> Length {
        Length { sentences, words, ratio }
    }

    fn unlike(count: usize) -> Graph {
        Graph { edges: vec![Vec::new(); count], left_out: 0 }
    }

    #[test]
    fn the_most_central_are_chosen_and_stand_in_the_order_of_the_input() {
        let chosen = select(&candidates(&[5, 5, 5]), &unlike(3), &[0.5, 0.1, 1.0], &length(2, 100, 1.0));
        assert_eq!(chosen, [0, 2]);
    }

    #[test]
    fn what_repeats_a_chosen_sentence_gives_way() {
        let graph = Graph { edges: vec![vec![(1, 0.9)], vec![(0, 0.9)], vec![]], left_out: 0 };
        let chosen = select(&candidates(&[5, 5, 5]), &graph, &[1.0, 0.9, 0.7], &length(2, 100, 1.0));
        assert_eq!(chosen, [0, 2]);
    }

    #[test]
    fn words_bound_the_summary_and_shorter_sentences_fill_it() {
        let select = |length| select(&candidates(&[8, 5, 4]), &unlike(3), &[1.0, 0.9, 0.8], &length);
        assert_eq!(select(length(9, 12, 1.0)), [0, 2]);
        assert_eq!(select(length(9, 3, 1.0)), [0; 0]);
        assert_eq!(select(length(9, 100, 0.6)), [0]);
        assert_eq!(select(length(9, 100, 0.01)), [0], "a share leaves at least one sentence");
        assert_eq!(select(length(9, 4, 0.01)), [2], "words are a bound all the same");
    }
}
