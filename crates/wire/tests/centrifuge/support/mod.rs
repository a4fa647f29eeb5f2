//! What tests and fuzz targets share. The fuzz targets include this folder by its path, so that each
//! check runs there, as a property, and over the committed corpus.

pub(crate) mod checks;
pub(crate) mod responder;
pub(crate) mod sdk;
