//! DOCX: a zip archive of XML parts (ECMA-376). The text is in the main part, what a style means in another, the
//! title in a third. Nothing is read but these.

mod archive;
mod body;
mod styles;
mod xml;

use crate::extraction::{self, Error, Extraction};
use archive::Archive;
use styles::Styles;
use xml::{Handler, walk};

/// What readers assume where the package does not say.
const MAIN: &str = "word/document.xml";
const PROPERTIES: &str = "docProps/core.xml";

/// Reads a document.
pub fn extract(bytes: &[u8]) -> Result<Extraction, Error> {
    let mut archive = Archive::open(bytes)?;
    let package = Targets::of(&mut archive, "")?;
    let main = package.find("/officeDocument").unwrap_or_else(|| MAIN.into());
    let body = archive.part(&main)?.ok_or_else(|| {
        Error::Unsupported(format!("a zip archive without `{main}`, the main part of a Word document"))
    })?;
    let styles = match Targets::of(&mut archive, &main)?.find("/styles") {
        Some(path) => archive.part(&path)?.map(|part| Styles::read(&path, &part)).transpose()?,
        None => None,
    };
    let properties = package.find("/core-properties").unwrap_or_else(|| PROPERTIES.into());
    let title = match archive.part(&properties)? {
        Some(part) => stated_title(&properties, &part)?,
        None => None,
    };
    body::read(&main, &body, &styles.unwrap_or_default(), title)
}

/// Where a part's relationships lead.
#[derive(Default)]
struct Targets {
    /// The folder of the part, to which targets are relative.
    folder: String,
    /// Type and target.
    found: Vec<(String, String)>,
}

impl Targets {
    /// The relationships of `part`; those of the package where it is empty.
    fn of(archive: &mut Archive<'_>, part: &str) -> Result<Self, Error> {
        let (folder, name) = part.rsplit_once('/').map_or(("", part), |(folder, name)| (folder, name));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let path = format!("{folder}_rels/{name}.rels");
        let mut targets = Self { folder, found: Vec::new() };
        if let Some(part) = archive.part(&path)? {
            walk(&path, &part, &mut targets)?;
        }
        Ok(targets)
    }

    /// The target of the relationship whose type ends so: the namespaces differ between editions of the standard.
    fn find(&self, ending: &str) -> Option<String> {
        let (_, target) = self.found.iter().find(|(kind, _)| kind.ends_with(ending))?;
        Some(match target.strip_prefix('/') {
            Some(absolute) => absolute.into(),
            None => format!("{}{target}", self.folder),
        })
    }
}

impl Handler for Targets {
    fn start(&mut self, element: &xml::Element<'_>) {
        if let (Some(kind), Some(target)) = (element.attribute("Type"), element.attribute("Target")) {
            self.found.push((kind, target));
        }
    }
}

fn stated_title(path: &str, part: &str) -> Result<Option<String>, Error> {
    let mut properties = Properties::default();
    walk(path, part, &mut properties)?;
    Ok(extraction::title(&properties.title))
}

#[derive(Default)]
struct Properties {
    in_title: bool,
    title: String,
}

impl Handler for Properties {
    fn start(&mut self, element: &xml::Element<'_>) {
        self.in_title = element.name() == "title";
    }

    fn end(&mut self, _: &str) {
        self.in_title = false;
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            self.title.push_str(text);
        }
    }
}
