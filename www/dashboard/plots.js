/** Plots of a model's figures: window by window, and by score. Each has a table with the same numbers, as `charts.js` has. */
import { number, shape } from './charts.js'
import { element, table } from './elements.js'

const WIDTH = 520, HEIGHT = 190, LEFT = 52, RIGHT = 14, TOP = 12, BOTTOM = 26
/** A window's start: the day, and the time where it does not begin with one. */
export const day = (ms) => new Date(ms).toISOString().slice(0, ms % 864e5 ? 16 : 10).replace('T', ' ')
const between = ({ value, low, high }, digits) => `${number(value, digits)} (${number(low, digits)} to ${number(high, digits)})`

/** Axes from `low` to `high` with three marks, and where a value lies on them. */
const frame = (low, high, digits, words, height = HEIGHT) => {
  const y = (value) => TOP + (high - value) / (high - low) * (height - TOP - BOTTOM)
  const chart = shape('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': words })
  for (const value of [low, (low + high) / 2, high]) {
    chart.append(
      shape('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: 'rule' }),
      shape('text', { x: LEFT - 8, y: y(value) + 4, class: 'value' }, number(value, digits))
    )
  }
  return { chart, y }
}
const whisker = (x, y, { low, high }) => shape('path', { d: `M${x} ${y(low)}V${y(high)}M${x - 4} ${y(low)}h8M${x - 4} ${y(high)}h8`, class: 'whisker' })
const figure = (chart, caption) => {
  const made = element('figure')
  made.append(element('figcaption', caption), chart)
  return made
}

/** One figure over the windows, each with its interval; a line where it began to lie off. */
export const course = ({ windows, since_ms: since }, name, digits) => {
  const lows = windows.map(({ figure }) => figure.low), highs = windows.map(({ figure }) => figure.high)
  const room = 0.08 * (Math.max(...highs) - Math.min(...lows)) || 1
  const words = windows.map(({ start_ms: start, figure }) => `${day(start)}: ${between(figure, digits)}`).join('; ')
  const { chart, y } = frame(Math.min(...lows) - room, Math.max(...highs) + room, digits, `${name}. ${words}`)
  const first = windows[0].start_ms, span = windows.at(-1).start_ms - first || 1
  const x = (ms) => LEFT + 10 + (ms - first) / span * (WIDTH - LEFT - RIGHT - 20)
  if (since) chart.append(shape('line', { x1: x(since) - 7, x2: x(since) - 7, y1: TOP, y2: HEIGHT - BOTTOM, class: 'since' }))
  chart.append(shape('path', { d: windows.map(({ start_ms: start, figure }, i) => `${i ? 'L' : 'M'}${x(start)} ${y(figure.value)}`).join(''), class: 'course' }))
  for (const { start_ms: start, figure } of windows) chart.append(whisker(x(start), y, figure), shape('circle', { cx: x(start), cy: y(figure.value), r: 3.5, class: 'bar' }))
  const ends = [[first, 'start'], [windows.at(-1).start_ms, 'end']]
  for (const [ms, anchor] of ends) chart.append(shape('text', { x: x(ms), y: HEIGHT - 8, class: `axis ${anchor}` }, day(ms)))
  return figure(chart, since ? `${name}, by window; the dashed line is where it began to lie off, ${day(since)}` : `${name}, by window`)
}

/** How often scores of a bin came true, beside the line on which they would come true as often as they say. */
export const reliability = (bins) => {
  const shown = bins.filter(({ share }) => share), high = 300
  const words = `How often scores came true. ${shown.map(({ score, share }) => `score ${number(score, 3)}: ${between(share, 3)}`).join('; ')}`
  const { chart, y } = frame(0, 1, 1, words, high)
  const x = (score) => LEFT + score * (WIDTH - LEFT - RIGHT)
  chart.append(shape('line', { x1: x(0), x2: x(1), y1: y(0), y2: y(1), class: 'since' }))
  for (const { score, share } of shown) chart.append(whisker(x(score), y, share), shape('circle', { cx: x(score), cy: y(share.value), r: 4, class: 'bar' }))
  for (const score of [0, 0.5, 1]) chart.append(shape('text', { x: x(score), y: high - 8, class: `axis ${score === 1 ? 'end' : score ? 'middle' : 'start'}` }, number(score, 1)))
  return figure(chart, 'Share with the outcome, by score: on the dashed line scores come true as often as they say')
}

/** The same numbers as tables: the twins of what is drawn. */
export const twins = (series, bins, plain) => {
  const details = element('details'), starts = [...new Set(series.flatMap(({ windows }) => windows.map(({ start_ms: start }) => start)))].sort((a, b) => a - b)
  details.append(element('summary', 'These plots as tables'))
  if (starts.length) {
    const of = ({ of, windows }, start) => {
      const found = windows.find((window) => window.start_ms === start)
      return found ? between(found.figure, of === 'visits' ? 0 : 3) : 'too few'
    }
    details.append(table('Window by window, each with the interval of its own', ['Window of', ...series.map(({ of }) => plain(of))], starts.map((start) => [day(start), ...series.map((one) => of(one, start))])))
  }
  if (bins.length) details.append(table('How often scores came true', ['Score', 'Visits', 'Share with the outcome'], bins.map(({ score, visits, share }) => [number(score, 3), number(visits), share ? between(share, 3) : 'too few'])))
  return details
}
