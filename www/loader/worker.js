/**
 * The one worker: owns the wasm, turns what the page saw into numbers, keeps nothing of its own.
 *
 * Its URL is first-party and its response carries no Content-Security-Policy, so wasm runs here under a
 * page's `script-src 'self'`. What it loads is pinned: the two wasm modules by the hashes below, policy
 * and model by hashes that the signed notice leads to. www/loader/README.md lists the messages.
 */
import initCollector, { Collector } from './collector.js'

const base = new URL('.', self.location)
const quiet = { credentials: 'omit', referrerPolicy: 'no-referrer' }
/** @type {Collector} */
let collector
let page, site, edge, fetched, asked = 0, n = 0, models = [], traps = 0, instances = 0, attempts = 0, back = -1e3, dead = [], resting, check, judge, again, coarse, answers = [], behind = []

// Kinds of gloaming-signal's events.
const ENGAGED = 2, CLICK = 4, EXIT_INTENT = 14, OUTBOUND = 15, DOWNLOAD = 16, WEB_VITAL = 22, POINTER_MOVE = 25
const COMMERCE = { __proto__: null, search: 17, view_item: 18, add_to_cart: 19, begin_checkout: 20, purchase: 21 }
const EXCLUDED = /^(select|textarea|canvas|video|audio|input,(?!submit|button|reset|image|checkbox|radio))|^[^,]*,[^,]*,true/
const FILE = /\.(pdf|zip|gz|tgz|7z|rar|dmg|exe|msi|pkg|deb|rpm|apk|csv|tsv|txt|rtf|docx?|xlsx?|pptx?|odt|ods|epub|ics|mp3|wav|mp4|mov|avi)$/i

// The edge's time as it was told, carried on by the clock that nobody sets.
const edgeNow = () => edge + performance.now() - fetched[0]
// That one stops while some machines sleep, and the wall clock is set: when they part, only the edge knows what it was.
const parted = () => Math.abs(performance.now() - fetched[0] - Date.now() + fetched[1]) > 5e3
// What the page saw, it saw by the wall clock: in edge time a visit stays one visit, whatever that is set to.
const since = (at) => at - fetched[1] + edge
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
const sri = (text) => 'sha256-' + base64(text.match(/../g).map((b) => parseInt(b, 16)))
const base64 = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(''))
const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
const address = (text) => { try { return new URL(text, page) } catch { return page } }

/** A click: [x, y, number of the target, 'name,type,editable,href' of what is active there, or null]. */
const click = (push, at, x, y, id, hit) => {
  const [, , , ...parts] = (hit || '').split(','), href = parts.join(',')
  const to = address(href), away = href && to.href.split('#')[0] != page.href.split('#')[0]
  push(at, CLICK, x, y, !!hit | (EXCLUDED.test(hit || '') ? 2 : 0) | (away ? 4 : 0) | (id % 8e6) * 256)
  if (!away || !/^http/.test(to.protocol)) return
  if (to.host != page.host) push(at, OUTBOUND)
  else if (FILE.test(to.pathname)) push(at, DOWNLOAD)
}

// Layout shifts count in windows: gaps under a second, five seconds at most; the worst one is the page's.
const shifts = { from: 0, last: 0, sum: 0, worst: 0 }
/** A performance entry becomes a vital: [type, start, value, flag]. The collector keeps the largest. */
const vital = (push, at, type, start, value, flag) => {
  if (type == 'largest-contentful-paint') push(at, WEB_VITAL, 0, start)
  else if (type == 'event' && flag > 0) push(at, WEB_VITAL, 2, value)
  else if (flag == 'first-contentful-paint') push(at, WEB_VITAL, 3, start)
  else if (type == 'navigation') push(at, WEB_VITAL, 4, value)
  else if (type == 'layout-shift' && flag !== true) {
    if (start - shifts.last > 1e3 || start - shifts.from > 5e3) { shifts.from = start; shifts.sum = 0 }
    shifts.last = start
    shifts.sum += value
    shifts.worst = Math.max(shifts.worst, shifts.sum)
    push(at, WEB_VITAL, 1, Math.round(shifts.worst * 1e3))
  }
}
const VITALS = ['largest-contentful-paint', 'event', 'paint', 'navigation', 'layout-shift']

