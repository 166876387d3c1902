/** The part of the centre's page that sets what a model brings beside what it costs people. */
import { cards, element, table } from './elements.js'

const STATES = { experiment: 'in an experiment', live: 'live' }
const plain = (text) => text.replaceAll(/\b(feature|outcome|page|score):/g, '').replaceAll(/@\d+/g, '')

/** What it is, of which arm, and what has to be known beside it. */
const named = ({ kind, what, arm, words, unknown }) => {
  const cell = element('span'), beside = [words, unknown].filter(Boolean).map(plain).join('. ')
  cell.append(element('b', kind), ` ${plain(what)}${arm ? `: ${arm}` : ''}`)
  if (beside) cell.append(element('small', beside))
  return cell
}
const figure = ({ told, figure, holds }) => {
  const cell = element('td', undefined, figure ? undefined : 'missing'), [value, interval] = told.split(/ (?=\[)/)
  cell.append(element('span', value))
  if (interval) cell.append(' ', element('span', interval))
  if (figure && holds === 'every-look') cell.append(element('small', 'at every look'))
  return cell
}
const half = (title, lines) => {
  const made = table(title, ['What', 'How much'], lines.map((line) => [named(line), figure(line)]))
  made.classList.add('half')
  return made
}

/** The lines of policy that would count what is not counted; nothing where all of it is. */
const missing = (lines) => {
  const wanted = lines.filter(({ add }) => add)
  if (!wanted.length) return ''
  const details = element('details')
  details.append(element('summary', `${wanted.length} ${wanted.length === 1 ? 'thing is' : 'things are'} not counted: what to add to the policy`))
  for (const { what, unknown, add } of wanted) {
    const lines = element('pre', add)
    // Wider than a phone: whoever uses a keyboard must be able to get there and scroll.
    lines.tabIndex = 0
    lines.setAttribute('role', 'region')
    lines.setAttribute('aria-label', `Lines of policy for: ${what}`)
    details.append(element('h3', `${what}: ${unknown}`), lines)
  }
  return details
}

const draw = (model) => {
  const card = element('article', undefined, 'model worth'), head = element('header'), both = element('div', undefined, 'halves')
  head.append(element('h2', `${model.id.replaceAll('-', ' ')}: what it brings, and what it costs people`), element('p', `${STATES[model.state] || model.state}: pages hear its scores`, 'about'))
  both.append(half('What it brings', model.brings), half('What it costs people', model.costs))
  card.append(head, both, element('p', 'In brackets: 95 % intervals, which include the noise. Figures are those of the experiments and models below and above; lifts are shares of what the control has.', 'about'), missing([...model.brings, ...model.costs]))
  return card
}

export const worth = cards('worth', draw, 1e4)
