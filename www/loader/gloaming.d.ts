/** What a page may say to Gloaming. Calls made before the loader is there wait in the stub's queue. */

/** Why the visit is, or is not, measured. */
export type State =
  /** Nobody has answered; nothing is stored or sent. */
  | 'waiting'
  /** Agreed to at least one purpose. */
  | 'granted'
  /** Said no; the one record of that is kept. */
  | 'refused'
  /** Global Privacy Control, which counts as no. */
  | 'gpc'
  /** Do Not Track, which counts as no. */
  | 'dnt'
  /** An automated browser. */
  | 'bot'
  /** The page is in a frame. */
  | 'frame'
  /** The signed notice could not be read or is not genuine. */
  | 'notice'
  /** The measuring program failed and was ended; the page is not affected. */
  | 'trap'

/** The human part of the policy, as its owner signed it. */
export interface Notice {
  site: string
  /** Version of the policy it belongs to. */
  version: number
  /** First day on which it is not valid any more, YYYY-MM-DD. */
  expires: string
  /** SHA-256 of the policy, hexadecimal. */
  policy: string
  /** What a visitor may agree to; `text` by language. `special` is of Article 9 of the GDPR (health, religion and the like): a yes
   *  to everything must leave it out, for it takes one of its own. */
  purposes: { id: string; text: Record<string, string>; special?: true }[]
}

/** A feature's value on this device; `id` is `name@version`. */
export interface Feature {
  id: string
  value: number | string
  unit: string
}

export interface Status {
  state: State
  notice?: Notice
  /** Purposes agreed to. */
  purposes?: string[]
  /** The following are there while the worker runs. */
  policyVersion?: number
  /** Events and features that the policy does not declare, and that were left out. */
  unknownEvents?: number
  features?: Feature[]
  /** Probabilities of models that pages may hear; of others only that there is a score. */
  scores?: { model: string; score: number | null; shown: boolean }[]
  /** The models agreed to: what the last score took, whether it is scored once a second at most because that was over its budget,
   *  why it was given up, and how often another spoke for it. */
  models?: { id: string; ms?: number; idle: boolean; failed?: string; stoodIn?: number }[]
  /** The arm of each experiment that this device takes part in, by the experiment's `id`. */
  arms?: Record<string, string>
  /** Failures in wasm that were caught. */
  traps?: number
}

/** Something that left this device. */
export interface LedgerLine {
  /** Edge time, ms since 1970. */
  time_ms: number
  metric: number
  name: string
  /** Index of the window since 1970. */
  window: number
  /** Null, and the label empty, where it was of a special category and the yes to that was taken back. */
  cell: number | null
  label: string
  value: number
  /** Price in zCDP. */
  rho: number
  purpose: string
}

export interface Score {
  model: string
  /** The model whose score this is: `model` itself, or the fallback that the policy names, when that has none. */
  by: string
  /** Probability, 0 to 1; for a model that sorts visits into kinds the middle of the kind's bin. */
  score: number
  /** The kind of visit, where the model tells one. */
  kind?: string
  /** What moved it most, three at most, the weightiest first: `adds` is above zero where it raised the score; `text` is
   *  in the browser's language where that is English, German, French or Spanish, and in English elsewhere. */
  reasons: { feature: string; adds: number; text: string }[]
  /** Whether the reasons are exact, or sampled. */
  exact: boolean
  /** On how many sampled orders they rest: as many as 5 ms allow, 16 at most; 0 when they are exact or there are none. */
  orders: number
}

/** Events with a meaning of their own; any other name must be declared in the policy. */
export type KnownEvent = 'search' | 'view_item' | 'add_to_cart' | 'begin_checkout' | 'purchase' | `exposure:${string}`

export interface Gloaming {
  /** The visitor's decision: purposes agreed to. None at all is a refusal, and a withdrawal if there was a yes. */
  (command: 'consent', purposes: Record<string, boolean>): Promise<State>
  /** Something happened. `value` is an amount of money where the event has one. */
  (command: 'track', name: KnownEvent | (string & {}), props?: { value?: number }): Promise<void>
  /** A feature that the page knows and the policy declares. */
  (command: 'feature', id: string, value: number | string): Promise<void>
  /** Called with each score that the policy lets this page see (models in an experiment, or live). */
  (command: 'on', event: 'score', callback: (score: Score) => void): Promise<void>
  /** Called with the arm of each experiment that this device is in, by `id`, whenever measuring begins on a page. */
  (command: 'on', event: 'arms', callback: (known: { arms: Record<string, string> }) => void): Promise<void>
  (command: 'status'): Promise<Status>
  (command: 'ledger'): Promise<LedgerLine[]>
  /** Forgets everything kept on this device; after a yes the visitor is asked again. */
  (command: 'erase'): Promise<State>
}

declare global {
  interface Window {
    gloaming: Gloaming
  }
}
