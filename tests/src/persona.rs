//! People who visit the shop. Each knows what it did, which is the truth that counts are held against.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::browser::{Browser, Profile};
use crate::page::Page;

/// Who visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Persona {
    /// Agrees, buys the harbour lantern, and says that it was good.
    Buyer,
    /// Agrees, looks at lamps, clicks where nothing happens.
    Browser,
    /// Agrees on the one product page that a link led to, and goes.
    Bouncer,
    /// Says no, and looks around.
    Refuser,
    /// Has a browser that sends Global Privacy Control.
    Gpc,
    /// A program that says so.
    Bot,
    /// Agreed earlier and comes again: the profile stays.
    Returning,
}

/// A visit as it truly was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Who.
    pub persona: Persona,
    /// Metric and label for each metric whose answer the person knows; values of sums beside them.
    pub facts: Vec<(&'static str, &'static str, u64)>,
}

/// The price of the harbour lantern.
const PRICE: u64 = 64;

/// Ten people out of whom seven agree.
const TEN: [Persona; 10] = [
    Persona::Buyer,
    Persona::Browser,
    Persona::Bouncer,
    Persona::Refuser,
    Persona::Browser,
    Persona::Buyer,
    Persona::Gpc,
    Persona::Bouncer,
    Persona::Bot,
    Persona::Browser,
];

impl Persona {
    /// The `index`-th visitor.
    #[must_use]
    pub fn nth(index: u32) -> Self {
        TEN[index as usize % TEN.len()]
    }

