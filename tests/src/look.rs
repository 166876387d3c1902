//! Whether a page is fit to be seen.

use std::path::PathBuf;

use serde_json::Value;

use crate::page::Page;

/// What is wrong with a page: WCAG 2.2's 1.4.10 (no sideways scrolling), 4.1.2 (names), 2.5.8 (24 px
/// targets, inline links excepted), 1.4.3 (contrast 4.5, large text 3), 1.1.1 (alternatives), 3.1.1.
const FAULTS: &str = r"(() => {
  const faults = [], all = (selector, root = document) => [...root.querySelectorAll(selector)]
  const roots = [document, ...all('*').map((e) => e.shadowRoot).filter(Boolean)]
  const seen = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0
  const words = (e) => `${e.localName}.${e.className?.baseVal ?? e.className} ${e.textContent.trim().slice(0, 30)}`
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`)
  if (!document.documentElement.lang) faults.push('no language')
  if (!document.title) faults.push('no title')
  const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b)
  const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number)
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement || at.getRootNode().host) {
      const c = colour(getComputedStyle(at).backgroundColor)
      if (c.length === 3 || c[3] === 1) return c
    }
    return [255, 255, 255]
  }
  for (const e of all('*')) if (seen(e) && e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX)) faults.push(`scrolls sideways inside: ${e.localName}.${e.className} ${e.scrollWidth} > ${e.clientWidth}`)
  for (const root of roots) {
    for (const e of all('a[href],button,input:not([type=hidden]),select,summary', root)) {
      if (!seen(e) || e.matches('.skip')) continue
      const name = e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.title || e.querySelector('[aria-label]')
      if (!name) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`)
      const r = e.getBoundingClientRect(), inline = e.localName === 'a' && getComputedStyle(e).display === 'inline'
      if (!inline && !e.matches('input[type=checkbox]') && (r.width < 24 || r.height < 20)) faults.push(`small target ${Math.round(r.width)}x${Math.round(r.height)}: ${words(e)}`)
    }
    for (const e of all('img', root)) if (!e.hasAttribute('alt')) faults.push(`no alternative: ${e.src}`)
    for (const e of all('svg', root)) if (seen(e) && !e.closest('[aria-label],[aria-hidden]')) faults.push(`unnamed picture: ${e.outerHTML.slice(0, 60)}`)
    for (const e of all('*', root)) {
      if (!seen(e) || e.closest('svg') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue
      if (e.matches('.hidden,.hidden *,.skip')) continue
      const style = getComputedStyle(e), one = light(colour(style.color)), other = light(ground(e)), size = parseFloat(style.fontSize)
      const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05)
      const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5
      if (ratio < least) faults.push(`contrast ${ratio.toFixed(2)}: ${words(e)}`)
    }
  }
  return faults
})()";

/// Looks at a page: nothing is wrong with it, and nothing was complained about. With `GLOAMING_PICTURES` set, its
/// picture goes there.
///
/// # Panics
/// When something is.
#[allow(clippy::unwrap_used)]
pub async fn look(page: &Page, name: &str, whole: bool) {
    if let Some(folder) = std::env::var_os("GLOAMING_PICTURES") {
        page.picture(&PathBuf::from(folder).join(format!("{name}.png")), whole).await.unwrap();
    }
    let faults = page.eval(FAULTS).await.unwrap();
    assert_eq!(faults, Value::Array(Vec::new()), "{name}");
    assert_eq!(page.seen().complaints, Vec::<String>::new(), "{name}");
}
