/** The part of the centre's page that says in words what counted scores of models mean: kinds of visits, visits by programs,
 * unusual ones, whether who was said to come back bought. Read from the overview; whoever wants bins finds them below. */
import { number } from './charts.js'
import { element, table } from './elements.js'

/** Part of all that was counted, in percent, with the 95 % interval that noise leaves it; nothing where noise is all there is. */
const share = (values, half, cells, all = values.map((_, i) => i)) => {
  const sum = (of) => of.reduce((total, i) => total + values[i], 0), whole = sum(all)
  if (whole <= 0 || all.reduce((total, i) => total + half[i] ** 2, 0) ** 0.5 > whole / 2) return null
  const part = sum(cells) / whole
  const variance = all.reduce((total, i) => total + (half[i] * ((cells.includes(i) ? 1 : 0) - part)) ** 2, 0)
  return { value: 100 * part, half: 100 * variance ** 0.5 / whole, whole }
}
/** Noise takes an estimate below nothing and above all of it; no share is there, so neither is what is said of one. */
const possible = (part) => number(Math.min(100, Math.max(0, part)), 1)
const percent = (found) => found ? `${possible(found.value)} % (${possible(found.value - found.half)} to ${possible(found.value + found.half)})` : 'too few to say'
const utc = (ms) => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`
const cellsFrom = (metric, least) => metric.labels.map((_, i) => i).filter((i) => metric.score_edges[i] >= least - 1e-3)

/** How many visits were of each kind that a model sorts them into. */
const kinds = (words) => (metric) => {
  const { values, half_width: half } = metric.total
  return [table('Visits, by what the model makes of them', ['Kind', 'Share of visits', 'Visits'], metric.labels.map((label, i) =>
    [words[label] ? `${label}: ${words[label]}` : label.replaceAll('-', ' '), percent(share(values, half, [i])), number(values[i])]))]
}

/** The share of visits with a score from `least` on: in all windows, in the newest, and where it grew alone. */
const top = (least, name, grown) => (metric) => {
  const cells = cellsFrom(metric, least), { values, half_width: half } = metric.total
  if (!cells.length) return []
  const from = metric.score_edges[cells[0]]
  const released = metric.windows.filter(({ state, comparable }) => state === 'released' && comparable)
  const newest = released.reduce((last, window) => window.start_ms > (last?.start_ms ?? -1) ? window : last, null)
  const all = share(values, half, cells), line = element('p', percent(all), 'big')
  const made = [line, element('p', `${name}, of ${number(all?.whole ?? 0)} that were scored: a score from ${number(from, 3)} on.`)]
  for (const { start_ms: start, edge, cell, value, usual } of metric.sudden.filter(({ cell }) => cells.includes(cell))) {
    made.push(element('p', `${grown}: ${number(value)} with a score of ${metric.labels[cell]}, usually ${number(usual)}, at ${edge} in the window of ${utc(start)}.`, 'alarmed'))
  }
  if (newest) made.push(table('As it was', ['Windows', 'Share', 'Visits'], [['all', percent(all), number(all?.whole ?? 0)], (({ values, half_width: half, start_ms: start }) => {
    const found = share(values, half, cells)
    return [`newest, ${utc(start)}`, percent(found), number(found?.whole ?? 0)]
  })(newest)]))
  return made
}

/** What became of visits, by fifths of the bins of a score that is joined with an outcome of no and yes. */
const joined = (outcome) => (metric) => {
  const { values, half_width: half } = metric.total, bins = metric.rows, rows = []
  if (bins < 5 || values.length !== 2 * bins) return []
  for (let fifth = 0; fifth < 5; fifth++) {
    const from = Math.floor(fifth * bins / 5), to = Math.floor((fifth + 1) * bins / 5), all = [...Array(2 * (to - from))].map((_, i) => 2 * from + i)
    const found = share(values, half, all.filter((i) => i % 2), all)
    rows.push([`${number(metric.score_edges[from], 3)} to ${number(metric.score_edges[to], 3)}`, percent(found), number(Math.max(0, all.reduce((sum, i) => sum + values[i], 0)))])
  }
  return [table(`What became of visits: ${outcome}`, ['Score', outcome, 'Visits'], rows)]
}

const BOUGHT = 'bought in this visit'
/** What each of the models that come with Gloaming is read as; a model of one's own is read where it sorts visits into kinds. */
const READ = {
  'visit-kind': ['Kinds of visits', kinds({ glance: 'a page or two', browse: 'products', arrange: 'account pages too', research: 'information too' })],
  'next-best-action': ['What it would have shown first', kinds({}), 'No page was told: the gate holds it back until what it earns can be told from nothing.'],
  'pointer-bot': ['Visits by programs', top(0.5, 'of visits look as if a program moved the pointer', 'More of them'), 'A share beside the visits, for whoever reads these counts. Nobody is refused anything by it.'],
  'unusual-visit': ['Unusual visits', top(0.95, 'of visits are unlike those that it learnt from', 'More unusual visits than before'), 'One in twenty is by design; more of them at once are a broken page, a campaign, or a program.'],
  'buys-again': ['Those who bought before', joined(BOUGHT), 'Said beforehand: that they buy again within 39 weeks. Seen here: whether this visit did it.'],
  'customer-value': ['Those who may spend much', joined(BOUGHT), 'Said beforehand: that they spend as the best fifth does in 39 weeks. Seen here: whether this visit bought.']
}

const draw = (metric) => {
  const id = metric.of.slice(6).split(',')[0], numeric = /^\d/.test(metric.labels[0])
  const [title, read, about] = READ[id] || (numeric ? [] : [id.replaceAll('-', ' '), kinds({})])
  if (!read || !metric.total.windows) return []
  const parts = read(metric)
  if (!parts.length) return []
  const card = element('article', undefined, 'model use')
  card.dataset.model = id
  card.append(element('h2', title), ...parts)
  if (about) card.append(element('p', about, 'about'))
  card.append(element('p', `By ${id}, in ${metric.total.windows} released ${metric.total.windows === 1 ? 'window' : 'windows'}; in brackets the 95 % interval of the noise.`, 'about'))
  return [card]
}

let before
/** Draws what the newest overview lets models say. */
export const uses = (section, { site, metrics }) => {
  const scored = metrics.filter(({ of }) => of?.startsWith('score:')), now = JSON.stringify([site, scored])
  if (now === before) return
  before = now
  section.replaceChildren(...scored.flatMap(draw))
}
