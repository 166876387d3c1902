/** The part of the centre's page that says what calls for somebody now, and what did before. */
import { element } from './elements.js'

const KINDS = {
  drift: 'Drift', performance: 'A model tells outcomes less well', calibration: 'Calibration', fairness: 'Groups fare differently', failing: 'A model fails', 'last-good': 'A newer model waits for its files', 'experiment-stop': 'Stop an experiment',
  'experiment-stopped': 'An experiment has ended by itself', 'experiment-settled': 'An experiment has a result', sudden: 'Sudden growth', conflict: 'Two batches of one number', expiry: 'The policy expires'
}
/** Alerts are looked for every minute: what was not found in the last three is over. */
const OVER = 180e3
const time = (ms) => new Date(ms).toISOString().slice(0, 16).replace('T', ' ')

const line = ({ kind, words, since_ms: since, told_ms: told }) => {
  const item = element('li')
  item.append(element('b', KINDS[kind] || kind), ` since ${time(since)} UTC${told ? ', told' : ''}. `, element('span', words.replaceAll(/\w+:([\w-]+)@\d+/g, (_, of) => of.replaceAll('-', ' ')).replaceAll(/`([^`]*)`/g, '“$1”')))
  return item
}
const list = (alerts) => {
  const made = element('ul')
  made.append(...alerts.map(line))
  return made
}

let before, asked = 0
/** Reads and draws them, every ten seconds at most; by the centre's time, which need not be this machine's. */
export const alerts = async (section, site, selected, centre_ms) => {
  if (site === before?.site && Date.now() - asked < 1e4) return
  asked = Date.now()
  const response = await fetch(`api/v1/sites/${encodeURIComponent(site)}/alerts`)
  if (!response.ok || selected() !== site) return
  const found = await response.json(), now = found.filter((alert) => centre_ms - alert.last_ms < OVER), past = found.filter((alert) => !now.includes(alert))
  const text = JSON.stringify([now.map(({ key, words }) => [key, words]), past.length])
  if (site === before?.site && text === before.text) return
  before = { site, text }
  const open = section.querySelector('details')?.open
  section.replaceChildren()
  if (now.length) section.append(element('h2', now.length === 1 ? 'One thing calls for you' : `${now.length} things call for you`), list(now))
  if (past.length) {
    const details = element('details')
    details.append(element('summary', `${past.length} earlier ${past.length === 1 ? 'alert' : 'alerts'}`), list(past))
    if (open) details.open = true
    section.append(details)
  }
  section.hidden = !found.length
}
