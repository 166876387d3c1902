/**
 * The check overlay: `?gloaming-check` in the address follows one visit through all steps and says, of
 * the step that fails, why and what to do.
 *
 *   loaded → consented → built → accepted → released
 *
 * A visit with the check in its address counts nowhere and is kept nowhere. Only the button sends what the
 * visit would say, marked: the edge judges and answers it, counts nothing and stores nothing of it. Loaded only then, so its size is nobody's concern but the owner's. Its
 * styles are a constructed sheet in a shadow root: a page under `style-src 'self'` shows it as well.
 */
const base = new URL('.', import.meta.url)
const script = document.querySelector('script[data-site][data-key]')
const { site, key } = script.dataset
const quiet = { credentials: 'omit', referrerPolicy: 'no-referrer', cache: 'no-store' }

const STEPS = [
  ['loaded', 'Loaded', 'the signed notice is genuine'],
  ['consented', 'Consented', 'the visitor agreed to at least one purpose'],
  ['built', 'Built', 'this device summed up the visit'],
  ['accepted', 'Accepted', 'the edge would count what was sent'],
  ['released', 'Released', 'the window closes and its noised counts go to the centre']
]

const CSS = `
:host { all: initial }
section { position: fixed; right: 16px; top: 16px; z-index: 2147483647; width: min(410px, calc(100vw - 32px)); max-height: calc(100vh - 32px); overflow: auto;
  box-sizing: border-box; padding: 16px 18px 14px; background: #161c33; color: #eef0f8; border: 1px solid #3d4875; border-radius: 14px;
  box-shadow: 0 18px 50px #0008; font: 14px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
header { display: flex; align-items: baseline; justify-content: space-between; gap: 12px }
h2 { margin: 0; font: 600 16px Georgia, "DejaVu Serif", serif }
p { margin: 4px 0 10px; color: #b9c1dd }
ol { list-style: none; margin: 0; padding: 0 }
li { position: relative; padding: 0 0 12px 32px }
li:not(:last-child)::before { content: ""; position: absolute; left: 10px; top: 22px; bottom: -1px; width: 2px; background: #3d4875 }
.mark { position: absolute; left: 0; top: 0; width: 22px; height: 22px; border-radius: 50%; text-align: center; font: 700 13px/22px system-ui, "DejaVu Sans", sans-serif; background: #2a3359; color: #b9c1dd }
.done .mark { background: #7fd69a; color: #0d2416 }
.failed .mark { background: #ffb199; color: #48130a }
.now .mark { background: #f6cf7a; color: #3a2803 }
h3 { display: inline; margin: 0; font-size: 14px; font-weight: 650 }
h3 + span { color: #b9c1dd }
li div { color: #dfe3f3 }
.failed .remedy { margin-top: 4px; padding: 6px 10px; background: #48130a; border-radius: 8px; color: #ffe3da }
button { font: inherit; color: #eef0f8; background: #2a3359; border: 1px solid #55619a; border-radius: 8px; min-height: 28px; padding: 2px 10px; cursor: pointer }
li button { margin-top: 6px }
button:focus-visible { outline: 3px solid #f6cf7a; outline-offset: 2px }
small { display: block; color: #b9c1dd; font-size: 12.5px }`

const MARKS = { wait: '', now: '…', done: '✓', failed: '!' }
const WORDS = { wait: 'not reached', now: 'waiting', done: 'done', failed: 'failed' }

const element = (name, text, className) => {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  return made
}

// --- what is drawn --------------------------------------------------------------------------------------
const host = element('gloaming-check')
const root = host.attachShadow({ mode: 'open' })
const sheet = new CSSStyleSheet()
sheet.replaceSync(CSS)
root.adoptedStyleSheets = [sheet]
const panel = element('section'), list = element('ol'), head = element('header'), title = element('h2', 'Gloaming check'), close = element('button', 'Close')
title.id = 'title'
panel.setAttribute('aria-labelledby', 'title')
list.setAttribute('aria-live', 'polite')
close.type = 'button'
close.addEventListener('click', () => { host.remove(); clearInterval(timer) })
head.append(title, close)
panel.append(head, element('p', `${site}: this visit is a check. It counts nowhere and is not kept.`), list)
root.append(panel)
document.body.append(host)

const askButton = (words) => {
  const button = element('button', words)
  button.type = 'button'
  button.addEventListener('click', () => window.gloaming('track', 'gloaming-check'))
  return button
}

