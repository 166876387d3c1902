//! A session's features at one moment.

use crate::config::{MAX_FUNNELS, MAX_PAGE_FEATURES};
use crate::definitions::{CATEGORIES, Category, DEFINITIONS, Kind, NUMBERS, Number};

/// The value of a category that has none yet, and of a page feature that was not given.
pub const NONE: u32 = u32::MAX;

/// Features of a session. Plain integers: equal streams give equal bits wherever they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub(crate) numbers: [u32; NUMBERS],
    pub(crate) categories: [u32; CATEGORIES],
    pub(crate) funnels: [u32; MAX_FUNNELS],
    pub(crate) page: [u32; MAX_PAGE_FEATURES],
}

impl Features {
    pub(crate) const EMPTY: Self = Self {
        numbers: [0; NUMBERS],
        categories: [NONE; CATEGORIES],
        funnels: [0; MAX_FUNNELS],
        page: [NONE; MAX_PAGE_FEATURES],
    };

    /// A number in its integer steps.
    #[must_use]
    pub fn number(&self, number: Number) -> u32 {
        self.numbers[number as usize]
    }

    /// A category's index among its labels.
    #[must_use]
    pub fn category(&self, category: Category) -> u32 {
        self.categories[category as usize]
    }

    /// How many steps of a funnel were reached, in order.
    #[must_use]
    pub fn funnel(&self, funnel: usize) -> u32 {
        self.funnels.get(funnel).copied().unwrap_or(0)
    }

    /// A page-given feature in the policy's steps, or [`NONE`].
    #[must_use]
    pub fn page_feature(&self, index: usize) -> u32 {
        self.page.get(index).copied().unwrap_or(NONE)
    }

    /// Step value of the feature at `index` of [`DEFINITIONS`].
    #[must_use]
    pub fn value(&self, index: usize) -> u32 {
        match DEFINITIONS.get(index).map(|d| d.kind) {
            Some(Kind::Number { number, .. }) => self.number(number),
            Some(Kind::Category { category, .. }) => self.category(category),
            None => NONE,
        }
    }

    /// The feature at `index` as a model sees it: a number in its unit, a category as its index.
    #[must_use]
    pub fn model_input(&self, index: usize) -> f32 {
        let scale = match DEFINITIONS.get(index).map(|d| d.kind) {
            Some(Kind::Number { scale, .. }) => scale,
            _ => 1,
        };
        // One correctly rounded division of two exact doubles, then one rounding: the same everywhere.
        (f64::from(self.value(index)) / f64::from(scale)) as f32
    }

    /// All values in the order of [`DEFINITIONS`], then funnels, then page features: for parity checks.
    #[must_use]
    pub fn to_bytes(&self) -> alloc::vec::Vec<u8> {
        let defined = (0..DEFINITIONS.len()).map(|index| self.value(index));
        let own = self.funnels.iter().chain(&self.page).copied();
        defined.chain(own).flat_map(u32::to_le_bytes).collect()
    }
}

/// A session's referrer class, campaign and the like, as the page gave them.
pub(crate) fn visit_categories(features: &mut Features, a: u32, b: u32, c: u32) {
    let set = &mut features.categories;
    set[Category::Referrer as usize] = a.min(5);
    set[Category::Device as usize] = (b & 15).min(3);
    set[Category::Viewport as usize] = (b >> 4).min(4);
    set[Category::Campaign as usize] = c >> 8;
    let weekday = ((c >> 5) & 7).min(6);
    set[Category::Weekday as usize] = weekday;
    set[Category::Daypart as usize] = (c & 31).min(23) / 6;
    features.numbers[Number::Weekend as usize] = u32::from(weekday >= 5);
}
