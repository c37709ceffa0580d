// One executable file: Node with the tree inside (bin/single.cjs says how it starts).

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** Makes `folder`/hoplite of `tree` and returns its path. */
export function makeSingleFile(root: string, tree: string, folder: string): string {
  copyFileSync(path.join(root, 'bin', 'import.cjs'), path.join(tree, 'bin', 'import.cjs'))
  const names = readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .filter(name => name !== path.join('bin', 'node') && statSync(path.join(tree, name)).isFile())
    .toSorted()
  const digest = path.join(folder, 'digest')
  writeFileSync(digest, digestOf(tree, names))
  const output = path.join(folder, process.platform === 'win32' ? 'hoplite.exe' : 'hoplite')
  const settings = path.join(folder, 'single.json')
  writeFileSync(
    settings,
    JSON.stringify({
      main: path.join(root, 'bin', 'single.cjs'),
      executable: path.join(tree, 'bin', 'node'),
      output,
      disableExperimentalSEAWarning: true,
      execArgv: ['--no-warnings', '--max-semi-space-size=2'],
      assets: { digest, ...Object.fromEntries(names.map(name => [assetName(name), path.join(tree, name)])) },
    }),
  )
  execFileSync(process.execPath, ['--build-sea', settings], { stdio: ['ignore', 'ignore', 'inherit'] })
  rmSync(settings)
  rmSync(digest)
  return output
}

function assetName(name: string): string {
  return name.replaceAll(path.sep, '/')
}

/** 32 hex digits that change with any file. */
function digestOf(tree: string, names: readonly string[]): string {
  const hash = createHash('sha256')
  for (const name of names) {
    const bytes = readFileSync(path.join(tree, name))
    hash.update(`${assetName(name)}\0${bytes.length}\0`).update(bytes)
  }
  return hash.digest('hex').slice(0, 32)
}
