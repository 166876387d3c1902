//! Events: what happened on the page, as numbers.
//!
//! An event is five numbers, so that a listener can hand it to the wasm module without a string, an
//! object or an allocation. Strings (a path, a referrer, a campaign) are matched against the policy's
//! tables where they arrive and go on as an index. Names are GA4's recommended event names where GA4
//! has one. Rage, dead and error clicks and form abandonment are derived by `gloaming-behavior` from
//! clicks, forms and signs of life, or given outright by a source that detects them itself.

use crate::cbor_enum;

/// What happened. The meaning of `a`, `b`, `c` in [`Event`] stands beside each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A page load's surroundings. `a`: referrer class, `b`: device class + 16 x viewport class,
    /// `c`: campaign index x 256 + local weekday (0 Monday) x 32 + local hour.
    Visit,
    /// `a`: page group index in the policy, `b`: 0 load, 1 route change, 2 back-forward cache, 3 reload.
    PageView,
    /// `a`: milliseconds visible and focused since the last one.
    EngagedTime,
    /// `a`: deepest point of the page seen, percent of its height.
    Scroll,
    /// `a`, `b`: x, y in CSS pixels, `c`: [`click`] flags + 256 x a hash of the interactive ancestor.
    Click,
    /// The page answered: `a`: [`alive`] flags.
    Alive,
    /// An uncaught error or rejection.
    Error,
    /// Clicks in anger: `a`: how many. Derived.
    RageClick,
    /// A click that nothing answered. Derived.
    DeadClick,
    /// A click that an error followed. Derived.
    ErrorClick,
    /// First touch of a form's field. `a`: form number on the page.
    FormStart,
    /// `a`: form number.
    FormSubmit,
    /// A touched form left without submit. Derived.
    FormAbandon,
    /// Something was copied; what, nobody knows.
    Copy,
    /// The pointer left through the top edge, upwards.
    ExitIntent,
    /// A link to another site.
    OutboundLink,
    /// A link to a file.
    Download,
    /// A search on the site; the words stay where they are.
    Search,
    /// GA4 `view_item`.
    ViewItem,
    /// GA4 `add_to_cart`. `a`: value, hundredths.
    AddToCart,
    /// GA4 `begin_checkout`. `a`: value, hundredths.
    BeginCheckout,
    /// GA4 `purchase`. `a`: value, hundredths.
    Purchase,
    /// `a`: 0 LCP ms, 1 CLS thousandths, 2 INP ms, 3 FCP ms, 4 TTFB ms; `b`: the value.
    WebVital,
    /// One of the policy's own events. `a`: its index in the policy.
    Custom,
    /// A feature the page gave. `a`: its index in the policy, `b`: its value in the policy's steps.
    PageFeature,
    /// The pointer is somewhere else. `a`, `b`: x, y in CSS pixels. Asked for only where a policy uses what is made of it.
    PointerMove,
    /// The visitor took back purposes and kept others. `a`: how many.
    PurposeWithdrawn,
}

cbor_enum!(EventKind {
    Visit = 0,
    PageView = 1,
    EngagedTime = 2,
    Scroll = 3,
    Click = 4,
    Alive = 5,
    Error = 6,
    RageClick = 7,
    DeadClick = 8,
    ErrorClick = 9,
    FormStart = 10,
    FormSubmit = 11,
    FormAbandon = 12,
    Copy = 13,
    ExitIntent = 14,
    OutboundLink = 15,
    Download = 16,
    Search = 17,
    ViewItem = 18,
    AddToCart = 19,
    BeginCheckout = 20,
    Purchase = 21,
    WebVital = 22,
    Custom = 23,
    PageFeature = 24,
    PointerMove = 25,
    PurposeWithdrawn = 26,
});

impl EventKind {
    /// GA4's name for it where there is one, else ours in GA4's manner.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Visit => "session_start",
            Self::PageView => "page_view",
            Self::EngagedTime => "user_engagement",
            Self::Scroll => "scroll",
            Self::Click => "click",
            Self::Alive => "page_response",
            Self::Error => "exception",
            Self::RageClick => "rage_click",
            Self::DeadClick => "dead_click",
            Self::ErrorClick => "error_click",
            Self::FormStart => "form_start",
            Self::FormSubmit => "form_submit",
            Self::FormAbandon => "form_abandon",
            Self::Copy => "copy",
            Self::ExitIntent => "exit_intent",
            Self::OutboundLink => "outbound_click",
            Self::Download => "file_download",
            Self::Search => "search",
            Self::ViewItem => "view_item",
            Self::AddToCart => "add_to_cart",
            Self::BeginCheckout => "begin_checkout",
            Self::Purchase => "purchase",
            Self::WebVital => "web_vital",
            Self::Custom => "custom",
            Self::PageFeature => "page_feature",
            Self::PointerMove => "pointer_move",
            Self::PurposeWithdrawn => "purpose_withdrawn",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Flags of [`EventKind::Click`], field `c`.
pub mod click {
    /// The target, or an ancestor of it, is a link, button or the like.
    pub const INTERACTIVE: u32 = 1;
    /// A text field, stepper, canvas, video or other thing where repeated or silent clicks are normal.
    pub const EXCLUDED: u32 = 2;
    /// A link that leads away from this page, so no answer on the page is due.
    pub const LEADS_AWAY: u32 = 4;
}

/// Flags of [`EventKind::Alive`], field `a`: what the page did.
pub mod alive {
    /// The document changed.
    pub const MUTATION: u32 = 1;
    /// Something was selected.
    pub const SELECTION: u32 = 2;
    /// Something scrolled.
    pub const SCROLL: u32 = 4;
    /// The page lost or won focus or visibility.
    pub const FOCUS: u32 = 8;
}

/// One thing that happened at one time on the device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Milliseconds since 1970 by the device's clock.
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// First number; its meaning depends on the kind.
    pub a: u32,
    /// Second number.
    pub b: u32,
    /// Third number.
    pub c: u32,
}

impl Event {
    /// An event with one number.
    #[must_use]
    pub fn new(at_ms: u64, kind: EventKind, a: u32) -> Self {
        Self { at_ms, kind, a, b: 0, c: 0 }
    }
}

crate::cbor_record!(Event { at_ms, kind, a, b, c });
