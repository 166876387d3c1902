//! One session: events in time order, features out.

use gloaming_signal::cbor::{Cbor, Error, Reader, Writer};
use gloaming_signal::{Event, EventKind, cbor_record};

use crate::config::{Config, GroupKind, MAX_FUNNELS, MAX_PAGE_FEATURES, Step};
use crate::definitions::{CATEGORIES, Category, ENGAGED_SESSION_MS, ENGAGED_TICK_MAX_MS, NUMBERS, Number, VITALS};
use crate::detect::{Blamed, Chain, Unanswered};
use crate::features::{Features, NONE, visit_categories};
use crate::pointer::Pointer;
use crate::tracker::Finished;

/// Forms open at once that are told apart; more share the last place.
const FORMS: u32 = 32;
/// Purposes that can be taken back at once.
const PURPOSES: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) started_ms: u64,
    pub(crate) last_ms: u64,
    features: Features,
    group: u32,
    groups_seen: u64,
    has_visit: bool,
    open_forms: u32,
    chain: Chain,
    unanswered: Unanswered,
    blamed: Blamed,
    pointer: Pointer,
}

cbor_record!(Session {
    started_ms,
    last_ms,
    features,
    group,
    groups_seen,
    has_visit,
    open_forms,
    chain,
    unanswered,
    blamed,
    pointer
});

impl Cbor for Features {
    fn encode(&self, writer: &mut Writer) {
        writer.list(NUMBERS + CATEGORIES + MAX_FUNNELS + MAX_PAGE_FEATURES);
        for value in self.numbers.iter().chain(&self.categories).chain(&self.funnels).chain(&self.page) {
            value.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(NUMBERS + CATEGORIES + MAX_FUNNELS + MAX_PAGE_FEATURES, |reader| {
            let mut features = Self::EMPTY;
            let Self { numbers, categories, funnels, page } = &mut features;
            for value in numbers.iter_mut().chain(categories).chain(funnels).chain(page) {
                *value = Cbor::decode(reader)?;
            }
            Ok(features)
        })
    }
}

impl Session {
    /// A session that begins at `at_ms`. A page that stays open over the end of a session goes on in
    /// the next one with the same surroundings.
    pub(crate) fn begin(at_ms: u64, before: Option<&Self>) -> Self {
        let mut features = Features::EMPTY;
        let mut group = NONE;
        let mut has_visit = false;
        if let Some(before) = before {
            for kept in [Category::Device, Category::Viewport, Category::Daypart, Category::Weekday] {
                features.categories[kept as usize] = before.features.category(kept);
            }
            features.numbers[Number::Weekend as usize] = before.features.number(Number::Weekend);
            features.categories[Category::Referrer as usize] = 0;
            features.page = before.features.page;
            group = before.group;
            has_visit = false;
        }
        Self {
            started_ms: at_ms,
            last_ms: at_ms,
            features,
            group,
            groups_seen: 0,
            has_visit,
            open_forms: 0,
            chain: Chain::default(),
            unanswered: Unanswered::default(),
            blamed: Blamed::default(),
            pointer: Pointer::default(),
        }
    }

    /// What the session came to, when it has ended.
    pub(crate) fn finished(&self) -> Finished {
        Finished { started_ms: self.started_ms, last_ms: self.last_ms, features: self.features(true) }
    }

    pub(crate) fn features_mut(&mut self) -> &mut Features {
        &mut self.features
    }

    fn add(&mut self, number: Number, amount: u32) {
        let slot = &mut self.features.numbers[number as usize];
        *slot = slot.saturating_add(amount);
    }

    fn raise(&mut self, number: Number, value: u32) {
        let slot = &mut self.features.numbers[number as usize];
        *slot = (*slot).max(value);
    }

    /// Settles what waits for time to pass. Called with the time of each event before it is applied.
    fn settle(&mut self, now_ms: u64) {
        if self.chain.quiet(now_ms).is_some() {
            self.add(Number::RageClicks, 1);
        }
        if self.unanswered.dead(now_ms) {
            self.add(Number::DeadClicks, 1);
        }
    }

