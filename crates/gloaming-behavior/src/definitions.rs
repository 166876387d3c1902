//! The table of features: what each means, its version, its unit, and where the definition comes from.
//!
//! A feature is named `name@version` in policies and manifests. A changed meaning is a new version and
//! the old one stays until no policy uses it. Numbers are kept in integer steps: `scale` steps make
//! one unit. Thresholds stand here and nowhere else.

/// A session ends after this long without an event, ms. Universal: GA4, Matomo, PostHog, Snowplow.
pub const SESSION_IDLE_MS: u64 = 30 * 60 * 1000;
/// A session lasts no longer than this, ms (PostHog's cap).
pub const SESSION_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// One engagement tick counts for no more than this, ms: a suspended laptop is not an engaged person.
pub const ENGAGED_TICK_MAX_MS: u32 = 60_000;

/// Clicks that make a rage click (PostHog, Datadog, OpenReplay: 3; Amplitude, Mixpanel: 4).
pub const RAGE_CLICKS: u32 = 3;
/// Largest gap between two of them, ms (PostHog, Mixpanel, Datadog).
pub const RAGE_GAP_MS: u64 = 1_000;
/// Largest Euclidean distance between two of them, CSS pixels (Mixpanel).
pub const RAGE_DISTANCE: u32 = 30;
/// A click is dead when nothing answered within this, ms (PostHog).
pub const DEAD_MS: u64 = 2_500;
/// A scroll or a selection answers only when this soon, ms (PostHog): later ones are the person's own.
pub const DEAD_OWN_MS: u64 = 100;
/// A change of focus answers when this soon, ms (PostHog).
pub const DEAD_FOCUS_MS: u64 = 1_000;
/// An error belongs to a click before it within this, ms (Amplitude).
pub const ERROR_CLICK_MS: u64 = 2_000;
/// GA4's engaged session: longer than this, ms, or two page views, or a key event.
pub const ENGAGED_SESSION_MS: u32 = 10_000;

/// Web vitals' thresholds, good and poor (web.dev/vitals): LCP ms, CLS thousandths, INP ms, FCP ms, TTFB ms.
pub const VITALS: [(u32, u32); 5] = [(2_500, 4_000), (100, 250), (200, 500), (1_800, 3_000), (800, 1_800)];

/// What a definition yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number; `scale` integer steps make one `unit`.
    Number {
        /// Which one.
        number: Number,
        /// Its unit in policies.
        unit: &'static str,
        /// Steps in one unit.
        scale: u32,
    },
    /// One of a list of words.
    Category {
        /// Which one.
        category: Category,
        /// The words.
        labels: Labels,
    },
}

/// Where a category's words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// These.
    Fixed(&'static [&'static str]),
    /// The policy's page groups, then `other`.
    Groups,
    /// The policy's campaigns, then `other`, then `none`.
    Campaigns,
    /// `from > to` for each pair of page groups (`other` included), then `none`.
    GroupPairs,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name without version.
    pub name: &'static str,
    /// Version of the meaning.
    pub version: u32,
    /// Number or category.
    pub kind: Kind,
}

/// What a feature means, in words. A table of its own: the browser's collector computes with
/// [`DEFINITIONS`] and leaves these 7 kB behind.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The meaning, in a sentence a visitor can read.
    pub text: &'static str,
    /// Whose definition it is.
    pub source: &'static str,
}

macro_rules! features {
    (numbers { $($number:ident, $name:literal, $unit:literal, $scale:literal, $text:literal, $source:literal;)* }
     categories { $($category:ident, $cname:literal, $labels:expr, $ctext:literal, $csource:literal;)* }
     more { $($later:ident, $lname:literal, $lunit:literal, $lscale:literal, $ltext:literal, $lsource:literal;)* }) => {
        /// Index of a number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Number { $(#[doc = $text] $number,)* $(#[doc = $ltext] $later),* }
        /// How many numbers there are.
        pub const NUMBERS: usize = [$($name,)* $($lname),*].len();
        /// Index of a category.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Category { $(#[doc = $ctext] $category),* }
        /// How many categories there are.
        pub const CATEGORIES: usize = [$($cname),*].len();
        /// Every feature. Signed policies hold places in this list, so that what is new comes last.
        pub const DEFINITIONS: &[Definition] = &[
            $(Definition { name: $name, version: 1,
                kind: Kind::Number { number: Number::$number, unit: $unit, scale: $scale } },)*
            $(Definition { name: $cname, version: 1,
                kind: Kind::Category { category: Category::$category, labels: $labels } },)*
            $(Definition { name: $lname, version: 1,
                kind: Kind::Number { number: Number::$later, unit: $lunit, scale: $lscale } },)*
        ];
        /// The same in words, index by index.
        pub const DESCRIPTIONS: &[Description] = &[
            $(Description { text: $text, source: $source },)*
            $(Description { text: $ctext, source: $csource },)*
            $(Description { text: $ltext, source: $lsource },)*
        ];
    };
}

const BANDS: Labels = Labels::Fixed(&["good", "needs-improvement", "poor", "unknown"]);
const FIRST: Labels = Labels::Fixed(&["first", "again"]);

