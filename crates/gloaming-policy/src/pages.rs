//! Addresses to indices, on the device: paths to page groups, referrers to classes, campaigns.

use crate::document::Policy;

/// The group of a path: the first that matches, or the index after the last.
#[must_use]
pub fn group_of(policy: &Policy, path: &str) -> u32 {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    };
    let found = policy.groups.iter().position(|group| group.paths.iter().any(|p| matches(p)));
    u32::try_from(found.unwrap_or(policy.groups.len())).unwrap_or(u32::MAX)
}

/// The index of a campaign named in the address: declared ones, then `other`, then `none`.
#[must_use]
pub fn campaign_of(policy: &Policy, campaign: &str) -> u32 {
    let count = policy.campaigns.len();
    let index = if campaign.is_empty() {
        count + 1
    } else {
        policy.campaigns.iter().position(|c| c == campaign).unwrap_or(count)
    };
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Words in the host name of search engines, of social sites and of web mail. A dot before and after
/// means the whole label. Short lists of what sends most visits; the rest is `site`.
const SEARCH: &[&str] = &[
    ".google.",
    ".bing.",
    ".duckduckgo.",
    ".ecosia.",
    ".qwant.",
    ".yahoo.",
    ".yandex.",
    ".baidu.",
    ".startpage.",
    ".brave.",
    ".kagi.",
    ".naver.",
    ".seznam.",
];
const SOCIAL: &[&str] = &[
    ".facebook.",
    ".instagram.",
    ".t.co.",
    ".x.com.",
    ".twitter.",
    ".linkedin.",
    ".reddit.",
    ".pinterest.",
    ".youtube.",
    ".tiktok.",
    ".mastodon.",
    ".bsky.",
    ".threads.",
    ".vk.com.",
    ".news.ycombinator.com.",
    ".lobste.rs.",
];
const MAIL: &[&str] = &[".mail.", ".outlook.", ".webmail.", ".proton.me.", ".gmx.", ".fastmail."];

/// The class of a referring host: 0 direct, 1 search, 2 social, 3 mail, 4 another site, 5 the site itself.
#[must_use]
pub fn referrer_class(referrer_host: &str, own_host: &str) -> u32 {
    if referrer_host.is_empty() {
        return 0;
    }
    if referrer_host == own_host {
        return 5;
    }
    let dotted = alloc::format!(".{}.", referrer_host.to_ascii_lowercase());
    let any = |words: &[&str]| words.iter().any(|w| dotted.contains(w));
    if any(MAIL) {
        3
    } else if any(SEARCH) {
        1
    } else if any(SOCIAL) {
        2
    } else {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_fall_into_classes() {
        for (host, class) in [
            ("", 0),
            ("www.google.co.uk", 1),
            ("duckduckgo.com", 1),
            ("t.co", 2),
            ("old.reddit.com", 2),
            ("mail.google.com", 3),
            ("blog.example", 4),
            ("notgoogle.example", 4),
            ("shop.example", 5),
        ] {
            assert_eq!(referrer_class(host, "shop.example"), class, "{host}");
        }
    }
}
