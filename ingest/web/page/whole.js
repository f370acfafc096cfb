// A compressed file, in one request: the service unpacks it as it comes, so there is no place where it could go on.

import { BASE, query } from './api.js'
import { request } from './tus.js'

const PACKED = /\.(gz|gzip|zst|zstd|bz2)$/i
const MARKS = [[0x1f, 0x8b], [0x28, 0xb5, 0x2f, 0xfd], [0x42, 0x5a, 0x68]]

/** Whether a file is compressed, by its name or its first bytes. @param {string} name @param {Uint8Array} start */
export const isPacked = (name, start) => PACKED.test(name) || MARKS.some((mark) => mark.every((byte, at) => start[at] === byte))

/** Has what `Upload` has; after a break it begins again. */
export class WholeUpload {
  /** @param {Blob} data @param {any} options */
  constructor(data, { metadata, told }) {
    this.data = data
    this.metadata = metadata
    this.told = told
    this.away = new AbortController()
  }

  async run() {
    const { filename, ...options } = this.metadata
    this.away = new AbortController()
    this.told.sent(0)
    const answer = await request('PUT', `${BASE}/upload/${encodeURIComponent(filename)}${query(options)}`,
      { body: this.data, onsent: this.told.sent, signal: this.away.signal })
    if (answer.problem) throw answer.problem
    this.told.sent(this.data.size)
    this.told.job(answer.body.id)
  }

  pause() { this.away.abort() }

  async remove() { this.away.abort() }

  wake() {}
}
