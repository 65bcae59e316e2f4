//! Files of other programs, damaged in many places: each gives text that keeps the invariants, or an error.

mod common;

use documents::extract;

/// Places at which a file is damaged, each in several ways: enough to meet every structure of a small file.
const PLACES: usize = 150;

fn damage(name: &str, file: &[u8]) {
    for place in 0..PLACES {
        let at = place * file.len() / PLACES;
        let mut variants = vec![file[..at].to_vec()];
        for value in [0x00, 0xff, b'<', b'9', file[at] ^ 0x01] {
            let mut variant = file.to_vec();
            variant[at] = value;
            variants.push(variant);
        }
        let mut without = file.to_vec();
        without.drain(at..(at + 7).min(file.len()));
        variants.push(without);
        for variant in variants {
            if let Ok(extraction) = extract(name, None, &variant) {
                common::check(&extraction, &variant);
            }
        }
    }
}

macro_rules! damaged {
    ($($test:ident: $file:literal,)*) => {
        $(#[test]
        fn $test() {
            damage($file, include_bytes!(concat!("files/", $file)));
        })*
    };
}

damaged! {
    python_docx: "python-docx.docx",
    libreoffice_docx: "libreoffice.docx",
    reportlab: "reportlab.pdf",
    fpdf2: "fpdf2.pdf",
    libreoffice_pdf: "libreoffice.pdf",
    ghostscript: "ghostscript.pdf",
    cid: "cid.pdf",
    object_streams: "object-streams.pdf",
    owner_password: "owner-password.pdf",
    encrypted: "encrypted.pdf",
}
