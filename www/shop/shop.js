/**
 * The demonstration's shop: draws each page from the address, keeps a cart, and tells Gloaming what a shop
 * knows anyway (an item was viewed, added, bought). Nothing here waits for Gloaming or needs an answer.
 */
import { GOODS, PRODUCTS, find, picture } from './products.js'
import { mountConsent } from './consent.js'
import { mountInspector } from './inspector.js'
import { mountGate } from './gate.js'
import { mountSurvey } from './survey.js'

// The stub: calls made before the loader is ready wait in a queue.
window.gloaming = window.gloaming || ((...all) => new Promise((resolve) => (window.gloaming.q = window.gloaming.q || []).push([all, resolve])))
const tell = (...all) => { window.gloaming(...all).catch(() => {}) }

const main = document.getElementById('main')
const euro = (amount) => `€ ${amount}`
const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c])

// --- the cart: in this tab only -----------------------------------------------------------------------
const cart = () => JSON.parse(sessionStorage.getItem('cart') || '[]').map(find).filter(Boolean)
const keep = (items) => {
  if (items.length) sessionStorage.setItem('cart', JSON.stringify(items.map((item) => item.slug)))
  else sessionStorage.removeItem('cart')
  count()
}
const total = () => cart().reduce((sum, item) => sum + item.price, 0)
const count = () => { document.getElementById('cart-count').textContent = cart().length }

// --- pages ----------------------------------------------------------------------------------------------
const card = (product) => `
  <li><a class="product-link" href="/p/${product.slug}">
    ${picture(product)}
    <span class="name">${product.name}</span><span class="price">${euro(product.price)}</span>
  </a></li>`
const grid = (products) => `<ul class="grid">${products.map(card).join('')}</ul>`

const pages = {
  home: () => `
    <section class="hero">
      <div><p class="kicker">Autumn, and the light goes early</p>
      <h1>Things for the hour after sunset</h1>
      <p>Lamps that are kind to the eyes and cloth that is kind to the rest of you, from eight small workshops.</p>
      <p><a class="button" href="/c/lamps">See the lamps</a> <a class="button quiet" href="/c/textiles">See the textiles</a></p></div>
      ${picture(PRODUCTS[0], 'A table lamp with a linen shade')}
    </section>
    <h2>Chosen this week</h2><div id="chosen">${grid([PRODUCTS[1], PRODUCTS[4], PRODUCTS[6], PRODUCTS[2]])}</div>
    <section class="story"><h2>How it is made</h2><p>Every piece is ordered when you order it. That takes two weeks, and it means that nothing here was ever made to be thrown away. The looms are older than the weavers; the lamps can be opened with one screw.</p></section>`,
  listing: (group) => `<h1>${group === 'lamps' ? 'Lamps' : 'Textiles'}</h1>${grid(PRODUCTS.filter((product) => product.group === group))}`,
  product: (product) => `
    <article class="detail">
      <div class="plate">${picture(product)}<span class="zoom-badge">⌕ Zoom</span></div>
      <div>
        <p class="crumbs"><a href="/c/${product.group}">${product.group === 'lamps' ? 'Lamps' : 'Textiles'}</a></p>
        <h1>${product.name}</h1>
        <p class="price">${euro(product.price)}</p>
        <p>${product.text}</p>
        <button class="button" id="add-to-cart" type="button">Add to cart</button>
        <p id="added" role="status"></p>
        <h2>Made to last</h2>
        <p>Ships in two weeks. Every part can be replaced; the <a href="/assets/files/care-guide.txt">care guide</a> says how to keep it.</p>
      </div>
    </article>
    <h2>Goes well with it</h2>${grid(PRODUCTS.filter((other) => other.slug !== product.slug).slice(0, 4))}`,
  search: (query) => {
    const found = PRODUCTS.filter((product) => (product.name + product.text).toLowerCase().includes(query.toLowerCase()))
    return `<h1>${found.length ? `${found.length} for “${escape(query)}”` : `Nothing for “${escape(query)}”`}</h1>${found.length ? grid(found) : '<p>Try “lamp”, “wool” or “cushion”.</p>'}`
  },
  cart: () => cart().length
    ? `<h1>Your cart</h1>
      <ul class="lines">${cart().map((item, i) => `<li>${picture(item)}<a class="product-link" href="/p/${item.slug}">${item.name}</a><span class="price">${euro(item.price)}</span><button class="plain" type="button" data-remove="${i}" aria-label="Remove ${item.name}">Remove</button></li>`).join('')}</ul>
      <p class="sum">Together <b>${euro(total())}</b></p><p><a class="button" id="to-checkout" href="/checkout">Go to checkout</a></p>`
    : '<h1>Your cart is empty</h1><p><a class="button" href="/c/lamps">See the lamps</a></p>',
  checkout: () => `
    <h1>Checkout</h1>
    <form id="checkout-form" class="form">
      <label>Name <input name="name" autocomplete="off"></label>
      <label>Street and number <input name="street" autocomplete="off"></label>
      <label>Town <input name="town" autocomplete="off"></label>
      <p class="note">What you type stays on this page: the shop is a demonstration, and Gloaming has no event for text.</p>
      <p class="sum">Together <b>${euro(total())}</b></p>
      <button class="button" id="place-order">Place the order</button>
    </form>`,
  thanks: () => '<h1>Thank you</h1><p>If this were a shop, two weeks from now there would be a parcel.</p><p><a class="button" href="/">Back to the shop</a></p>',
  account: () => `
    <h1>Account</h1><p>There are no accounts here. Nobody who visits this shop is known to it.</p>
    <p><button class="button quiet" id="gl-erase" type="button">Forget this browser</button></p><p id="erased" role="status"></p>`,
  help: () => `
    <h1>Help</h1><h2>Delivery</h2><p>Two weeks, by slow post.</p><h2>Returns</h2><p>Whenever you like.</p>
    <h2 id="gloaming">What Gloaming measures here</h2>
    <p>If you agree, a small program on your device sums up your visit: pages, time, clicks, steps towards an order. It compares that sum with the shop’s published policy and sends, once, which of a few dozen declared boxes you fell into. An edge adds up everybody’s boxes, adds noise, and only then passes counts on. Nobody receives your visit.</p>
    <p>Below, “What does this page know?” shows what your device has summed up and everything that has left it.</p>`,
  gate: () => '',
  missing: () => '<h1>There is no such page</h1><p><a class="button" href="/">To the shop</a></p>'
}