/** Hands entries to the collector: numbers in one array, words one by one, in order. */
const take = (entries) => {
  let numbers = []
  const push = (at, kind, a = 0, b = 0, c = 0) => numbers.push(at, kind, a, b, c)
  const flush = () => { if (numbers.length) collector.push_batch(Float64Array.from(numbers)); numbers = [] }
  for (const [when, kind, a, b, c, d] of entries) {
    const at = since(when)
    if (kind == CLICK) click(push, at, a, b, c, d)
    else if (kind == EXIT_INTENT && coarse) continue // A finger has no way out through the top edge.
    // A longer tick was the machine's sleep.
    else if (kind == ENGAGED) push(at, kind, Math.min(a, 5e3))
    else if (typeof kind == 'number') push(at, kind, a, b, c)
    else if (VITALS.includes(kind)) vital(push, at, kind, a, b, c)
    else if (kind == 'track' && a == 'gloaming-check') judge = check
    else if (kind == 'track' && COMMERCE[a]) push(at, COMMERCE[a], Math.round(b * 100) || 0)
    else {
      flush()
      if (kind == 'page') {
        page = new URL(b)
        collector.page(at, a, page.pathname, c && !a ? address(c).hostname : '', page.searchParams.get('utm_campaign') || '')
      } else if (kind == 'track') collector.custom(at, String(a))
      else if (typeof b == 'number') collector.feature_number(at, String(a), b)
      else collector.feature_word(at, String(a), String(b))
    }
  }
  flush()
}

const post = (submission) => fetch(base + 'v1/contributions', { method: 'POST', body: submission, ...quiet })

/**
 * Tells the loader what to keep and what to send, were the page left now. A check begins empty, is sent only
 * when asked for, and leaves nothing: a link with a check in it must not make anybody's device say anything.
 */
const prepare = () => {
  const prepared = collector.prepare(edgeNow()), { submission } = prepared, left = prepared.until_ms - edgeNow(), apart = parted()
  if (apart) turn = turn.then(settle).catch(trap)
  // When one of its windows ends it is made again for the next; a page that is hidden then keeps its own
  // visit for the next one instead of sending what would come too late.
  clearTimeout(again)
  if (submission) again = setTimeout(quietNow, Math.min(left + 20, 2e9))
  const m = collector.moves
  postMessage(check ? { t: 'ready', n, m } : {
    t: 'ready', n, m, kept: base64(prepared.kept), sent: base64(prepared.sent),
    // Offline it would be lost and paid for, and so it would in a window that nobody knows to be the right one.
    body: submission && !apart && navigator.onLine && performance.now() - back > 900 && base64(submission), until: left
  })
  prepared.free()
  return submission
}

/** In the check lane the visit is judged while it lasts; the edge answers and counts nothing. */
const checkNow = async (submission) => {
  judge = 0
  const response = await post(base64(submission))
  answers = [{ at: edgeNow(), status: response.status, answer: await response.json() }]
}

/**
 * A model that failed is computed no more, and what speaks for it, if anything, is the one that the policy names. What
 * Rust refuses comes as text; anything else is a trap, which takes the instance with it: the others are loaded anew.
 */
const fail = (model, why) => {
  model.failed = String(why?.message || why)
  traps++
  if (typeof why == 'string') return
  for (const other of models) {
    // Kept, because what is let go of is freed in the instance that it came from.
    dead.push(other.scorer)
    other.scorer = 0
  }
  attempts = 0
  reload()
}

/**
 * Scores with every model the person agreed to, in order, and tells the page what it may hear, with reasons. A model
 * that was slower than its budget three times running, reasons included, is scored once a second at most.
 */
