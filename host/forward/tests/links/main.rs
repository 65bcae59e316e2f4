//! Links between components, of every face with every face.

mod ends;
mod host;
mod values;
