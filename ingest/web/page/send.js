// Sending files: choose, look at what the service would read, then upload and load with a bar for each.

import { BASE, json, query } from './api.js'
import { cells, DELIMITER_NAMES, delimiterOf, endOfHeader, isOpaque, record } from './csv.js'
import { badge, fill, h, put, say, titled } from './dom.js'
import { count, counted, percent, size, span } from './format.js'
import { changed, may, set, state, watch } from './store.js'
import { add, pause, remove, start } from './uploads.js'

// What of a file is looked at; the service takes up to 1 MiB.
const SAMPLE_BYTES = 256 * 1024
const ROWS = 8
const FINAL = ['completed', 'failed', 'cancelled']

/** @param {HTMLElement} main @returns {() => void} leave */
export function showSend(main) {
  const cards = new Map()
  const list = h('div')
  const input = h('input', { type: 'file', multiple: true, class: 'unseen', id: 'files', onchange: () => { take(input.files); input.value = '' } })
  const zone = h('label', { class: 'zone', for: 'files' }, h('strong', {}, 'Drop CSV files here'), ' or choose them',
    h('span', { class: 'soft' }, 'Any size; .gz, .zst and .bz2 too. Nothing is loaded before you have seen how it is read.'))
  const all = h('button', { class: 'main', hidden: true, onclick: () => state.sends.filter(ready).forEach(upload) }, 'Upload all')
  const over = (is) => (event) => { event.preventDefault(); zone.classList.toggle('over', is) }
  for (const [kind, is] of /** @type {[string, boolean][]} */ ([['dragenter', true], ['dragover', true], ['dragleave', false]])) zone.addEventListener(kind, over(is))
  zone.addEventListener('drop', (event) => { over(false)(event); take(event.dataTransfer.files) })
  put(main, titled('Send files', all))
  fill(main, may('upload') || !state.session ? [input, zone] : h('p', { class: 'error' }, 'Your key may not send files: it needs the scope “upload”.'), list)

  function take(files) {
    for (const file of files) look(add(file))
  }

  function update() {
    for (const [id, card] of cards) if (!state.sends.some((send) => send.id === id)) { card.root.remove(); cards.delete(id) }
    ;[...state.sends].reverse().forEach((send) => {
      if (!cards.has(send.id)) { cards.set(send.id, cardOf(send)); list.prepend(cards.get(send.id).root) }
      cards.get(send.id).update()
    })
    all.hidden = state.sends.filter(ready).length < 2
  }
  // A table may have come since the page was opened.
  json(`${BASE}/datasets`).then(({ datasets }) => {
    if (JSON.stringify(datasets) === JSON.stringify(state.datasets)) return
    for (const send of state.sends) send.drawn = false
    set({ datasets })
  }, () => {})
  state.sends.forEach((send) => { if (send.state === 'draft' && !send.preview) look(send) })
  update()
  return watch(update)
}

const datasetOf = (send) => (state.datasets || []).find((one) => one.name === (send.dataset || send.preview?.dataset))
const needs = (send) => Object.entries(datasetOf(send)?.parameters || {})
const ready = (send) => send.state === 'draft' && send.preview && !send.preview.problems.some((text) => SAID[text.split(': ')[0]]) && needs(send).every(([name, one]) => !one.required || send.options[name])

function upload(send) {
  send.dataset ||= send.preview?.dataset || ''
  start(send)
}

/** Ask how the service would read the beginning of a file. */
async function look(send) {
  const mine = (send.looks = (send.looks || 0) + 1)
  send.problem = ''
  changed()
  try {
    const start = new Uint8Array(await send.file.slice(0, SAMPLE_BYTES).arrayBuffer())
    send.opaque = isOpaque(send.name, start)
    const end = send.opaque ? -1 : endOfHeader(start)
    send.firstLine = end < 0 ? '' : new TextDecoder().decode(start.subarray(0, end))
    if (!send.opaque) send.delimiter ||= send.firstLine ? delimiterOf(send.firstLine) : ','
    send.headerEnd = end
    const data = rewritten(send)
    const found = await json(`${BASE}/preview${query({ dataset: send.dataset || 'auto', delimiter: send.delimiter })}`, { method: 'POST', body: await data.slice(0, SAMPLE_BYTES).arrayBuffer() })
    if (mine !== send.looks) return
    send.data = data
    send.preview = found
  } catch (problem) {
    if (mine !== send.looks) return
    send.preview = null
    send.problem = problem.message || 'the file cannot be read'
  }
  send.drawn = false
  changed()
}

