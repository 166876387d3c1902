// Holds the edge component under Node to what it answers natively. The component imports nothing, so any host that
// can instantiate wasm can run it; what it is given and answers are bytes, described in worker/wit/worker.wit.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { instantiate } from './component/worker.component.js'

const golden = JSON.parse(readFileSync(new URL('golden.json', import.meta.url)))
const bytes = (name) => Uint8Array.from(Buffer.from(golden[name], 'hex'))
const hex = (value) => Buffer.from(value).toString('hex')
const core = (path) => new WebAssembly.Module(readFileSync(new URL(`component/${path}`, import.meta.url)))

const { worker } = instantiate(core, {})
assert.equal(hex(worker.configure(bytes('policy'))), golden.hash)
assert.equal(hex(worker.fold(bytes('hash'), BigInt(golden.now_ms), bytes('fold'))), golden.verdict)
const released = worker.release(bytes('hash'), bytes('seed'), BigInt(golden.span_ms), BigInt(golden.window), bytes('cells'))
assert.equal(hex(released), golden.releases)
// A fault is an exception with the WIT's name; the instance serves on.
assert.throws(() => worker.fold(new Uint8Array(32), 0n, bytes('fold')), (error) => error.payload.tag === 'unknown-policy')
assert.equal(hex(worker.fold(bytes('hash'), BigInt(golden.now_ms), bytes('fold'))), golden.verdict)

const began = performance.now()
const [hash, fold] = [bytes('hash'), bytes('fold')]
for (let round = 0; round < 2000; round++) worker.fold(hash, BigInt(golden.now_ms), fold)
const us = ((performance.now() - began) / 2).toFixed(1)
console.log(`the same bytes as natively; a fold of ${fold.length / 24} contributions takes ${us} us here`)