const SATISFACTION = {
  feature: 'satisfaction',
  question: 'How was it here?',
  answers: [['unhappy', 'Not good'], ['neutral', 'All right'], ['happy', 'Good']],
  thanks: 'Thank you. Your device tells which of the three it was, once; what is passed on from the edge are counts of everybody, with noise.'
}

const draw = () => {
  const [, first = '', second = ''] = location.pathname.split('/')
  const product = first === 'p' && find(second)
  if (product) {
    main.innerHTML = pages.product(product)
    tell('track', 'view_item', { value: product.price })
    document.getElementById('add-to-cart').addEventListener('click', () => {
      keep([...cart(), product])
      tell('track', 'add_to_cart', { value: product.price })
      tell('feature', 'cart-value', total())
      document.getElementById('added').innerHTML = 'It is in your cart. <a href="/cart">Look at the cart</a>'
    })
    return product.name
  }
  const group = first === 'c' && PRODUCTS.some((other) => other.group === second) && second
  const query = new URLSearchParams(location.search).get('q') || ''
  const name = { '': 'home', 'index.html': 'home', search: 'search', cart: 'cart', checkout: 'checkout', order: 'thanks', account: 'account', help: 'help', gate: 'gate' }[first]
  main.innerHTML = group ? pages.listing(group) : name === 'search' ? pages.search(query) : pages[name || 'missing']()
  if (name === 'gate') {
    mountGate(main)
    return 'The gate'
  }
  if (name === 'search') tell('track', 'search')
  if (name === 'thanks') mountSurvey(main, SATISFACTION).catch(() => {})
  if (name === 'checkout') {
    tell('track', 'begin_checkout', { value: total() })
    document.getElementById('checkout-form').addEventListener('submit', (event) => {
      event.preventDefault()
      tell('track', 'purchase', { value: total() })
      keep([])
      // Leave the browser a moment: a visit is summed up when the page is left.
      setTimeout(() => { location.href = '/order/thanks' }, 150)
    })
  }
  for (const button of main.querySelectorAll('[data-remove]')) {
    button.addEventListener('click', () => {
      keep(cart().filter((_, i) => i !== Number(button.dataset.remove)))
      draw()
    })
  }
  document.getElementById('gl-erase')?.addEventListener('click', async () => {
    const state = await window.gloaming('erase')
    document.getElementById('erased').textContent = `Done: nothing of Gloaming is left in this browser (${state}).`
  })
  return main.querySelector('h1').textContent
}

// What the shop does with a guess, once its policy lets it see one: a line that fits, and why it is there.
const HINTS = { likely: 'Ready when you are: an order takes three fields and no account.', unlikely: 'Take your time: everything can be sent back, whenever you like.' }
const hint = ({ model, score, reasons }) => {
  // Other models may speak to pages too, and what they say is something else.
  if (model !== 'purchase-intent') return
  const line = document.getElementById('hint') || document.createElement('aside')
  line.id = 'hint'
  line.textContent = `${score >= 0.2 ? HINTS.likely : HINTS.unlikely} `
  const why = document.createElement('a')
  why.href = '/gate'
  why.textContent = `Chosen by a guess made on your device (${(100 * score).toFixed(1)} %)`
  line.append(why)
  if (reasons.length) {
    const because = document.createElement('small')
    because.textContent = reasons.map(({ text }) => text).join(' · ')
    line.append(because)
  }
  main.before(line)
}
// What to show first, were the gate to let a page hear it: the thing moves to the front of those chosen this week.
const first = ({ model, kind }) => {
  const product = model === 'next-best-action' && find(GOODS[kind]), chosen = document.getElementById('chosen')
  if (!product || !chosen || chosen.dataset.first === product.slug) return
  chosen.dataset.first = product.slug
  chosen.innerHTML = grid([product, ...[PRODUCTS[1], PRODUCTS[4], PRODUCTS[6], PRODUCTS[2]].filter((other) => other !== product).slice(0, 3)])
}
for (const use of [hint, first]) window.gloaming('on', 'score', use).catch(() => {})

// The policy's experiment: the arm is drawn on the device and known to nobody else. Whoever sees the note, or would have seen it,
// was exposed.
const note = ({ arms }) => {
  const arm = arms['delivery-note'], button = document.getElementById('add-to-cart')
  if (!arm || !button) return
  if (arm === 'note' && !document.getElementById('delivery-note')) {
    const line = document.createElement('p')
    line.id = 'delivery-note'
    line.textContent = `Ordered today, it leaves the workshop on ${new Date(Date.now() + 14 * 864e5).toLocaleDateString('en', { weekday: 'long', day: 'numeric', month: 'long' })}.`
    // Below the button: nothing that somebody is about to press may move.
    document.getElementById('added').after(line)
  }
  tell('track', 'exposure:delivery-note')
}
window.gloaming('on', 'arms', note).catch(() => {})

document.title = `${draw()} · Lantern & Loom`
count()
mountConsent()
mountInspector(document.getElementById('gl-inspector-open'))
