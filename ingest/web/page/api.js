// Requests to the service. Whatever goes wrong comes back as a Problem with a sentence for a person.

export const BASE = '/api/v1/csv'

/** Why a request was not done. `code` is the service's; E_OFFLINE when nothing answered. */
export class Problem extends Error {
  /** @param {{detail?: string, title?: string, code?: string, status?: number}} body @param {number} status */
  constructor(body, status) {
    super(body.detail || body.title || `the service answered ${status}`)
    this.code = body.code || 'E_UNKNOWN'
    this.status = status
    this.body = body
  }
}

/** Told of each answer or of the lack of one, so that the page knows whether the service is there. */
export const heard = { answered: () => {}, silent: () => {}, locked: (/** @type {Problem} */ _p) => {} }

/**
 * Ask the service.
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function ask(path, init = {}) {
  let answer
  try {
    answer = await fetch(path, { ...init, credentials: 'same-origin', headers: { Accept: 'application/json', ...init.headers } })
  } catch (error) {
    if (init.signal?.aborted) throw error
    heard.silent()
    throw new Problem({ code: 'E_OFFLINE', detail: 'the service does not answer' }, 0)
  }
  heard.answered()
  if (answer.ok) return answer
  const problem = new Problem(await answer.json().catch(() => ({})), answer.status)
  if (answer.status === 401) heard.locked(problem)
  throw problem
}

/** @param {string} path @param {RequestInit} [init] */
export const json = async (path, init) => (await ask(path, init)).json()

/** @param {Record<string, any>} values those that are empty are left out */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== '' && value !== null && value !== undefined)
  return given.length ? `?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : ''
}

export const jobPath = (/** @type {string} */ id) => `${BASE}/jobs/${encodeURIComponent(id)}`