/** The file, with the names of its columns changed where the user has said so. */
function rewritten(send) {
  const names = Object.entries(send.renamed || {})
  if (!names.length) { send.header = ''; return send.file }
  const header = cells(send.firstLine.replace(/^\ufeff/, ''), send.delimiter)
  for (const [at, name] of names) header[at] = name
  send.header = record(header, send.delimiter)
  return new Blob([send.header, send.file.slice(send.headerEnd)])
}

function cardOf(send) {
  const draft = h('div')
  const phase = h('span', { class: 'soft' })
  const sent = bar('Upload')
  const load = bar('Load')
  const error = h('p', { class: 'error', role: 'alert', hidden: true })
  const result = h('p')
  const button = (text, act, kind = '') => h('button', { class: kind, onclick: act }, text)
  const go = button('Upload', () => upload(send), 'main')
  const hold = button('Pause', () => pause(send))
  const on = button('Resume', () => start(send), 'main')
  const again = button('Try again', () => { send.upload = null; Object.assign(send, { jobId: '', job: null, sent: 0 }); start(send) }, 'main')
  const away = button('Remove', () => remove(send))
  const buttons = h('div', { class: 'row' }, go, hold, on, again, away)
  const root = h('article', { class: 'card send', 'aria-label': send.name },
    h('div', { class: 'titled' }, h('h2', { title: send.name }, h('bdi', {}, send.name)), h('span', { class: 'soft n' }, size(send.file.size)), phase),
    draft, sent.root, load.root, error, result, buttons)

  function update() {
    const { state: at, job } = send
    const drafting = at === 'draft'
    draft.hidden = !drafting
    if (drafting && !send.drawn) { send.drawn = true; drawDraft(draft, send) }
    sent.root.hidden = drafting
    load.root.hidden = drafting || !job
    const left = send.rate > 0 ? `, ${span(Math.ceil((send.file.size - send.sent) / send.rate))} left` : ''
    const words = { waiting: 'waits for its turn', paused: 'paused', retrying: 'waits for the service', sent: 'done', failed: 'stopped' }
    sent.set(send.data.size ? send.sent / send.data.size : Number(at === 'sent'), at === 'uploading' ? `${send.rate ? `${size(send.rate)}/s` : ''}${left}` : words[at] || '')
    if (job) {
      const speed = job.status === 'processing' && job.rows_per_second ? `${count(Math.round(job.rows_per_second))} rows/s${job.eta_seconds !== null ? `, ${span(Math.ceil(job.eta_seconds))} left` : ''}` : FINAL.includes(job.status) ? '' : job.status
      load.set(job.progress, speed, job.status)
      if (result.dataset.now !== `${job.status} ${job.processed_rows} ${job.failed_rows}`) {
        result.dataset.now = `${job.status} ${job.processed_rows} ${job.failed_rows}`
        put(result, badge(job.status), ' ', `${counted(job.processed_rows, 'row')} in the table`, job.failed_rows ? `, ${count(job.failed_rows)} rejected. ` : '. ',
          h('a', { href: `#/jobs/${job.id}` }, job.failed_rows && job.status !== 'processing' ? 'See the rejects' : 'Open the job'))
        say(document.getElementById('live'), `${send.name}: ${job.status}`)
      }
    } else put(result)
    const text = drafting ? send.problem : at === 'retrying' || !job?.error ? send.error : job.error.message
    error.hidden = !text
    error.className = at === 'retrying' ? 'soft' : 'error'
    say(error, text || '')
    say(phase, drafting ? (send.preview ? '' : send.problem ? '' : 'reading…') : send.parent ? 'corrected file' : '')
    go.hidden = !drafting
    go.disabled = !ready(send)
    hold.hidden = !['waiting', 'uploading', 'retrying'].includes(at)
    on.hidden = at !== 'paused'
    again.hidden = at !== 'failed'
    say(away, ['draft', 'sent', 'failed'].includes(at) ? 'Remove from this list' : 'Cancel the upload')
  }

  send.drawn = false
  return { root, update }
}

function bar(name) {
  const progress = h('progress', { max: 1, value: 0, 'aria-label': name })
  const done = h('span', { class: 'n' })
  const note = h('span', { class: 'soft n' })
  return {
    root: h('div', { class: 'progress' }, h('span', { class: 'name' }, name), progress, done, note),
    set(part, text, kind = '') { progress.value = part; progress.className = kind; say(done, percent(part)); say(note, text) },
  }
}

