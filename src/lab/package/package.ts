// `npm run package`: what is published, into build/: the npm tarball, one executable file, and on Debian its package. Node does not strip types under node_modules, so the package carries compiled
// JavaScript and declarations in dist/ where the repository has src/. It is staged in a folder of its own and packed there.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { hasTool } from '../skip.ts'
import { makeDebianPackage } from './package-deb.ts'
import { makeSingleFile } from './package-single.ts'
import { makeTree } from './package-tree.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const COPIED = ['bin', 'docs', 'README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md']
const KEPT_FIELDS = ['name', 'version', 'description', 'license', 'type', 'engines', 'bin', 'dependencies'] as const

interface Manifest {
  readonly imports: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

/** Stages the package in `folder`/package and packs it into `folder`; returns the tarball's path. Throws when a step fails. */
function makePackage(folder: string): string {
  const stage = path.join(folder, 'package')
  stagePackage(stage)
  const report = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: stage,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  })
  const [{ filename } = { filename: '' }] = JSON.parse(report) as { filename: string }[]
  return path.join(folder, filename)
}

function stagePackage(stage: string): void {
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(stage, { recursive: true })
  const tsc = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const args = [tsc, '-p', path.join(ROOT, 'tsconfig.package.json'), '--outDir', path.join(stage, 'dist')]
  execFileSync(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  execFileSync(process.execPath, [path.join(ROOT, 'src', 'web', 'build.ts')], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  cpSync(path.join(ROOT, 'build', 'web'), path.join(stage, 'dist', 'web', 'site'), { recursive: true })
  for (const name of COPIED) {
    if (existsSync(path.join(ROOT, name))) cpSync(path.join(ROOT, name), path.join(stage, name), { recursive: true })
  }
  const manifest = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Manifest
  writeFileSync(path.join(stage, 'package.json'), `${JSON.stringify(publishedManifest(manifest), undefined, 2)}\n`)
}

/** The manifest of the published package: no development, and dist/ where the repository has src/. */
function publishedManifest(manifest: Manifest): Record<string, unknown> {
  const rooms = Object.keys(manifest.imports).map(pattern => pattern.replace(/^#|\/\*$/g, ''))
  return {
    ...Object.fromEntries(KEPT_FIELDS.map(field => [field, manifest[field]])),
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' }, './package.json': './package.json' },
    imports: Object.fromEntries(rooms.map(room => [`#${room}/*.ts`, `./dist/${room}/*.js`])),
  }
}

/** Makes the tarball, the single file and, where dpkg-deb is there, the Debian package; returns their paths. */
export function makeAll(folder: string): { readonly tarball: string; readonly single: string; readonly deb?: string } {
  const tarball = makePackage(folder)
  const tree = path.join(folder, 'tree')
  makeTree(ROOT, path.join(folder, 'package'), tree)
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }
  const deb = hasTool('dpkg-deb') ? { deb: makeDebianPackage(tree, version, folder) } : {}
  return { tarball, ...deb, single: makeSingleFile(ROOT, tree, folder) }
}

if (import.meta.main) process.stdout.write(`${Object.values(makeAll(path.join(ROOT, 'build'))).join('\n')}\n`)
