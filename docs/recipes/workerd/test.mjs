// Starts workerd, counts into a Durable Object, kills it in the middle, and holds what comes out to what the component answers
// natively (../node/golden.json, which a test of ours writes).
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

const golden = JSON.parse(readFileSync(new URL('../node/golden.json', import.meta.url)))
rmSync('state', { recursive: true, force: true })
mkdirSync('state')

let running
const start = async () => {
  running = spawn('node_modules/.bin/workerd', ['serve', 'config.capnp', '--experimental'], { stdio: ['ignore', 'inherit', 'inherit'] })
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch('http://127.0.0.1:8797/').then(() => true, () => false)) return
    await pause(100)
  }
  throw Error('workerd does not answer in ten seconds')
}
const kill = async () => {
  const gone = new Promise((done) => running.once('exit', done))
  running.kill('SIGKILL')
  await gone
}
const call = async (name, body = {}) => {
  const response = await fetch(`http://127.0.0.1:8797/${name}`, { method: 'POST', body: JSON.stringify(body) })
  assert.equal(response.status, 200, `${name}: ${await response.clone().text()}`)
  return response.json()
}

try {
  await start()
  assert.equal(await call('configure', { policy: golden.policy }), golden.hash)
  const length = golden.span_ms, { hash, window } = golden
  assert.equal(await call('golden', { hash, seed: golden.seed, length, window, cells: golden.cells }), golden.releases, 'noise is the same bytes as natively')

  const count = golden.fold.length / 48, now = golden.now_ms
  const ids = Array.from({ length: count }, (_, at) => at.toString(16).padStart(32, '0')).join('')
  const reasons = golden.verdict.slice(0, 2 * count), accepted = reasons.match(/../g).filter((reason) => reason === '00').length
  assert.equal(await call('fold', { hash, now, rows: golden.fold, ids }), reasons, 'each is judged as natively')
  const left = await call('left')
  assert.equal(left.ids, accepted)

  // Answered is on the disk: after a kill the same ids count no more, and new ones do.
  await kill()
  await start()
  assert.deepEqual(await call('left'), left, 'nothing was lost')
  const again = await call('fold', { hash, now, rows: golden.fold, ids })
  assert.equal(again, reasons.replaceAll('00', '01'), 'what was counted is a duplicate, and all else is judged again')
  assert.deepEqual(await call('left'), left)

  // A crowd, so that the window passes its threshold; then it is noised once.
  const row = golden.fold.slice(0, 48)
  for (let round = 0; round < 40; round++) {
    const crowd = Array.from({ length: 50 }, (_, at) => (1000 + 50 * round + at).toString(16).padStart(32, '0')).join('')
    assert.equal(await call('fold', { hash, now, rows: row.repeat(50), ids: crowd }), '00'.repeat(50))
  }
  const metrics = [[1, 2], [2, 4], [3, 6], [4, 5], [5, 5]]
  const released = await call('release', { hash, length, window, metrics })
  assert.deepEqual(await call('left'), { cells: 0, ids: 0 }, 'exact cells go as their noised sum comes')
  await kill()
  await start()
  assert.equal(await call('release', { hash, length, window, metrics }), released, 'noise is drawn once, whoever asks how often')
  console.log(`${accepted + 2000} contributions counted once over two kills, released once: ${released.length / 2} bytes`)
} finally {
  await kill()
  rmSync('state', { recursive: true, force: true })
}
