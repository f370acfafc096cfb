// The state of the page, in one place: views read it, `set` changes it and tells who watches.

/**
 * service: what /health says, null before the first answer. reachable: whether anything answers.
 * session: who we are. sends: files chosen here, with how far each is. history: the filter of the list of jobs.
 */
export const state = {
  reachable: true,
  service: /** @type {any} */ (null),
  session: /** @type {{signed_in: boolean, owner: string|null, scopes: string[]}|null} */ (null),
  locked: /** @type {string|null} */ (null),
  datasets: /** @type {any[]|null} */ (null),
  sends: /** @type {any[]} */ ([]),
  history: { page: 1, status: '', dataset: '', text: '' },
}

const watchers = new Set()

/** @param {Partial<typeof state>} patch */
export function set(patch) {
  Object.assign(state, patch)
  changed()
}

/** Tell the watchers, at most once a frame, of a change that was made in place. */
let due = false
export function changed() {
  if (due) return
  due = true
  setTimeout(() => {
    due = false
    for (const watcher of [...watchers]) watcher()
  }, 30)
}

/** @param {() => void} watcher @returns {() => void} ends it */
export function watch(watcher) {
  watchers.add(watcher)
  return () => watchers.delete(watcher)
}

/** Whether a key, or the lack of any, lets us do something. @param {string} scope */
export const may = (scope) => !!state.session && (state.session.scopes.includes('admin') || state.session.scopes.includes(scope))
