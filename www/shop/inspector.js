/** The visitor's own view: what this device has summed up, what it guesses, and what has left it. */
const element = (name, text, className) => {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  return made
}
const STATES = {
  waiting: 'You have not been asked or have not answered. Nothing is stored, nothing was sent.',
  granted: 'You agreed. Your device sums up this visit.',
  refused: 'You said no. One record of that is kept here, so that you are not asked again.',
  gpc: 'Your browser sends Global Privacy Control. That counts as no.',
  dnt: 'Your browser sends Do Not Track. That counts as no.',
  bot: 'This browser looks automated. It is not measured.',
  frame: 'This page is in a frame. It is not measured.',
  notice: 'The signed notice could not be read or is not genuine. Nothing is measured.',
  trap: 'The measuring program failed and was ended. The page is not affected.'
}

const table = (caption, heads, rows) => {
  const made = element('table')
  made.append(element('caption', caption))
  const head = element('tr')
  for (const text of heads) {
    const cell = element('th', text)
    cell.scope = 'col'
    head.append(cell)
  }
  const body = element('tbody')
  for (const row of rows) {
    const line = element('tr')
    for (const text of row) line.append(element('td', text))
    body.append(line)
  }
  const header = element('thead')
  header.append(head)
  made.append(header, body)
  return made
}

const fill = async (body) => {
  const status = await window.gloaming('status')
  const ledger = await window.gloaming('ledger')
  body.replaceChildren(element('p', STATES[status.state] || status.state, 'gl-state'))
  for (const { model, score, shown } of status.scores || []) {
    const line = element('p', shown ? `${model}: ${(100 * score).toFixed(1)} %` : `${model}: scored`)
    line.append(element('small', shown ? ' guessed on this device; the page may see it in an experiment' : ' on this device and counted; no page is told what it guessed'))
    body.append(line)
  }
  if (status.features) {
    const rows = status.features.filter(({ value }) => value !== 0 && value !== 'none').map(({ id, value, unit }) => [id.replace(/@\d+$/, '').replace(/-/g, ' '), `${value} ${unit}`])
    body.append(table('Summed up on this device', ['What', 'Value'], rows))
  }
  body.append(ledger.length
    ? table('Has left this device', ['When', 'Question', 'Your box', 'Purpose', 'Price (rho)'], ledger.slice().reverse().map((line) => [new Date(line.time_ms).toLocaleTimeString(), line.name, line.label || (line.cell === null ? 'forgotten' : String(line.value)), line.purpose, String(line.rho)]))
    // The ledger is the worker's: without one nobody here knows what left before.
    : element('p', status.features ? 'Nothing has left this device.' : 'Nothing leaves this device now.', 'gl-nothing'))
}

export const mountInspector = (button) => {
  const panel = element('dialog', undefined, 'gl-inspector')
  panel.setAttribute('aria-labelledby', 'gl-inspector-title')
  const head = element('div', undefined, 'gl-head'), title = element('h2', 'What does this page know?'), body = element('div')
  title.id = 'gl-inspector-title'
  const close = element('button', 'Close', 'plain')
  close.type = 'button'
  close.addEventListener('click', () => panel.close())
  head.append(title, close)
  panel.append(head, body)
  document.body.append(panel)
  button.addEventListener('click', async () => {
    panel.showModal()
    await fill(body)
    const again = setInterval(() => { if (panel.open) fill(body); else clearInterval(again) }, 2000)
  })
}
