// The files on their way: two at a time, each with how far its upload and its load are. They go on when the view changes.

import { jobPath, json } from './api.js'
import { changed, state } from './store.js'
import { Upload } from './tus.js'

const AT_ONCE = 2
const POLL_MS = 1000
// The rate is that of the last seconds.
const RATE_MS = 4000
const FINAL = ['completed', 'failed', 'cancelled']
let numbers = 0

/**
 * Put a file into the list. State: draft, waiting, uploading, paused, retrying, sent, failed, removed.
 * @param {File} file @param {any} [more]
 */
export function add(file, more = {}) {
  const send = { id: ++numbers, file, data: file, name: file.name, dataset: '', delimiter: '', parent: '', options: {}, header: '', state: 'draft',
    sent: 0, rate: 0, samples: [], error: '', retryAt: 0, jobId: '', job: null, upload: null, preview: null, ...more }
  state.sends.unshift(send)
  changed()
  return send
}

/** Send a corrected file of rejects into the family of its job. */
export async function sendCorrected(file, job, delimiter) {
  const send = add(file, { dataset: job.dataset, parent: job.id, delimiter })
  const known = (state.datasets || []).find((one) => one.name === job.dataset)
  if (!Object.keys(known?.parameters || {}).length) start(send)
  location.hash = '#/send'
}

/** Whether files would be interrupted if the page were closed. */
export const busy = () => state.sends.some((send) => ['waiting', 'uploading', 'retrying'].includes(send.state))

/** Try again at once: something answers again. */
export const wake = () => state.sends.forEach((send) => send.upload?.wake())

/** Let a file wait for its turn, from the beginning or from where it was. */
export function start(send) {
  Object.assign(send, { state: 'waiting', error: '' })
  next()
}

export function pause(send) {
  const running = send.upload && send.state !== 'waiting'
  send.state = 'paused'
  send.rate = 0
  if (running) send.upload.pause()
  changed()
}

/** Stop a file and forget it here; what was sent of it is thrown away. */
export async function remove(send) {
  const open = send.upload && !['sent', 'failed'].includes(send.state)
  send.state = 'removed'
  state.sends = state.sends.filter((one) => one !== send)
  changed()
  if (open) await send.upload.remove()
  next()
}

function next() {
  const running = state.sends.filter((send) => ['uploading', 'retrying'].includes(send.state)).length
  const waiting = state.sends.filter((send) => send.state === 'waiting').reverse() // the first that was chosen
  for (const send of waiting.slice(0, Math.max(0, AT_ONCE - running))) run(send)
  changed()
}

async function run(send) {
  send.upload ||= new Upload(send.data, {
    key: [send.name, send.data.size, send.file.lastModified, send.dataset, send.parent, send.header, send.delimiter].join('|'),
    metadata: { filename: send.name, dataset: send.dataset || 'auto', delimiter: send.delimiter === ',' && !send.opaque ? '' : send.delimiter, parent: send.parent, ...send.options },
    told: {
      sent: (n) => sent(send, n),
      waits: (ms, problem) => { if (send.state === 'uploading' || send.state === 'retrying') Object.assign(send, { state: 'retrying', rate: 0, retryAt: Date.now() + ms, error: problem.message }); changed() },
      job: (id) => { if (!send.jobId) { send.jobId = id; poll(send) } },
    },
  })
  send.state = 'uploading'
  send.samples = []
  try {
    await send.upload.run()
    Object.assign(send, { state: 'sent', rate: 0, error: '' })
  } catch (problem) {
    if (problem.name !== 'AbortError' && send.state !== 'removed') Object.assign(send, { state: problem.status === 401 ? 'paused' : 'failed', rate: 0, error: problem.message, upload: problem.status === 401 ? send.upload : null })
  }
  next()
}

function sent(send, n) {
  if (send.state === 'retrying') Object.assign(send, { state: 'uploading', error: '' })
  const now = performance.now()
  if (n < send.sent) send.samples = [] // a break took back what had not arrived
  send.sent = n
  send.samples.push([now, n])
  while (send.samples.length > 2 && now - send.samples[0][0] > RATE_MS) send.samples.shift()
  const [at, before] = send.samples[0]
  send.rate = now - at > 200 ? ((n - before) / (now - at)) * 1000 : send.rate
  changed()
}

async function poll(send) {
  if (send.state === 'removed') return
  try {
    send.job = await json(jobPath(send.jobId))
    changed()
    if (FINAL.includes(send.job.status)) return
  } catch (problem) {
    if (problem.status === 404) { send.job = null; changed(); return }
  }
  setTimeout(poll, POLL_MS, send)
}
