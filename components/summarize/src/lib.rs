//! Summaries made of a text's own sentences.
//!
//! The method is LexRank: Güneş Erkan and Dragomir R. Radev, "LexRank: Graph-based Lexical Centrality as Salience in
//! Text Summarization", Journal of Artificial Intelligence Research 22 (2004), 457–479. Sentences are nodes, their
//! IDF-modified cosine similarity weighs the edges (the paper's continuous form), and the stationary distribution of
//! a random walk with teleportation is a sentence's centrality. What is chosen is then kept from repeating itself by
//! maximal marginal relevance: Jaime Carbonell and Jade Goldstein, "The Use of MMR, Diversity-Based Reranking for
//! Reordering Documents and Producing Summaries", SIGIR 1998, 335–336.
//!
//! Every sentence stands in a source as it stands in the summary, so that a reader can check it. The same input gives
//! the same output, byte for byte: nothing depends on time, chance or the order of a hash table.

#[cfg(target_arch = "wasm32")]
mod component;

pub mod candidates;
pub mod document;
pub mod language;
pub mod options;
pub mod rank;
pub mod select;
pub mod sentences;
pub mod similarity;
pub mod summary;
pub mod words;

/// How the summary was made, for a person to read.
pub const METHOD: &str = "extractive: LexRank (Erkan and Radev 2004), continuous, IDF-modified cosine, damping 0.85; \
                          redundancy by maximal marginal relevance (Carbonell and Goldstein 1998), lambda 0.7";
