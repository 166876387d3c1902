// The edge component under workerd: what a Worker has to keep, and when. A Durable Object holds the open windows of one site:
// exact cells, the ids of what was counted, and what was released. It is the part of an edge that must not be
// guessed at; HTTP, policies and delivery stand around it as they do in `gloaming-edge`.
import { DurableObject } from 'cloudflare:workers'
import { instantiate } from './component.js'
import core from './core.wasm'

const { worker } = instantiate(() => core, {})

const ROW = 24, ID = 16
/** Numbers of `gloaming-signal`'s reasons. */
const ACCEPTED = 0, DUPLICATE = 1

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16))

/** Whole numbers and lists of them, in the one encoding that the component takes. */
const cbor = (value) => {
  const head = (kind, count) => {
    if (count < 24) return [kind << 5 | count]
    const bytes = count < 2 ** 8 ? 1 : count < 2 ** 16 ? 2 : count < 2 ** 32 ? 4 : 8
    return [kind << 5 | 23 + { 1: 1, 2: 2, 4: 3, 8: 4 }[bytes], ...Array.from({ length: bytes }, (_, at) => Math.floor(count / 2 ** (8 * (bytes - 1 - at))) % 256)]
  }
  return Array.isArray(value) ? [...head(4, value.length), ...value.flatMap(cbor)] : head(0, value)
}

export class Windows extends DurableObject {
  constructor(context, environment) {
    super(context, environment)
    this.sql = context.storage.sql
    this.sql.exec('CREATE TABLE IF NOT EXISTS policy (hash TEXT PRIMARY KEY, bytes BLOB)')
    this.sql.exec('CREATE TABLE IF NOT EXISTS cell (metric INTEGER, span TEXT, cell INTEGER, value INTEGER, PRIMARY KEY (metric, span, cell))')
    this.sql.exec('CREATE TABLE IF NOT EXISTS counted (span TEXT, id TEXT, PRIMARY KEY (span, id)) WITHOUT ROWID')
    this.sql.exec('CREATE TABLE IF NOT EXISTS released (span TEXT PRIMARY KEY, bytes BLOB)')
    // An instance may be thrown away at any time: what it was told is told again.
    for (const { bytes } of this.sql.exec('SELECT bytes FROM policy')) worker.configure(new Uint8Array(bytes))
  }

  configure(policy) {
    const hash = hex(worker.configure(policy))
    this.sql.exec('INSERT OR REPLACE INTO policy VALUES (?, ?)', hash, policy)
    return hash
  }

  /** Judges and counts rows; each has an id, and counts once whatever becomes of the answer. */
  fold(hash, now, rows, ids) {
    const count = rows.length / ROW, view = new DataView(rows.buffer, rows.byteOffset, rows.byteLength)
    const of = (at) => ({ span: view.getBigUint64(at * ROW, true).toString(), id: hex(ids.subarray(at * ID, (at + 1) * ID)) })
    // What is done before the first `await` is one transaction, and nothing is answered before it is on the disk.
    return this.ctx.storage.transactionSync(() => {
      const reasons = new Uint8Array(count).fill(DUPLICATE), fresh = [], here = new Set()
      for (let at = 0; at < count; at++) {
        const { span, id } = of(at)
        if (here.has(id) || this.sql.exec('SELECT 1 FROM counted WHERE span = ? AND id = ?', span, id).toArray().length) continue
        here.add(id)
        fresh.push(at)
      }
      const some = new Uint8Array(fresh.length * ROW)
      fresh.forEach((at, place) => some.set(rows.subarray(at * ROW, (at + 1) * ROW), place * ROW))
      const verdict = worker.fold(unhex(hash), BigInt(now), some)
      fresh.forEach((at, place) => {
        reasons[at] = verdict[place]
        const { span, id } = of(at)
        if (verdict[place] === ACCEPTED) this.sql.exec('INSERT INTO counted VALUES (?, ?)', span, id)
      })
      const sums = new DataView(verdict.buffer, verdict.byteOffset + fresh.length)
      for (let at = 0; at < sums.byteLength; at += ROW) {
        this.sql.exec('INSERT INTO cell VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value',
          sums.getUint32(at + 8, true), sums.getBigUint64(at, true).toString(), sums.getUint32(at + 12, true), Number(sums.getBigUint64(at + 16, true)))
      }
      return reasons
    })
  }

  /** Noises a window once: what was released is stored as its exact cells go, and is the same whenever it is asked for. */
  release(hash, length, window, metrics) {
    const span = window.toString()
    return this.ctx.storage.transactionSync(() => {
      const [before] = this.sql.exec('SELECT bytes FROM released WHERE span = ?', span)
      if (before) return new Uint8Array(before.bytes)
      const exact = metrics.map(([metric, cells]) => {
        const values = new Array(cells).fill(0)
        for (const { cell, value } of this.sql.exec('SELECT cell, value FROM cell WHERE metric = ? AND span = ?', metric, span)) values[cell] = value
        return [metric, values]
      })
      // The seed is drawn here and kept nowhere.
      const seed = crypto.getRandomValues(new Uint8Array(32))
      const released = worker.release(unhex(hash), seed, BigInt(length), BigInt(window), Uint8Array.from(cbor(exact)))
      this.sql.exec('INSERT INTO released VALUES (?, ?)', span, released)
      this.sql.exec('DELETE FROM cell WHERE span = ?', span)
      this.sql.exec('DELETE FROM counted WHERE span = ?', span)
      return released
    })
  }

  left() {
    return this.sql.exec('SELECT (SELECT COUNT(*) FROM cell) AS cells, (SELECT COUNT(*) FROM counted) AS ids').one()
  }
}

const CALLS = {
  configure: (windows, { policy }) => windows.configure(unhex(policy)),
  fold: async (windows, { hash, now, rows, ids }) => hex(await windows.fold(hash, now, unhex(rows), unhex(ids))),
  release: async (windows, { hash, length, window, metrics }) => hex(await windows.release(hash, length, window, metrics)),
  left: (windows) => windows.left(),
  // What is known beforehand: a seed that somebody gave, and cells that nobody counted.
  golden: (_, { hash, seed, length, window, cells }) => hex(worker.release(unhex(hash), unhex(seed), BigInt(length), BigInt(window), unhex(cells)))
}

export default {
  async fetch(request, { WINDOWS }) {
    const { pathname } = new URL(request.url), call = CALLS[pathname.slice(1)]
    if (request.method !== 'POST' || !call) return new Response(`POST to one of ${Object.keys(CALLS).join(', ')}\n`, { status: 404 })
    // A site's windows lie in one object: whatever it counts, it counts once.
    const windows = WINDOWS.get(WINDOWS.idFromName('blog.example'))
    return Response.json(await call(windows, await request.json()))
  }
}
