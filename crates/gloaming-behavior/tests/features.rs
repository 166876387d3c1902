//! Definitions by example, and the three properties by search.
#![allow(clippy::unwrap_used)]

use gloaming_behavior::{Category, Config, Features, GroupKind, NONE, Number, Step, Tracker};
use gloaming_signal::event::{alive, click};
use gloaming_signal::{Event, EventKind};
use proptest::prelude::*;

const PAGE: fn(u64, u32) -> Event = |at, group| Event::new(at, EventKind::PageView, group);

fn config() -> Config {
    Config {
        groups: vec![GroupKind::Other, GroupKind::Product, GroupKind::Account, GroupKind::Info],
        funnels: vec![vec![
            Step::Event(EventKind::ViewItem),
            Step::Event(EventKind::AddToCart),
            Step::Event(EventKind::Purchase),
        ]],
    }
}

fn run(events: &[Event]) -> Features {
    let mut tracker = Tracker::new(config());
    events.iter().for_each(|e| tracker.push(*e));
    tracker.features(true)
}

fn click_at(at_ms: u64, x: u32, y: u32, flags: u32) -> Event {
    Event { at_ms, kind: EventKind::Click, a: x, b: y, c: flags | 7 << 8 }
}

#[test]
fn a_buyers_visit() {
    let at = 1_795_392_000_000;
    let features = run(&[
        Event { at_ms: at, kind: EventKind::Visit, a: 1, b: 2 + 16 * 4, c: 3 << 8 | 5 << 5 | 20 },
        PAGE(at, 0),
        Event::new(at + 4_000, EventKind::EngagedTime, 4_000),
        PAGE(at + 5_000, 1),
        Event::new(at + 5_100, EventKind::ViewItem, 0),
        Event::new(at + 9_000, EventKind::EngagedTime, 3_500),
        Event::new(at + 9_500, EventKind::AddToCart, 5_900),
        PAGE(at + 12_000, 2),
        Event::new(at + 15_000, EventKind::Purchase, 5_900),
    ]);
    assert_eq!(features.number(Number::Pages), 3);
    assert_eq!(features.number(Number::PagesProduct), 1);
    assert_eq!(features.number(Number::TimeProduct), 3_500);
    assert_eq!(features.number(Number::EngagedTime), 7_500);
    assert_eq!(features.number(Number::PurchaseValue), 5_900);
    assert_eq!(features.number(Number::SessionLength), 15_000);
    assert_eq!(features.number(Number::Weekend), 1);
    assert_eq!(features.funnel(0), 3);
    assert_eq!(features.category(Category::LandingGroup), 0);
    assert_eq!(features.category(Category::ExitGroup), 2);
    assert_eq!(features.category(Category::JourneyPair), 1);
    assert_eq!(features.category(Category::Referrer), 1);
    assert_eq!(features.category(Category::Campaign), 3);
    assert_eq!(features.category(Category::Device), 2);
    assert_eq!(features.category(Category::Viewport), 4);
    assert_eq!(features.category(Category::Daypart), 3);
    assert_eq!(features.category(Category::Weekday), 5);
    assert_eq!(features.category(Category::VisitDay), 0);
    assert_eq!(features.category(Category::Bounce), 0);
    assert_eq!(features.category(Category::Bought), 1);
    assert_eq!(features.category(Category::LcpBand), 3);
}

#[test]
fn rage_needs_three_quick_near_clicks_on_one_target() {
    let rage = |events: &[Event]| run(events).number(Number::RageClicks);
    let three: Vec<_> = (0..3).map(|i| click_at(1_000 + i * 300, 50, 50, click::INTERACTIVE)).collect();
    assert_eq!(rage(&three), 1);
    assert_eq!(rage(&three[..2]), 0);
    // Six in a row are one rage click, counted once.
    let six: Vec<_> = (0..6).map(|i| click_at(1_000 + i * 300, 50, 50, 0)).collect();
    assert_eq!(rage(&six), 1);
    // A second's pause, 31 pixels, or a text field in between: none.
    assert_eq!(rage(&[click_at(0, 0, 0, 0), click_at(900, 0, 0, 0), click_at(1_900, 0, 0, 0)]), 0);
    assert_eq!(rage(&[click_at(0, 0, 0, 0), click_at(90, 31, 0, 0), click_at(180, 62, 0, 0)]), 0);
    // Clicks at the ends of the number range are far apart: their distance once wrapped around to near.
    let far = u32::MAX;
    assert_eq!(rage(&[click_at(0, 0, 0, 0), click_at(90, far, far, 0), click_at(180, 0, 0, 0)]), 0);
    assert_eq!(rage(&[click_at(0, 0, 0, 0), click_at(90, 18, 24, 0), click_at(180, 18, 24, 0)]), 1);
    assert_eq!(rage(&(0..3).map(|i| click_at(i * 90, 0, 0, click::EXCLUDED)).collect::<Vec<_>>()), 0);
    // A triple click that selects a paragraph is reading, not rage.
    let mut selects = three.clone();
    selects.push(Event::new(1_601, EventKind::Alive, alive::SELECTION));
    assert_eq!(rage(&selects), 0);
}

