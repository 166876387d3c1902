/** What the shop sells, and how each thing is drawn: shapes in the product's own colours. */

const lamp = (shade, base, light) => `
  <ellipse cx="120" cy="214" rx="62" ry="9" fill="#000" opacity=".10"/>
  <circle cx="120" cy="112" r="96" fill="${light}" opacity=".35"/>
  <path d="M112 128h16v74h-16z" fill="${base}"/>
  <path d="M86 202h68l6 12H80z" fill="${base}"/>
  <path d="M88 58h64l26 76H62z" fill="${shade}"/>
  <path d="M88 58h64l4 12H84zM66 122h108l4 12H62z" fill="#000" opacity=".10"/>`

const lantern = (frame, glow) => `
  <ellipse cx="120" cy="216" rx="56" ry="8" fill="#000" opacity=".10"/>
  <circle cx="120" cy="130" r="86" fill="${glow}" opacity=".30"/>
  <path d="M96 46q24-34 48 0" fill="none" stroke="${frame}" stroke-width="7"/>
  <path d="M84 46h72l10 22H74z" fill="${frame}"/>
  <path d="M80 68h80v128H80z" fill="${glow}"/>
  <path d="M80 68h8v128h-8zM152 68h8v128h-8zM116 68h8v128h-8zM80 128h80v6H80z" fill="${frame}"/>
  <path d="M74 196h92v16H74z" fill="${frame}"/>`

const pendant = (shade, light) => `
  <path d="M118 0h4v70h-4z" fill="#4a4038"/>
  <ellipse cx="120" cy="176" rx="88" ry="40" fill="${light}" opacity=".40"/>
  <path d="M120 62c58 0 84 44 84 92H36c0-48 26-92 84-92z" fill="${shade}"/>
  <path d="M62 154c2-44 22-78 58-92M120 62v92M178 154c-2-44-22-78-58-92" stroke="#000" opacity=".14" stroke-width="3" fill="none"/>
  <ellipse cx="120" cy="154" rx="84" ry="13" fill="${light}"/>`

const cloth = (ground, ...stripes) => `
  <ellipse cx="120" cy="216" rx="80" ry="8" fill="#000" opacity=".10"/>
  <path d="M44 60q76-26 152 0v140q-76 22-152 0z" fill="${ground}"/>
  ${stripes.map((colour, i) => `<path d="M44 ${82 + i * 26}q76-26 152 0v10q-76-26-152 0z" fill="${colour}"/>`).join('')}
  <path d="M44 60q76-26 152 0l-14 12q-62-20-124 0z" fill="#fff" opacity=".25"/>
  ${[...Array(19)].map((_, i) => `<path d="M${48 + i * 8} ${203 + Math.round(8 * Math.sin(i / 6))}v12" stroke="${ground}" stroke-width="3"/>`).join('')}`

const cushion = (ground, mark) => `
  <ellipse cx="120" cy="204" rx="84" ry="9" fill="#000" opacity=".10"/>
  <path d="M46 62q74 14 148 0-14 66 0 136-74-14-148 0 14-70 0-136z" fill="${ground}"/>
  ${[0, 1, 2].map((row) => [0, 1, 2].map((column) => `<path d="M${84 + column * 36} ${88 + row * 34}l12 12-12 12-12-12z" fill="${mark}"/>`).join('')).join('')}`

export const PRODUCTS = [
  { slug: 'dusk-lamp', group: 'lamps', name: 'Dusk table lamp', price: 89, text: 'Linen shade on a turned walnut foot. Warm, low, made for the hour when reading stops.', art: lamp('#e8b25c', '#6b4a32', '#f7d489') },
  { slug: 'harbour-lantern', group: 'lamps', name: 'Harbour lantern', price: 64, text: 'Blackened steel and ribbed glass. Hangs outside in rain; it has done so since 1931.', art: lantern('#2f3437', '#f6cf7a') },
  { slug: 'moth-pendant', group: 'lamps', name: 'Moth paper pendant', price: 119, text: 'Folded washi over ash ribs. Weighs less than a letter, and lights a whole table.', art: pendant('#f1e7d3', '#fbdf9d') },
  { slug: 'ember-lamp', group: 'lamps', name: 'Ember night light', price: 39, text: 'A brick-red shade for a child’s room. Dims itself over an hour.', art: lamp('#b4512f', '#3b2c26', '#f2a477') },
  { slug: 'weir-throw', group: 'textiles', name: 'Weir wool throw', price: 145, text: 'Woven on narrow looms in one piece, in the colours of a river in March.', art: cloth('#23444a', '#e8d9bd', '#7ba19b', '#e8d9bd', '#b4512f') },
  { slug: 'field-runner', group: 'textiles', name: 'Field table runner', price: 48, text: 'Unbleached linen with two stripes of madder. Softer with every wash.', art: cloth('#e9dcc1', '#a8432a', '#a8432a') },
  { slug: 'kiln-cushion', group: 'textiles', name: 'Kiln cushion', price: 55, text: 'Heavy cotton, block-printed by hand; no two are quite alike.', art: cushion('#b4512f', '#f1d9b4') },
  { slug: 'night-cushion', group: 'textiles', name: 'Night cushion', price: 55, text: 'The same cloth in deep blue, with undyed diamonds.', art: cushion('#28344f', '#e5dccb') }
]

export const picture = (product, label) =>
  `<svg viewBox="0 0 240 240" role="img" aria-label="${label || product.name}"><rect width="240" height="240" fill="#f3ebdd"/>${product.art}</svg>`

/** What the kinds of goods are called that `next-best-action` names: its log hides them, and this shop has eight things. */
export const GOODS = {
  'goods-1': 'dusk-lamp', 'goods-2': 'harbour-lantern', 'goods-3': 'moth-pendant', 'goods-4': 'ember-lamp',
  'goods-5': 'weir-throw', 'goods-6': 'field-runner', 'goods-7': 'kiln-cushion'
}

export const find = (slug) => PRODUCTS.find((product) => product.slug === slug)