/** A control with its label, on one line however narrow the window is. */
const field = (id, text, control) => h('span', { class: 'field' }, h('label', { for: id }, text), control)

/** How the file is read: dataset, dialect, columns, first rows, problems; each choice asks the service again. */
function drawDraft(root, send) {
  const found = send.preview
  const id = `send${send.id}`
  const dataset = h('select', { id: `${id}d`, onchange: () => { Object.assign(send, { dataset: dataset.value, renamed: {} }); look(send) } },
    h('option', { value: '' }, `recognise${!send.dataset && found?.dataset ? `: ${found.dataset}` : ''}`), (state.datasets || []).map((one) => h('option', { value: one.name }, one.name)))
  dataset.value = send.dataset
  const delimiter = h('select', { id: `${id}s`, onchange: () => { Object.assign(send, { delimiter: delimiter.value, renamed: {} }); look(send) } },
    Object.entries(DELIMITER_NAMES).map(([value, name]) => h('option', { value }, name)))
  delimiter.value = send.delimiter || found?.dialect.delimiter || ','
  put(root, h('div', { class: 'row filters' }, field(`${id}d`, 'Dataset', dataset), field(`${id}s`, 'Separated by', delimiter),
    needs(send).map(([name, one]) => field(id + name, `${name}${one.required ? ' *' : ''}`,
      h('input', { id: id + name, value: send.options[name] || '', placeholder: one.description || '', oninput: (event) => { send.options[name] = event.target.value.trim(); changed() } })))))
  if (!found) return
  const problems = found.problems.map(sentence)
  fill(root, h('p', { class: 'soft' }, readAs(found)), problems.length ? h('ul', { class: 'warnings' }, problems.map((text) => h('li', {}, text))) : h('p', { class: 'soft good' }, 'The header fits the dataset. Values are checked when the file is loaded.'),
    h('div', { class: 'scroll' }, h('table', {},
      h('thead', {}, h('tr', {}, found.columns.map((one) => h('th', { scope: 'col' }, h('bdi', {}, one.name)))),
        h('tr', { class: 'mapping' }, found.columns.map((one, at) => h('td', {}, target(send, one, at))))),
      h('tbody', {}, found.rows.slice(0, ROWS).map((row) => h('tr', {}, row.map((value) => h('td', {}, h('bdi', {}, value)))))))))
  if (Object.keys(send.renamed || {}).length) fill(root, h('p', { class: 'soft' }, 'The header is sent with the names that you chose; the file on your disk stays as it is.'))
}

/** What the service made of the beginning of the file. */
function readAs({ dialect, columns, platform }) {
  const quote = dialect.quote ? `quoted with ${dialect.quote}` : 'nothing quoted'
  return `Read as ${encodingOf(dialect).toUpperCase()}, ${DELIMITER_NAMES[dialect.delimiter] || dialect.delimiter} between ${counted(columns.length, 'column')}, ${quote}${platform ? `; an export of ${platform}` : ''}.`
}

/** The encoding of the file as it was sent; the service leaves out what is as usual. */
function encodingOf(dialect) {
  return dialect.encoding || 'utf-8'
}

function target(send, one, at) {
  const columns = (datasetOf(send)?.columns || []).map((column) => column.name)
  const words = one.column ? `→ ${one.column}${one.type ? ` (${one.type})` : ''}` : '→ nothing'
  if (!columns.length || send.headerEnd < 0 || encodingOf(send.preview.dialect) !== 'utf-8') return h('span', { class: one.column ? 'soft' : 'bad' }, words)
  const select = h('select', { 'aria-label': `column for ${one.name}`, title: one.column ? `recognised by “${one.matched ?? one.name}”` : 'not loaded', class: one.column ? '' : 'bad',
    onchange: () => { (send.renamed ||= {})[at] = select.value; look(send) } },
  !one.column && h('option', { value: '' }, '→ nothing'), columns.map((name) => h('option', { value: name }, `→ ${name}`)))
  select.value = one.column || ''
  return select
}

/** What keeps a file from being loaded, by the word that begins a problem of the preview. */
const SAID = { missing: 'The file lacks a column that the dataset must have', 'more than once': 'Several columns stand for the same; choose another for each but one', unknown: 'The dataset has no such column; choose one for each, or take it out of the file' }

/** A problem of the preview as a sentence. */
function sentence(text) {
  const [word, rest] = text.split(/: (.*)/s)
  return SAID[word] ? `${SAID[word]}: ${rest}` : text
}
