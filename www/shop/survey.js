/**
 * One question that need not be answered. What is chosen is a feature that the page gives, as any other: it stays on the device
 * with the rest of the visit's sum, and one box of the policy's is told. Shown to those who agreed, for of others nothing is kept.
 */
export const mountSurvey = async (place, { feature, question, answers, thanks }) => {
  const { state } = await window.gloaming('status')
  if (state !== 'granted') return
  const form = document.createElement('fieldset')
  form.className = 'survey'
  form.id = feature
  const legend = document.createElement('legend')
  legend.textContent = question
  const said = document.createElement('p')
  said.className = 'note'
  said.setAttribute('role', 'status')
  const buttons = answers.map(([value, text]) => {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'button quiet'
    button.value = value
    button.textContent = text
    button.setAttribute('aria-pressed', 'false')
    button.addEventListener('click', async () => {
      await window.gloaming('feature', feature, value)
      // Whoever chose wrongly chooses again: the last answer counts.
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button))
      said.textContent = thanks
    })
    return button
  })
  form.append(legend, ...buttons, said)
  place.append(form)
}
