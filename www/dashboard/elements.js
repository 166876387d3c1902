/** Parts that the centre's pages are made of. */
export const element = (name, text, className) => {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  return made
}

/** A table whose first column heads its rows; heads of rows and cells are texts or made already. */
export const table = (caption, heads, rows) => {
  const made = element('table'), head = element('tr'), body = element('tbody'), top = element('thead')
  for (const text of heads) {
    const cell = element('th', text)
    cell.scope = 'col'
    head.append(cell)
  }
  for (const [name, ...cells] of rows) {
    const row = element('tr'), first = element('th')
    first.append(name)
    first.scope = 'row'
    row.append(first, ...cells.map((cell) => cell instanceof Node ? cell : element('td', cell)))
    body.append(row)
  }
  top.append(head)
  made.append(element('caption', caption), top, body)
  // It may be wider than a phone: whoever uses a keyboard must be able to get there and scroll.
  const wrap = element('div', undefined, 'wide')
  wrap.tabIndex = 0
  wrap.setAttribute('role', 'region')
  wrap.setAttribute('aria-label', caption)
  wrap.append(made)
  return wrap
}

/** What cannot be said, and why; nothing where there is none of it. */
export const unsaid = (reasons) => {
  if (!reasons.length) return ''
  const details = element('details'), list = element('ul')
  list.append(...reasons.map((why) => element('li', why)))
  details.append(element('summary', `${reasons.length} ${reasons.length === 1 ? 'thing' : 'things'} cannot be said yet`), list)
  return details
}

/**
 * Cards of one kind, read from the centre and redrawn where they changed; what was open stays open. Asked every `pause` ms
 * at most.
 */
export const cards = (path, draw, pause) => {
  let before, asked = 0, asking
  return async (section, site, selected) => {
    if (asking || site === before?.site && Date.now() - asked < pause) return
    asked = Date.now()
    asking = true
    try {
      const response = await fetch(`api/v1/sites/${encodeURIComponent(site)}/${path}`)
      if (!response.ok || selected() !== site) return
      const found = await response.json(), text = JSON.stringify(found)
      if (site === before?.site && text === before.text && section.childElementCount === found.length) return
      before = { site, text }
      const summed = (details) => details.querySelector('summary').textContent.replace(/^\d+ /, '')
      const open = [...section.children].map((card) => [...card.querySelectorAll('details[open]')].map(summed))
      section.replaceChildren(...found.map(draw))
      open.forEach((were, i) => section.children[i]?.querySelectorAll('details').forEach((details) => { details.open = were.includes(summed(details)) }))
    } finally {
      asking = false
    }
  }
}
