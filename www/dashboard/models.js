/** The part of the centre's page that is about models: what they meet, how they fare, how well they tell outcomes. */
import { number } from './charts.js'
import { cards, element, table, unsaid } from './elements.js'

const STATES = {
  shadow: 'in shadow: computed and counted, no page sees a score',
  experiment: 'in an experiment: pages may see its scores',
  live: 'live: pages see its scores',
  quarantined: 'quarantined: computed nowhere'
}
const FARED = {
  lacking: 'lacked something that the page did not give',
  scored: 'scored in time',
  late: 'scored after its time',
  failed: 'given up on the device'
}
const between = ({ low, high }, digits) => `${number(low, digits)} to ${number(high, digits)}`

const day = (ms) => new Date(ms).toISOString().slice(0, 10)
/** A metric that stayed below k since has an older window to show for itself. */
const judged = ({ drifted, q, start_ms: start }, newest) => element('td', `${drifted ? 'drifted' : q < 0.05 ? 'look again' : 'as before'}${start < newest ? `, as of ${day(start)}` : ''}`, drifted ? 'drifted' : undefined)

const percent = (figure) => figure ? `${number(100 * figure.value, 1)} (${number(100 * figure.low, 1)} to ${number(100 * figure.high, 1)})` : 'too few'
const points = ({ value, low, high }) => `${number(100 * value, 1)} points (${number(100 * low, 1)} to ${number(100 * high, 1)})`

/** How those fare who said which group they are of, and how many said nothing. */
const groups = ({ by, threshold, groups, selection_gap: gap, selection_ratio: ratio, odds_gap: odds, undeclared, undeclared_gap: silent, unknown }) => {
  const name = by.replaceAll('-', ' '), told = [], calibrated = groups.some(({ calibration_error: error }) => error)
  if (gap) told.push(`Shares selected differ by ${points(gap)} at most`)
  if (ratio) told.push(`the smallest is ${number(ratio.value, 2)} (${number(ratio.low, 2)} to ${number(ratio.high, 2)}) of the largest`)
  if (odds) told.push(`with the same outcome by ${points(odds)}`)
  if (undeclared) told.push(`${percent(undeclared)} % said nothing${silent ? `, and they are selected more often by ${points(silent)}` : ''}`)
  const made = [table(`By ${name}, which visitors say of themselves: selected from a score of ${number(threshold, 3)} on`, ['Group', 'Visits', 'Selected, %', 'with the outcome', 'without it', ...calibrated ? ['Calibration error, %'] : []], groups.map((group) =>
    [group.name, number(group.visits), percent(group.selection), percent(group.true_positive), percent(group.false_positive), ...calibrated ? [percent(group.calibration_error)] : []]))]
  if (told.length) made.push(element('p', `${told.join('; ')}. In brackets: 95 % intervals, for all groups together${calibrated ? '; of calibration errors, for each by itself' : ''}.`, 'about'))
  return [...made, unsaid(unknown)]
}

const draw = (model) => {
  const card = element('article', undefined, 'model'), head = element('header'), moved = model.drift.filter(({ drifted }) => drifted)
  head.append(element('h2', model.id.replaceAll('-', ' ')), element('p', STATES[model.state] || model.state, 'about'))
  card.append(head)
  if (model.fallback) card.append(element('p', `${model.fallback} speaks for it when it has no score.`, 'about'))
  for (const { words } of moved) card.append(element('p', `Drift: ${words}`, 'alarmed'))
  if (model.drift.length) {
    const newest = Math.max(...model.drift.map((one) => one.start_ms))
    card.append(table(`The window of ${day(newest)} beside those before it`, ['Of', 'Visits', 'PSI', 'by chance up to', 'q', 'Verdict'], model.drift.map((one) =>
      [one.of.replace(/^\w+:/, '').replace(/@\d+$/, '').replaceAll('-', ' '), number(one.visits), number(one.psi, 3), number(one.threshold, 3), one.q < 0.001 ? '< 0.001' : number(one.q, 3), judged(one, newest)])))
  }
  if (model.performed) {
    const { windows, auc, average_precision: precision, brier, calibration_error: error, base_rate: base } = model.performed
    card.append(table(`How well it told outcomes, in ${windows} released ${windows === 1 ? 'window' : 'windows'}`, ['Figure', 'Value', '95 % interval'], [
      ['AUC', number(auc.value, 3), between(auc, 3)],
      ['Average precision', number(precision.value, 3), between(precision, 3)],
      ['Brier score', number(brier.value, 3), between(brier, 3)],
      ['Calibration error', number(error.value, 3), between(error, 3)],
      ['Share with the outcome', number(base.value, 3), between(base, 3)]
    ]))
  }
  for (const one of model.fair) card.append(...groups(one))
  if (model.fared.length) {
    card.append(table('How it fared in visits', ['How', 'Visits', '95 % interval'], model.fared.map(({ how, visits }) => [FARED[how] || how, number(visits.value), between(visits, 0)])))
  }
  card.append(unsaid(model.unknown))
  if (model.drift.length) card.append(element('p', 'Drift is called where chance and noise alone would part two such windows as far less than once in a hundred, over all that the model takes (q, by the Jensen-Shannon distance), and the PSI is 0.02 at least.', 'about'))
  return card
}

/** Thresholds are drawn by simulation at the centre, so it is asked every ten seconds at most. */
export const models = cards('models', draw, 1e4)
