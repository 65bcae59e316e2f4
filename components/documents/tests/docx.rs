//! DOCX: files of other programs, and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{blocks, check};
use documents::{Error, Extraction, Kind, extract, limits};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use std::io::Write;

const ENGLISH: &str = "The tide rises and falls twice a day. It is moved by the moon, and to a lesser degree by the \
    sun; where the two pull together, the tide is highest, and sailors call it a spring tide.";
const UKRAINIAN: &str = "Приплив піднімається двічі на добу. Його рухає місяць.";
const ARABIC: &str = "يرتفع المد مرتين في اليوم. القمر يحركه.";
const CHINESE: &str = "潮水每天涨落两次。月亮推动它。";
const HINDI: &str = "ज्वार दिन में दो बार उठता है। चाँद उसे चलाता है।";

fn read(document: &[u8]) -> Extraction {
    let extraction = extract("a.docx", None, document).unwrap();
    check(&extraction, document);
    assert!(extraction.runs.is_empty());
    extraction
}

/// An archive of stored files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipArchiveWriter::new(Vec::new());
    for (name, content) in files {
        let (mut entry, config) = writer.new_file(name).compression_method(CompressionMethod::STORE).start().unwrap();
        let mut data = config.wrap(&mut entry);
        data.write_all(content.as_bytes()).unwrap();
        let (_, descriptor) = data.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    writer.finish().unwrap()
}

fn document(body: &str) -> Vec<u8> {
    archive(&[("word/document.xml", &format!("<w:document xmlns:w='x'><w:body>{body}</w:body></w:document>"))])
}

fn malformed(document: &[u8], why: &str) {
    match extract("a.docx", None, document) {
        Err(Error::Malformed(message)) => {
            assert!(message.contains(why), "`{message}` does not say `{why}`")
        }
        other => panic!("{other:?} is not malformed"),
    }
}

#[test]
fn a_document_of_python_docx_is_read() {
    let extraction = read(include_bytes!("files/python-docx.docx"));
    assert_eq!(extraction.title.as_deref(), Some("Report on tides"));
    assert_eq!(
        blocks(&extraction),
        [
            (Kind::Heading(1), "Report on tides"),
            (Kind::Paragraph, ENGLISH),
            (Kind::Heading(1), "Languages"),
            (Kind::Paragraph, UKRAINIAN),
            (Kind::Paragraph, ARABIC),
            (Kind::Paragraph, CHINESE),
            (Kind::Paragraph, HINDI),
            (Kind::Heading(2), "Observations"),
            (Kind::ListItem, "High water at six in the morning"),
            (Kind::ListItem, "Low water at noon"),
            (Kind::Quote, "Time and tide wait for no man."),
            (Kind::Cell, "Port"),
            (Kind::Cell, "Height"),
            (Kind::Cell, "Brest"),
            (Kind::Cell, "6.9 m"),
        ]
    );
}

#[test]
fn a_document_of_libreoffice_is_read() {
    let extraction = read(include_bytes!("files/libreoffice.docx"));
    assert_eq!(extraction.title.as_deref(), Some("Report on tides"));
    let blocks = blocks(&extraction);
    for expected in [
        (Kind::Heading(1), "Report on tides"),
        (Kind::Paragraph, ENGLISH),
        (Kind::Paragraph, UKRAINIAN),
        (Kind::Paragraph, ARABIC),
        (Kind::Paragraph, CHINESE),
        (Kind::Paragraph, HINDI),
        (Kind::Heading(2), "Observations"),
        (Kind::ListItem, "Low water at noon"),
        (Kind::Quote, "Time and tide wait for no man."),
        (Kind::Cell, "Brest"),
    ] {
        assert!(blocks.contains(&expected), "{expected:?} is not in {blocks:?}");
    }
}

#[test]
fn what_is_not_the_text_is_left_out() {
    let extraction = read(&document(
        "<w:p><w:r><w:t>kept </w:t></w:r><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>\
         <w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:r><w:instrText>PAGE</w:instrText>\
         <w:t xml:space='preserve'> and</w:t><w:tab/><w:t>tab &amp; &#x410;</w:t></w:r></w:p><w:p/>\
         <mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice>\
         <mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>",
    ));
    assert_eq!(blocks(&extraction), [(Kind::Paragraph, "kept and tab & А"), (Kind::Paragraph, "box")]);
}

#[test]
fn a_text_box_within_a_paragraph_is_a_block_of_its_own() {
    let extraction = read(&document(
        "<w:p><w:pPr><w:outlineLvl w:val='1'/></w:pPr><w:r><w:t>before</w:t></w:r><w:r><w:txbxContent><w:p><w:r>\
         <w:t>inside</w:t></w:r></w:p></w:txbxContent></w:r><w:r><w:t>after</w:t></w:r></w:p>",
    ));
    assert_eq!(
        blocks(&extraction),
        [(Kind::Heading(2), "before"), (Kind::Paragraph, "inside"), (Kind::Heading(2), "after")]
    );
}

#[test]
fn another_archive_is_unsupported() {
    let other = archive(&[("mimetype", "application/epub+zip")]);
    assert!(matches!(extract("a.docx", None, &other), Err(Error::Unsupported(_))));
    let workbook = archive(&[("word/document.xml", "<workbook/>")]);
    assert!(matches!(extract("a.docx", None, &workbook), Err(Error::Unsupported(_))));
}

#[test]
fn broken_xml_is_malformed_and_named() {
    malformed(&document("<w:p>"), "`word/document.xml`");
    malformed(&document("&unknown;"), "unknown entity `unknown`");
    let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><w:document>&b;</w:document>";
    malformed(&archive(&[("word/document.xml", bomb)]), "document type definitions");
    malformed(&archive(&[("word/document.xml", "<w:document><w:body>")]), "ends within an element");
    malformed(b"PK\x03\x04 and no directory", "zip archive");
}

#[test]
fn deep_nesting_is_refused_at_the_bound() {
    let nested = |depth: usize| document(&("<w:p>".repeat(depth) + &"</w:p>".repeat(depth)));
    let within = limits::DEPTH - 2;
    assert!(extract("a.docx", None, &nested(within)).is_ok());
    let refused = extract("a.docx", None, &nested(within + 1));
    assert!(matches!(&refused, Err(Error::TooLarge(why)) if why.contains("elements within elements")), "{refused:?}");
}

#[test]
fn too_many_files_are_refused() {
    let names: Vec<String> = (0..=limits::ENTRIES).map(|index| index.to_string()).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let refused = extract("a.docx", None, &archive(&files));
    assert!(matches!(&refused, Err(Error::TooLarge(why)) if why.contains("files")), "{refused:?}");
}

#[test]
fn a_zip_bomb_is_refused() {
    let zeros = vec![b' '; limits::UNPACKED + 1];
    let packed = miniz_oxide::deflate::compress_to_vec(&zeros, 1);
    drop(zeros);
    let mut writer = ZipArchiveWriter::new(Vec::new());
    let (mut entry, config) =
        writer.new_file("word/document.xml").compression_method(CompressionMethod::DEFLATE).start().unwrap();
    entry.write_all(&packed).unwrap();
    // The directory states no size that a reader could go by.
    let (_, descriptor) = config.wrap(Vec::new()).finish().unwrap();
    entry.finish(descriptor).unwrap();
    let refused = extract("a.docx", None, &writer.finish().unwrap());
    assert!(
        matches!(&refused, Err(Error::TooLarge(why)) if why.contains(&limits::UNPACKED.to_string())),
        "{refused:?}"
    );
}