    fn step(&mut self, config: &Config, reached: impl Fn(&Step) -> bool) {
        for (progress, steps) in self.features.funnels.iter_mut().zip(&config.funnels) {
            if steps.get(*progress as usize).is_some_and(&reached) {
                *progress += 1;
            }
        }
    }

    fn leave_page(&mut self) {
        let abandoned = self.open_forms.count_ones();
        self.add(Number::FormAbandons, abandoned);
        self.open_forms = 0;
        self.unanswered.answered();
        if self.chain.end().is_some() {
            self.add(Number::RageClicks, 1);
        }
    }

    fn page_view(&mut self, config: &Config, group: u32) {
        self.leave_page();
        let group = config.clamp(group);
        self.group = group;
        self.add(Number::Pages, 1);
        let categories = &mut self.features.categories;
        let landing = &mut categories[Category::LandingGroup as usize];
        if *landing == NONE {
            *landing = group;
        } else if categories[Category::JourneyPair as usize] == NONE {
            let from = categories[Category::LandingGroup as usize];
            categories[Category::JourneyPair as usize] = from * (config.other() + 1) + group;
        }
        self.features.categories[Category::ExitGroup as usize] = group;
        self.groups_seen |= 1 << group.min(63);
        match config.kind(group) {
            GroupKind::Account => self.add(Number::PagesAccount, 1),
            GroupKind::Info => self.add(Number::PagesInfo, 1),
            GroupKind::Product => self.add(Number::PagesProduct, 1),
            GroupKind::Other => {}
        }
        self.step(config, |step| *step == Step::Group(group));
    }

    fn engaged(&mut self, config: &Config, ms: u32) {
        self.add(Number::EngagedTime, ms);
        match config.kind(self.group) {
            GroupKind::Account => self.add(Number::TimeAccount, ms),
            GroupKind::Info => self.add(Number::TimeInfo, ms),
            GroupKind::Product => self.add(Number::TimeProduct, ms),
            GroupKind::Other => {}
        }
    }

    fn click(&mut self, event: &Event) {
        self.add(Number::Clicks, 1);
        if self.chain.click(event).is_some() {
            self.add(Number::RageClicks, 1);
        }
        self.unanswered.click(event);
        self.blamed.click(event.at_ms);
    }

    /// This session as it is stored: with all that was counted, and without where the pointer is.
    pub(crate) fn without_place(&self) -> Self {
        Self { pointer: self.pointer.without_place(), ..*self }
    }

    /// The pointer moved.
    pub(crate) fn moved(&mut self, event: &Event) {
        self.pointer.moved(event);
    }

