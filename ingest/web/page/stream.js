// A job as it changes, by server-sent events; when the stream breaks, the browser or this module comes back to it.

import { jobPath, json } from './api.js'

const ENDS = ['completed', 'failed', 'cancelled']
const AGAIN_MS = 2000

/**
 * Follow a job until it has ended or `stop` is called.
 * @param {string} id
 * @param {{job: (job: any) => void, gone: () => void, live: (is: boolean) => void}} told
 * @returns {() => void} stop
 */
export function follow(id, told) {
  let source = /** @type {EventSource|null} */ (null)
  let timer = 0
  let stopped = false
  const stop = () => { stopped = true; source?.close(); clearTimeout(timer) }
  const later = () => { clearTimeout(timer); timer = setTimeout(open, AGAIN_MS) }

  function open() {
    if (stopped) return
    source?.close()
    source = new EventSource(`${jobPath(id)}/stream`)
    const take = (/** @type {MessageEvent} */ event) => { told.live(true); told.job(JSON.parse(event.data)) }
    source.addEventListener('progress', take)
    for (const end of ENDS) source.addEventListener(end, (event) => { stop(); take(/** @type {MessageEvent} */ (event)) })
    source.addEventListener('deleted', () => { stop(); told.gone() })
    source.addEventListener('goodbye', () => { told.live(false); source?.close(); later() })
    source.onerror = () => {
      told.live(false)
      // A refusal closes the source for good, without a reason: ask in plain words, which says it.
      if (source?.readyState === EventSource.CLOSED) json(jobPath(id)).then(later, (problem) => (problem.status === 404 ? (stop(), told.gone()) : later()))
    }
  }
  open()
  return stop
}
