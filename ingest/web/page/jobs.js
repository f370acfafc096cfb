// The history: every job in pages, newest first, with a filter. Asked again every two seconds while it is in view.

import { BASE, jobPath, json, query } from './api.js'
import { badge, blank, h, pager, put, titled } from './dom.js'
import { ago, count, moment, percent, size } from './format.js'
import { may, state } from './store.js'
import { add } from './uploads.js'

const LIMIT = 25
const AGAIN_MS = 2000
// After the last letter that was typed.
const TYPED_MS = 250
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const STATES = ['receiving', 'pending', 'processing', 'paused', 'completed', 'failed', 'cancelled']

/** @param {HTMLElement} main @returns {() => void} leave */
export function showJobs(main) {
  const filter = state.history
  const list = h('div', { class: 'list' }, h('p', { class: 'soft' }, 'Loading…'))
  const feet = h('div')
  let timer = 0
  let last = ''
  let asked = 0
  let left = false

  const choose = h('select', { 'aria-label': 'State', onchange: () => ask({ status: choose.value }) },
    h('option', { value: '' }, 'all states'), STATES.map((name) => h('option', { value: name }, name)))
  const dataset = h('select', { 'aria-label': 'Dataset', onchange: () => ask({ dataset: dataset.value }) },
    h('option', { value: '' }, 'all datasets'), (state.datasets || []).map((one) => h('option', { value: one.name }, one.name)))
  const text = h('input', { type: 'search', class: 'search', placeholder: 'File name or job id', 'aria-label': 'Search by file name or job id', maxLength: 255, spellcheck: false,
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => ask({ text: text.value.trim() }), TYPED_MS) } })
  choose.value = filter.status
  dataset.value = filter.dataset
  text.value = filter.text
  const files = h('input', { type: 'file', multiple: true, class: 'unseen', id: 'files', onchange: () => {
    for (const file of files.files) add(file)
    location.hash = '#/send'
  } })
  const choosing = may('upload') ? [files, h('label', { class: 'button', for: 'files' }, 'Choose files')] : []
  put(main, titled('Jobs', h('a', { class: 'button main', href: '#/send' }, 'Send files'), ...choosing),
    h('div', { class: 'row filters' }, choose, dataset, text), list, feet)

  function ask(patch) {
    Object.assign(filter, { page: 1 }, patch)
    last = ''
    again()
  }

  async function again() {
    clearTimeout(timer)
    timer = setTimeout(again, AGAIN_MS)
    if (document.hidden && last) return
    const mine = ++asked
    try {
      const found = await find()
      if (left || mine !== asked) return
      if (!found.jobs.length && filter.page > 1) return ask({})
      const now = JSON.stringify(found)
      if (now !== last) draw(found)
      last = now
    } catch (problem) {
      if (left || mine !== asked) return
      if (!last && problem.status !== 401) put(list, blank('The jobs cannot be shown', problem.message))
    }
  }

  /** A page of the jobs that fit the filter; a whole id stands for that job alone. */
  async function find() {
    if (!ID.test(filter.text)) return json(`${BASE}/jobs${query({ page: filter.page, limit: LIMIT, status: filter.status, dataset: filter.dataset, filename: filter.text })}`)
    try {
      return { jobs: [await json(jobPath(filter.text))], total: 1 }
    } catch (problem) {
      if (problem.status !== 404) throw problem
      return { jobs: [], total: 0 }
    }
  }

  function draw({ jobs, total }) {
    put(feet, total > LIMIT && pager(filter.page, LIMIT, total, (page) => ask({ page })))
    if (!jobs.length) {
      const clear = h('button', { onclick: () => { text.value = choose.value = dataset.value = ''; ask({ status: '', dataset: '', text: '' }) } }, 'Show all jobs')
      put(list, filter.status || filter.dataset || filter.text ? blank('No job fits', 'Choose another state or dataset, or search for another name.', clear)
        : blank('No jobs yet', 'Send a CSV file: every good row is loaded once, every bad row is kept with its reason.',
          h('a', { class: 'button main', href: '#/send' }, 'Send files')))
      return
    }
    const focus = document.activeElement?.getAttribute('href')
    put(list, h('table', { class: 'jobs' },
      h('thead', {}, h('tr', {}, ['File', 'State', 'Progress', 'Rows', 'Rejected', 'Size', 'Begun'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, jobs.map(row))))
    if (focus?.startsWith('#/jobs/')) [...list.querySelectorAll('a')].find((a) => a.getAttribute('href') === focus)?.focus()
  }

  again()
  return () => { left = true; clearTimeout(timer) }
}

function row(job) {
  return h('tr', {},
    h('td', { class: 'file' }, h('a', { href: `#/jobs/${job.id}`, title: job.filename }, h('bdi', {}, job.filename)), h('span', { class: 'soft' }, job.dataset)),
    h('td', {}, badge(job.status)),
    h('td', { class: 'bar' }, h('progress', { class: job.status, max: 1, value: job.progress, 'aria-label': `progress of ${job.filename}` }), h('span', { class: 'n' }, percent(job.progress))),
    h('td', { class: 'n' }, count(job.processed_rows)),
    h('td', { class: job.failed_rows ? 'n bad' : 'n' }, count(job.failed_rows)),
    h('td', { class: 'n' }, size(job.bytes_received)),
    h('td', { class: 'n soft', title: moment(job.created_at) }, ago(job.created_at)))
}