#[test]
fn a_click_is_dead_when_nothing_answers_in_time() {
    let dead = |events: &[Event]| run(events).number(Number::DeadClicks);
    let tick = |at| Event::new(at, EventKind::EngagedTime, 100);
    assert_eq!(dead(&[click_at(0, 1, 1, 0), tick(2_499)]), 0, "not settled yet");
    assert_eq!(dead(&[click_at(0, 1, 1, 0), tick(2_500)]), 1);
    let answer = |at, flag| dead(&[click_at(0, 1, 1, 0), Event::new(at, EventKind::Alive, flag), tick(9_000)]);
    assert_eq!(answer(2_400, alive::MUTATION), 0);
    assert_eq!(answer(50, alive::SCROLL), 0);
    assert_eq!(answer(150, alive::SCROLL), 1, "the person's own scrolling is no answer");
    assert_eq!(answer(900, alive::FOCUS), 0);
    assert_eq!(dead(&[click_at(0, 1, 1, click::LEADS_AWAY), tick(9_000)]), 0);
    assert_eq!(dead(&[click_at(0, 1, 1, 0), PAGE(400, 0), tick(9_000)]), 0);
}

#[test]
fn an_error_blames_the_click_before_it_once() {
    let error = |at| Event::new(at, EventKind::Error, 1);
    let features = run(&[click_at(0, 1, 1, 0), error(2_000), error(2_001)]);
    assert_eq!((features.number(Number::ErrorClicks), features.number(Number::Errors)), (1, 2));
    assert_eq!(run(&[click_at(0, 1, 1, 0), error(2_001)]).number(Number::ErrorClicks), 0);
}

#[test]
fn a_form_is_abandoned_when_its_page_is_left() {
    let start = |at, form| Event::new(at, EventKind::FormStart, form);
    let submit = Event::new(900, EventKind::FormSubmit, 0);
    let left = run(&[start(1, 0), start(2, 0), start(3, 1), submit, PAGE(2_000, 0)]);
    assert_eq!(left.number(Number::FormStarts), 2);
    assert_eq!(left.number(Number::FormSubmits), 1);
    assert_eq!(left.number(Number::FormAbandons), 1);
    let mut open = Tracker::new(config());
    open.push(start(1, 0));
    assert_eq!(open.features(false).number(Number::FormAbandons), 0);
    assert_eq!(open.features(true).number(Number::FormAbandons), 1);
}

#[test]
fn half_an_hour_idle_or_a_day_begins_a_new_session() {
    let minute = 60_000;
    let mut tracker = Tracker::new(config());
    tracker.push(PAGE(0, 1));
    tracker.push(PAGE(30 * minute, 1));
    assert_eq!(tracker.features(false).number(Number::Pages), 2, "thirty minutes are not more than thirty");
    tracker.push(PAGE(60 * minute + 1, 2));
    assert_eq!(tracker.finished()[0].started_ms, 0, "asked for, its millisecond counts as over");
    let now = tracker.features(false);
    assert_eq!((now.number(Number::Pages), now.number(Number::Returning)), (1, 1));
    assert_eq!((now.category(Category::VisitDay), now.category(Category::VisitMonth)), (1, 1));
    tracker.push(PAGE(60 * minute + 2, 2));
    let finished = tracker.finished()[0];
    assert_eq!((finished.features.number(Number::Pages), finished.last_ms), (2, 30 * minute));
    tracker.forget_finished(0);
    assert_eq!(tracker.finished(), []);

    let mut long = Tracker::new(config());
    (0..=1441u64).for_each(|m| long.push(Event::new(m * minute, EventKind::EngagedTime, 1)));
    long.push(Event::new(1442 * minute, EventKind::EngagedTime, 1));
    assert_eq!(long.finished()[0].features.number(Number::EngagedTime), 1441);
}