    /// What every page of this person's browser runs first.
    #[must_use]
    pub fn prelude(self) -> String {
        match self {
            Self::Gpc => {
                "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { get: () => true })".to_owned()
            }
            Self::Bot => "Object.defineProperty(Navigator.prototype, 'webdriver', { get: () => true })".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether this person's visit may be counted.
    #[must_use]
    pub fn agrees(self) -> bool {
        !matches!(self, Self::Refuser | Self::Gpc | Self::Bot)
    }

    /// What is true of this person's first visit of a day.
    #[must_use]
    pub fn facts(self) -> Vec<(&'static str, &'static str, u64)> {
        let arrived = |page| vec![("visits", "first", 1), ("source", "direct", 1), ("landing-page", page, 1)];
        let more: &[(&'static str, &'static str, u64)] = match self {
            Self::Buyer => &[
                ("shopping-funnel", "purchase", 1),
                ("first-step", "home > product", 1),
                ("cart-value", "sum", PRICE),
                ("dead-clicks", "0-1", 1),
                ("satisfaction", "happy", 1),
            ],
            Self::Browser => {
                &[("shopping-funnel", "view_item", 1), ("first-step", "home > listing", 1), ("dead-clicks", "1-2", 1)]
            }
            Self::Bouncer => &[
                ("shopping-funnel", "view_item", 1),
                ("first-step", "left after one page", 1),
                ("dead-clicks", "0-1", 1),
            ],
            Self::Returning => {
                &[("shopping-funnel", "none", 1), ("first-step", "left after one page", 1), ("dead-clicks", "0-1", 1)]
            }
            Self::Refuser | Self::Gpc | Self::Bot => return Vec::new(),
        };
        let mut facts = arrived(if self == Self::Bouncer { "product" } else { "home" });
        facts.extend_from_slice(more);
        facts
    }
}

/// That the device has summed up the page that is shown.
const SUMMED: &str =
    "gloaming('status').then((s) => !!s.features && s.features.some((f) => f.id.startsWith('pages') && f.value > 0))";

/// Waits until this device has summed up what it saw, as a person does without knowing: by lingering.
///
/// # Errors
/// When it never does.
pub async fn linger(page: &Page) -> Result<()> {
    page.until(SUMMED).await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    Ok(())
}

/// Follows a link and looks at the page behind it, however briefly: until the device has summed it up. Whoever is gone before
/// that was not there.
async fn step(page: &Page, selector: &str) -> Result<()> {
    page.follow(selector).await?;
    page.until(SUMMED).await
}

async fn act(persona: Persona, page: &Page, shop: &str) -> Result<()> {
    let start = if persona == Persona::Bouncer { "/p/weir-throw" } else { "/" };
    page.goto(&format!("{shop}{start}")).await?;
    match persona {
        Persona::Buyer => {
            page.click("#gl-accept").await?;
            step(page, "a.product-link[href='/p/harbour-lantern']").await?;
            page.click("#add-to-cart").await?;
            step(page, ".cart-link").await?;
            step(page, "#to-checkout").await?;
            page.click("input[name=name]").await?;
            page.type_text("Ada").await?;
            step(page, "#place-order").await?;
            page.until("!!document.querySelector('#satisfaction [value=happy]')").await?;
            page.click("#satisfaction [value=happy]").await?;
            page.until("!!document.querySelector('#satisfaction [aria-pressed=true]')").await?;
            linger(page).await
        }
        Persona::Browser => {
            page.click("#gl-accept").await?;
            step(page, "nav a[href='/c/lamps']").await?;
            step(page, "a.product-link[href='/p/moth-pendant']").await?;
            // What the shop's experiment adds to the page is there before anybody clicks; later it would answer the click.
            page.until("gloaming('status').then((s) => !!s.arms)").await?;
            page.click(".zoom-badge").await?;
            // A click is dead when nothing answered for 2.5 seconds.
            tokio::time::sleep(Duration::from_millis(3_700)).await;
            linger(page).await
        }
        Persona::Bouncer => {
            page.click("#gl-accept").await?;
            linger(page).await
        }
        Persona::Refuser => {
            page.click("#gl-refuse").await?;
            page.follow("nav a[href='/c/textiles']").await?;
            page.follow("a.product-link[href='/p/kiln-cushion']").await
        }
        Persona::Gpc | Persona::Bot => {
            page.follow("nav a[href='/c/textiles']").await?;
            page.follow("a.product-link[href='/p/kiln-cushion']").await
        }
        Persona::Returning => {
            if page.eval("gloaming('status').then((s) => s.state)").await? == "waiting" {
                page.click("#gl-accept").await?;
            }
            linger(page).await
        }
    }
}

/// Visits once with a fresh profile, and leaves. The profile is still there: what was sent on leaving is
/// on its way, and closing the profile would stop it.
///
/// # Errors
/// When the browser or the page fails; the persona is named.
pub async fn visit(browser: &Browser, persona: Persona, shop: &str) -> Result<(Visit, Profile)> {
    let work = async {
        let profile = browser.profile().await?;
        let page = profile.tab(&persona.prelude()).await?;
        act(persona, &page, shop).await?;
        page.leave().await?;
        Ok::<_, anyhow::Error>(profile)
    };
    let profile = work.await.with_context(|| format!("the {persona:?}"))?;
    Ok((Visit { persona, facts: persona.facts() }, profile))
}

/// One profile comes ten times, half an hour apart: its clock is set, or ten visits would be one session.
/// The truth: the first visit counts everywhere; `visits` counts thrice, because a device may contribute
/// to it three times a day.
///
/// # Errors
/// When the browser or the page fails.
pub async fn return_ten_times(browser: &Browser, shop: &str) -> Result<Vec<Visit>> {
    let profile = browser.profile().await?;
    // Towards noon, so that all ten fall on one day.
    let morning = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() % 86_400 < 43_200;
    let mut visits = Vec::new();
    for turn in 0..10_i64 {
        let minutes = 31 * if morning { turn } else { turn - 10 };
        let prelude = format!("(() => {{ const real = Date.now; Date.now = () => real() + {minutes} * 60000 }})()");
        let page = profile.tab(&prelude).await?;
        act(Persona::Returning, &page, shop).await.with_context(|| format!("the returning visitor, time {turn}"))?;
        page.leave().await?;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let facts = match turn {
            0 => Persona::Returning.facts(),
            1 | 2 => vec![("visits", "again", 1)],
            _ => Vec::new(),
        };
        visits.push(Visit { persona: Persona::Returning, facts });
    }
    profile.close().await?;
    Ok(visits)
}
