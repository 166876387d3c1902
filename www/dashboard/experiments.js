/** The part of the centre's page that is about experiments: what changed, how sure that is, what must not get worse. */
import { number, shape } from './charts.js'
import { cards, element, table, unsaid } from './elements.js'

const tenths = (value) => (Math.round(1000 * value) / 10).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 }).replace(/^-0\.0$/, '0.0').replace('-', '\u2212')
const points = (value) => `${value >= 0.0005 ? '+' : ''}${tenths(value)}`
const between = ({ value, low, high }, told) => `${told(value)} (${told(low)} to ${told(high)})`
const plain = (of) => of.replace(/^\w+:/, '').replace(/@\d+/, '').replaceAll('-', ' ')
const VERDICTS = { uneven: 'alarmed', stop: 'alarmed', worse: 'alarmed', better: 'settled', alike: 'settled', open: 'open' }
const RAILS = { held: 'held', broken: 'broken', open: 'not shown yet' }

const WIDTH = 520, LABEL = 130, RIGHT = 150, ROW = 30

/** Each arm's difference from the control with its interval, a line at none, and a band of what would not matter. */
const differences = ({ arms, least }) => {
  const told = arms.filter(({ difference }) => difference)
  const reach = 1.1 * Math.max(2 * least, ...told.flatMap(({ difference: { low, high } }) => [Math.abs(low), Math.abs(high)]))
  const x = (value) => LABEL + (value + reach) / (2 * reach) * (WIDTH - LABEL - RIGHT), height = told.length * ROW + 24
  const words = told.map(({ name, difference }) => `${name}: ${between(difference, points)} points`).join('; ')
  const chart = shape('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': words })
  chart.append(
    shape('rect', { x: x(-least), width: x(least) - x(-least), y: 2, height: height - 22, class: 'band' }),
    shape('line', { x1: x(0), x2: x(0), y1: 2, y2: height - 20, class: 'zero' }),
    shape('text', { x: x(0), y: height - 4, class: 'axis' }, 'as the control')
  )
  told.forEach(({ name, difference: { value, low, high } }, i) => {
    const middle = i * ROW + ROW / 2
    chart.append(
      shape('text', { x: LABEL - 10, y: middle + 4, class: 'label' }, name.length > 18 ? `${name.slice(0, 17)}…` : name),
      shape('path', { d: `M${x(low)} ${middle}H${x(high)}M${x(low)} ${middle - 4}v8M${x(high)} ${middle - 4}v8`, class: 'whisker' }),
      shape('circle', { cx: x(value), cy: middle, r: 4.5, class: low > 0 || high < 0 ? 'bar' : 'bar unsure' }),
      shape('text', { x: WIDTH - 4, y: middle + 4, class: 'value' }, `${points(value)} points`)
    )
  })
  return chart
}

const draw = (experiment) => {
  const { id, goal, arms, guardrails, verdict, words, windows, model, unknown, least, lower } = experiment
  const card = element('article', undefined, 'model experiment'), head = element('header')
  const of = plain(goal)
  head.append(element('h2', `Experiment: ${id.replaceAll('-', ' ')}`), element('p', `Goal: ${lower ? 'fewer' : 'more'} visits with ${of}. ${windows ? `${number(windows)} released ${windows === 1 ? 'window' : 'windows'}.` : ''} ${model ? `Whoever is not in ${arms[0].name} hears ${model}.` : ''}`, 'about'))
  card.append(head, element('p', words.replaceAll(/\w+:([\w-]+)@\d+/g, (_, of) => plain(of)), VERDICTS[verdict]))
  card.querySelector('p:last-child').dataset.verdict = verdict
  if (arms.some(({ difference }) => difference)) card.append(differences(experiment))
  card.append(table(`Share of visits with ${of}, by arm`, ['Arm', 'Visits', 'Share, %', 'Points', 'Lift, %', 'q'], arms.map(({ name, visits, share, difference, lift, q }) =>
    [name, number(visits), share ? between(share, tenths) : '–', difference ? between(difference, points) : 'control', lift ? between(lift, points) : '–', q === null ? '–' : q < 0.001 ? '<\u00a00.001' : number(q, 3)])))
  if (guardrails.length) {
    card.append(table('What must not get worse', ['Visits with', 'Arm', 'Verdict', 'Why'], guardrails.map(({ of, arm, verdict, reason }) =>
      [plain(of), arm, element('td', RAILS[verdict], verdict === 'broken' ? 'drifted' : undefined), reason])))
  }
  const even = experiment.sample_ratio_p
  card.append(element('p', `${even === null ? '' : `Arms as uneven as these come of fair assignment with p = ${number(even, 3)}, whenever one looks. `}Intervals include the noise, and hold at every look and for all arms together; less than ${number(100 * least, 1)} points would not matter.`, 'about'), unsaid(unknown))
  return card
}

export const experiments = cards('experiments', draw, 4e3)
