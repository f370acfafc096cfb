// One job, live: state, progress, counts that add up, rate, chunks, errors in words, and what can be done with it.

import { ask, jobPath, json } from './api.js'
import { badge, confirmed, h, nothing, put, say, titled } from './dom.js'
import { count, counted, moment, percent, size, span } from './format.js'
import { rejectsOf } from './rejects.js'
import { may } from './store.js'
import { follow } from './stream.js'

const FINAL = ['completed', 'failed', 'cancelled']
// Chunks that are shown one by one; beyond them the strip shows shares.
const MOST_CHUNKS = 100
const SAMPLES = 90
const CHUNK_STATES = ['completed', 'processing', 'pending', 'failed']
const COUNTS = [['inserted_rows', 'Inserted'], ['updated_rows', 'Updated'], ['unchanged_rows', 'Unchanged'], ['skipped_rows', 'Skipped'], ['failed_rows', 'Rejected']]

/** @param {HTMLElement} main @param {string} id @returns {() => void} leave */
export function showJob(main, id) {
  let stop = () => {}
  let clock = 0
  let job = /** @type {any} */ (null)
  let left = false
  const rates = /** @type {number[]} */ ([])
  const view = parts(act)
  const rejects = rejectsOf(id)
  put(main, h('p', { class: 'soft' }, 'Loading…'))

  json(jobPath(id)).then((found) => {
    if (left) return
    put(main, view.root, rejects.root)
    take(found)
    listen()
    clock = setInterval(() => job && view.time(job), 1000)
  }, (problem) => {
    if (!left && problem.status !== 401) put(main, nothing(problem.status === 404 ? 'There is no such job' : 'The job cannot be shown', problem.message, h('a', { href: '#/' }, 'All jobs')))
  })

  function listen() {
    stop()
    if (FINAL.includes(job.status)) return
    stop = follow(id, { job: take, live: view.live, gone: () => put(main, nothing('The job was deleted', '', h('a', { href: '#/' }, 'All jobs'))) })
  }

  function take(found) {
    if (left) return
    const before = job?.status
    job = found
    if (job.status === 'processing') {
      rates.push(job.rows_per_second || 0)
      if (rates.length > SAMPLES) rates.shift()
    }
    view.update(job, rates)
    rejects.update(job)
    if (before && before !== job.status) say(document.getElementById('live'), `${job.filename}: ${job.status}`)
  }

  async function act(action) {
    if (action === 'delete' && !(await confirmed(`Delete the job of ${job.filename}? Its rejects go too; rows in the table stay.`, 'Delete'))) return
    if (action === 'cancel' && !(await confirmed(`Cancel the load of ${job.filename}? Rows that are in the table stay there.`, 'Cancel the load'))) return
    view.busy(true)
    try {
      if (action === 'delete') {
        await ask(jobPath(id), { method: 'DELETE' })
        location.hash = '#/'
        return
      }
      const found = await json(`${jobPath(id)}/${action}`, { method: 'POST' })
      view.failed('')
      take(found)
      listen()
    } catch (problem) {
      view.failed(problem.message)
      json(jobPath(id)).then(take, () => {})
    } finally {
      view.busy(false)
    }
  }

  return () => { left = true; stop(); clearInterval(clock); rejects.leave() }
}

