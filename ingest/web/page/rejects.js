// The rejects of a job: why and how many, the records with the bad cell marked, and the way back in: a corrected file.

import { ask, jobPath, json, query } from './api.js'
import { cells } from './csv.js'
import { blank, h, pager, put, say } from './dom.js'
import { count, counted } from './format.js'
import { may } from './store.js'
import { sendCorrected } from './uploads.js'

const LIMIT = 20
const AGAIN_MS = 2000
// The last columns of the file of rejects; the character before the first of them is the file's delimiter.
const ADDED = /(.)"?_line"?\1"?_column"?\1"?_code"?\1"?_error"?/

/** @param {string} id of the job */
export function rejectsOf(id) {
  const root = h('section', { 'aria-label': 'Rejects', hidden: true })
  const total = h('span', { class: 'soft n' })
  const groups = h('div', { class: 'scroll' })
  const rows = h('div')
  const resolved = h('select', { 'aria-label': 'Which rejects', onchange: () => ask_(1) },
    [['', 'all'], ['false', 'open'], ['true', 'resolved']].map(([value, text]) => h('option', { value }, text)))
  const every = h('button', { hidden: true, onclick: () => choose('', '') }, 'Show every reason')
  const filter = { code: '', column: '' }
  let job = /** @type {any} */ (null)
  let shown = ''
  let timer = 0
  let left = false
  let asked = 0
  let layout = /** @type {Promise<{names: string[], delimiter: string}>|null} */ (null)

  const file = h('input', { type: 'file', class: 'unseen', tabIndex: -1, 'aria-hidden': 'true', accept: '.csv,.tsv,.txt,.gz,.zst,text/csv',
    onchange: () => { if (file.files[0]) layoutOf().then((one) => sendCorrected(file.files[0], job, one.delimiter)).finally(() => { file.value = '' }) } })
  const correct = h('button', { class: 'main', onclick: () => file.click() }, 'Send the corrected file')
  const download = h('a', { class: 'button', href: `${jobPath(id)}/rejects.csv`, download: '' }, 'Download rejects')
  put(root, h('div', { class: 'titled' }, h('h2', {}, 'Rejects'), total),
    h('p', { class: 'soft' }, 'Download the rejects, correct them in the file, and send it again as it is: the added columns are recognised.'),
    h('div', { class: 'row' }, download, correct, file), groups,
    h('div', { class: 'row filters' }, h('label', {}, 'Show ', resolved), every), rows)

  function update(found) {
    job = found
    root.hidden = !job.failed_rows
    download.hidden = job.failed_rows === job.resolved_rows
    correct.hidden = !may('upload') || job.failed_rows === job.resolved_rows
    say(total, job.failed_rows ? `${counted(job.failed_rows, 'record')}, ${count(job.resolved_rows)} resolved by corrected files` : '')
    const now = `${job.failed_rows} ${job.resolved_rows}`
    if (!job.failed_rows || now === shown || timer) return
    shown = now
    refresh()
    // While a file with many rejects loads, not at each of its events.
    timer = setTimeout(() => { timer = 0; if (job && !left) update(job) }, AGAIN_MS)
  }

  async function refresh() {
    try {
      const summary = await json(`${jobPath(id)}/rejects/summary`)
      if (!left) drawGroups(summary)
      await ask_(1)
    } catch (problem) {
      shown = ''
      if (!left) put(groups, blank('The rejects cannot be shown', problem.message))
    }
  }

  function choose(column, code) {
    Object.assign(filter, { column, code })
    every.hidden = !code
    marks()
    ask_(1)
  }

  /** The reason that is looked at stands out among the others. */
  function marks() {
    for (const line of groups.querySelectorAll('tbody tr')) {
      const is = !!filter.code && line.dataset.reason === `${filter.column}/${filter.code}`
      line.classList.toggle('chosen', is)
      line.querySelector('button').setAttribute('aria-pressed', String(is))
    }
  }

  function drawGroups(summary) {
    put(groups, h('table', { class: 'groups' },
      h('thead', {}, h('tr', {}, ['Column', 'Code', 'Count', 'Resolved', 'First examples'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, summary.groups.map((group) => h('tr', { 'data-reason': `${group.column || ''}/${group.code}` },
        h('td', {}, h('button', { class: 'link', title: 'Show these records only', onclick: () => choose(group.column || '', group.code) }, h('bdi', {}, group.column || 'the whole record'))),
        h('td', {}, h('a', { href: `/docs/problems#${group.code}`, target: '_blank', rel: 'noopener' }, group.code)),
        h('td', { class: 'n' }, count(group.count)),
        h('td', { class: 'n' }, count(group.resolved)),
        h('td', { class: 'wrap' }, group.examples.slice(0, 3).map((one) => h('div', {},
          h('span', { class: 'soft n' }, `line ${one.line} `), one.value !== null && h('mark', {}, h('bdi', {}, one.value || '(empty)')), ` ${one.message}`))))))))
    marks()
  }

  async function ask_(page) {
    const mine = ++asked
    try {
      const [found, at] = await Promise.all([
        json(`${jobPath(id)}/rejects${query({ page, limit: LIMIT, code: filter.code, column: filter.column, resolved: resolved.value })}`), layoutOf()])
      if (left || mine !== asked) return
      const what = filter.code ? `${filter.column || 'whole record'}, ${filter.code}: ` : ''
      put(rows, h('p', { class: 'soft' }, `${what}${counted(found.total, 'reason')}${found.stored < found.rejected ? `; ${count(found.stored)} of ${count(found.rejected)} records are kept` : ''}`),
        found.rejects.length ? h('div', { class: 'scroll' }, h('table', { class: 'records' }, head(at.names), h('tbody', {}, found.rejects.map((one) => record(one, at)))))
          : h('p', { class: 'soft' }, 'None.'),
        found.total > LIMIT && pager(page, LIMIT, found.total, ask_))
    } catch (problem) {
      if (!left && mine === asked) put(rows, blank('The records cannot be shown', problem.message))
    }
  }

  const head = (names) => h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Line'), h('th', { scope: 'col' }, 'Why'),
    names.map((name) => h('th', { scope: 'col' }, h('bdi', {}, name))), !names.length && h('th', { scope: 'col' }, 'Record')))

  function record(one, at) {
    const values = one.raw === null || one.truncated ? [] : cells(one.raw, at.delimiter)
    const fits = at.names.length > 0 && values.length === at.names.length
    const place = fits ? at.names.indexOf(one.column) : -1
    const bad = (value) => h('mark', { 'aria-label': `rejected: ${value || 'empty'}` }, h('bdi', {}, value || '(empty)'))
    return h('tr', { class: one.resolved_by ? 'resolved' : undefined },
      h('td', { class: 'n' }, count(one.line)),
      h('td', { class: 'wrap' }, one.message, ' ', h('span', { class: 'soft' }, one.code), one.resolved_by && ' ',
        one.resolved_by && h('a', { href: `#/jobs/${one.resolved_by}` }, 'resolved')),
      fits ? values.map((value, n) => h('td', { class: 'wrap' }, n === place ? bad(value) : h('bdi', {}, value)))
        : h('td', { class: 'wrap code', colSpan: Math.max(1, at.names.length) }, h('bdi', {}, one.raw ?? '–'), one.truncated && ' …',
          one.value !== null && ' ', one.value !== null && bad(one.value)))
  }

  /** The names of the file's columns and its delimiter: from the first line of the file of rejects. */
  function layoutOf() {
    layout ||= headerLine(id).then((line) => {
      const added = ADDED.exec(line)
      const delimiter = added ? added[1] : ','
      return { delimiter, names: added ? cells(line, delimiter).slice(0, -4) : [] }
    }, () => { layout = null; return { delimiter: ',', names: [] } })
    return layout
  }

  return { root, update, leave: () => { left = true; clearTimeout(timer) } }
}

async function headerLine(id) {
  const away = new AbortController()
  const answer = await ask(`${jobPath(id)}/rejects.csv?resolved=all`, { signal: away.signal, headers: { Accept: 'text/csv' } })
  const reader = answer.body.getReader()
  const { value } = await reader.read()
  away.abort()
  return new TextDecoder().decode(value || new Uint8Array())
}
