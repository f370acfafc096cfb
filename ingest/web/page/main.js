// Where the page begins: who we are, which view the address names, and whether the service is there.

import { BASE, heard, json } from './api.js'
import { h, nothing, put, say } from './dom.js'
import { showJob } from './job.js'
import { showJobs } from './jobs.js'
import { showSend } from './send.js'
import { showSignIn, signOut } from './session.js'
import { showStatus } from './status.js'
import { set, state, watch } from './store.js'
import { busy, wake } from './uploads.js'

const HEALTH_MS = 5000
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id))
const main = at('main')
let leave = () => {}
let timer = 0

/** @type {[RegExp, (main: HTMLElement, id: string) => () => void, string][]} */
const VIEWS = [
  [/^#?\/?$/, showJobs, 'Jobs'],
  [/^#\/send$/, showSend, 'Send files'],
  [/^#\/status$/, showStatus, 'Service'],
  [/^#\/jobs\/([0-9a-f-]{36})$/i, showJob, 'Job'],
]

function route(moved) {
  leave()
  leave = () => {}
  const [path, view, title] = VIEWS.find((one) => one[0].test(location.hash)) || []
  document.title = title && title !== 'Jobs' ? `${title} – ingest` : 'ingest'
  for (const link of document.querySelectorAll('nav a')) {
    const here = link.getAttribute('href') === (location.hash || '#/')
    if (here) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  if (state.locked !== null) leave = showSignIn(main, begin)
  else if (path && view) leave = view(main, path.exec(location.hash)?.[1] || '')
  else put(main, nothing('There is nothing here', '', h('a', { href: '#/' }, 'All jobs')))
  if (moved) main.focus({ preventScroll: true })
}

/** Find out who we are, then show the view. */
async function begin() {
  try {
    const session = await json('/session')
    if (!session.scopes.length && !session.signed_in && state.locked === null) await signOut() // forgets a key that is no longer good
    const now = session.scopes.length ? session : await json('/session')
    set({ session: now, locked: now.scopes.length ? null : state.locked ?? '' })
    if (state.locked === null) set({ datasets: (await json(`${BASE}/datasets`).catch(() => ({ datasets: [] }))).datasets })
  } catch {
    // The notice says that nothing answers; when something does, `health` begins again.
  }
  route(false)
  health()
}

async function health() {
  clearTimeout(timer)
  timer = setTimeout(health, HEALTH_MS)
  try {
    const service = await json('/health')
    const first = !state.session
    set({ service })
    if (first) begin()
  } catch {
    // `heard.silent` has told.
  }
}

heard.answered = () => { if (!state.reachable) { set({ reachable: true }); wake() } }
heard.silent = () => { if (state.reachable) set({ reachable: false }) }
heard.locked = (problem) => {
  if (state.locked !== null || !state.session) return
  set({ locked: problem.code === 'E_UNAUTHENTICATED' ? '' : problem.message })
  route(false)
}

watch(() => {
  const { service, reachable, session } = state
  const draining = service && (service.draining || service.status === 'draining')
  const word = !reachable ? 'offline' : !service ? 'connecting' : draining ? 'draining' : service.status
  const badge = at('service')
  say(badge, word)
  badge.className = `service ${word}`
  badge.title = `The service: ${word}`
  const text = !reachable ? 'The service does not answer. Uploads wait and go on by themselves; what is shown may be old.'
    : draining ? 'The service is stopping: it takes no new files. Uploads wait and go on by themselves when it is back.'
      : word === 'ok' || word === 'connecting' ? '' : `The service is not well: ${word}.`
  const notice = at('notice')
  notice.hidden = !text
  say(notice, text)
  const who = session?.signed_in && state.locked === null ? session.owner || 'signed in' : ''
  if (at('who').dataset.owner !== who) {
    at('who').dataset.owner = who
    put(at('who'), who && h('span', { class: 'soft' }, who), who && ' ', who && h('button', { class: 'link', onclick: async () => {
      await signOut()
      set({ session: null, locked: null })
      begin()
    } }, 'Sign out'))
  }
})

addEventListener('hashchange', () => route(true))
addEventListener('online', () => { wake(); health() })
addEventListener('beforeunload', (event) => { if (busy()) event.preventDefault() })
// A file that misses the place for it must not replace the page.
addEventListener('dragover', (event) => event.preventDefault())
addEventListener('drop', (event) => event.preventDefault())
begin()
