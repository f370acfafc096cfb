// CSV, as far as the page looks into it: a record in its cells, which delimiter a header has, where the header ends.
// What it cannot look into, since it is compressed or in characters of several bytes, is left to the service.

const DELIMITERS = [',', ';', '\t', '|']
const PACKED = /\.(gz|gzip|zst|zstd|bz2)$/i
const MARKS = [[0x1f, 0x8b], [0x28, 0xb5, 0x2f, 0xfd], [0x42, 0x5a, 0x68]]

/** Whether the page cannot read a file, by its name or its first bytes. @param {string} name @param {Uint8Array} start */
export const isOpaque = (name, start) => PACKED.test(name) || MARKS.some((mark) => mark.every((byte, at) => start[at] === byte)) || start.subarray(0, 4096).includes(0)

/**
 * Split one record; a quote that is not closed takes the rest.
 * @param {string} text @param {string} delimiter @returns {string[]}
 */
export function cells(text, delimiter) {
  const found = ['']
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (quoted && c === '"' && text[at + 1] === '"') { found[found.length - 1] += '"'; at++ }
    else if (c === '"' && (quoted || found[found.length - 1] === '')) quoted = !quoted
    else if (!quoted && c === delimiter) found.push('')
    else if (!quoted && (c === '\n' || c === '\r')) break
    else found[found.length - 1] += c
  }
  return found
}

/** The delimiter that splits a header into the most cells. @param {string} text */
export function delimiterOf(text) {
  return DELIMITERS.reduce((best, one) => (cells(text, one).length > cells(text, best).length ? one : best))
}

/** How a delimiter is called. */
export const DELIMITER_NAMES = { ',': 'comma', ';': 'semicolon', '\t': 'tab', '|': 'bar' }

/**
 * Where the first record ends, in bytes, its line end not counted; -1 when it does not end here.
 * @param {Uint8Array} bytes
 */
export function endOfHeader(bytes) {
  let quoted = false
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === 0x22) quoted = !quoted
    else if (!quoted && (bytes[at] === 0x0a || bytes[at] === 0x0d)) return at
  }
  return -1
}

/** A record of these cells. @param {string[]} values @param {string} delimiter */
export const record = (values, delimiter) =>
  values.map((value) => (/["\n\r]/.test(value) || value.includes(delimiter) ? `"${value.replaceAll('"', '""')}"` : value)).join(delimiter)
