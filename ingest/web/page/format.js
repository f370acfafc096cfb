// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat('en')

/** @param {number|null|undefined} n */
export const count = (n) => (n === null || n === undefined ? '–' : whole.format(n))

/** A number with its noun. @param {number} n @param {string} noun */
export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`

/** @param {number|null|undefined} n bytes */
export function size(n) {
  if (n === null || n === undefined) return '–'
  if (n < 1000) return `${n} B`
  const at = Math.min(4, Math.floor(Math.log10(n) / 3))
  return `${(n / 1000 ** at).toFixed(n / 1000 ** at < 10 ? 1 : 0)} ${['', 'kB', 'MB', 'GB', 'TB'][at]}`
}

/** @param {number|null|undefined} s seconds */
export function span(s) {
  if (s === null || s === undefined || !isFinite(s)) return '–'
  if (s < 1) return `${Math.round(s * 1000)} ms`
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`
}

/** @param {number} part 0 to 1; never 100 % before the end */
export const percent = (part) => `${part >= 1 ? 100 : Math.floor(part * 1000) / 10} %`

/** @param {string|null} iso */
export function ago(iso) {
  if (!iso) return '–'
  const s = (Date.now() - Date.parse(iso)) / 1000
  return s < 5 ? 'just now' : `${span(Math.floor(s)).replace(/^(\d+ (min|h|d)) .*/, '$1')} ago`
}

/** @param {string|null} iso */
export const moment = (iso) => (iso ? new Date(iso).toLocaleString() : '–')
