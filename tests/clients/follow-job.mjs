// Follows a job by EventSource as a page does, and tells each event: node follow-job.mjs URL
// What ends a connection is left to EventSource, which comes back by itself; only the end of the job closes it.
import { EventSource } from 'eventsource'

const ENDS = ['completed', 'failed', 'cancelled', 'deleted']
const source = new EventSource(process.argv[2])
const say = (event, rest = {}) => console.log(JSON.stringify({ event, ...rest }))

source.onopen = () => say('open')
source.onerror = (error) => {
  say('error', { code: error.code ?? null, closed: source.readyState === EventSource.CLOSED })
  if (source.readyState === EventSource.CLOSED) process.exit(1)
}
for (const name of ['progress', 'goodbye', ...ENDS]) {
  source.addEventListener(name, (message) => {
    const job = message.data ? JSON.parse(message.data) : {}
    say(name, { number: Number(message.lastEventId), rows: job.processed_rows ?? null, status: job.status ?? null })
    if (ENDS.includes(name)) source.close()
  })
}
