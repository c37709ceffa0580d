// Everything that the command needs on a machine that has nothing: Node, the compiled program, the libraries it runs with. The
// Debian package and the single file are made of it.
//
//   bin/node   dist/   docs/   node_modules/   package.json   README.md   LICENSE   CHANGELOG.md

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { hasTool } from '../skip.ts'

/** They bring Node, which the tree has in bin/. */
const NODE_PACKAGE = /^node(-bin-setup|-(linux|darwin|win)\b.*)?$/
const NOT_RUN = /\.(map|md|markdown|d\.ts|d\.mts|d\.cts|flow)$/
const NOT_RUN_FOLDERS = new Set(['test', 'tests', 'example', 'examples', '.github', 'benchmark'])

/** Turns the staged npm package in `stage` into a tree that runs, in `tree`. Throws when a step fails. */
export function makeTree(root: string, stage: string, tree: string): void {
  rmSync(tree, { recursive: true, force: true })
  cpSync(stage, tree, { recursive: true })
  rmSync(path.join(tree, 'bin'), { recursive: true })
  mkdirSync(path.join(tree, 'bin'))
  copyNode(path.join(tree, 'bin', 'node'))
  for (const library of libraries(root)) copyLibrary(path.join(root, library), path.join(tree, library))
}

/** Debug symbols are a sixth of it. */
function copyNode(target: string): void {
  copyFileSync(process.execPath, target)
  chmodSync(target, 0o755)
  if (hasTool('strip')) execFileSync('strip', [target])
}

/** The installed packages that are not for development alone, below `root`. */
function libraries(root: string): string[] {
  const npm = ['ls', '--all', '--parseable', '--omit=dev']
  const listed = execFileSync('npm', npm, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return listed
    .split('\n')
    .map(line => path.relative(root, line))
    .filter(name => name.startsWith('node_modules') && !NODE_PACKAGE.test(path.basename(name)))
}

/** Without the packages inside it (they are listed themselves), other machines' prebuilt parts, and what nobody runs. */
function copyLibrary(from: string, to: string): void {
  cpSync(from, to, {
    recursive: true,
    filter: source => {
      const [first, second] = path.relative(from, source).split(path.sep)
      if (first === 'prebuilds' && second !== undefined) return second === `${process.platform}-${process.arch}`
      return first !== 'node_modules' && !NOT_RUN_FOLDERS.has(first ?? '') && !NOT_RUN.test(source)
    },
  })
}