const score = (idle) => {
  const tried = new Set()
  for (const model of models) {
    if (model.failed) model.silent = 3
    if (model.failed || !model.scorer || !model.idle == !!idle) continue
    tried.add(model)
    model.said = 0
    model.inputs = collector.model_inputs(model.index)
    if (!(model.silent = !model.inputs.length)) {
      try {
        const from = performance.now(), value = model.scorer.score(model.inputs)
        model.ms = performance.now() - from
        if (!Number.isFinite(value)) throw 'its score is no number'
        if (collector.set_score(model.index, value)) model.said = { score: value, kind: model.scorer.kind(value) }
      } catch (error) { model.silent = 1; fail(model, error) }
    }
  }
  for (const model of models) {
    const by = model.silent ? models.find(({ index }) => index == model.fallback) : model
    // Whether or not a page hears it, so that a model in shadow is counted as one that acts.
    model.covered = by != model && by?.silent === false
    if (!model.speaks || !by?.said || !(tried.has(model) || tried.has(by)) || !by.scorer) continue
    let why = { reasons: [], exact: false, orders: 0 }
    const from = performance.now()
    try { why = by.scorer.reasons(by.inputs, navigator.language, () => performance.now()) } catch (error) { if (typeof error != 'string') fail(by, error) }
    by.ms += performance.now() - from
    if (by != model) model.stoodIn = (model.stoodIn | 0) + 1
    postMessage({ t: 'score', model: model.id, by: by.id, ...by.said, ...why })
  }
  for (const model of models) {
    if (tried.has(model) && !model.failed) {
      model.slow = model.ms > model.budget && (model.slow | 0) + 1
      model.idle ||= model.slow > 2
    }
    if (!model.failed && !tried.has(model)) continue
    const how = model.failed ? 3 : model.silent ? 0 : model.idle ? 2 : 1
    // Four more where it is somebody else's score: its last good version's where it scored, its fallback's where it did not.
    collector.fared(model.index, how + (how % 3 ? behind.includes(model.id) : model.covered) * 4)
  }
}

const quietNow = (idle) => {
  try {
    score(idle === 1)
    prepare()
    // Not put off by what happens meanwhile: a page in focus is never quiet for long.
    if (models.some((model) => model.idle)) resting ||= setTimeout(() => { resting = 0; quietNow(1) }, 1e3)
  } catch (error) { trap(error) }
}

/** Each call has an instance of its own, and ends when another has begun: one that trapped is not to be trusted. */
const loadScorer = async () => {
  const mine = ++instances
  const { default: init, Scorer } = await import('./scorer.js' + (mine > 1 ? '?' + mine : ''))
  await init({ module_or_path: fetch(base + 'scorer.wasm', { ...quiet, integrity: '@SCORER_INTEGRITY@' }) })
  const get = async (hash) => new Uint8Array(await (await fetch(`${base}models/${hash}`, { ...quiet, integrity: sri(hash) })).arrayBuffer())
  for (const model of models.filter(({ failed, scorer }) => !failed && !scorer)) {
    const files = await Promise.all([get(model.manifest), get(model.onnx)]).catch((error) => {
      if (!navigator.onLine || attempts < 2) throw error
      fail(model, String(error))
    })
    if (mine != instances) return
    try { if (files) model.scorer = new Scorer(...files) } catch (error) { fail(model, error) }
    if (mine != instances) return
  }
  quietNow()
}
/** What could not be fetched is no model's failure at once: a network that is gone is waited for, and one that errs is tried again. */
const reload = () => loadScorer().catch((error) => {
  if (!navigator.onLine || attempts++ < 2) return setTimeout(reload, navigator.onLine ? 500 : 5e3)
  for (const model of models) if (!model.scorer) model.failed ||= (traps++, String(error))
  // Counted where nothing happens any more, too.
  quietNow()
})

/** A page shown without a network waits for one; until then the loader keeps what happens. */
const patiently = async (...what) => {
  for (;;) {
    try { return await fetch(...what) } catch (error) {
      if (navigator.onLine) throw error
      await new Promise((again) => setTimeout(again, 5e3))
    }
  }
}

/** Fetches the policy, with which the edge tells its time: past the cache, which would answer with the time of before. */
const learn = async (get, more) => {
  const response = await get(base + 'v1/policy/' + site, { ...quiet, cache: 'no-store', ...more })
  const now = [performance.now(), Date.now()], told = +response.headers.get('x-gloaming-time')
  if (!told) throw Error('the edge told no time: a proxy removed x-gloaming-time')
  fetched = now
  edge = told
  return response
}