/** Draws the steps: up to the first that is not done everything is done, after it nothing is reached. */
const draw = (states) => {
  const drawn = JSON.stringify(states)
  if (host.dataset.drawn === drawn) return
  host.dataset.drawn = drawn
  list.replaceChildren(...STEPS.map(([id, name, meaning], i) => {
    const { state, text, remedy, small, ask } = states[i] || { state: 'wait' }
    const line = element('li', undefined, state), mark = element('span', MARKS[state] || String(i + 1), 'mark')
    line.dataset.step = id
    line.dataset.state = state
    mark.setAttribute('aria-label', WORDS[state])
    mark.setAttribute('role', 'img')
    line.append(mark, element('h3', name), element('span', ` · ${meaning}`))
    if (text) line.append(element('div', text))
    if (remedy) line.append(element('div', remedy, 'remedy'))
    if (small) line.append(element('small', small))
    if (ask) line.append(askButton(ask))
    return line
  }))
}

// --- what is found out ----------------------------------------------------------------------------------
const done = (text, small) => ({ state: 'done', text, small })
const now = (text, small) => ({ state: 'now', text, small })
const failed = (text, remedy) => ({ state: 'failed', text, remedy })
const get = async (path) => {
  try { return await fetch(new URL(path, base), quiet) } catch (error) { return { ok: false, status: 0, headers: new Headers(), text: String(error) } }
}
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))

/** Why the loader did not believe the notice: the same steps again, each with its own words. */
const whyNoNotice = async () => {
  const response = await get(`v1/notice/${site}`)
  if (!response.status) return failed(`${base}v1/notice/${site} cannot be fetched: ${response.text}`, 'Allow the address in the page’s connect-src, and pass the whole folder /g/ on to the edge.')
  if (response.status === 404) return failed(`The edge knows no site ${site}.`, 'Write the policy’s `site` into data-site, and give the signed policy to this edge.')
  if (!response.ok) return failed(`The notice was answered with ${response.status}.`, 'Look at what stands between this page and the edge: /g/v1/ must reach it.')
  let signed, notice
  try {
    signed = await response.json()
    notice = JSON.parse(atob(signed.payload))
  } catch { return failed('What came is not a notice.', 'Something answers in the edge’s place: a proxy’s own page, perhaps.') }
  let pinned
  try { pinned = await crypto.subtle.importKey('raw', unbase64(key), 'Ed25519', 0, ['verify']) } catch (error) {
    return failed(`The key in data-key cannot be used: ${error.message || error}`, crypto.subtle ? 'Copy data-key from what `gloaming policy sign` printed; browsers older than 2025 have no Ed25519 and are not measured.' : 'Serve the page over https: browsers check signatures only there.')
  }
  const text = new TextEncoder().encode('gloaming notice 1\n' + atob(signed.payload))
  const fits = await Promise.all(signed.signatures.map(({ sig }) => crypto.subtle.verify('Ed25519', pinned, unbase64(sig), text)))
  if (!fits.includes(true)) return failed('The notice was not signed by the key in data-key.', 'Copy data-key from what `gloaming policy sign` printed for the key that signed this policy.')
  if (notice.site !== site) return failed(`The notice is for ${notice.site}.`, 'Write that name into data-site.')
  if (Date.parse(notice.expires) <= Date.now()) return failed(`The policy expired on ${notice.expires}.`, 'Raise `version` and `expires` in the policy, sign it and give it to the edge.')
  return failed('The notice was not believed at first and is now.', 'Reload the page.')
}

/** Why the worker ended or never came: everything it needs, asked for once more. */
const whyNoWorker = async () => {
  for (const [path, type] of [['worker.js', 'javascript'], ['collector.js', 'javascript'], ['collector.wasm', 'application/wasm']]) {
    const response = await get(path), given = response.headers.get('content-type') || 'nothing'
    if (!response.ok) return failed(`${path} was answered with ${response.status || response.text}.`, 'Pass the whole folder /g/ on to the edge.')
    if (!given.includes(type)) return failed(`${path} is served as ${given}.`, `Serve it as ${type === 'javascript' ? 'text/javascript' : type}; the edge does, a proxy may not.`)
    const own = response.headers.get('content-security-policy')
    if (path === 'worker.js' && own && !/wasm-unsafe-eval|unsafe-eval/.test(own)) return failed('worker.js carries a Content-Security-Policy that forbids wasm.', 'Leave that header off everything under /g/: the page keeps its own.')
  }
  if (base.origin !== location.origin) return failed(`The worker lies on ${base.origin}, another origin than this page’s.`, 'Serve /g/ from the page’s own origin, by a proxy rule: browsers start no worker from elsewhere.')
  const response = await get(`v1/policy/${site}`)
  if (!response.ok) return failed(`The policy was answered with ${response.status}.`, 'Give the signed policy to this edge.')
  if (!response.headers.get('x-gloaming-time')) return failed('The edge’s time is missing from its answers.', 'Let the header x-gloaming-time through.')
  return failed('The measuring program ended, and everything it needs is there.', 'Allow \'self\' in the page’s worker-src; then reload and look at the console.')
}

