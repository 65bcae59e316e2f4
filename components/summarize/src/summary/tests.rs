//! Summaries of whole documents: what they hold, in which order, from where, and when there is none.

use proptest::prelude::*;

use super::*;
use crate::document::Block;
use crate::options::Value;

/// Plain text: each line a paragraph.
fn plain(name: &str, text: &str) -> Document {
    let mut blocks = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        blocks.push(Block { range: start..start + line.len(), page: Some(blocks.len() as u32 + 1) });
        start += line.len();
    }
    Document::new(name.to_owned(), text.to_owned(), blocks, Vec::new()).unwrap()
}

fn options(parameters: &[(&str, i64)]) -> Options {
    let parameters: Vec<_> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::Integer(*value))).collect();
    Options::parse(&parameters).unwrap()
}

/// Summarizes `text` in two sentences, checks that each stands in it, and that one of them is `central`.
fn check(text: &str, code: &str, central: &str, aside: &str) {
    let documents = [plain("text", text)];
    let summary = summarize(&documents, &options(&[("sentences", 2)])).unwrap();
    assert_eq!(summary.language.as_deref(), Some(code));
    assert_eq!(summary.passages.len(), 2, "{summary:?}");
    for passage in &summary.passages {
        assert_eq!(passage.text, text[passage.range.start as usize..passage.range.end as usize]);
        assert_ne!(passage.text, aside);
    }
    assert!(summary.passages.iter().any(|passage| passage.text.contains(central)), "{summary:?}");
}

#[test]
fn a_text_of_little_words_alone_is_summarized_by_its_first_sentences() {
    let documents = [plain("text", "To be, or not to be. And so it was with us. It was not so for them.")];
    let summary = summarize(&documents, &options(&[("sentences", 2)])).unwrap();
    assert_eq!(summary.text(), "To be, or not to be. And so it was with us.");
    assert!(summary.passages.iter().all(|passage| passage.weight == 1.0), "{summary:?}");
}

#[test]
fn english() {
    check(
        "The city tests every bridge over the river each spring. Engineers test a bridge by measuring how far it bends \
         under a known load. A bridge that bends too far under the test load is closed until the city repairs it. \
         My grandmother baked excellent apple cakes on Sundays. The city repaired four bridges after last year's tests.",
        "eng",
        "bridge",
        "My grandmother baked excellent apple cakes on Sundays.",
    );
}

#[test]
fn german() {
    check(
        "Die Stadt prüft jede Brücke über den Fluss in jedem Frühjahr. Ingenieure prüfen eine Brücke, indem sie messen, \
         wie weit sie sich unter einer Last biegt. Eine Brücke, die sich unter der Last zu weit biegt, wird gesperrt, bis \
         die Stadt sie erneuert. Meine Großmutter backte sonntags vorzüglichen Apfelkuchen. Nach der letzten Prüfung \
         erneuerte die Stadt vier Brücken.",
        "deu",
        "Brücke",
        "Meine Großmutter backte sonntags vorzüglichen Apfelkuchen.",
    );
}

#[test]
fn russian() {
    check(
        "Город проверяет каждый мост через реку каждую весну. Инженеры проверяют мост, измеряя, насколько мост прогибается \
         под нагрузкой. Мост, который слишком прогибается под нагрузкой, город закрывает до ремонта. Бабушка пекла \
         по воскресеньям вкусные яблочные пироги. После последней проверки город отремонтировал четыре моста.",
        "rus",
        "мост",
        "Бабушка пекла по воскресеньям вкусные яблочные пироги.",
    );
}

#[test]
fn arabic() {
    check(
        "تفحص المدينة كل جسر فوق النهر في كل ربيع. يفحص المهندسون الجسر بقياس مدى انحناء الجسر تحت حمل معروف. \
         تغلق المدينة الجسر الذي ينحني كثيرا تحت الحمل حتى يتم إصلاح الجسر. كانت جدتي تخبز كعك التفاح اللذيذ يوم الأحد. \
         أصلحت المدينة أربعة جسور بعد فحص الجسور في العام الماضي.",
        "ara",
        "المدينة",
        "كانت جدتي تخبز كعك التفاح اللذيذ يوم الأحد.",
    );
}

#[test]
fn hindi() {
    check(
        "शहर हर वसंत में नदी के हर पुल की जाँच करता है। इंजीनियर भार रखकर पुल की जाँच करते हैं और पुल का झुकाव मापते हैं। \
         जो पुल भार से बहुत झुकता है उस पुल को शहर मरम्मत तक बंद रखता है। मेरी दादी रविवार को सेब के स्वादिष्ट केक बनाती थीं। \
         पिछले साल की जाँच के बाद शहर ने चार पुल की मरम्मत की।",
        "hin",
        "पुल",
        "मेरी दादी रविवार को सेब के स्वादिष्ट केक बनाती थीं।",
    );
}

