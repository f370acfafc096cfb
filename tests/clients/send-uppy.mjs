// Sends files by Uppy's tus plugin, all at once: node send-uppy.mjs ENDPOINT DATASET FILE...
// Each is paused once in the middle and resumed.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { Uppy } from '@uppy/core'
import Tus from '@uppy/tus'

const [endpoint, dataset, ...files] = process.argv.slice(2)
const say = (event, file, rest = {}) => console.log(JSON.stringify({ event, file, ...rest }))
const jobs = new Map()
const paused = new Set()

const uppy = new Uppy({ autoProceed: false, meta: { dataset } })
uppy.use(Tus, {
  endpoint,
  chunkSize: 1024 * 1024,
  retryDelays: Array(60).fill(500),
  limit: 4,
  onAfterResponse: (request, response) => {
    const job = response.getHeader('Ingest-Job')
    if (job) jobs.set(request.getURL(), job)
  },
})
uppy.on('upload-progress', (file, progress) => {
  if (progress.bytesUploaded > progress.bytesTotal * 0.3 && !paused.has(file.id)) {
    paused.add(file.id)
    uppy.pauseResume(file.id)
    say('paused', file.name)
    setTimeout(() => uppy.pauseResume(file.id), 100)
  }
})
for (const path of files) {
  const data = readFileSync(path)
  data.size = data.length // Uppy looks for the size of a Blob, tus-js-client wants a Buffer in Node
  uppy.addFile({ name: basename(path), type: 'text/csv', data })
}
const result = await uppy.upload()
if (result.failed.length) throw result.failed[0].error
// A file that was paused in the wrong moment may be missing from the result, and still be on its way.
const open = () => uppy.getFiles().some((file) => !file.progress.uploadComplete && !file.error)
while (open()) await new Promise((resolve) => setTimeout(resolve, 100))
const failed = uppy.getFiles().find((file) => file.error)
if (failed) throw new Error(failed.error)
for (const file of uppy.getFiles()) say('done', file.name, { job: jobs.get(file.tus.uploadUrl), paused: paused.has(file.id) })
process.exit(0)
