//! How alike two sentences are: the IDF-modified cosine of Erkan and Radev (2004), section 3.

use crate::candidates::Candidates;

/// Sentences as vectors over their terms, each of length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// For each sentence the numbers of its terms, ascending, and their weights.
    pub sentences: Vec<Vec<(usize, f64)>>,
    /// How many terms there are.
    pub vocabulary: usize,
}

impl Vectors {
    /// The vectors of `candidates`. A term weighs its count times its inverse document frequency, for which each
    /// sentence is a document: `ln((N + 1) / n)`, where 1 keeps the terms of a single sentence from weighing nothing.
    #[must_use]
    pub fn new(candidates: &Candidates) -> Self {
        let mut frequency = vec![0.0; candidates.vocabulary];
        for (term, _) in candidates.sentences.iter().flat_map(|sentence| &sentence.terms) {
            frequency[*term] += 1.0;
        }
        let all = candidates.sentences.len() as f64 + 1.0;
        let weigh = |(term, count): &(usize, f64)| (*term, count * (all / frequency[*term]).ln());
        let sentences = candidates.sentences.iter();
        let sentences = sentences.map(|sentence| unit(sentence.terms.iter().map(weigh).collect())).collect();
        Self { sentences, vocabulary: candidates.vocabulary }
    }
}

fn unit(mut vector: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let length = vector.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|(_, weight)| *weight /= length);
    }
    vector
}
