// One file over an unreliable network, by the tus protocol: after each break the service is asked how far it is.

import { BASE, Problem, heard } from './api.js'

const SPOKEN = { 'Tus-Resumable': '1.0.0' }
// Of one request; more in one would tell nothing sooner, less would ask more often.
const PIECE_BYTES = 32 * 1024 * 1024
// Of the first, by which the service judges the header and makes the job.
const FIRST_BYTES = 256 * 1024
const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 10_000
const KNOWN = 'ingest-uploads'
const MOST_KNOWN = 50

const base64 = (/** @type {string} */ text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)))

/** Uploads that were begun from this browser and not ended, by what they were of. */
const remembered = {
  read: () => { try { return JSON.parse(localStorage.getItem(KNOWN) || '{}') } catch { return {} } },
  write(/** @type {string} */ key, /** @type {string|null} */ url) {
    const all = this.read()
    delete all[key]
    if (url) all[key] = url
    for (const old of Object.keys(all).slice(0, -MOST_KNOWN)) delete all[old]
    try { localStorage.setItem(KNOWN, JSON.stringify(all)) } catch { /* then a reload begins again */ }
  },
}

/** One request. The answer has `status`, `problem` and `header(name)`; without an answer a Problem is thrown. */
export function request(method, url, { headers = {}, body = null, onsent = (_n) => {}, signal }) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest() // fetch does not tell how much of a body was sent
    xhr.open(method, url)
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value)
    xhr.upload.onprogress = (event) => onsent(event.loaded)
    const abort = () => xhr.abort()
    signal.addEventListener('abort', abort)
    xhr.onloadend = () => signal.removeEventListener('abort', abort)
    xhr.onabort = () => reject(new DOMException('aborted', 'AbortError'))
    xhr.onerror = () => { heard.silent(); reject(new Problem({ code: 'E_OFFLINE', detail: 'the connection broke' }, 0)) }
    xhr.onload = () => {
      heard.answered()
      let body = {}
      try { body = JSON.parse(xhr.responseText) } catch { /* an answer without words */ }
      const problem = xhr.status >= 400 ? new Problem(body, xhr.status) : null
      if (xhr.status === 401 && problem) heard.locked(problem)
      resolve({ status: xhr.status, problem, body, header: (name) => xhr.getResponseHeader(name) })
    }
    xhr.send(body)
  })
}

/** Whether another try may succeed. */
const passing = (problem) => problem.status === 0 || problem.status >= 500 || [408, 423, 429].includes(problem.status)
  || ['E_UPLOAD_OFFSET', 'E_UPLOAD_TAKEN', 'E_UPLOAD_INCOMPLETE'].includes(problem.code)

export class Upload {
  /**
   * @param {Blob} data
   * @param {{key: string, metadata: Record<string, string>, told: {sent: (n: number) => void, waits: (ms: number, problem: Problem) => void, job: (id: string) => void}}} options
   */
  constructor(data, { key, metadata, told }) {
    this.data = data
    this.key = key
    this.metadata = metadata
    this.told = told
    this.url = /** @type {string|null} */ (remembered.read()[key] || null)
    this.offset = 0
    this.away = new AbortController()
    this.wake = () => {}
  }

  /** Send until all is there. Throws what no other try can mend, AbortError after `pause`. */
  async run() {
    this.away = new AbortController()
    let wait = FIRST_WAIT_MS
    for (let known = false; ;) {
      const before = this.offset
      try {
        if (!this.url) await this.create()
        else if (!known) await this.look()
        known = true
        while (this.offset < this.data.size) await this.piece()
        remembered.write(this.key, null)
        return
      } catch (problem) {
        if (!(problem instanceof Problem) || !passing(problem)) {
          if (problem instanceof Problem && problem.status !== 401) remembered.write(this.key, null)
          throw problem
        }
        known = false
        if (this.offset > before) wait = FIRST_WAIT_MS
        await this.rest(wait * (0.75 + Math.random() / 2), problem)
        wait = Math.min(wait * 2, LONGEST_WAIT_MS)
      }
    }
  }

  /** Stop; `run` goes on where it was. */
  pause() { this.away.abort() }

  /** Stop for good, and have what was sent thrown away. */
  async remove() {
    this.away.abort()
    remembered.write(this.key, null)
    if (this.url) await request('DELETE', this.url, { headers: SPOKEN, signal: new AbortController().signal }).catch(() => {})
  }

  async create() {
    const metadata = Object.entries(this.metadata).filter(([, value]) => value !== '').map(([name, value]) => `${name} ${base64(value)}`).join(',')
    const answer = await this.ask('POST', `${BASE}/files`, { headers: { 'Upload-Length': String(this.data.size), 'Upload-Metadata': metadata } })
    this.url = answer.header('Location')
    this.offset = 0
    remembered.write(this.key, this.url)
    this.named(answer)
  }

  async look() {
    const answer = await request('HEAD', this.url, { headers: SPOKEN, signal: this.away.signal })
    if (answer.status === 410 && this.offset) throw new Problem({ code: 'E_UPLOAD_ENDED', detail: 'the upload was ended elsewhere, or has expired' }, 410)
    if (answer.status === 404 || answer.status === 410) { // one of an earlier visit, forgotten by the service: from the beginning
      this.url = null
      remembered.write(this.key, null)
      return this.create()
    }
    if (answer.problem) throw answer.problem
    this.take(answer)
  }

  async piece() {
    const from = this.offset
    const answer = await this.ask('PATCH', this.url, {
      headers: { 'Upload-Offset': String(from), 'Content-Type': 'application/offset+octet-stream' },
      body: this.data.slice(from, from + (from ? PIECE_BYTES : FIRST_BYTES)),
      onsent: (n) => this.told.sent(from + n),
    })
    this.take(answer)
  }

  async ask(method, url, options) {
    const answer = await request(method, url, { ...options, headers: { ...SPOKEN, ...options.headers }, signal: this.away.signal })
    if (answer.problem) throw answer.problem
    return answer
  }

  take(answer) {
    this.offset = Number(answer.header('Upload-Offset'))
    this.told.sent(this.offset)
    this.named(answer)
  }

  named(answer) {
    const job = answer.header('Ingest-Job')
    if (job) this.told.job(job.split('/').pop())
  }

  rest(ms, problem) {
    this.told.waits(ms, problem)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms)
      this.wake = () => { clearTimeout(timer); resolve(undefined) }
      this.away.signal.addEventListener('abort', () => { clearTimeout(timer); reject(new DOMException('aborted', 'AbortError')) }, { once: true })
    })
  }
}