/** The parts of the view, made once; `update` changes their words and numbers, so nothing moves but what has changed. */
function parts(act) {
  const name = h('bdi')
  const state = h('span')
  const about = h('p', { class: 'soft' })
  const bar = h('progress', { max: 1, 'aria-label': 'progress' })
  const done = h('span', { class: 'n' })
  const times = h('span', { class: 'soft n' })
  const error = h('div', { class: 'error', role: 'alert', hidden: true })
  const trouble = h('div', { class: 'error', role: 'alert', hidden: true })
  const warnings = h('ul', { class: 'warnings' })
  const stale = h('p', { class: 'soft', hidden: true }, 'The connection is interrupted; these numbers may be old. Connecting again…')
  const numbers = Object.fromEntries(COUNTS.map(([key]) => [key, h('dd', { class: 'n' })]))
  const sum = h('dd', { class: 'n' })
  const rate = h('span', { class: 'n' })
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline')
  const chart = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  chart.setAttribute('viewBox', `0 0 ${SAMPLES} 30`)
  chart.setAttribute('preserveAspectRatio', 'none')
  chart.setAttribute('aria-hidden', 'true')
  chart.append(line)
  const chunks = strip()
  const buttons = Object.fromEntries([['pause', 'Pause'], ['resume', 'Resume'], ['retry', 'Retry failed chunks'], ['cancel', 'Cancel'], ['delete', 'Delete']]
    .map(([key, text]) => [key, h('button', { class: key === 'delete' || key === 'cancel' ? 'danger' : '', onclick: () => act(key) }, text)]))
  const detail = h('dl', { class: 'facts wide' })
  let ended = /** @type {boolean|null} */ (null) // when it was first seen; then there is no rate to draw

  const root = h('section', { 'aria-label': 'Job' },
    h('p', {}, h('a', { href: '#/' }, '← All jobs')),
    titled('', state, h('div', { class: 'acts' }, Object.values(buttons))), about, stale, error, trouble,
    h('div', { class: 'progress' }, bar, done, times),
    h('dl', { class: 'counts' }, COUNTS.map(([key, text]) => h('div', { class: key }, h('dt', {}, text), numbers[key])),
      h('div', { class: 'sum' }, h('dt', {}, 'Records'), sum)),
    h('div', { class: 'two' },
      h('div', {}, h('h2', {}, 'Rate'), h('div', { class: 'chart' }, chart, rate)),
      h('div', {}, h('h2', {}, 'Chunks'), chunks.root)),
    warnings,
    h('details', {}, h('summary', {}, 'Details'), detail))
  root.querySelector('h1').append(name)

  function update(job, rates) {
    const over = FINAL.includes(job.status)
    say(name, job.filename)
    if (state.textContent !== job.status) put(state, badge(job.status))
    put(about, `${job.dataset} · ${size(job.bytes_received)}${job.total_rows === null ? '' : ` · ${counted(job.total_rows, 'record')}`}${job.mode === 'batches' ? '' : ` · ${job.mode}`}`,
      job.parent_id && ' · corrects ', job.parent_id && h('a', { href: `#/jobs/${job.parent_id}` }, 'an earlier file'))
    bar.value = job.progress
    bar.className = job.status
    say(done, percent(job.progress))
    const total = COUNTS.reduce((all, [key]) => all + job[key], 0)
    for (const [key] of COUNTS) say(numbers[key], count(job[key]))
    numbers.failed_rows.classList.toggle('bad', job.failed_rows > 0)
    say(sum, count(total))
    say(rate, job.rows_per_second ? `${count(Math.round(job.rows_per_second))} rows/s` : job.status === 'paused' ? 'paused' : '–')
    const top = Math.max(...rates, 1)
    line.setAttribute('points', rates.map((one, at) => `${SAMPLES - rates.length + at},${(29 - (one / top) * 27).toFixed(1)}`).join(' '))
    ended ??= over
    chart.toggleAttribute('hidden', ended)
    chunks.update(job)
    error.hidden = !job.error
    error.classList.toggle('calm', job.status === 'cancelled')
    if (job.error) say(error, `${job.error.message} (${job.error.code})`)
    put(warnings, (job.warnings || []).map((one) => h('li', {}, one.message || one.code)))
    const can = may('control')
    buttons.pause.hidden = !can || !['pending', 'processing'].includes(job.status)
    buttons.resume.hidden = !can || job.status !== 'paused'
    buttons.retry.hidden = !can || job.status !== 'failed' || !job.chunks.failed
    buttons.cancel.hidden = !can || over
    buttons.delete.hidden = !can || !over
    put(detail, [['Job', job.id], ['Dataset', job.dataset], ['Created', moment(job.created_at)], ['Started', moment(job.started_at)],
      ['Ended', moment(job.completed_at)], ['Priority', job.priority], ['SHA-256', job.sha256 || '–'], ['Compression', job.compression || 'none'], ['Owner', job.owner || '–']]
      .map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', {}, value))))
    time(job)
  }

  function time(job) {
    const end = job.completed_at ? Date.parse(job.completed_at) : Date.now()
    const took = job.started_at ? span(Math.max(0, (end - Date.parse(job.started_at)) / 1000)) : ''
    const eta = job.status === 'processing' && job.eta_seconds !== null ? `, ${span(Math.ceil(job.eta_seconds))} left` : ''
    say(times, took ? `${took}${eta}` : job.status === 'pending' ? 'waits for a worker' : '')
  }

  return {
    root, update, time,
    live: (is) => { stale.hidden = is },
    failed: (text) => { trouble.hidden = !text; say(trouble, text) },
    busy: (is) => { for (const button of Object.values(buttons)) button.disabled = is },
  }
}

/** The chunks as a strip: one mark each, or shares when there are too many; asked again when their counts have changed. */
function strip() {
  const marks = h('div', { class: 'strip', role: 'img' })
  const words = h('p', { class: 'soft n' })
  let last = ''
  let asked = 0

  function update(job) {
    const total = CHUNK_STATES.reduce((all, key) => all + job.chunks[key], 0)
    const now = JSON.stringify([job.chunks, job.status])
    if (now === last) return
    last = now
    const word = (key) => (key === 'failed' && job.status === 'cancelled' ? 'not loaded' : key)
    const text = CHUNK_STATES.filter((key) => job.chunks[key]).map((key) => `${count(job.chunks[key])} ${word(key)}`).join(', ') || 'none yet'
    say(words, text)
    marks.setAttribute('aria-label', `chunks: ${text}`)
    if (total > MOST_CHUNKS || !total) shares(job.chunks)
    else single(job)
  }

  function shares(chunks) {
    put(marks, CHUNK_STATES.filter((key) => chunks[key]).map((key) => {
      const part = h('i', { class: key })
      part.style.flexGrow = chunks[key]
      return part
    }))
  }

  async function single(job) {
    const mine = ++asked
    const found = await json(`${jobPath(job.id)}/chunks?limit=${MOST_CHUNKS}`).catch(() => null)
    if (!found || mine !== asked) return
    put(marks, found.chunks.map((chunk) => h('i', { class: chunk.status,
      title: `chunk ${chunk.ordinal}: ${chunk.status}, ${count(chunk.records)} records${chunk.error ? ` – ${chunk.error.message}` : ''}` })))
  }

  return { root: h('div', {}, marks, words), update }
}
