//! `gloaming site`: adds sites to a running edge or centre, and gives them policies and quotas.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use gloaming_http::{Client, Roots};
use gloaming_policy::author::{PublicKey, Signed};
use http::Method;
use serde_json::Value;

use crate::files;

/// Where the service is, and what lets one in.
pub struct Service {
    /// `http://host:port` of an edge's `admin` or a centre's `listen`.
    pub at: String,
    /// The token's file.
    pub token: PathBuf,
    /// Whose certificate to believe; the system's when left out.
    pub ca: Option<PathBuf>,
}

impl Service {
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let roots = match &self.ca {
            Some(path) => Roots::File(path.clone()),
            None if self.at.starts_with("https://") => Roots::System,
            None => Roots::Nobody,
        };
        let client = Client::trusting(Duration::from_secs(30), &roots)?;
        let token = format!("Bearer {}", files::read_text(&self.token)?.trim());
        let address = format!("{}/admin/v1/{path}", self.at.trim_end_matches('/'));
        let (status, _, answer) = client.send(method, &address, Some(("authorization", &token)), body).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if !status.is_success() {
            let nobody = "there is no such API at this address: does the service have an `admin_token_file`?";
            bail!("{status}: {}", answer["problem"].as_str().unwrap_or(nobody));
        }
        Ok(answer)
    }
}

/// Pins a key to a site.
///
/// # Errors
/// With what the service says.
pub async fn add(service: &Service, site: &str, key: &str) -> Result<()> {
    let key = PublicKey::from_text(key)?.to_text();
    let answer = service.ask(Method::PUT, &format!("sites/{site}"), Bytes::from(key)).await?;
    let added = answer["added"].as_bool() == Some(true);
    println!("{site} {}", if added { "is added; give it a policy" } else { "was here already" });
    Ok(())
}

/// Puts a signed policy in force.
///
/// # Errors
/// As above.
pub async fn policy(service: &Service, path: &Path) -> Result<()> {
    let bytes = files::read(path)?;
    // Which site's it is; the service checks the rest against the key that is pinned there.
    let (_, policy) = Signed::verified_before(&bytes)?;
    service.ask(Method::PUT, &format!("sites/{}/policy", policy.site), Bytes::from(bytes)).await?;
    println!("{} version {} is in force", policy.site, policy.version);
    Ok(())
}

/// Holds a site to a number of open contributions.
///
/// # Errors
/// As above.
pub async fn quota(service: &Service, site: &str, contributions: u64) -> Result<()> {
    service.ask(Method::PUT, &format!("sites/{site}/quota"), Bytes::from(contributions.to_string())).await?;
    println!("{site} may hold {contributions} contributions open");
    Ok(())
}

/// Takes a site out.
///
/// # Errors
/// As above.
pub async fn remove(service: &Service, site: &str) -> Result<()> {
    let answer = service.ask(Method::DELETE, &format!("sites/{site}"), Bytes::new()).await?;
    println!("{site} is taken out: it is served until the next start, and what is open then is never released");
    for said in answer["said"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("the service says: {said}");
    }
    Ok(())
}

/// Says which sites were added.
///
/// # Errors
/// As above.
pub async fn list(service: &Service) -> Result<()> {
    let answer = service.ask(Method::GET, "sites", Bytes::new()).await?;
    for site in answer.as_array().into_iter().flatten() {
        let versions: Vec<_> = site["policies"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let quota = site["quota"].as_u64().map_or_else(|| "-".to_owned(), |quota| quota.to_string());
        let (name, key) = (site["site"].as_str().unwrap_or_default(), site["key"].as_str().unwrap_or_default());
        println!("{name:<30} versions {:<10} quota {quota:<10} {key}", versions.join(","));
    }
    Ok(())
}
