/**
 * The shop's question. Yes and no weigh the same; the purposes and their words come from the signed
 * notice, so that what is asked is what the policy says. A small panel; sites may bring their own.
 */
const language = (text) => text[navigator.language.slice(0, 2)] || text.en || Object.values(text)[0]

export const mountConsent = async () => {
  const { state, notice } = await window.gloaming('status')
  if (state !== 'waiting') return
  const panel = document.createElement('section')
  panel.className = 'gl-consent'
  panel.setAttribute('aria-labelledby', 'gl-title')
  panel.innerHTML = `
    <h2 id="gl-title">May your visit be counted?</h2>
    <p>Your device sums up this visit and sends only which declared boxes it falls into. Those are added to everybody’s, with noise. No cookie, no identifier, no profile elsewhere.</p>
    <div class="gl-purposes" hidden></div>
    <p class="gl-buttons">
      <button type="button" class="button" id="gl-accept">Yes, count it</button>
      <button type="button" class="button" id="gl-refuse">No, do not</button>
      <button type="button" class="plain" id="gl-choose" aria-expanded="false">Choose</button>
    </p>`
  const list = panel.querySelector('.gl-purposes')
  for (const purpose of notice.purposes) {
    const label = document.createElement('label')
    const box = Object.assign(document.createElement('input'), { type: 'checkbox', value: purpose.id })
    label.append(box, ' ', language(purpose.text))
    list.append(label)
  }
  const boxes = () => [...list.querySelectorAll('input')]
  const answer = async (chosen) => {
    await window.gloaming('consent', Object.fromEntries(chosen.map((id) => [id, true])))
    panel.remove()
  }
  panel.querySelector('#gl-accept').addEventListener('click', () => {
    // A yes to everything is none to what Article 9 of the GDPR protects: that takes a box of its own.
    const all = notice.purposes.filter(({ special }) => !special).map(({ id }) => id)
    answer(list.hidden ? all : boxes().filter((box) => box.checked).map((box) => box.value))
  })
  panel.querySelector('#gl-refuse').addEventListener('click', () => answer([]))
  panel.querySelector('#gl-choose').addEventListener('click', (event) => {
    list.hidden = !list.hidden
    event.target.setAttribute('aria-expanded', String(!list.hidden))
    panel.querySelector('#gl-accept').textContent = list.hidden ? 'Yes, count it' : 'Count what I chose'
  })
  document.body.append(panel)
}
