//! What tests and fuzz targets share. The fuzz targets include this folder by its path, so that each
//! check runs there, as a property, and over the committed corpus.

pub(crate) mod checks;
#[allow(dead_code, reason = "only the corpus itself is run by it")]
pub(crate) mod corpus;
pub(crate) mod phone;
#[allow(dead_code, reason = "the tests of the bridge and of WebSocket use each their own part")]
pub(crate) mod ws;
