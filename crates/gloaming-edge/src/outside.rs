//! Readers of the small files beside a store, as functions of text: for fuzz targets. No part of the interface: it changes
//! with what it shows.

use gloaming_window::Anchor;

use crate::{anchor, stops};

/// The anchor that a text is, and the text that it is written as.
#[must_use]
pub fn anchor(text: &str) -> Option<(Anchor, String)> {
    anchor::parse(text).map(|anchor| (anchor, anchor::written(anchor)))
}

/// How many stops a text lists, and the text that they are written as.
#[must_use]
pub fn stops(text: &str) -> Option<(usize, String)> {
    stops::parse(text).map(|known| (known.values().map(|stops| stops.len()).sum(), stops::written(&known)))
}
