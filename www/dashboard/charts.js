/**
 * Pictures of noised counts. Each bar carries the interval that holds the true count with 95 %
 * probability; each picture has a table with the same numbers beside it.
 */
const SVG = 'http://www.w3.org/2000/svg'
export const shape = (name, attributes, ...children) => {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  made.append(...children)
  return made
}
export const number = (value, digits = 0) => value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: 0 })
export const withInterval = (value, half) => `${number(value)} ± ${number(half, half < 10 ? 1 : 0)}`

const WIDTH = 520, LABEL = 168, ROW = 26, RIGHT = 92

/** Horizontal bars from a zero line, whiskers for the 95 % interval. */
export const bars = (labels, values, half) => {
  const low = Math.min(0, ...values.map((value, i) => value - half[i]))
  const high = Math.max(1, ...values.map((value, i) => value + half[i]))
  const x = (value) => LABEL + (value - low) / (high - low) * (WIDTH - LABEL - RIGHT)
  const height = labels.length * ROW + 10
  const chart = shape('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': labels.map((label, i) => `${label}: ${withInterval(values[i], half[i])}`).join('; ') })
  chart.append(shape('line', { x1: x(0), x2: x(0), y1: 2, y2: height - 4, class: 'zero' }))
  labels.forEach((label, i) => {
    const y = i * ROW + 5, middle = y + ROW / 2 - 2, value = values[i]
    const inside = Math.abs(value) <= half[i]
    chart.append(
      shape('text', { x: LABEL - 10, y: middle + 4, class: 'label' }, label.length > 24 ? `${label.slice(0, 23)}…` : label),
      shape('rect', { x: Math.min(x(0), x(value)), y: y + 1, width: Math.max(1, Math.abs(x(value) - x(0))), height: ROW - 8, rx: 3, class: inside ? 'bar unsure' : 'bar' }),
      shape('path', { d: `M${x(value - half[i])} ${middle}H${x(value + half[i])}M${x(value - half[i])} ${middle - 4}v8M${x(value + half[i])} ${middle - 4}v8`, class: 'whisker' }),
      shape('text', { x: WIDTH - 4, y: middle + 4, class: 'value' }, withInterval(value, half[i]))
    )
  })
  return chart
}

/** Two axes as a grid whose shade follows the count; shades below the noise stay blank. */
export const grid = (labels, rows, values, half) => {
  const columns = labels.length / rows
  const words = labels.map((label) => label.split(/ [|>] /))
  const table = document.createElement('table')
  table.className = 'heat'
  const most = Math.max(1, ...values)
  const head = table.createTHead().insertRow()
  head.append(document.createElement('td'))
  for (let column = 0; column < columns; column++) head.append(heading(words[column].slice(1).join(' · '), 'col'))
  const body = table.createTBody()
  for (let row = 0; row < rows; row++) {
    const line = body.insertRow()
    line.append(heading(words[row * columns][0], 'row'))
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column, cell = line.insertCell()
      cell.textContent = number(values[at])
      cell.title = withInterval(values[at], half[at])
      cell.className = `shade${values[at] <= half[at] ? 0 : Math.ceil(values[at] / most * 5)}`
    }
  }
  return table
}
const heading = (text, scope) => Object.assign(document.createElement('th'), { textContent: text, scope })

/** One mark for each window, oldest first: released, below k, over budget. */
export const strip = (windows) => {
  const list = document.createElement('ol')
  list.className = 'strip'
  list.setAttribute('aria-label', 'Windows, oldest first')
  const words = { released: 'released', 'below-k': 'below k: nothing released', 'over-budget': 'over the day’s budget: nothing released' }
  for (const window of windows.slice(-60)) {
    const mark = document.createElement('li')
    mark.className = window.state
    mark.title = `${new Date(window.start_ms).toLocaleString()}, ${window.edge}: ${words[window.state]}`
    const hidden = document.createElement('span')
    hidden.className = 'hidden'
    hidden.textContent = mark.title
    mark.append(hidden)
    list.append(mark)
  }
  return list
}
