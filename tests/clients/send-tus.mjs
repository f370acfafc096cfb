// Sends files by tus-js-client: node send-tus.mjs ENDPOINT DATASET CHUNK_BYTES FILE...
// Each upload is aborted once in the middle and gone on with by a new Upload that only knows what was stored.
// CHUNK_BYTES 0: the whole file in one request, which is not aborted.
import { createReadStream, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { FileUrlStorage, Upload } from 'tus-js-client'

const [endpoint, dataset, chunkBytes, ...files] = process.argv.slice(2)
const say = (event, file, rest = {}) => console.log(JSON.stringify({ event, file: basename(file), ...rest }))

function send(file, { abortAt }) {
  return new Promise((resolve, reject) => {
    let job = null
    const upload = new Upload(createReadStream(file), {
      endpoint,
      chunkSize: Number(chunkBytes) || Infinity,
      retryDelays: Array(60).fill(500),
      metadata: { filename: basename(file), filetype: 'text/csv', dataset },
      urlStorage: new FileUrlStorage(join(process.cwd(), `${basename(file)}.urls.json`)),
      fingerprint: async () => `${file}-${statSync(file).size}`,
      storeFingerprintForResuming: true,
      removeFingerprintOnSuccess: true,
      onAfterResponse: (_request, response) => { job = response.getHeader('Ingest-Job') ?? job },
      onChunkComplete: (_size, accepted, total) => say('accepted', file, { accepted, total }),
      onProgress: (sent, total) => {
        if (sent >= abortAt * total && !upload.aborting) {
          upload.aborting = true
          upload.abort().then(() => resolve({ aborted: true }), reject)
        }
      },
      onSuccess: () => resolve({ aborted: false, job }),
      onError: reject,
    })
    upload.findPreviousUploads().then((found) => {
      if (found.length) { say('resumed', file); upload.resumeFromPreviousUpload(found[0]) }
      upload.start()
    }, reject)
  })
}

async function sendStubbornly(file) {
  if (Number(chunkBytes)) {
    const first = await send(file, { abortAt: 0.3 })
    if (!first.aborted) throw new Error(`${file} was not aborted`)
    say('aborted', file)
  }
  say('done', file, await send(file, { abortAt: Infinity }))
}

await Promise.all(files.map(sendStubbornly))