#[test]
fn japanese() {
    check(
        "市は毎年春に川に架かるすべての橋を検査します。技術者は橋に荷重をかけて橋のたわみを測り、橋を検査します。\
         荷重で大きくたわむ橋は、市が修理するまで通行止めになります。祖母は日曜日においしいりんごの菓子を焼きました。\
         昨年の橋の検査の後、市は四つの橋を修理しました。",
        "jpn",
        "橋",
        "祖母は日曜日においしいりんごの菓子を焼きました。",
    );
}

#[test]
fn chinese() {
    check(
        "城市每年春天检查河上的每一座桥梁。工程师在桥梁上加载荷来测量桥梁的弯曲程度。弯曲过大的桥梁会被城市关闭直到修理完成。\
         我的祖母星期天常常烤好吃的苹果蛋糕。去年检查桥梁之后城市修理了四座桥梁。",
        "cmn",
        "桥梁",
        "我的祖母星期天常常烤好吃的苹果蛋糕。",
    );
}

const REPORT: &str = "The city tests every bridge over the river each spring. Each bridge must carry the test load.\n\
                      The library opened a new reading room in autumn. The reading room is open all night.\n";

#[test]
fn sentences_stand_apart_as_in_their_sources() {
    let documents = [plain("a.txt", REPORT), plain("b.txt", "The harbour was dredged for the larger ships this year.")];
    let summary = summarize(&documents, &options(&[("sentences", 100)])).unwrap();
    let expected = REPORT.trim_end().to_owned() + "\n\nThe harbour was dredged for the larger ships this year.";
    assert_eq!(summary.text(), expected);
    let sources: Vec<_> = summary.passages.iter().map(|passage| (passage.source.as_str(), passage.page)).collect();
    assert_eq!(sources[1..4], [("a.txt", Some(1)), ("a.txt", Some(2)), ("a.txt", Some(2))]);
    assert_eq!(sources[4], ("b.txt", Some(1)));
}

#[test]
fn the_bounds_of_length_hold() {
    let documents = [plain("a.txt", REPORT)];
    let words = |limit| {
        let summary = summarize(&documents, &options(&[("words", limit)]));
        summary.map(|summary| crate::words::count(&summary.text()))
    };
    for limit in 8..40 {
        assert!(words(limit).unwrap() <= limit as usize, "{limit}");
    }
    assert_eq!(words(3), Err(SummaryError::TooShort { words: 3, shortest: 7 }));
}

#[test]
fn an_input_without_sentences_is_refused() {
    assert_eq!(summarize(&[], &Options::default()), Err(SummaryError::NoText));
    assert_eq!(summarize(&[plain("a.txt", " \n--- \n")], &Options::default()), Err(SummaryError::NoText));
}

#[test]
fn a_large_input_is_bounded_and_says_so() {
    let text: String =
        (0..21_000).map(|index| format!("Sentence number {index} speaks about bridge {}.\n", index % 97)).collect();
    let summary = summarize(&[plain("a.txt", &text)], &options(&[("sentences", 3)])).unwrap();
    assert_eq!(summary.passages.len(), 3);
    assert!(summary.notices[0].contains("21000"), "{:?}", summary.notices);
    assert!(summary.notices[1].contains("most common words"), "{:?}", summary.notices);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_text_gives_parts_of_itself_and_the_same_ones_each_time(
        lines in prop::collection::vec("(\\PC|[a-d .!?。เ\u{300}\u{202e}]){0,80}", 0..8),
        sentences in 1_i64..10,
    ) {
        let text = lines.join("\n");
        let documents = [plain("text", &text)];
        let summary = summarize(&documents, &options(&[("sentences", sentences)]));
        prop_assert_eq!(&summary, &summarize(&documents, &options(&[("sentences", sentences)])));
        if let Ok(summary) = summary {
            prop_assert!(summary.passages.len() <= sentences as usize);
            let mut at = 0;
            for passage in &summary.passages {
                prop_assert!(passage.range.start >= at);
                at = passage.range.end;
                let source = text.get(passage.range.start as usize..passage.range.end as usize);
                prop_assert_eq!(source.map(unwrap_lines), Some(passage.text.clone()));
                prop_assert!(passage.weight > 0.0 && passage.weight <= 1.0);
            }
        }
    }
}
