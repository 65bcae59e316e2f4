//! From documents to a summary.

use std::ops::Range;

use crate::candidates::{Candidates, MOST_SENTENCES, Sentence, collect};
use crate::document::Document;
use crate::language::Language;
use crate::options::Options;
use crate::rank::{Graph, MOST_PRODUCTS};
use crate::select::select;
use crate::similarity::Vectors;
use crate::words::{is_chinese_or_japanese, unwrap_lines};

/// A summary.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its sentences, in the order of the input.
    pub passages: Vec<Passage>,
    /// The ISO 639-3 code of the input's language, if it was given or recognised.
    pub language: Option<String>,
    /// What the client should know about how it was made.
    pub notices: Vec<String>,
}

/// A sentence of a summary and where it was taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// What parts it from the sentence before it.
    pub separator: &'static str,
    /// The sentence, with its lines joined.
    pub text: String,
    /// The name of its source.
    pub source: String,
    /// Where it stands in the source.
    pub range: Range<u64>,
    /// On which page.
    pub page: Option<u32>,
    /// How central it is, 1 for the most central sentence of the input.
    pub weight: f64,
}

/// Why there is no summary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// There is nothing to choose from.
    #[error("the input has no sentences to summarize")]
    NoText,
    /// No sentence is short enough.
    #[error("no sentence has {words} words or fewer; the shortest has {shortest}, so ask for that many at least")]
    TooShort {
        /// The most words that were asked for.
        words: usize,
        /// The words of the shortest sentence.
        shortest: usize,
    },
}

/// Summarizes `documents`.
///
/// # Errors
/// Where they have no sentence, or none that is short enough.
pub fn summarize(documents: &[Document], options: &Options) -> Result<Summary, SummaryError> {
    let language = match &options.language {
        Some(code) => Language::new(code),
        None => Language::recognise(blocks(documents)),
    };
    let candidates = collect(documents, &language, MOST_SENTENCES);
    let shortest = candidates.sentences.iter().map(|sentence| sentence.words).min().ok_or(SummaryError::NoText)?;
    let graph = Graph::new(&Vectors::new(&candidates), MOST_PRODUCTS);
    let centrality = graph.centrality();
    let chosen = select(&candidates, &graph, &centrality, &options.length);
    if chosen.is_empty() {
        return Err(SummaryError::TooShort { words: options.length.words, shortest });
    }
    let mut passages: Vec<Passage> = Vec::with_capacity(chosen.len());
    let mut before = None;
    for index in chosen {
        let sentence = &candidates.sentences[index];
        passages.push(passage(documents, before, sentence, centrality[index]));
        before = Some(sentence);
    }
    Ok(Summary { passages, language: language.code().map(str::to_owned), notices: notices(&candidates, &graph) })
}

impl Summary {
    /// The summary as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.passages.iter().flat_map(|passage| [passage.separator, &passage.text]).collect()
    }
}

fn blocks(documents: &[Document]) -> impl Iterator<Item = &str> {
    documents.iter().flat_map(|document| {
        document.blocks.iter().map(|block| document.text.get(block.range.clone()).unwrap_or_default())
    })
}

fn passage(documents: &[Document], before: Option<&Sentence>, sentence: &Sentence, weight: f64) -> Passage {
    let document = &documents[sentence.document];
    Passage {
        separator: before.map_or("", |before| separator(&document.text, before, sentence)),
        text: unwrap_lines(&document.text[sentence.range.clone()]),
        source: document.name.clone(),
        range: document.source_range(&sentence.range),
        page: document.blocks[sentence.block].page,
        weight,
    }
}

/// What stands between two sentences of a summary: they are parted as they are in the input, without what was left out.
fn separator(text: &str, before: &Sentence, sentence: &Sentence) -> &'static str {
    if before.document != sentence.document {
        return "\n\n";
    }
    if before.block != sentence.block {
        return "\n";
    }
    let end = text[before.range.clone()].chars().next_back();
    if end.is_some_and(is_chinese_or_japanese) { "" } else { " " }
}

fn notices(candidates: &Candidates, graph: &Graph) -> Vec<String> {
    let mut notices = Vec::new();
    if candidates.found > MOST_SENTENCES {
        let found = candidates.found;
        notices.push(format!(
            "the input has {found} sentences, of which {MOST_SENTENCES} at even distances were compared"
        ));
    }
    if graph.left_out > 0 {
        let words = graph.left_out;
        notices.push(format!("the {words} most common words were left out of the comparison, to bound its cost"));
    }
    notices
}

#[cfg(test)]
mod tests;
