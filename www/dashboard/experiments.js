/** The part of the centre's page that is about experiments: what changed, how sure that is, what must not get worse. */
import { number, shape } from './charts.js'
import { cards, element, table, unsaid } from './elements.js'

const tenths = (value) => (Math.round(1000 * value) / 10).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 }).replace(/^-0\.0$/, '0.0').replace('-', '\u2212')
const points = (value) => `${value >= 0.0005 ? '+' : ''}${tenths(value)}`
const between = ({ value, low, high }, told) => `${told(value)} (${told(low)} to ${told(high)})`
/** How a goal's figures and their differences are told: shares in percent and points, amounts as they are. */
const told = ({ figure, unit, arms }) => {
  if (figure === 'share') return { value: tenths, change: points, head: 'Share, %', changed: 'Points', unit: ' points' }
  // As many digits as the widest interval is worth.
  const half = Math.max(...arms.flatMap(({ share, difference }) => [share, difference]).map((told) => told ? (told.high - told.low) / 2 : 0))
  const digits = half ? Math.min(Math.max(1 - Math.floor(Math.log10(half)), 0), 6) : 3
  const value = (value) => value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace('-', '\u2212')
  return { value, change: (change) => `${change > 0 ? '+' : ''}${value(change)}`, head: `${figure === 'mean' ? 'Mean' : 'Ratio'}, ${unit}`, changed: 'Change', unit: ` ${unit}` }
}
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1)
const plain = (of) => of.replaceAll(/\b(feature|outcome|page|score):/g, '').replaceAll(/@\d+/g, '').replaceAll('-', ' ')
const VERDICTS = { uneven: 'alarmed', stop: 'alarmed', worse: 'alarmed', better: 'settled', alike: 'settled', open: 'open' }
const RAILS = { held: 'held', broken: 'broken', open: 'not shown yet' }

const WIDTH = 520, LABEL = 130, RIGHT = 150, ROW = 30

/** Each arm's difference from the control with its interval, a line at none, and a band of what would not matter. */
const differences = (experiment) => {
  const { arms, least } = experiment, { change, unit } = told(experiment), shown = arms.filter(({ difference }) => difference)
  const reach = 1.1 * Math.max(2 * least, ...shown.flatMap(({ difference: { low, high } }) => [Math.abs(low), Math.abs(high)]))
  const x = (value) => LABEL + (value + reach) / (2 * reach) * (WIDTH - LABEL - RIGHT), height = shown.length * ROW + 24
  const words = shown.map(({ name, difference }) => `${name}: ${between(difference, change)}${unit}`).join('; ')
  const chart = shape('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': words })
  chart.append(
    shape('rect', { x: x(-least), width: x(least) - x(-least), y: 2, height: height - 22, class: 'band' }),
    shape('line', { x1: x(0), x2: x(0), y1: 2, y2: height - 20, class: 'zero' }),
    shape('text', { x: x(0), y: height - 4, class: 'axis' }, 'as the control')
  )
  shown.forEach(({ name, difference: { value, low, high } }, i) => {
    const middle = i * ROW + ROW / 2
    chart.append(
      shape('text', { x: LABEL - 10, y: middle + 4, class: 'label' }, name.length > 18 ? `${name.slice(0, 17)}…` : name),
      shape('path', { d: `M${x(low)} ${middle}H${x(high)}M${x(low)} ${middle - 4}v8M${x(high)} ${middle - 4}v8`, class: 'whisker' }),
      shape('circle', { cx: x(value), cy: middle, r: 4.5, class: low > 0 || high < 0 ? 'bar' : 'bar unsure' }),
      shape('text', { x: WIDTH - 4, y: middle + 4, class: 'value' }, `${change(value)}${unit}`)
    )
  })
  return chart
}

const draw = (experiment) => {
  const { id, goal, arms, guardrails, verdict, words, windows, model, unknown, least, lower, figure, adjusted_by: adjusted, stops, stopped } = experiment
  const { value: worth, change, head: name, changed, unit } = told(experiment), thompson = arms.some(({ next }) => next !== null)
  const card = element('article', undefined, 'model experiment'), head = element('header')
  const of = plain(goal)
  head.append(element('h2', `Experiment: ${id.replaceAll('-', ' ')}`), element('p', `Goal: ${figure !== 'share' ? `${lower ? 'less' : 'more'} ${of}, ${figure === 'mean' ? 'a visit' : 'as a ratio'}` : `${lower ? 'fewer' : 'more'} visits with ${of}`}.${adjusted ? ` Differences are adjusted by ${plain(adjusted)}.` : ''} ${windows ? `${number(windows)} released ${windows === 1 ? 'window' : 'windows'}.` : ''} ${model ? `Whoever is not in ${arms[0].name} hears ${model}.` : ''}`, 'about'))
  const said = element('p', words.replaceAll(/\w+:([\w-]+)@\d+/g, (_, of) => plain(of)), VERDICTS[verdict])
  said.dataset.verdict = verdict
  card.append(head, said)
  for (const warning of experiment.warnings) card.append(element('p', `Warning: ${warning}`, 'warned'))
  if (arms.some(({ difference }) => difference)) card.append(differences(experiment))
  card.append(table(figure === 'share' ? `Share of visits with ${of}, by arm` : `${capital(of)} ${figure === 'mean' ? 'of a visit' : 'as a ratio'}, by arm`, ['Arm', 'Visits', name, changed, 'Lift, %', 'q', ...thompson ? ['Next, %'] : []], arms.map(({ name, visits, share, difference, lift, q, next }) =>
    [name, number(visits), share ? between(share, worth) : '–', difference ? between(difference, change) : 'control', lift ? between(lift, points) : '–', q === null ? '–' : q < 0.001 ? '<\u00a00.001' : number(q, 3), ...thompson ? [next === null ? '–' : tenths(next)] : []])))
  if (guardrails.length) {
    card.append(table('What must not get worse', ['Visits with', 'Arm', 'Verdict', 'Why'], guardrails.map(({ of, arm, verdict, reason }) =>
      [plain(of), arm, element('td', RAILS[verdict], verdict === 'broken' ? 'drifted' : undefined), reason])))
  }
  if (stops && !stopped) card.append(element('p', 'A guardrail that breaks ends it by itself: every arm is then given what the control is given, and none is counted. Those who signed the policy said so.', 'about'))
  const { sample_ratio_p: even, sample_ratio_one_look_p: once } = experiment, chance = (p) => p < 0.0001 ? 'p < 0.0001' : `p = ${number(p, 4)}`
  card.append(element('p', `${even === null ? '' : `Arms as uneven as these come of fair assignment with ${chance(even)} whenever one looks (below 0.001 is an alarm), and with ${chance(once)} for one look that was planned (below 0.01 is a warning). `}Intervals include the noise, and hold at every look and for all arms together; less than ${figure === 'share' ? number(100 * least, 1) : number(least, 3)}${unit} would not matter.${thompson ? ' Next: the shares that Thompson sampling would give; written as `shares` in a policy and signed, they begin the experiment anew.' : ''}`, 'about'), unsaid(unknown))
  return card
}

export const experiments = cards('experiments', draw, 4e3)
