//! Which tools fit a query best.

use witan_forward::tools::Offer;

/// A word in a tool's name says more of it than one in its summary.
const NAME: usize = 3;

/// The offers that share a word with `query`, those that share most first, `limit` at most. All, by name, where the
/// query has no words.
pub(crate) fn best(mut offers: Vec<Offer>, query: &str, limit: usize) -> Vec<Offer> {
    let wanted = words(query);
    let mut scored: Vec<(usize, Offer)> = Vec::new();
    offers.sort_by(|one, other| one.tool.cmp(&other.tool));
    for offer in offers {
        let score = score(&offer, &wanted);
        if score > 0 || wanted.is_empty() {
            scored.push((score, offer));
        }
    }
    // Stable, so that equals stay in the order of their names.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().take(limit).map(|(_, offer)| offer).collect()
}

fn score(offer: &Offer, wanted: &[String]) -> usize {
    let (name, summary) = (words(&offer.tool), words(&offer.description.summary));
    let count = |words: &[String], word: &String| usize::from(words.contains(word));
    wanted.iter().map(|word| NAME * count(&name, word) + count(&summary, word)).sum()
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use witan_forward::tools::{Description, Effects};

    use super::*;

    fn offer(tool: &str, summary: &str) -> Offer {
        let description = Description {
            name: tool.to_owned(),
            summary: summary.to_owned(),
            parameters: "{}".to_owned(),
            effects: Effects::empty(),
        };
        Offer { tool: tool.to_owned(), description }
    }

    #[test]
    fn names_count_more_than_summaries_and_strangers_are_left_out() {
        let offers =
            || vec![offer("b.list", "Reads names."), offer("a.read", "Gives bytes."), offer("c.log", "Notes.")];
        let names = |query: &str, limit| -> Vec<String> {
            best(offers(), query, limit).into_iter().map(|offer| offer.tool).collect()
        };
        assert_eq!(names("read reads", 9), ["a.read", "b.list"]);
        assert_eq!(names("", 9), ["a.read", "b.list", "c.log"]);
        assert_eq!(names("", 1), ["a.read"]);
        assert!(names("nothing", 9).is_empty());
    }
}
