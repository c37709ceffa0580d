// The dashboard's files, for whoever serves them: in the published package they are there, in a clone they are built when
// they are first wanted and whenever the source is newer.

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** In the package this module is dist/web/bundle.js, and the files are beside it. */
const HERE = fileURLToPath(new URL('.', import.meta.url))
const PACKAGED = path.join(HERE, 'site')
const BUILT = fileURLToPath(new URL('../../build/web/', import.meta.url))

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

export interface BundleFile {
  readonly type: string
  readonly bytes: Uint8Array
  readonly isImmutable: boolean
}

/** Every file by its path in the browser; builds them first where that has to be done. */
export async function loadBundle(): Promise<ReadonlyMap<string, BundleFile>> {
  if (existsSync(PACKAGED)) return readBundle(PACKAGED)
  if (isStale()) {
    const { buildWeb } = await import('./build.ts')
    await buildWeb(BUILT)
  }
  return readBundle(BUILT)
}

/** Builds what is missing or old, for a daemon that may write nothing here. Where that is impossible the dashboard says so. */
export async function freshenBundle(): Promise<void> {
  if (!existsSync(PACKAGED) && isStale()) await loadBundle().catch(() => undefined)
}

function isStale(): boolean {
  const built = statSync(path.join(BUILT, 'index.html'), { throwIfNoEntry: false })?.mtimeMs
  if (built === undefined) return true
  const sources = readdirSync(HERE, { recursive: true, encoding: 'utf8' })
  return sources.some(name => statSync(path.join(HERE, name)).mtimeMs > built)
}

function readBundle(folder: string): ReadonlyMap<string, BundleFile> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(name => name.replaceAll(path.sep, '/'))
  return new Map(
    names.flatMap(name => {
      const type = TYPES[path.extname(name)]
      if (type === undefined) return []
      const file = { type, bytes: readFileSync(path.join(folder, name)), isImmutable: name.startsWith('assets/') }
      return [[`/${name}`, file] as const]
    }),
  )
}
