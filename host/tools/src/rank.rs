//! Which tools fit a query best: by the words that they share with it.

use std::cmp::Reverse;

use witan_forward::tools::Offer;

/// The `limit` best of `offers`. An empty query fits all alike; offers that fit alike are in the order of their names.
pub(crate) fn best(offers: Vec<Offer>, query: &str, limit: usize) -> Vec<Offer> {
    let words = words(query);
    let mut scored: Vec<_> = offers
        .into_iter()
        .map(|offer| (score(&offer, &words), offer))
        .filter(|(score, _)| *score > 0 || words.is_empty())
        .collect();
    scored.sort_by(|(one, a), (other, b)| (Reverse(one), &a.tool).cmp(&(Reverse(other), &b.tool)));
    scored.into_iter().take(limit).map(|(_, offer)| offer).collect()
}

/// Words of a query that are looked at: more say nothing more.
const MOST_WORDS: usize = 32;

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .take(MOST_WORDS)
        .collect()
}

/// A word of the name counts more than one of the summary, and a whole word more than a part of one.
fn score(offer: &Offer, words: &[String]) -> u32 {
    let name = offer.tool.to_lowercase();
    let summary = offer.description.summary.to_lowercase();
    let whole =
        |text: &str, word: &str| text.split(|letter: char| !letter.is_alphanumeric()).any(|other| other == word);
    let score_in = |text: &str, word: &str, weight: u32| match (whole(text, word), text.contains(word)) {
        (true, _) => 2 * weight,
        (false, true) => weight,
        (false, false) => 0,
    };
    words.iter().map(|word| score_in(&name, word, 3) + score_in(&summary, word, 1)).sum()
}

#[cfg(test)]
mod tests {
    use witan_forward::tools::{Description, Effects};

    use super::*;

    fn offer(tool: &str, summary: &str) -> Offer {
        let description = Description {
            name: tool.split_once('.').unwrap().1.to_owned(),
            summary: summary.to_owned(),
            parameters: "{}".to_owned(),
            effects: Effects::empty(),
        };
        Offer { tool: tool.to_owned(), description }
    }

    fn names(query: &str, limit: usize) -> Vec<String> {
        let offers = vec![
            offer("files.write", "Writes a file"),
            offer("files.read", "Gives the text of a file"),
            offer("web.fetch", "Reads a page; may read much"),
        ];
        best(offers, query, limit).into_iter().map(|offer| offer.tool).collect()
    }

    #[test]
    fn an_empty_query_lists_all_by_name() {
        assert_eq!(names("", 10), ["files.read", "files.write", "web.fetch"]);
        assert_eq!(names(" - ", 2), ["files.read", "files.write"]);
    }

    #[test]
    fn names_count_more_than_summaries_and_what_does_not_fit_is_left_out() {
        assert_eq!(names("read", 10), ["files.read", "web.fetch"]);
        assert_eq!(names("Page", 10), ["web.fetch"]);
        assert_eq!(names("nothing", 10), Vec::<String>::new());
    }
}
