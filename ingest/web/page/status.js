// The service: is it well, what waits, who works. From /health and /stats; without a key for them, what strangers see.

import { BASE, json } from './api.js'
import { blank, h, put, titled } from './dom.js'
import { count, size, span } from './format.js'
import { may, state, watch } from './store.js'

const AGAIN_MS = 2000
// Several times what lies between two heartbeats.
const SILENT_S = 60

/** @param {HTMLElement} main @returns {() => void} leave */
export function showStatus(main) {
  const body = h('div', {}, h('p', { class: 'soft' }, 'Loading…'))
  let stats = /** @type {any} */ (null)
  let timer = 0
  let left = false
  put(main, titled('Service', h('a', { href: '/docs' }, 'API documentation')), body)

  async function again() {
    timer = setTimeout(again, AGAIN_MS)
    if (document.hidden && stats) return
    const [health, totals] = await Promise.all([json('/health').catch(() => null), may('metrics') ? json(`${BASE}/stats`).catch(() => stats) : null])
    if (left) return
    if (health) state.service = health
    stats = totals
    draw()
  }

  function draw() {
    const s = state.service
    if (!state.reachable) return put(body, blank('The service does not answer', 'This page goes on asking.'))
    if (!s) return
    put(body,
      facts('Health', [['State', s.draining ? 'draining' : s.status], ['Version', s.version], ['Up for', s.uptime === undefined ? null : span(s.uptime)],
        ['Role', s.role], ['Database', s.database && (s.database.ok ? `ok, ${span(s.database.latency_ms / 1000)}` : `not there (${s.database.code || 'no answer'})`)],
        ['Connections', s.database?.pool && `${s.database.pool.open - s.database.pool.idle} busy of ${s.database.pool.limit}`],
        ['Memory', s.memory && `${size(s.memory.rss_bytes)}, at most ${size(s.memory.peak_bytes)}`]]),
      s.worker && facts('Worker of this process', [['Last heartbeat', `${span(s.worker.heartbeat_age_s)} ago`], ['Chunks at work', count(s.worker.chunks)],
        ['Batches in flight', `${count(s.worker.batches_in_flight.queued)} queued, ${count(s.worker.batches_in_flight.writing)} writing`],
        ['Last batch took', s.worker.last_batch_s === null ? '–' : span(s.worker.last_batch_s)]]),
      s.queue && facts('Queue', [['Chunks waiting', count(s.queue.pending)], ['Chunks at work', count(s.queue.processing)], ['Oldest waits for', span(s.queue.oldest_age_s)]]),
      stats?.workers && workers(stats.workers),
      stats && facts('Jobs', [['All', count(stats.jobs.total)], ...Object.entries(stats.jobs).filter(([key, n]) => key !== 'total' && n).map(([key, n]) => [key, count(n)]),
        ['Rows per second now', count(Math.round(stats.rows_per_second))]]),
      stats?.lately && facts(`The last ${stats.lately.hours} hours`, [['Success', stats.lately.success_rate === null ? '–' : `${Math.round(stats.lately.success_rate * 100)} %`],
        ['Bytes', size(stats.lately.bytes)], ...Object.entries(stats.lately.rows).map(([key, n]) => [`Rows ${key}`, count(n)])]),
      !s.database && h('p', { class: 'soft' }, 'More is shown to a key with the scope “metrics”.'))
  }

  again()
  const end = watch(draw)
  return () => { left = true; clearTimeout(timer); end() }
}

/** All processes that load, wherever they run; one that is silent for long is gone, or cut off. */
function workers(all) {
  return h('section', { class: 'card' }, h('h2', {}, 'Workers'), all.length ? h('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'All workers' }, h('table', {},
    h('thead', {}, h('tr', {}, ['Host', 'Process', 'State', 'Last heartbeat', 'Chunks at work', 'Version'].map((name) => h('th', { scope: 'col' }, name)))),
    h('tbody', {}, all.map((one) => h('tr', {}, h('td', {}, h('bdi', {}, one.host)), h('td', { class: 'n' }, one.pid),
      h('td', {}, one.heartbeat_age_s > SILENT_S ? h('span', { class: 'bad' }, 'silent') : one.draining ? 'draining' : h('span', { class: 'good' }, 'at work')),
      h('td', { class: 'n' }, `${span(one.heartbeat_age_s)} ago`), h('td', { class: 'n' }, count(one.chunks)), h('td', {}, one.version))))))
    : h('p', { class: 'bad' }, 'No worker runs: what is sent waits for one.'))
}

function facts(title, pairs) {
  return h('section', { class: 'card' }, h('h2', {}, title),
    h('dl', { class: 'facts' }, pairs.filter((pair) => pair[1] !== null && pair[1] !== undefined).map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', { class: 'n' }, value)))))
}
