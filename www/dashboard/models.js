/** The part of the centre's page that is about models: what they meet, how they fare, how well they tell outcomes. */
import { number } from './charts.js'
import { cards, element, table, unsaid } from './elements.js'
import { course, day, reliability, twins } from './plots.js'

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
  failed: 'given up on the device',
  'lacking-fallback': 'lacked something, and its fallback scored',
  'scored-last-good': 'its last good version scored in time',
  'late-last-good': 'its last good version scored after its time',
  'failed-fallback': 'given up on the device, and its fallback scored'
}
const SCORED_BY = {
  itself: 'its own',
  'last-good': 'its last good version’s, while a newer one waits for its files',
  fallback: 'its fallback’s',
  nobody: 'nobody’s: there was none'
}
const between = ({ low, high }, digits) => `${number(low, digits)} to ${number(high, digits)}`
const SERIES = { auc: 'AUC', 'calibration-error': 'Calibration error', visits: 'Visits' }
const plain = (of) => SERIES[of] || of.replace(/^\w+:/, '').replace(/@\d+$/, '').replaceAll('-', ' ')

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

const CALIBRATIONS = { 'earlier-windows': 'as often as scores came true in the windows before', training: 'as often as the model itself says' }
const row = (name, figure, digits = 3) => [name, number(figure.value, digits), between(figure, digits)]

/** The newest windows beside those before, and what the scores alone would have let one expect of them. */
const lately = ({ recent, expected }) => {
  const { start_ms: start, windows } = recent || expected, rows = [], made = []
  if (recent) rows.push(row('AUC', recent.auc), row(`AUC in the ${recent.windows_before === 1 ? 'one' : recent.windows_before} before`, recent.auc_before), row('the difference', recent.difference), row('Calibration error', recent.calibration_error), row('Calibration error before', recent.calibration_error_before))
  if (expected) rows.push(row('AUC expected by scores alone', expected.auc), row('share with the outcome, likewise', expected.base_rate))
  made.push(table(windows === 1 ? `The window of ${day(start)} by itself` : `The ${windows} windows since ${day(start)} by themselves`, ['Figure', 'Value', '95 % interval'], rows))
  if (expected) made.push(element('p', `Expected by scores alone is ${expected.words}. It takes scores to come true ${CALIBRATIONS[expected.calibration] || expected.calibration}.`, 'about'))
  return made
}

/** What is drawn of a model, with its tables. */
const plots = ({ series, performed }) => {
  const drawn = series.filter(({ of, windows }) => windows.length > 1 && of !== 'visits' && of !== 'calibration-error'), bins = performed?.bins || []
  const made = drawn.map((one) => course(one, one.of === 'auc' ? 'AUC' : `${plain(one.of)}: share of visits in bins that grew, less that in bins that fell`, 3))
  if (bins.some(({ share }) => share)) made.push(reliability(bins))
  return made.length ? [...made, twins(series, bins, plain)] : []
}

const draw = (model) => {
  const card = element('article', undefined, 'model'), head = element('header'), moved = model.drift.filter(({ drifted }) => drifted)
  head.append(element('h2', model.id.replaceAll('-', ' ')), element('p', STATES[model.state] || model.state, 'about'))
  card.append(head)
  if (model.fallback) card.append(element('p', `${model.fallback} speaks for it when it has no score.`, 'about'))
  for (const { words } of moved) card.append(element('p', `Drift: ${words}`, 'alarmed'))
  if (model.recent?.fell) card.append(element('p', `Its scores tell outcomes less well. ${model.recent.words}.`, 'alarmed'))
  for (const { of, words } of model.series) if (words && SERIES[of] && !(of === 'auc' && model.recent?.fell)) card.append(element('p', `${words[0].toUpperCase()}${words.slice(1)}.`, 'open'))
  if (model.drift.length) {
    const newest = Math.max(...model.drift.map((one) => one.start_ms))
    card.append(table(`The window of ${day(newest)} beside those before it`, ['Of', 'Visits', 'PSI', 'by chance up to', 'q', 'Verdict', 'Since'], model.drift.map((one) =>
      [plain(one.of), number(one.visits), number(one.psi, 3), number(one.threshold, 3), one.q < 0.001 ? '< 0.001' : number(one.q, 3), judged(one, newest), element('td', one.since_ms ? day(one.since_ms) : '–', 'date')])))
  }
  if (model.performed) {
    const { windows, auc, average_precision: precision, brier, calibration_error: error, base_rate: base } = model.performed
    card.append(table(`How well it told outcomes, in ${windows} released ${windows === 1 ? 'window' : 'windows'}`, ['Figure', 'Value', '95 % interval'], [
      row('AUC', auc),
      row('Average precision', precision),
      row('Brier score', brier),
      row('Calibration error', error),
      row('Share with the outcome', base)
    ]))
  }
  if (model.recent || model.expected) card.append(...lately(model))
  card.append(...plots(model))
  for (const one of model.fair) card.append(...groups(one))
  if (model.fared.length) {
    card.append(table('How it fared in visits', ['How', 'Visits', '95 % interval'], model.fared.map(({ how, visits }) => [FARED[how] || how, number(visits.value), between(visits, 0)])))
  }
  if (model.scored_by.length) {
    card.append(table('Whose score there was in visits', ['Whose', 'Visits', '95 % interval'], model.scored_by.map(({ who, visits }) => [who == 'fallback' && model.fallback ? `its fallback’s, ${model.fallback}` : SCORED_BY[who], number(visits.value), between(visits, 0)])))
  }
  card.append(unsaid(model.unknown))
  if (model.drift.length) card.append(element('p', 'Drift is called where chance and noise alone would part two such windows as far less than once in a hundred, over all that the model takes (q, by the Jensen-Shannon distance), and the PSI is 0.02 at least. It lasts since the window from which on what changed has stayed so. A change of AUC, calibration error or visits is told where windows without one would show as clear a one at less than one look in a hundred.', 'about'))
  return card
}

/** Thresholds are drawn by simulation at the centre, so it is asked every ten seconds at most. */
export const models = cards('models', draw, 1e4)
