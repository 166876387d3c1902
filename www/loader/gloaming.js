/**
 * Gloaming's loader: the only script a page includes.
 *
 *   <script defer src="/g/gloaming.js" data-site="shop.example" data-key="…"></script>
 *
 * Before consent it fetches the signed notice and nothing else; events wait in memory. After consent it
 * starts one worker that owns the wasm, hands it what happens, and keeps at hand what to store and what
 * to send at the moment the page is hidden. www/loader/README.md explains the messages and the record.
 * Terse because every visitor loads it: `cargo xtask sizes` holds it to its budget, so whatever needs no
 * page is done in worker.js.
 */
(() => {
  const d = document, w = window, n = navigator, me = d.currentScript
  const { site, key } = me.dataset
  const base = new URL('.', me.src), name = 'gloaming:' + site
  const coarse = matchMedia('(pointer:coarse)').matches, check = /gloaming-check/.test(location)
  const quiet = { referrerPolicy: 'no-referrer', credentials: 'omit' }
  // waiting, granted, refused, gpc, dnt; or why nothing is measured at all: frame, bot, notice, trap.
  let state = 'waiting', notice, agreeable = [], record = {}, worker, ready = 0, release, posts = 0, unread = [], entries = [], asked = []
  let timer, path, clicked, depth, ticked, going = 0, lastClick, seen = 0

  // The wall clock: the other one stops while some machines sleep.
  const now = Date.now
  const bytes = (text) => Uint8Array.from(text, (c) => c.charCodeAt())
  const stored = () => JSON.parse(localStorage[name] || '{}')
  // What earlier pages did not get to hand over comes before what happens here.
  const load = () => (unread = [(record = stored(ready = 0)).x || []])
  const save = () => {
    record.r = now()
    try { return localStorage[name] = JSON.stringify(record) } catch {}
  }

  // --- events: [time, kind, a, b, c] as in gloaming-signal, or [time, word, …] for worker.js -----------
  const add = (...entry) => {
    if (/w|gr/.test(state) && entries.length < 4e3) entries.push([now(), ...entry])
    if (worker) timer ||= setTimeout(flush, 250)
  }
  const flush = (more) => {
    timer = clearTimeout(timer)
    const to = (scrollY + innerHeight) / d.documentElement.scrollHeight * 100 + .5 | 0
    if (to > depth) add(3, depth = to)
    if (worker && (more || entries.length)) {
      unread.push(entries)
      worker.postMessage({ entries, n: ++posts, ...more })
      entries = []
    }
  }

  // --- what the page does -----------------------------------------------------------------------------
  const view = (nav) => {
    depth = 0
    path = location.pathname
    add('page', nav, location + '', d.referrer)
  }
  // Route changes are seen as they happen where the Navigation API is, else within a second; the page's
  // own functions are never replaced.
  const route = () => path != location.pathname && view(1)
  const engaged = () => {
    const past = now() - ticked
    ticked += past
    route()
    if (d.hasFocus()) add(2, past)
  }
  const on = (target, types, listener) =>
    types.split(' ').map((type) => target.addEventListener(type, listener, 1))
  // Signs of life count only while a click waits for one; the first puts the observer to sleep, late or not.
  const alive = (flag) => {
    if (now() - lastClick < 2600) add(5, flag)
    if (flag < 2) observer.disconnect()
  }
  const observer = new MutationObserver(() => alive(1))
  const listen = () => {
    on(d, 'click', (event) => {
      const at = event.target, hit = at.closest('a,button,input,select,textarea,label,summary,canvas,video,audio,[role=button],[onclick],[contenteditable]')
      if (clicked != (clicked = hit || at)) seen++
      add(4, event.x, event.y, seen, hit && [hit.localName, hit.type, hit.isContentEditable, hit.href] + '')
      lastClick = now()
      observer.observe(d, { subtree: 1, attributes: 1, childList: 1, characterData: 1 })
    })
    on(d, 'selectionchange', () => getSelection() + '' && alive(2))
    on(d, 'scroll', () => alive(4))
    on(w, 'blur', () => alive(8))
    on(w, 'error unhandledrejection', (event) => event.target == w && add(6))
    // Form start is 10, form submit 11.
    on(d, 'focusin submit', (event) => {
      const at = event.target, form = [...d.forms].indexOf(at.form || at)
      if (form >= 0) add(11 - (event.type < 'g'), form % 32)
    })
    on(d, 'copy', () => add(13))
    on(d, 'mouseout', (event) => !event.relatedTarget && event.y < 1 && add(14))
    const observed = new PerformanceObserver((list) => list.getEntries().map((entry) =>
      add(entry.entryType, entry.startTime, entry.value || entry.responseStart || entry.duration, entry.hadRecentInput || entry.interactionId || entry.name)))
    ;'largest-contentful-paint layout-shift event paint navigation'.split(' ').map((type) => observed.observe({ buffered: 1, type, durationThreshold: 40 }))
    // Only where something is made of the pointer's moves that was agreed to; they wait nowhere and are never stored.
    on(d, 'mousemove', (event) => worker && ready.m && worker.postMessage([now(), event.x, event.y]))
    setInterval(engaged, 1e3)
    // Whether the person goes on within the site decides whether a visit ends when the page is hidden.
    on(w.navigation || d, 'navigate click', (event) => {
      const to = event.destination || event.target.closest('a')
      setTimeout(route)
      if (to && !to.sameDocument && event.downloadRequest == null) going = now() * (to.url || to.href).startsWith(location.origin + '/')
    })
    on(d, 'visibilitychange', () => d.hidden ? stop() : start())
    on(w, 'pagehide', () => stop(1))
    // Another tab wrote after all, or its writing was slow to arrive: begin again from what is there. What it
    // wrote over a no, or after an erasure, that is newer than its own answer, it had not heard of: said again.
    on(w, 'storage', () => record.t > stored().t && !record.d ? record.p ? save() : forget(state) : worker && stored().r != record.r && start(end()))
    on(w, 'pageshow', (event) => event.persisted && view(2))
  }

  // --- leaving ------------------------------------------------------------------------------------------
  // `final`: the page goes away. Otherwise it is hidden, perhaps for a moment, by a tab in front of it.
  // Nothing leaves before the record that pays for it is stored, and no answer is waited for: the page may
  // be gone. A tab that never measured leaves the record to the one that did. What cannot be sent now,
  // offline or with its window over, stays a session of the record; the next visit's worker finds that it
  // ended untold and tells it then, in a submission of its own.
  const leave = (final) => {
    if (!posts || check || state != 'granted' || stored().r != record.r) return
    const { sent, body, until, kept = record.s } = ready, sends = body && now() < until && now() - going > 1e4 && (final || coarse && d.hidden)
    record.s = sends ? sent : kept
    unread = [record.x = [...unread, entries].flat()]
    entries = []
    if (save() && sends) {
      ready = 0
      // Nobody is left to be told of a failure.
      fetch(base + 'v1/contributions', { method: 'POST', body, keepalive: 1, ...quiet }).catch(now)
    }
  }
  const stop = (final) => {
    engaged()
    flush()
    leave(final)
    end()
  }
  const end = () => {
    // What was prepared stays: a tab that is hidden may be closed next.
    worker &&= release(worker.terminate())
    // Whoever still waits for an answer gets none.
    asked.splice(0).map((answer) => answer())
  }

  // --- the worker ---------------------------------------------------------------------------------------
  // Fetched first because a worker's own request would name the page it comes from; it is then cached.
  // Asked for again while it waits for another tab's lock, it waits twice; the second finds a worker.
  // Fetched within the lock, too: what the tab before has stored needs a moment to be seen here.
  const start = () => state == 'granted' &&
    n.locks.request(name, () => fetch(base + 'worker.js', quiet).then(() => state == 'granted' && !worker && !d.hidden && (load(), record.d ? new Promise((free) => {
      release = free
      worker = new Worker(base + 'worker.js', { type: 'module', ...quiet })
      worker.onmessage = ({ data }) => heard[data.t]?.(data)
      worker.onerror = (event) => heard.trap(event.preventDefault())
      entries = [...unread, entries].flat()
      unread = []
      flush({ notice, record, coarse, href: location + '', size: [innerWidth, screen.width, screen.height] })
      // Other tabs see that this one measures now. A check leaves no trace.
      if (!check) save()
    }) : off('refused')))).catch(heard.trap)
  const heard = {
    ready: (data) => {
      ready = data
      data.until += now()
      unread = unread.slice(data.n - posts || Infinity)
    },
    answer: (data) => asked.shift()(data.value),
    // A trap in wasm costs this page's measurement and nothing else.
    trap: () => off('trap', end())
  }
  const ask = (what) => worker && new Promise((resolve) => { asked.push(resolve); flush({ ask: what }) })

  // --- what a page may say --------------------------------------------------------------------------------
  const forget = (then) => {
    off(then)
    delete localStorage[name]
    end(load())
    record.t = now()
  }
  const commands = {
    consent: (purposes) => {
      const given = agreeable.filter((p) => purposes[p])
      // Said again, it changes nothing; least of all whose turn it is.
      if (!notice || given + '' == record.p && state == 'granted') return state
      leave()
      if (given.length) state = 'granted'
      else forget('refused')
      // What was prepared was agreed to by another answer; from here on the record is this tab's.
      posts++
      record = { ...stored(ready = 0), t: now(), d: given.length, p: given, v: notice.version }
      save()
      // Only now may a tab that waits read the record.
      end()
      start()
      return state
    },
    // Only words and numbers: anything else might not survive the way to the worker.
    track: (what, props) => add('track', what + '', +props?.value),
    feature: (what, value) => add('feature', what + '', value === +value ? value : value + ''),
    on: (what, callback) => {
      const before = heard[what]
      heard[what] = (data) => { before?.(data); callback(data) }
    },
    status: async () => ({ notice, purposes: record.p, state, ...await ask('status') }),
    ledger: async () => await ask('ledger') || [],
    erase: () => (forget(state == 'granted' ? 'waiting' : state), state)
  }

  // --- beginning ------------------------------------------------------------------------------------------
  const verify = async () => {
    const { payload, signatures } = await (await fetch(base + 'v1/notice/' + site, quiet)).json()
    const text = atob(payload), read = JSON.parse(text), { subtle } = crypto
    const pinned = await subtle.importKey('raw', bytes(atob(key)), 'Ed25519', 0, ['verify'])
    for (const { sig } of signatures) {
      if (await subtle.verify('Ed25519', pinned, bytes(atob(sig)), bytes('gloaming notice 1\n' + text)) && read.site == site && new Date(read.expires) > now()) return read
    }
    throw 0
  }
  const off = (why) => { state = why; entries = [] }
  const begin = async () => {
    if (d.prerendering) await new Promise((go) => on(d, 'prerenderingchange', go))
    if (top != w) off('frame')
    else if (n.webdriver || /crawl|bot|spider|headless/i.test(n.userAgent)) off('bot')
    else {
      try {
        load()
        ticked = now()
        listen()
        view(0)
        notice = await verify()
        agreeable = notice.purposes.map((q) => q.id)
        // What a person agreed to is what they were shown: other purposes are asked for again.
        if (record.d && record.p.every((p) => agreeable.includes(p))) state = 'granted', start()
        else if (record.d == 0) off('refused')
        else if (n.globalPrivacyControl) off('gpc')
        else if (n.doNotTrack == 1) off('dnt')
      } catch { off('notice') }
    }
    const early = w.gloaming?.q
    w.gloaming = async (what, ...all) => {
      if (commands[what]) return commands[what](...all)
      throw 'no command ' + what
    }
    early?.map(([all, resolve]) => resolve(w.gloaming(...all)))
    if (check) import(base + 'check.js')
  }
  begin()
})()