features! {
    numbers {
        Pages, "pages", "pages", 1, "page views in this visit, route changes and returns from the back-forward cache included", "GA4 page_view";
        EngagedTime, "engaged-time", "seconds", 1000, "time with the page visible and focused", "Plausible engagement: visible and focused";
        SessionLength, "session-length", "seconds", 1000, "time from the first to the last event", "GA4 session";
        MaxScroll, "max-scroll", "percent", 1, "deepest part of any page seen, percent of its height", "Plausible: (scrollTop + viewport) / document height";
        Clicks, "clicks", "clicks", 1, "clicks", "GA4 click";
        RageClicks, "rage-clicks", "times", 1, "times of three or more quick clicks on one spot", "3 clicks, gaps under 1000 ms, within 30 px, no selection or scroll between (PostHog, Mixpanel, Datadog)";
        DeadClicks, "dead-clicks", "clicks", 1, "clicks that nothing on the page answered", "PostHog's signs of life within 2500 ms, Datadog's list of targets left out";
        ErrorClicks, "error-clicks", "clicks", 1, "clicks that an error followed", "Amplitude: within 2000 ms";
        FormStarts, "form-starts", "forms", 1, "forms begun", "GA4 form_start";
        FormSubmits, "form-submits", "forms", 1, "forms sent", "GA4 form_submit";
        FormAbandons, "form-abandons", "forms", 1, "forms begun and left", "ours: a field touched, no submit before the page is left";
        Copies, "copies", "times", 1, "times something was copied", "PostHog $copy_autocapture, without what";
        ExitIntents, "exit-intents", "times", 1, "times the pointer left through the top of the window", "ours: out through the top edge, moving up; fine pointers only";
        OutboundClicks, "outbound-clicks", "clicks", 1, "clicks that lead to another site", "GA4 click, outbound";
        Downloads, "downloads", "files", 1, "clicks on files", "GA4 file_download, Plausible's list of endings";
        Searches, "searches", "searches", 1, "searches on the site", "GA4 search";
        ItemsViewed, "items-viewed", "items", 1, "product views the shop reported", "GA4 view_item";
        CartAdds, "cart-adds", "items", 1, "things put into the cart", "GA4 add_to_cart";
        CartValue, "cart-value-added", "money", 100, "worth of what was put into the cart", "GA4 add_to_cart value";
        PurchaseValue, "purchase-value", "money", 100, "worth of what was bought", "GA4 purchase value";
        Checkouts, "checkouts", "times", 1, "times checkout was begun", "GA4 begin_checkout";
        Purchases, "purchases", "times", 1, "purchases", "GA4 purchase";
        PagesAccount, "pages-account", "pages", 1, "views of account pages", "UCI Online Shoppers: Administrative";
        PagesInfo, "pages-info", "pages", 1, "views of informational pages", "UCI Online Shoppers: Informational";
        PagesProduct, "pages-product", "pages", 1, "views of product pages", "UCI Online Shoppers: ProductRelated";
        TimeAccount, "time-account", "seconds", 1000, "engaged time on account pages", "UCI Online Shoppers: Administrative_Duration, here visible and focused";
        TimeInfo, "time-info", "seconds", 1000, "engaged time on informational pages", "UCI Online Shoppers: Informational_Duration, here visible and focused";
        TimeProduct, "time-product", "seconds", 1000, "engaged time on product pages", "UCI Online Shoppers: ProductRelated_Duration, here visible and focused";
        Returning, "returning", "yes", 1, "1 when this device came before and still remembers it", "UCI Online Shoppers: VisitorType";
        Weekend, "weekend", "yes", 1, "1 when the visit began on a Saturday or Sunday, local time", "UCI Online Shoppers: Weekend";
        Errors, "errors", "errors", 1, "script errors", "GA4 exception";
        GroupsVisited, "groups-visited", "groups", 1, "different page groups seen", "ours";
        Customs, "custom-events", "events", 1, "the site's own declared events", "ours";
        Lcp, "lcp", "ms", 1, "slowest Largest Contentful Paint of the visit", "web-vitals 6";
        Cls, "cls", "score", 1000, "worst Cumulative Layout Shift of the visit", "web-vitals 6";
        Inp, "inp", "ms", 1, "worst Interaction to Next Paint of the visit", "web-vitals 6";
        Fcp, "fcp", "ms", 1, "slowest First Contentful Paint of the visit", "web-vitals 6";
        Ttfb, "ttfb", "ms", 1, "slowest Time To First Byte of the visit", "web-vitals 6";
    }
    categories {
        LandingGroup, "landing-group", Labels::Groups, "page group of the first page", "GA4 landing page";
        ExitGroup, "exit-group", Labels::Groups, "page group of the last page", "Plausible exit page";
        Referrer, "referrer-class", Labels::Fixed(&["direct", "search", "social", "mail", "site", "own"]), "what kind of site the visit came from", "ours: by host name, matched on the device";
        Campaign, "campaign", Labels::Campaigns, "declared campaign in the address (utm_campaign)", "GA4 campaign";
        Device, "device-class", Labels::Fixed(&["phone", "tablet", "desktop", "other"]), "kind of device, by pointer and screen", "ours: pointer coarseness and shorter screen side";
        Viewport, "viewport-class", Labels::Fixed(&["xs", "s", "m", "l", "xl"]), "width of the window", "Bootstrap 5 breakpoints 576, 768, 992, 1200";
        VisitDay, "visit-day", FIRST, "first visit of this device today, or not", "ours: replaces distinct counts";
        VisitWeek, "visit-week", FIRST, "first visit of this device this week (Monday to Sunday, UTC), or not", "ours: replaces distinct counts";
        VisitMonth, "visit-month", FIRST, "first visit of this device this month (UTC), or not", "ours: replaces distinct counts";
        Daypart, "daypart", Labels::Fixed(&["night", "morning", "afternoon", "evening"]), "part of the local day the visit began in, six hours each", "ours";
        Weekday, "weekday", Labels::Fixed(&["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), "local weekday the visit began on", "ours";
        JourneyPair, "journey-pair", Labels::GroupPairs, "first step: the landing group and the group of the second page", "ours";
        LcpBand, "lcp-band", BANDS, "LCP band: 2.5 s, 4 s", "web.dev/vitals";
        ClsBand, "cls-band", BANDS, "CLS band: 0.1, 0.25", "web.dev/vitals";
        InpBand, "inp-band", BANDS, "INP band: 200 ms, 500 ms", "web.dev/vitals";
        FcpBand, "fcp-band", BANDS, "FCP band: 1.8 s, 3 s", "web.dev/vitals";
        TtfbBand, "ttfb-band", BANDS, "TTFB band: 0.8 s, 1.8 s", "web.dev/vitals";
        Bounce, "bounce", Labels::Fixed(&["stayed", "bounced"]), "one page, ten seconds or less, nothing bought or put in the cart", "GA4: not an engaged session";
        Bought, "purchase", Labels::Fixed(&["no", "yes"]), "whether the visit ended in a purchase", "GA4 purchase";
    }
    more {
        VisitsBefore, "visits-before", "visits", 1, "earlier visits that this device remembers", "Matomo visits count, less this one";
        DaysSinceVisit, "days-since-visit", "days", 1, "days (UTC) since the last visit that this device remembers", "Matomo days since last visit";
        PurchaseDays, "purchase-days", "days", 1, "days (UTC) with a purchase, before this visit", "Fader and Hardie: repeat purchases and the first one, a day counting once";
        PurchaseSpan, "purchase-span", "days", 1, "days from the first to the last day with a purchase, before this visit", "Fader and Hardie: recency, t_x";
        PurchaseAge, "purchase-age", "days", 1, "days since the first day with a purchase; 0 without one", "Fader and Hardie: age, T";
        PurchaseSpent, "purchase-spent", "money", 100, "worth of everything bought before this visit", "Fader and Hardie: monetary value, summed";
        PointerSteps, "pointer-steps", "steps", 1, "movements of the pointer, half a second apart at most", "ours: browsers' mousemove";
        PointerEven, "pointer-even", "percent", 1, "steps of the pointer as long as the one before, to a quarter; 0 before there are 20 steps", "ours: chosen on DELBOT";
        PointerQuick, "pointer-quick", "percent", 1, "steps of the pointer within 12 ms; 0 before there are 20 steps", "ours: chosen on DELBOT";
        PointerSteady, "pointer-steady", "percent", 1, "steps of the pointer that took as long as the one before, to 1 ms; 0 before there are 20 steps", "ours: chosen on DELBOT";
        PurposesWithdrawn, "purposes-withdrawn", "purposes", 1, "purposes that the visitor took back in this visit, keeping others", "ours: who takes back everything is not counted any more";
    }
}

impl Definition {
    /// Its index in [`DEFINITIONS`] by `name@version`.
    #[must_use]
    pub fn find(reference: &str) -> Option<usize> {
        let (name, version) = reference.split_once('@')?;
        let version: u32 = version.parse().ok()?;
        DEFINITIONS.iter().position(|d| d.name == name && d.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_dozen_features_and_more_with_different_names() {
        assert!(DEFINITIONS.len() >= 24);
        for (i, one) in DEFINITIONS.iter().enumerate() {
            assert!(DEFINITIONS[i + 1..].iter().all(|other| other.name != one.name), "{} twice", one.name);
        }
        assert_eq!(DEFINITIONS.len(), DESCRIPTIONS.len());
        assert!(DESCRIPTIONS.iter().all(|d| !d.text.is_empty() && !d.source.is_empty()));
    }

    /// Places are in policies that were signed: these three stand for the list up to where it was when they were.
    #[test]
    fn features_keep_their_places() {
        for (name, place) in [("pages@1", 0), ("landing-group@1", 38), ("purchase@1", 56), ("visits-before@1", 57)] {
            assert_eq!(Definition::find(name), Some(place), "{name}");
        }
    }

    #[test]
    fn a_feature_is_found_by_name_and_version() {
        assert_eq!(Definition::find("pages@1"), Some(0));
        assert_eq!(Definition::find("pages@2"), None);
        assert_eq!(Definition::find("pages"), None);
    }
}