/// A clock that was a year ahead once silenced the device for a year.
#[test]
fn a_clock_that_was_far_ahead_costs_one_session() {
    let year = 365 * 86_400_000;
    let mut tracker = Tracker::new(config());
    tracker.push(PAGE(1_000, 1));
    tracker.push(PAGE(1_000 + year, 1));
    let mut tracker = Tracker::restore(config(), &tracker.store()).unwrap();
    tracker.rewind(2_000);
    // Between any two events the state may be stored.
    let mut tracker = Tracker::restore(config(), &tracker.store()).unwrap();
    tracker.push(PAGE(2_000, 2));
    tracker.push(PAGE(9_000, 2));
    let now = tracker.features(false);
    assert_eq!((now.number(Number::Pages), now.number(Number::SessionLength)), (2, 7_000));
    assert_eq!(tracker.session_started_ms(), Some(2_000));
    assert_eq!(tracker.finished().iter().map(|f| f.started_ms).collect::<Vec<_>>(), [1_000, 1_000 + year]);
    // A step back is an ordinary thing, and so is what a background tab saw forty minutes ago.
    tracker.rewind(8_000);
    tracker.push(PAGE(1_000, 2));
    assert_eq!(tracker.features(false).number(Number::Pages), 3);
    assert_eq!(tracker.session_started_ms(), Some(2_000));
}

#[test]
fn four_ended_sessions_wait_to_be_told_and_the_oldest_goes_first() {
    let hour = 3_600_000;
    let mut tracker = Tracker::new(config());
    (0..7).for_each(|i| tracker.push(PAGE(i * hour, 1)));
    let starts = |tracker: &Tracker| tracker.finished().iter().map(|f| f.started_ms / hour).collect::<Vec<_>>();
    assert_eq!(starts(&tracker), [2, 3, 4, 5]);
    tracker.forget_finished(3 * hour);
    assert_eq!(starts(&tracker), [4, 5]);
    tracker.forget_finished(6 * hour);
    assert_eq!(starts(&tracker), [], "told of the running one, none before it is told any more");
}

#[test]
fn what_a_page_says_of_itself_goes_with_the_page() {
    let hour = 3_600_000;
    let says = |at_ms| Event { at_ms, kind: EventKind::PageFeature, a: 0, b: 77, c: 0 };
    let visit = |at_ms| Event { at_ms, kind: EventKind::Visit, a: 0, b: 0, c: 0 };
    let mut tracker = Tracker::new(config());
    [visit(1), PAGE(1, 1), says(2)].into_iter().for_each(|e| tracker.push(e));
    tracker.push(Event::new(hour, EventKind::Scroll, 10));
    assert_eq!(tracker.features(false).page_feature(0), 77, "the page that stayed open over the end of a session");
    [visit(2 * hour), PAGE(2 * hour, 1)].into_iter().for_each(|e| tracker.push(e));
    assert_eq!(tracker.features(false).page_feature(0), NONE);
}

#[test]
fn web_vitals_fall_into_their_bands() {
    let vital = |which, value| Event { at_ms: 5, kind: EventKind::WebVital, a: which, b: value, c: 0 };
    let features = run(&[PAGE(1, 0), vital(0, 2_500), vital(1, 0), vital(2, 501), vital(3, 1_801)]);
    assert_eq!(features.category(Category::LcpBand), 0);
    assert_eq!(features.category(Category::ClsBand), 0);
    assert_eq!(features.category(Category::InpBand), 2);
    assert_eq!(features.category(Category::FcpBand), 1);
    assert_eq!(features.category(Category::TtfbBand), 3);
    assert_eq!(features.number(Number::Lcp), 2_500);
}

#[test]
fn page_features_and_clocks_that_step_back() {
    let mut tracker = Tracker::new(config());
    tracker.push(PAGE(10_000, 0));
    assert_eq!(tracker.features(false).page_feature(2), NONE);
    tracker.push(Event { at_ms: 3, kind: EventKind::PageFeature, a: 2, b: 77, c: 0 });
    tracker.push(Event { at_ms: 4, kind: EventKind::PageFeature, a: 999, b: 77, c: 0 });
    let now = tracker.features(false);
    assert_eq!((now.page_feature(2), now.number(Number::SessionLength)), (77, 0));
}