    /// Applies one event. Times never go back: the tracker sees to that.
    pub(crate) fn apply(&mut self, config: &Config, event: &Event) {
        self.last_ms = event.at_ms;
        self.settle(event.at_ms);
        let a = event.a;
        match event.kind {
            EventKind::Visit => {
                if !self.has_visit {
                    self.has_visit = true;
                    // What an earlier page said of itself went with that page.
                    self.features.page = Features::EMPTY.page;
                    visit_categories(&mut self.features, a, event.b, event.c);
                }
            }
            EventKind::PageView => self.page_view(config, a),
            EventKind::EngagedTime => self.engaged(config, a.min(ENGAGED_TICK_MAX_MS)),
            EventKind::Scroll => self.raise(Number::MaxScroll, a.min(100)),
            EventKind::Click => self.click(event),
            EventKind::Alive => {
                self.chain.alive(a);
                self.unanswered.alive(event);
            }
            EventKind::Error => {
                self.add(Number::Errors, 1);
                if self.blamed.error(event.at_ms) {
                    self.add(Number::ErrorClicks, 1);
                }
            }
            EventKind::RageClick => self.add(Number::RageClicks, 1),
            EventKind::DeadClick => self.add(Number::DeadClicks, 1),
            EventKind::ErrorClick => self.add(Number::ErrorClicks, 1),
            EventKind::PurposeWithdrawn => self.add(Number::PurposesWithdrawn, a.min(PURPOSES)),
            EventKind::FormStart => {
                let form = 1 << a.min(FORMS - 1);
                if self.open_forms & form == 0 {
                    self.open_forms |= form;
                    self.add(Number::FormStarts, 1);
                }
            }
            EventKind::FormSubmit => {
                self.open_forms &= !(1 << a.min(FORMS - 1));
                self.add(Number::FormSubmits, 1);
            }
            EventKind::FormAbandon => self.add(Number::FormAbandons, 1),
            EventKind::Copy => self.add(Number::Copies, 1),
            EventKind::ExitIntent => self.add(Number::ExitIntents, 1),
            EventKind::OutboundLink => self.add(Number::OutboundClicks, 1),
            EventKind::Download => self.add(Number::Downloads, 1),
            EventKind::Search => self.add(Number::Searches, 1),
            EventKind::ViewItem => self.add(Number::ItemsViewed, 1),
            EventKind::AddToCart => {
                self.add(Number::CartAdds, 1);
                self.add(Number::CartValue, a);
            }
            EventKind::BeginCheckout => self.add(Number::Checkouts, 1),
            EventKind::Purchase => {
                self.add(Number::Purchases, 1);
                self.add(Number::PurchaseValue, a);
            }
            EventKind::WebVital => {
                const SLOTS: [Number; 5] = [Number::Lcp, Number::Cls, Number::Inp, Number::Fcp, Number::Ttfb];
                if let Some(&number) = usize::try_from(a).ok().and_then(|i| SLOTS.get(i)) {
                    // One more than the value, so that a perfect 0 differs from "never measured".
                    self.raise(number, event.b.saturating_add(1));
                }
            }
            EventKind::Custom => {
                self.add(Number::Customs, 1);
                self.step(config, |step| *step == Step::Custom(a));
            }
            // Moves are counted beside the session and do not keep it alive.
            EventKind::PointerMove => {}
            EventKind::PageFeature => {
                if let Some(slot) = usize::try_from(a).ok().and_then(|i| self.features.page.get_mut(i)) {
                    *slot = event.b;
                }
            }
        }
        self.step(config, |step| *step == Step::Event(event.kind));
    }

    /// The features now; with `leaving`, as they stand when the page is left at this moment.
    pub(crate) fn features(&self, leaving: bool) -> Features {
        let mut now = *self;
        if leaving {
            now.leave_page();
        }
        let mut features = now.features;
        features.numbers[Number::SessionLength as usize] =
            u32::try_from(now.last_ms - now.started_ms).unwrap_or(u32::MAX);
        features.numbers[Number::GroupsVisited as usize] = now.groups_seen.count_ones();
        for (i, (good, poor)) in VITALS.into_iter().enumerate() {
            let number = &mut features.numbers[Number::Lcp as usize + i];
            let band = match number.checked_sub(1) {
                None => 3,
                Some(value) if value <= good => 0,
                Some(value) if value <= poor => 1,
                Some(_) => 2,
            };
            *number = number.saturating_sub(1);
            features.categories[Category::LcpBand as usize + i] = band;
        }
        features.numbers[Number::PointerSteps as usize] = now.pointer.steps;
        let shares = [Number::PointerEven, Number::PointerQuick, Number::PointerSteady];
        for (number, share) in shares.into_iter().zip(now.pointer.shares()) {
            features.numbers[number as usize] = share;
        }
        let number = |number: Number| features.number(number);
        let bought = number(Number::Purchases) > 0;
        let engaged = bought
            || number(Number::Pages) > 1
            || number(Number::EngagedTime) > ENGAGED_SESSION_MS
            || number(Number::CartAdds) > 0;
        features.categories[Category::Bounce as usize] = u32::from(!engaged);
        features.categories[Category::Bought as usize] = u32::from(bought);
        features
    }
}
