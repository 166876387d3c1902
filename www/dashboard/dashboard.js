/** The centre's page: reads the overview every two seconds and redraws what changed. */
import { alerts } from './alerts.js'
import { bars, grid, number, strip, withInterval } from './charts.js'
import { element } from './elements.js'
import { experiments } from './experiments.js'
import { models } from './models.js'
import { uses } from './uses.js'
import { worth } from './worth.js'

const at = (id) => document.getElementById(id)
const length = (ms) => ms >= 86400e3 * 7 ? 'week' : ms >= 86400e3 ? 'day' : ms >= 3600e3 ? 'hour' : `${ms / 1000} s`

const facts = (overview) => {
  const { budget } = overview, windows = overview.metrics.flatMap((metric) => metric.windows)
  const below = windows.filter((window) => window.state !== 'released').length
  const card = (title, value, text, kind = 'fact') => {
    const made = element('div', undefined, kind)
    made.append(element('h2', title), element('p', value, 'big'), element('p', text))
    return made
  }
  // What calls for somebody comes first, and looks like it.
  const alarms = [], alarm = (...words) => alarms.push(card(...words, 'fact alarm'))
  const cards = [
    card('Privacy budget', `ε ≤ ${number(budget.epsilon_day, 2)} a day`, `for one device that contributes all it may; ≤ ${number(budget.epsilon_month, 1)} in 30 days, ≤ ${number(budget.epsilon_year, 1)} in a year, at δ = ${budget.delta.toExponential(0)}. Declared: ρ ${number(budget.declared_rho, 4)} of ${number(budget.rho_per_device_day, 4)} a day.`),
    card('Metric-windows', `${number(windows.length - below)} released`, `${number(below)} stayed below k: nothing of them was released, and what was in them is gone.`),
    card('Policy', `version ${overview.policy_version}`, `valid before ${new Date(overview.expires_day * 864e5).toISOString().slice(0, 10)}; edges that delivered: ${overview.edges.join(', ') || 'none yet'}.`)
  ]
  if (overview.alarms) alarm(overview.alarms > 1 ? 'Alarms' : 'Alarm', number(overview.alarms), `The latest: ${overview.last_alarm}. “Running an edge and a centre” says what to do.`)
  // One crowd is in one cell of many metrics: each window of an edge is told once, by the cell that grew most.
  const grown = Object.groupBy(overview.metrics.flatMap((metric) => metric.sudden.slice(-1).map((sudden) => ({ metric, ...sudden }))), ({ metric, edge, start_ms }) => `${edge} ${start_ms} ${metric.window_ms}`)
  for (const cells of Object.values(grown)) {
    const [most, ...more] = cells.sort((one, next) => next.value - next.usual - one.value + one.usual)
    const named = ({ metric, cell }) => `${metric.name.replaceAll('-', ' ')}: ${metric.labels[cell]}`
    const beside = more.length ? `; so did ${more.slice(0, 5).map(named).join(', ')}${more.length > 5 ? ` and ${more.length - 5} more` : ''}` : ''
    alarm('Sudden growth', `${number(most.value)}, usually ${number(most.usual)}`, `${named(most)} at ${most.edge}, in the window of ${new Date(most.start_ms).toISOString().slice(0, 16).replace('T', ' ')} UTC, while the rest stayed as it was${beside}. A campaign, or somebody who posts what nobody did.`)
  }
  at('facts').replaceChildren(...alarms, ...cards)
}