#[test]
fn state_that_is_not_ours_is_refused() {
    let mut tracker = Tracker::new(config());
    tracker.push(PAGE(10_000, 0));
    let state = tracker.store();
    assert!(Tracker::restore(config(), &state[..state.len() - 1]).is_err());
    assert!(Tracker::restore(config(), &[]).is_err());
    let mut other = state.clone();
    other[1] = 9;
    assert!(Tracker::restore(config(), &other).is_err());
}

/// What is kept of a device's visit tells how a pointer moved and not where it is: wherever it was, the bytes are the same.
#[test]
fn where_the_pointer_is_is_not_stored() {
    let stored = |x: u32| {
        let mut tracker = Tracker::new(config());
        tracker.push(PAGE(1_000, 0));
        let move_to = |at_ms, a, b| Event { at_ms, kind: EventKind::PointerMove, a, b, c: 0 };
        (0..30).for_each(|step| tracker.push(move_to(1_100 + 16 * u64::from(step), x + 3 * step, x / 2)));
        assert_eq!(tracker.features(false).number(Number::PointerSteps), 29);
        tracker
    };
    assert_eq!(stored(100).store(), stored(1_700).store());
    let mut restored = Tracker::restore(config(), &stored(100).store()).unwrap();
    assert_eq!(
        restored.features(false).number(Number::PointerSteps),
        28,
        "but for the last, which another could come before"
    );
    restored.push(Event { at_ms: 1_600, kind: EventKind::PointerMove, a: 100, b: 50, c: 0 });
    restored.push(PAGE(1_700, 0));
    assert_eq!(restored.features(false).number(Number::PointerSteps), 28, "a stroke begins anew");
}

fn any_event() -> impl Strategy<Value = Event> {
    // Steps of time are small, zero often, and now and then longer than a session.
    let step = prop_oneof![4 => Just(0u64), 4 => 1u64..3_000, 1 => 1_000_000u64..4_000_000];
    (step, 0..EventKind::ALL.len(), 0u32..70, 0u32..40, 0u32..600).prop_map(|(step, kind, a, b, c)| Event {
        at_ms: step,
        kind: EventKind::ALL[kind],
        a,
        b,
        c,
    })
}

fn any_stream() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 1..120).prop_map(|mut events| {
        let mut now = 1_795_392_000_000;
        for event in &mut events {
            now += event.at_ms;
            event.at_ms = now;
        }
        events
    })
}

proptest! {
    #[test]
    fn events_of_one_millisecond_come_in_any_order(events in any_stream(), seed: u64) {
        let mut shuffled = events.clone();
        // A deterministic shuffle, then a stable sort by time: only equal times change places.
        shuffled.sort_by_key(|e| {
            let mix = (u64::from(e.a) << 32 | u64::from(e.b) << 16 | u64::from(e.c)) ^ seed;
            (e.at_ms, mix.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        });
        prop_assert_eq!(run(&shuffled), run(&events));
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(events in any_stream(), cuts in prop::collection::vec(0usize..120, 0..5)) {
        // Movements of the pointer are the exception, below.
        let mut events = events;
        events.retain(|event| event.kind != EventKind::PointerMove);
        let mut tracker = Tracker::new(config());
        for (i, event) in events.iter().enumerate() {
            if cuts.contains(&i) {
                tracker = Tracker::restore(config(), &tracker.store()).unwrap();
            }
            tracker.push(*event);
        }
        prop_assert_eq!(tracker.features(true), run(&events));
        prop_assert_eq!(tracker.features(false), Tracker::restore(config(), &tracker.store()).unwrap().features(false));
    }

    #[test]
    fn consecutive_engagement_ticks_may_be_merged(events in any_stream(), parts in prop::collection::vec(1u32..5_000, 1..8)) {
        let at = events.last().unwrap().at_ms + 1;
        let mut split = events.clone();
        split.extend(parts.iter().map(|ms| Event::new(at, EventKind::EngagedTime, *ms)));
        let mut merged = events;
        merged.push(Event::new(at, EventKind::EngagedTime, parts.iter().sum()));
        prop_assert_eq!(run(&split), run(&merged));
    }
}
