/** The page about the gate: how far the shop's model has come, what it still has to show, and three buttons that do
 * what an owner does with `gloaming model evidence`, `promote` and `withdraw`. Part of the demonstration only. */
import { GOODS, find } from './products.js'

const STAGES = ['draft', 'shadow', 'experiment', 'live']
const element = (name, text, attributes = {}) => {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}

const steps = (stage) => {
  const list = element('ol', undefined, { class: 'stages', 'aria-label': 'Stages of a model' })
  for (const name of STAGES) {
    const here = name === stage
    const step = element('li', name, { class: STAGES.indexOf(name) < STAGES.indexOf(stage) ? 'past' : here ? 'here' : 'ahead' })
    if (here) step.setAttribute('aria-current', 'step')
    list.append(step)
  }
  return list
}

const conditions = (findings) => {
  const table = element('table', undefined, { class: 'conditions' })
  const head = element('tr')
  for (const text of ['', 'Asked for', 'What is there']) head.append(element('th', text, { scope: 'col' }))
  const body = element('tbody')
  for (const { need, met, found, remedy } of findings) {
    const line = element('tr', undefined, { 'data-met': met })
    const there = element('td', found)
    if (!met) there.append(element('small', remedy.replaceAll('`', '')))
    line.append(element('td', met ? '✓' : '–', { 'aria-label': met ? 'met' : 'not met', class: 'mark' }), element('th', need, { scope: 'row' }), there)
    body.append(line)
  }
  const top = element('thead')
  top.append(head)
  table.append(element('caption', 'Before pages may see a score'), top, body)
  return table
}

const TEXTS = {
  shadow: 'The model runs in shadow: your device computes its score and counts it, and this page never sees it.',
  experiment: 'The model is in an experiment: this page sees its score, and may use it. A visit that begins now shows that.'
}

/** The model that would choose what the shop shows first, what it would earn, and why no page hears of it. */
const heldBack = ({ model, kinds, value, findings }) => {
  const section = element('section', undefined, { id: 'gate-held-back', 'data-model': model }), list = element('ul')
  section.append(
    element('h2', 'What to show first'),
    element('p', `Another model, ${model}, would choose which of these things comes first, by the time of day. It runs in shadow: what it says is counted, and the shop goes on showing the same things to everybody.`, { class: 'story' })
  )
  for (const kind of kinds) list.append(element('li', `${kind.replaceAll('-', ' ')}: ${find(GOODS[kind])?.name || 'nothing here'}`))
  section.append(list)
  if (value) section.append(element('p', `On a log of ${value.rows} choices it would have earned ${value.value} ${value.reward} a visit, and what was done earned ${value.logged}: a gain of ${value.gain}.`, { id: 'gate-value' }))
  const missing = findings.filter(({ met }) => !met).length
  const held = element('p', undefined, { class: 'held', role: 'note' })
  held.append(element('b', 'Held back. '), `${missing} of ${findings.length} conditions are not met.`)
  section.append(held, conditions(findings))
  return section
}

const draw = (body, view, buttons) => {
  const refused = view.refused && element('p', undefined, { class: 'refused', role: 'alert' })
  const missing = view.findings.filter(({ met }) => !met).length
  if (refused && view.by === 'edge') refused.append(element('b', 'Refused by the edge. '), `${view.refused}. The version before goes on acting.`)
  else if (refused) refused.append(element('b', 'Refused. '), `${view.model} stays ${view.stage}: ${missing} of ${view.findings.length} conditions are not met.`)
  buttons.querySelector('#gate-break').hidden = view.stage !== 'experiment'
  const record = element('details')
  record.append(element('summary', `The record: ${view.entries.length} entries, each signed and chained to the one before`))
  const lines = element('ol', undefined, { start: 0, class: 'record' })
  for (const { what, day } of view.entries) lines.append(element('li', `${day}: ${what}`))
  record.append(lines, element('p', `Head ${view.head}`, { class: 'note head' }))
  body.replaceChildren(
    steps(view.stage),
    element('p', TEXTS[view.stage] || '', { id: 'gate-state', 'data-stage': view.stage, 'data-version': view.version }),
    ...(refused ? [refused] : []),
    buttons,
    conditions(view.findings),
    record,
    heldBack(view.held_back)
  )
}

export const mountGate = async (main) => {
  main.append(element('h1', 'May this shop use its guess?'))
  main.append(element('p', 'A small model guesses on your device whether a visit ends in an order. Before any page sees the guess, the model has to show what the shop’s policy asks for, and two people have to say yes.', { class: 'story' }))
  const body = element('div', undefined, { id: 'gate' }), buttons = element('p', undefined, { class: 'gate-buttons' })
  main.append(body)
  const ask = async (path, options) => {
    const answer = await fetch(path, options)
    if (answer.ok) draw(body, await answer.json(), buttons)
    else body.replaceChildren(element('p', `The demonstration did not answer: ${await answer.text()}`, { class: 'refused', role: 'alert' }))
  }
  const doing = [
    ['promote', 'Promote it', 'button'],
    ['evidence', 'Sign the evidence', 'button quiet'],
    ['withdraw', 'Take it back to shadow', 'button quiet'],
    ['break', 'Ship a broken update', 'button quiet']
  ]
  for (const [step, text, style] of doing) {
    const button = element('button', text, { type: 'button', class: style, id: `gate-${step}` })
    button.addEventListener('click', () => ask(`/gate/${step}`, { method: 'POST', headers: { 'x-gloaming-demo': '1' } }))
    buttons.append(button)
  }
  await ask('/gate.json')
}
