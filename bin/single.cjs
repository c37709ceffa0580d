'use strict'
// The first script of the single-file executable. Native parts and worker threads are loaded from files: at its first start it
// unpacks what it carries into the user's cache, in a folder named for its content, and from then on runs from there.
const { mkdirSync, existsSync, renameSync, rmSync, writeFileSync } = require('node:fs')
const { createRequire, enableCompileCache } = require('node:module')
const { homedir } = require('node:os')
const path = require('node:path')
const sea = require('node:sea')

const digest = sea.getAsset('digest', 'utf8')
const cache = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'hoplite')
const tree = path.join(cache, digest)

if (!existsSync(tree)) unpack()
enableCompileCache(path.join(cache, `${digest}-compiled`))

// It starts itself as `node` would be started: options for Node, which hold here anyway, then the script.
const given = process.argv.slice(2).filter(word => !process.execArgv.includes(word))
const main = path.join(tree, 'dist', 'cli', 'main.js')
const [script, ...rest] = given[0]?.startsWith(tree + path.sep) ? given : [main, ...given]
process.argv = [process.execPath, script, ...rest]
createRequire(main)(path.join(tree, 'bin', 'import.cjs'))(script)

/** Into a folder beside it first: two that start at once do not see half of it. */
function unpack() {
  const aside = `${tree}.new-${process.pid}`
  mkdirSync(cache, { recursive: true, mode: 0o700 })
  for (const name of sea.getAssetKeys()) {
    if (name === 'digest') continue
    const file = path.join(aside, name)
    // The cache is its owner's; what is in the tree, a node without rights reads too.
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o755 })
    writeFileSync(file, Buffer.from(sea.getRawAsset(name)))
  }
  try {
    renameSync(aside, tree)
  } catch (error) {
    rmSync(aside, { recursive: true, force: true })
    if (!existsSync(tree)) throw error
  }
}
