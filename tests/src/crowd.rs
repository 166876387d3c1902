//! Many people, some at the same time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::browser::Browser;
use crate::persona::{Persona, Visit, return_ten_times, visit};

/// `count` visits with a fresh profile each, `together` at a time, then one profile ten times. Says how
/// far it is.
///
/// # Errors
/// When one of them fails.
pub async fn all_visits(browser: &Browser, shop: &str, count: u32, together: usize) -> Result<Vec<Visit>> {
    let places = Arc::new(tokio::sync::Semaphore::new(together));
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..count {
        let (browser, shop, places) = (browser.clone(), shop.to_owned(), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire().await;
            visit(&browser, Persona::nth(index), &shop).await
        });
    }
    let (mut visits, mut profiles) = (Vec::new(), Vec::new());
    while let Some(outcome) = tasks.join_next().await {
        let (visit, profile) = outcome??;
        visits.push(visit);
        profiles.push(profile);
        if visits.len().is_multiple_of(10) || visits.len() == count as usize {
            println!("  {} of {count} visits", visits.len());
        }
    }
    visits.extend(return_ten_times(browser, shop).await?);
    println!("  and ten by one profile");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for profile in profiles {
        profile.close().await?;
    }
    Ok(visits)
}