/** Asks the edge again, when it has to be asked: every five seconds at most, and nobody waits for it longer. */
const settle = async () => {
  if (!parted() || !navigator.onLine || asked && performance.now() - asked < 5e3) return
  asked = performance.now()
  if (await learn((...what) => fetch(...what), { signal: AbortSignal.timeout(5e3) }).catch(() => 0)) prepare()
}

const begin = async ({ notice, record, href, size: [width, ...screen], ...more }) => {
  page = new URL(href)
  check = page.searchParams.has('gloaming-check')
  coarse = more.coarse
  site = notice.site
  const response = await learn(patiently), policy = new Uint8Array(await response.arrayBuffer())
  if (hex(new Uint8Array(await crypto.subtle.digest('SHA-256', policy))) != notice.policy) throw Error('the policy is not the one the notice names')
  await initCollector({ module_or_path: fetch(base + 'collector.wasm', { ...quiet, integrity: '@COLLECTOR_INTEGRITY@' }) })
  const local = new Date()
  collector = new Collector(policy, {
    purposes: record.p, host: page.hostname, check, width,
    // Experiments that have ended by themselves: a word beside the policy, which is signed and does not change.
    stopped: (response.headers.get('x-gloaming-stopped') || '').split(' '),
    deviceClass: coarse ? Math.min(...screen) < 600 ? 0 : 1 : 2,
    weekday: (local.getDay() + 6) % 7, hour: local.getHours(), nowMs: edgeNow()
  }, unbase64(!check && record.s || ''))
  collector.on_quiet(quietNow)
  // Known before anything happens: a page that differs by arm should not change before a visitor's eyes.
  postMessage({ t: 'arms', arms: JSON.parse(collector.status()).arms })
  models = JSON.parse(collector.models())
  // Of these a newer version is signed, and waits at the edge for its files.
  behind = (response.headers.get('x-gloaming-last-good') || '').split(' ')
  if (models.length) setTimeout(reload, 300)
}

const heard = async (data) => {
  if (data.notice) {
    await begin(data)
    // A yes that comes after a no, on the same page: what was before it is forgotten, the page is still there.
    if ((check || !data.record.s) && !data.entries.some(([, kind]) => kind == 'page')) data.entries.unshift([Date.now(), 'page', 0, data.href, ''])
  } else await settle()
  // What was left over happened on the page that this one was reached from.
  const first = data.notice && data.entries.find(([, kind, nav]) => kind == 'page' && !nav)
  if (first?.[4].startsWith(page.origin)) page = address(first[4])
  n = data.n
  take(data.entries)
  // An answer comes after what it answers about is at hand.
  const submission = data.notice || data.ask || judge ? prepare() : 0
  if (data.ask == 'status') postMessage({ t: 'answer', value: { ...JSON.parse(collector.status()), models: models.map(({ id, ms, idle, failed, stoodIn }) => ({ id, ms, idle: !!idle, failed, stoodIn })), traps, answers } })
  if (data.ask == 'ledger') postMessage({ t: 'answer', value: JSON.parse(collector.ledger()) })
  if (judge && submission) checkNow(submission).catch(() => traps++)
}

// Messages wait for each other, so that nothing overtakes the first. A trap poisons the instance: the
// loader is told, ends this worker, and the page goes on as if it were not measured.
const trap = (what) => postMessage({ t: 'trap', what: String(what) })
// A network that has only just come back is not relied on: what could be sent again is, a second later.
addEventListener('offline', () => collector && quietNow())
addEventListener('online', () => {
  back = performance.now()
  setTimeout(() => collector && quietNow(), 1e3)
})
let turn = Promise.resolve()
/** A move of the pointer: nothing is prepared for it, and it waits for what came before. */
const moved = ([at, x, y]) => collector?.push_batch(Float64Array.of(since(at), POINTER_MOVE, x, y, 0))

onmessage = ({ data }) => { turn = turn.then(() => data.pop ? moved(data) : heard(data)).catch(trap) }
onerror = (event) => { trap(event.message || event); return true }