const csv = (metric) => {
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`
  const lines = [['metric', 'window_start', 'window_end', 'edge', 'policy_version', 'state', 'cell', 'label', 'value', 'half_width_95'].join(',')]
  for (const window of metric.windows) {
    const fixed = [metric.name, new Date(window.start_ms).toISOString(), new Date(window.end_ms).toISOString(), window.edge, window.policy_version, window.state]
    if (!window.values.length) lines.push([...fixed, '', '', '', ''].map(quoted).join(','))
    window.values.forEach((value, cell) => lines.push([...fixed, cell, window.comparable ? metric.labels[cell] : '', value, window.half_width[cell] ?? ''].map(quoted).join(',')))
  }
  const link = element('a', 'CSV', 'csv')
  link.download = `${metric.name}.csv`
  link.addEventListener('click', () => { link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'text/csv' })) })
  link.href = '#'
  return link
}

const twin = (metric) => {
  const details = element('details'), table = element('table'), body = element('tbody'), head = element('tr')
  details.append(element('summary', 'As a table'))
  for (const text of ['Cell', 'Sum', '95 % interval']) {
    const cell = element('th', text)
    cell.scope = 'col'
    head.append(cell)
  }
  metric.labels.forEach((label, i) => {
    const row = element('tr'), value = metric.total.values[i], half = metric.total.half_width[i]
    const name = element('th', label)
    name.scope = 'row'
    row.append(name, element('td', number(value)), element('td', `${number(value - half, 1)} to ${number(value + half, 1)}`))
    body.append(row)
  })
  const header = element('thead')
  header.append(head)
  table.append(header, body)
  details.append(table)
  return details
}

const draw = (metric) => {
  const card = element('article', undefined, 'metric'), head = element('header'), { total } = metric
  head.append(element('h2', metric.name.replaceAll('-', ' ')), csv(metric))
  const about = `${metric.kind} of ${metric.of || 'events'} · window: ${length(metric.window_ms)} · at most ${metric.per_day} a day from a device · ρ ${metric.rho} · k ${metric.k} · purpose: ${metric.purpose} · tier: ${metric.tier}`
  card.append(head, element('p', about, 'about'), strip(metric.windows))
  if (!total.windows) {
    const waiting = metric.windows.length ? 'No window reached k yet: too few consenting visitors at once, so nothing was released.' : 'No window has closed yet.'
    card.append(element('p', waiting, 'nothing'))
    return card
  }
  const sum = metric.kind === 'sum'
  if (sum) {
    const line = element('p', undefined, 'big')
    line.textContent = withInterval(total.values[1], total.half_width[1])
    card.append(line, element('p', `from ${withInterval(total.values[0], total.half_width[0])} reports`))
  } else if (metric.kind === 'journey') {
    // Pairs of pages make a square; the last cell is for visits of one page.
    const last = metric.labels.length - 1
    card.append(grid(metric.labels.slice(0, last), Math.sqrt(last), total.values, total.half_width), element('p', `${metric.labels[last]}: ${withInterval(total.values[last], total.half_width[last])}`))
  } else if (metric.rows > 1) card.append(grid(metric.labels, metric.rows, total.values, total.half_width))
  else card.append(bars(metric.labels, total.values, total.half_width))
  card.append(element('p', `Consenting visitors in ${total.windows} released ${total.windows === 1 ? 'window' : 'windows'}; ± is the 95 % interval of the noise.`, 'about'), twin(metric))
  return card
}

const drawn = new Map()
const metrics = (overview) => {
  for (const metric of overview.metrics) {
    const now = JSON.stringify(metric), before = drawn.get(metric.id)
    if (before?.text === now) continue
    const card = draw(metric), open = before?.card.querySelector('details')?.open
    if (open) card.querySelector('details')?.setAttribute('open', '')
    if (before) before.card.replaceWith(card)
    else at(metric.written_out ? 'written-out' : 'metrics').append(card)
    drawn.set(metric.id, { text: now, card })
  }
  const written = overview.metrics.filter((metric) => metric.written_out).length
  at('written').hidden = !written
  at('written').querySelector('summary').textContent = `${written} more, by which models are watched and learnt again, and experiments judged`
}

/** The same figures for spreadsheets, one row each. */
const sheets = (site) => {
  const links = ['overview', 'models', 'experiments', 'worth'].map((what) => {
    const link = element('a', what)
    link.href = `api/v1/sites/${encodeURIComponent(site)}/${what}?format=csv`
    return link
  })
  at('csv').replaceChildren(...links.flatMap((link, i) => i ? [', ', link] : [link]))
}

const read = async () => {
  const site = at('site').value
  const response = await fetch(`api/v1/sites/${encodeURIComponent(site)}/overview?last=${at('last').value}`)
  if (!response.ok) throw Error((await response.json()).remedy)
  const overview = await response.json()
  facts(overview)
  uses(at('uses'), overview)
  metrics(overview)
  // Not waited for: what is counted is shown whether or not anything can be said of it.
  for (const [id, part] of [['alerts', alerts], ['experiments', experiments], ['worth', worth], ['models', models]]) part(at(id), site, () => at('site').value, overview.now_ms).catch(() => {})
  at('live').textContent = `Live · ${new Date(overview.now_ms).toLocaleTimeString()}`
  at('live').className = 'live'
}
const round = async () => {
  try {
    if (!document.hidden) await read()
  } catch (error) {
    at('live').textContent = `No answer from the centre (${error.message}); trying again`
    at('live').className = 'lost'
  }
}
const anew = () => {
  drawn.clear()
  at('metrics').replaceChildren()
  at('written-out').replaceChildren()
  for (const id of ['worth', 'models']) at(id).replaceChildren()
  at('alerts').replaceChildren()
  at('experiments').replaceChildren()
  sheets(at('site').value)
  round()
}

for (const { site } of await (await fetch('api/v1/sites')).json()) at('site').append(new Option(site, site))
sheets(at('site').value)
at('site').addEventListener('change', anew)
at('last').addEventListener('change', anew)
await round()
setInterval(round, 2000)
