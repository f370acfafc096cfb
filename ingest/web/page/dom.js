// The DOM in small words. Text reaches the page by textContent alone, so nothing a file says can become markup.

/**
 * Make an element. Properties that begin with "on" are listeners, `class` and names with a dash are attributes.
 * @param {string} name
 * @param {Record<string, any>} [props]
 * @param {...any} children elements, texts, numbers, or lists of them; what is null, undefined or false is left out
 * @returns {any}
 */
export function h(name, props = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value)
    else if (key === 'class' || key === 'role' || key === 'for' || key.includes('-')) element.setAttribute(key, String(value))
    else element[key] = value
  }
  return fill(element, ...children)
}

/** Add children; what is null, undefined or false is left out. */
export function fill(element, ...children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child))
  }
  return element
}

/** Put other children into an element. */
export function put(element, ...children) {
  element.textContent = ''
  return fill(element, ...children)
}

/** Set a text where it has changed: readers of screens and the selection are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** A heading with what belongs beside it. */
export const titled = (text, ...beside) => h('div', { class: 'titled' }, h('h1', {}, text), ...beside)

/** A message in place of content: what there is not, or what went wrong. */
export function blank(title, text, ...actions) {
  return h('div', { class: 'blank' }, h('p', { class: 'strong' }, title), text && h('p', {}, text), ...actions)
}

/** The same where it is all there is to see: with a heading, by which readers of screens find it. */
export const nothing = (title, text, ...actions) => h('div', { class: 'blank' }, h('h1', {}, title), text && h('p', {}, text), ...actions)

/** The state of a job as a word with its colour. */
export const badge = (status) => h('span', { class: `badge ${status}` }, status)

/** Pages of a list: `go` is called with another number. */
export function pager(page, limit, total, go) {
  const last = Math.max(1, Math.ceil(total / limit))
  const from = total ? (page - 1) * limit + 1 : 0
  return h('div', { class: 'pager' },
    h('span', { class: 'soft' }, `${from}–${Math.min(page * limit, total)} of ${total.toLocaleString('en')}`),
    h('button', { disabled: page <= 1, onclick: () => go(page - 1) }, 'Previous'),
    h('button', { disabled: page >= last, onclick: () => go(page + 1) }, 'Next'))
}

/** Ask before something that cannot be undone; the answer is awaited. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { onclose: () => { resolve(dialog.returnValue === 'yes'); dialog.remove() } },
      h('p', {}, question),
      h('div', { class: 'row' },
        h('button', { class: 'danger', onclick: () => dialog.close('yes') }, action),
        h('button', { onclick: () => dialog.close('no') }, 'Keep it')))
    document.body.append(dialog)
    dialog.showModal()
  })
}
