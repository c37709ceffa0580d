'use strict'
// Finds a Node that strips types (26 or newer) and runs a script on it, in this process where it already is one.
const { spawn } = require('node:child_process')
const { existsSync, realpathSync } = require('node:fs')
const path = require('node:path')

const WANTED_MAJOR = 26
const major = Number(process.versions.node.split('.')[0])

function pinnedNode() {
  const name = process.platform === 'win32' ? 'node.exe' : 'node'
  for (let dir = realpathSync(path.join(__dirname, '..')); ; dir = path.dirname(dir)) {
    const candidate = path.join(dir, 'node_modules', 'node', 'bin', name)
    if (existsSync(candidate)) return candidate
    if (path.dirname(dir) === dir) return undefined
  }
}

/** Runs `args` (node options, script, arguments) on the pinned Node and ends with its exit code. */
function launch(args) {
  const node = major >= WANTED_MAJOR ? process.execPath : pinnedNode()
  if (node === undefined) {
    process.stderr.write(
      `hoplite needs Node ${WANTED_MAJOR} or newer: this is Node ${process.versions.node}, and the pinned runtime (npm package "node") is not installed.\n` +
        `Run "npm ci" (with install scripts allowed), or install Node ${WANTED_MAJOR}.\n`,
    )
    process.exit(78)
  }
  const child = spawn(node, args, { stdio: 'inherit', windowsHide: true })
  // A terminal sends Ctrl-C to the whole group; the child decides when to end, we only wait for it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    })
  }
  child.on('error', error => {
    process.stderr.write(`cannot start the pinned Node at ${node}: ${error.message}\n`)
    process.exit(78)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (require('node:os').constants.signals[signal] ?? 0)))
}

module.exports = { launch, pinnedNode, WANTED_MAJOR, major }