const REFUSALS = {
  refused: ['The visitor said no.', 'Ask for gloaming(\'erase\') in the console and reload to be asked again.'],
  gpc: ['This browser sends Global Privacy Control, which counts as no.', 'Agree on the page all the same, or use a browser without it.'],
  dnt: ['This browser sends Do Not Track, which counts as no.', 'Agree on the page all the same, or use a browser without it.']
}
const NEVER = {
  bot: failed('This browser looks automated, so it is not measured.', 'Use an ordinary one: navigator.webdriver must be false and the user agent must not speak of bots.'),
  frame: failed('This page is in a frame, so it is not measured.', 'Open it by itself.')
}

let closes
const released = async () => {
  if (!closes) {
    const response = await get(`v1/windows/${site}`)
    if (!response.ok) return failed(`The edge’s windows were answered with ${response.status}.`, 'Pass /g/v1/ on to the edge.')
    const { windows } = await response.json()
    const now_ms = windows[0]?.now_ms || 0
    closes = windows.map(({ span_ms, closes_ms }) => ({ span_ms, at: performance.now() + closes_ms - now_ms })).sort((one, two) => one.at - two.at)
  }
  const left = closes.filter(({ at }) => at > performance.now())
  const name = (ms) => ms >= 6048e5 ? 'the week’s' : ms >= 864e5 ? 'the day’s' : ms >= 36e5 ? 'the hour’s' : `the ${ms / 1e3} s`
  const wait = (ms) => ms < 12e4 ? `${Math.ceil(ms / 1e3)} s` : ms < 72e5 ? `${Math.ceil(ms / 6e4)} minutes` : `${Math.ceil(ms / 36e5)} hours`
  if (left.length) return now(left.map(({ span_ms, at }) => `${name(span_ms)} window closes in ${wait(at - performance.now())}`).join('; '), 'Then the edge adds noise and releases what reached k. A visit without the check would be in it.')
  return done('The windows of this visit have closed and were released with noise, where they reached k.', 'A visit without the check would be in them.')
}

/** One look at the visit: a list of step states, up to the first that is not done. */
const look = async () => {
  const { state, notice, purposes, features, scores, unknownEvents, policyVersion, traps, answers } = await window.gloaming('status')
  if (NEVER[state]) return [NEVER[state]]
  if (state === 'notice') return [await whyNoNotice()]
  if (!notice) return [now('The notice is on its way.')]
  const steps = [done(`Notice of version ${notice.version}, signed by the key of this page, valid before ${notice.expires}.`)]
  if (state === 'waiting') return [...steps, now('Nobody has answered yet.', 'Answer the question on the page. Until then nothing is stored and nothing is sent.')]
  if (REFUSALS[state]) return [...steps, failed(...REFUSALS[state])]
  steps.push(done(`Agreed to ${(purposes || []).join(', ')}.`))
  if (state === 'trap') return [...steps, await whyNoWorker()]
  if (!features) return [...steps, now('The worker is starting.')]
  const counted = features.filter(({ value }) => value !== 0 && value !== 'none').length
  if (!counted) return [...steps, now('Nothing has happened on this page yet.')]
  const small = [
    unknownEvents && `${unknownEvents} events or features are not declared in the policy and were left out`,
    traps && `${traps} failures on the way; see the console`
  ].filter(Boolean).join('; ')
  steps.push(done(`${counted} features by policy version ${policyVersion}${scores.length ? `, ${scores.map(({ model, score }) => score == null ? `${model} scored, which pages are not told` : `${model} ${(100 * score).toFixed(1)} %`).join(', ')}` : ''}.`, small || undefined))
  const last = answers[answers.length - 1]
  if (!last) return [...steps, { ...now('Nothing of this visit was sent. Asking sends what the edge would get, marked, so that it is judged and not counted.'), ask: 'Ask the edge' }]
  const { each, reason, remedy } = last.answer
  const again = (step) => [...steps, { ...step, ask: 'Ask again' }]
  if (!each) return again(failed(`The edge answered ${last.status}: ${reason}.`, remedy))
  const bad = each.filter((word) => word !== 'checked' && word !== 'duplicate')
  if (bad.length) return again(failed(`${bad.length} of ${each.length} contributions would not count: ${[...new Set(bad)].join(', ')}.`, 'The edge’s /metrics count the same reasons; the README says what each means.'))
  return [...again(done(`${each.length} contributions would each have counted in one cell.`)), await released()]
}

const round = async () => {
  try { draw(await look()) } catch (error) { draw([failed(`The check itself failed: ${error.message || error}`, 'Reload the page.')]) }
}
const timer = setInterval(round, 700)
round()
