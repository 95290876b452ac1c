//! Lists in pages: one state of the collection, however many requests it takes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::api::{Answer, Connection};
use crate::objects::collection;
use crate::trouble::Trouble;

pub(crate) const PAGE: usize = 500;
const BACK_OFF: Duration = Duration::from_millis(200);

/// What all pages together showed.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) names: Vec<String>,
    pub(crate) resource_version: i64,
    pub(crate) pages: usize,
}

/// Reads the whole collection; begins anew when a page fails. `query` is added to the first request.
pub(crate) async fn list(connection: &mut Connection, trouble: &Trouble, query: &str) -> Result<Listing> {
    loop {
        let asked = Instant::now();
        match once(connection, query).await? {
            Ok(listing) => return Ok(listing),
            Err(refused) => trouble.note("list", asked, &refused),
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

async fn once(connection: &mut Connection, query: &str) -> Result<Result<Listing, Answer>> {
    let first = format!("{}?limit={PAGE}", collection());
    let mut url = format!("{first}{query}");
    let mut listing = Listing { names: Vec::new(), resource_version: 0, pages: 0 };
    let mut expected = None;
    loop {
        let page = connection.get(&url).await?;
        if !page.is_success() {
            return Ok(Err(page));
        }
        let items = page.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        listing.names.extend(names);
        listing.pages += 1;
        let revision = page.resource_version()?;
        if listing.pages == 1 {
            listing.resource_version = revision;
        }
        ensure!(revision == listing.resource_version, "page {} shows another state than the first", listing.pages);
        // Without a selector the number of those that follow is exact.
        let remaining = page.body["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        let total = listing.names.len() as u64 + remaining;
        ensure!(*expected.get_or_insert(total) == total, "page {} says there are {total} in all", listing.pages);
        let Some(token) = page.body["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) else {
            ensure!(remaining == 0, "{remaining} are said to follow the last page");
            ensure!(listing.names.is_sorted_by(|one, next| one < next), "names are not in order, or come twice");
            return Ok(Ok(listing));
        };
        ensure!(items.len() == PAGE, "a page of {} that is not the last", items.len());
        // Tokens are base64 for URLs, with nothing to escape.
        url = format!("{first}&continue={token}");
    }
}
