//! How central each sentence is: continuous LexRank, Erkan and Radev (2004), section 3.3.
//!
//! The graph is kept sparse, so that memory and time stay bounded: an edge needs a similarity that is more than chance,
//! a sentence keeps its strongest edges, and where the words that many sentences share would cost too many comparisons,
//! the most common ones are left out. They weigh least.

use crate::similarity::Vectors;

/// The probability that the walk follows an edge rather than jumps anywhere; the paper's `1 - d`.
const DAMPING: f64 = 0.85;

/// The walk has settled when no step moves more probability than this in all.
const SETTLED: f64 = 1e-6;

/// Bounds the steps: `0.85^100` is below what settles.
const MOST_STEPS: usize = 100;

/// The least similarity that makes an edge; the threshold that did best in the paper.
const LEAST_SIMILARITY: f64 = 0.1;

/// The most edges that a sentence keeps.
const MOST_EDGES: usize = 64;

/// The most pairs of terms that are multiplied to find the edges; well under a second of work.
pub const MOST_PRODUCTS: u64 = 50_000_000;

/// Sentences and the similarities between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// For each sentence the others that are like it and how much, the most alike first.
    pub edges: Vec<Vec<(usize, f64)>>,
    /// How many terms were left out because too many sentences have them.
    pub left_out: usize,
}

impl Graph {
    /// Compares all sentences with `products` multiplications at most.
    #[must_use]
    pub fn new(vectors: &Vectors, products: u64) -> Self {
        let mut postings = vec![Vec::new(); vectors.vocabulary];
        for (sentence, vector) in vectors.sentences.iter().enumerate() {
            for (term, weight) in vector {
                postings[*term].push((sentence, *weight));
            }
        }
        let left_out = leave_out_common(&mut postings, products);
        let mut similarity = vec![0.0; vectors.sentences.len()];
        let sentences = vectors.sentences.iter().enumerate();
        let edges = sentences.map(|(sentence, vector)| edges(sentence, vector, &postings, &mut similarity)).collect();
        Self { edges, left_out }
    }

    /// The centrality of each sentence, scaled so that the most central one has 1.
    #[must_use]
    pub fn centrality(&self) -> Vec<f64> {
        let count = self.edges.len();
        let even = 1.0 / count.max(1) as f64;
        let mut now = vec![even; count];
        for _ in 0..MOST_STEPS {
            let next = self.step(&now, even);
            let moved: f64 = now.iter().zip(&next).map(|(old, new)| (old - new).abs()).sum();
            now = next;
            if moved < SETTLED {
                break;
            }
        }
        let most = now.iter().copied().fold(0.0, f64::max);
        now.into_iter().map(|value| if most > 0.0 { value / most } else { value }).collect()
    }

    /// One step of the walk. From a sentence without edges it jumps anywhere.
    fn step(&self, now: &[f64], even: f64) -> Vec<f64> {
        let mut next = vec![0.0; now.len()];
        let mut stranded = 0.0;
        for (edges, probability) in self.edges.iter().zip(now) {
            let all: f64 = edges.iter().map(|(_, similarity)| similarity).sum();
            if edges.is_empty() {
                stranded += probability;
            }
            for (other, similarity) in edges {
                next[*other] += probability * similarity / all;
            }
        }
        next.into_iter().map(|arrived| (1.0 - DAMPING) * even + DAMPING * (arrived + stranded * even)).collect()
    }
}

/// Empties the postings of the most common terms until what is left costs `products` at most; says how many it emptied.
fn leave_out_common(postings: &mut [Vec<(usize, f64)>], products: u64) -> usize {
    let mut order: Vec<usize> = (0..postings.len()).collect();
    order.sort_by_key(|term| postings[*term].len());
    let mut cost = 0_u64;
    let affordable = order.iter().take_while(|term| {
        let length = postings[**term].len() as u64;
        cost = cost.saturating_add(length.saturating_mul(length));
        cost <= products
    });
    let affordable = affordable.count();
    for term in &order[affordable..] {
        postings[*term] = Vec::new();
    }
    order.len() - affordable
}

/// The strongest edges of one sentence. `similarity` is zero for every sentence, before and after.
fn edges(
    sentence: usize,
    vector: &[(usize, f64)],
    postings: &[Vec<(usize, f64)>],
    similarity: &mut [f64],
) -> Vec<(usize, f64)> {
    let mut touched = Vec::new();
    for (term, weight) in vector {
        for (other, other_weight) in &postings[*term] {
            if similarity[*other] == 0.0 {
                touched.push(*other);
            }
            similarity[*other] += weight * other_weight;
        }
    }
    let mut edges = Vec::new();
    for other in touched {
        let value = std::mem::take(&mut similarity[other]);
        if value >= LEAST_SIMILARITY && other != sentence {
            edges.push((other, value));
        }
    }
    edges.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    edges.truncate(MOST_EDGES);
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::{Candidates, Sentence};

    fn graph(sentences: &[&[usize]], products: u64) -> Graph {
        let vocabulary = sentences.iter().flat_map(|terms| terms.iter()).max().map_or(0, |most| most + 1);
        let sentences = sentences.iter().map(|terms| Sentence {
            document: 0,
            block: 0,
            range: 0..0,
            words: terms.len(),
            terms: terms.iter().map(|term| (*term, 1.0)).collect(),
        });
        let candidates = Candidates { sentences: sentences.collect(), vocabulary, ..Candidates::default() };
        Graph::new(&Vectors::new(&candidates), products)
    }

    #[test]
    fn a_sentence_that_shares_words_with_all_is_the_most_central() {
        let graph = graph(&[&[0, 1], &[2, 3], &[0, 2, 4], &[5, 6]], MOST_PRODUCTS);
        let centrality = graph.centrality();
        assert_eq!(centrality[2], 1.0);
        assert!(centrality[3] < centrality[0], "{centrality:?}");
    }

    #[test]
    fn similarity_is_that_of_the_cosine() {
        let graph = graph(&[&[0, 1], &[0, 1], &[2]], MOST_PRODUCTS);
        assert_eq!(graph.edges[0].len(), 1);
        assert!((graph.edges[0][0].1 - 1.0).abs() < 1e-12);
        assert!(graph.edges[2].is_empty());
    }

    #[test]
    fn no_sentence_and_no_edge_are_no_trouble() {
        assert!(graph(&[], MOST_PRODUCTS).centrality().is_empty());
        assert_eq!(graph(&[&[0], &[1]], MOST_PRODUCTS).centrality(), [1.0, 1.0]);
    }

    #[test]
    fn the_graph_stays_within_its_bounds() {
        // Each sentence shares one term with all and one with its neighbours: the common one alone costs 10^6.
        let terms: Vec<Vec<usize>> = (0..1_000).map(|index| vec![0, 1 + index / 100]).collect();
        let sentences: Vec<&[usize]> = terms.iter().map(Vec::as_slice).collect();
        let bounded = graph(&sentences, 200_000);
        assert_eq!(bounded.left_out, 1);
        assert!(bounded.edges.iter().all(|edges| edges.len() == MOST_EDGES));
        assert_eq!(graph(&sentences, MOST_PRODUCTS).left_out, 0);
    }
}
