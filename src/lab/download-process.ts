// Downloads a URL and says what happened, as one line of JSON: bytes, SHA-256, milliseconds, and the longest pause between two
// pieces. With a file name as second argument it writes there once a tenth has come.

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { get } from 'node:http'

const [url = '', signFile] = process.argv.slice(2)
const hash = createHash('sha256')
const startedMs = performance.now()
let bytes = 0
let lastMs = startedMs
let longestPauseMs = 0
let pausedAt = 0
let hasSigned = false

const request = get(url, response => {
  const length = Number(response.headers['content-length'])
  lastMs = performance.now()
  response.on('data', (chunk: Buffer) => {
    const now = performance.now()
    if (now - lastMs > longestPauseMs) {
      longestPauseMs = now - lastMs
      pausedAt = bytes
    }
    lastMs = now
    bytes += chunk.length
    hash.update(chunk)
    if (!hasSigned && signFile !== undefined && bytes > length / 10) {
      hasSigned = true
      writeFileSync(signFile, '')
    }
  })
  response.on('end', finish)
  response.on('error', finish)
})
request.on('error', finish)

function finish(error?: Error): void {
  const report = {
    bytes,
    sha256: hash.digest('hex'),
    ms: Math.round(performance.now() - startedMs),
    longestPauseMs: Math.round(longestPauseMs),
    pausedAt,
    ...(error && { error: error.message }),
  }
  process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0))
}
