// Which room may import which, as docs/architecture.md draws it, and what the core rooms may not touch: the network, files,
// time, the environment and the console are arguments there.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'

const SRC = fileURLToPath(new URL('../', import.meta.url))
const ARCHITECTURE = fileURLToPath(new URL('../../docs/architecture.md', import.meta.url))

const ROOMS: Readonly<Record<string, readonly string[]>> = {
  bytes: [],
  crypto: ['bytes'],
  wire: ['bytes'],
  packet: ['bytes', 'wire'],
  session: ['bytes', 'crypto', 'wire'],
  path: ['bytes', 'crypto', 'wire'],
  mesh: ['bytes', 'crypto', 'wire', 'session'],
  forward: ['bytes', 'crypto', 'wire', 'session'],
  route: ['bytes', 'crypto', 'wire', 'session', 'forward'],
  relay: ['bytes', 'crypto', 'wire', 'session', 'forward', 'credit'],
  meet: ['bytes', 'crypto', 'wire'],
  discover: ['bytes', 'crypto', 'wire', 'meet'],
  credit: ['bytes', 'crypto', 'wire'],
  issuer: ['bytes', 'crypto', 'wire', 'credit', 'api'],
  stream: ['bytes', 'crypto', 'wire'],
  api: ['bytes'],
  platform: ['bytes', 'crypto', 'wire', 'packet', 'session', 'path', 'mesh', 'forward', 'api'],
  daemon: [
    ...['bytes', 'crypto', 'wire', 'packet', 'session', 'path', 'mesh', 'forward'],
    ...['route', 'relay', 'meet', 'discover', 'stream'],
    ...['credit', 'issuer', 'api', 'platform', 'web'],
  ],
  web: ['api'],
  cli: ['bytes', 'wire', 'api', 'daemon', 'platform', 'discover', 'issuer', 'web'],
}

/** Rooms that may import anything, and what one file may beyond its room. */
const FREE = ['lab']
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  'cli/commands/demo.ts': ['lab'],
}

/** Rooms that pretend there is no network. */
const CORE = [
  ...['bytes', 'crypto', 'wire', 'packet', 'session', 'path', 'mesh', 'forward', 'route', 'relay', 'meet', 'credit'],
]
const FORBIDDEN_MODULES =
  /^node:(net|dgram|tls|http|https|http2|dns|fs|child_process|worker_threads|timers|os|process|console|inspector)(\/|$)/
const FORBIDDEN_NAMES =
  /\b(setTimeout|setInterval|setImmediate|queueMicrotask)\s*\(|\b(process|console)\s*[.[]|\bDate\.now\b|\bperformance\.now\b|\bMath\.random\b|\bfetch\s*\(/
/** Only this room knows the library of that name. */
const OWNERS: readonly { readonly library: RegExp; readonly room: string }[] = [
  { library: /^(libp2p$|@libp2p\/|@chainsafe\/|@multiformats\/)/, room: 'discover' },
  { library: /^udx-native$/, room: 'stream' },
  { library: /^(@noble\/|sodium-native$|@cloudflare\/)/, room: 'crypto' },
  { library: /^(fastify|@fastify\/|@serenity-kit\/|pg$)/, room: 'issuer' },
  { library: /^commander$/, room: 'cli' },
  { library: /^prom-client$/, room: 'daemon' },
  { library: /^(preact|uplot|d3-force|vite)(\/|$)/, room: 'web' },
]

interface Source {
  /** Below src/, with forward slashes. */
  readonly file: string
  readonly room: string
  readonly text: string
  readonly imports: readonly string[]
}

const sources: readonly Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .map(file => file.replaceAll(path.sep, '/'))
  .filter(file => /\.tsx?$/.test(file) && file.includes('/'))
  .map(file => {
    const text = withoutComments(readFileSync(path.join(SRC, file), 'utf8'))
    return { file, room: file.split('/')[0] ?? '', text, imports: importsOf(text) }
  })
const shipped = sources.filter(({ file, room }) => !file.endsWith('.test.ts') && !FREE.includes(room))

test('every folder of src is a room of the table', () => {
  const rooms = new Set(sources.map(({ room }) => room))
  for (const room of rooms) assert.ok(room in ROOMS || FREE.includes(room), `src/${room} is in no table`)
  for (const room of Object.keys(ROOMS)) assert.ok(rooms.has(room), `the table has "${room}", and src/ has not`)
})

test('a room imports only the rooms that the table allows it', () => {
  const broken: string[] = []
  for (const { file, room, imports } of shipped) {
    const allowed = [room, ...(ROOMS[room] ?? []), ...(EXCEPTIONS[file] ?? [])]
    for (const name of imports) {
      const other = /^#([a-z]+)\//.exec(name)?.[1]
      if (other !== undefined && !allowed.includes(other)) broken.push(`src/${file} imports ${name}`)
    }
  }
  assert.deepEqual(broken, [])
})

test('what runs in a browser takes nothing but types from elsewhere', () => {
  const broken = shipped
    .filter(({ room }) => room === 'web')
    .flatMap(({ file, text }) => (/^import (?!type )[^']*? from '#/m.test(text) ? [file] : []))
  assert.deepEqual(broken, [])
})

test('imports inside a room are relative and stay there, and every import names its file', () => {
  const broken: string[] = []
  for (const { file, room, imports } of sources) {
    for (const name of imports) {
      const isOurs = name.startsWith('.') || name.startsWith('#')
      if (isOurs && !/\.(tsx?|cjs|css)$/.test(name)) broken.push(`src/${file}: ${name} has no file ending`)
      if (name.startsWith('.') && path.posix.join(file, '..', name).split('/')[0] !== room)
        broken.push(`src/${file}: ${name} leaves its room`)
      if (name.startsWith(`#${room}/`)) broken.push(`src/${file}: ${name} is in its own room`)
    }
  }
  assert.deepEqual(broken, [])
})

test('the core rooms have no sockets, files, timers, environment or console', () => {
  const broken: string[] = []
  for (const { file, room, text, imports } of shipped) {
    if (!CORE.includes(room)) continue
    for (const name of imports) if (FORBIDDEN_MODULES.test(name)) broken.push(`src/${file} imports ${name}`)
    const used = FORBIDDEN_NAMES.exec(text)
    if (used !== null) broken.push(`src/${file} uses ${used[0]}`)
  }
  assert.deepEqual(broken, [])
})

test('a library is known to one room', () => {
  const broken: string[] = []
  for (const { file, room, imports } of shipped) {
    for (const name of imports) {
      const owner = OWNERS.find(({ library }) => library.test(name))
      if (owner !== undefined && owner.room !== room) broken.push(`src/${file} imports ${name}`)
    }
  }
  assert.deepEqual(broken, [])
})

test('docs/architecture.md has the same table', () => {
  const rows = new Map(
    [...readFileSync(ARCHITECTURE, 'utf8').matchAll(/^\|\s*`([a-z]+)`\s*\|[^|\n]*\|([^|\n]*)\|\s*$/gm)].map(
      ([, room = '', may = '']) => [room, may],
    ),
  )
  for (const [room, allowed] of Object.entries(ROOMS)) {
    const text = rows.get(room)
    assert.ok(text !== undefined, `docs/architecture.md has no row for \`${room}\``)
    if (room === 'daemon') continue
    const named = [...text.matchAll(/[a-z]+/g)].map(([word]) => word).filter(word => word in ROOMS)
    assert.deepEqual(named.toSorted(), [...allowed].toSorted(), `what \`${room}\` may import`)
  }
})

function importsOf(text: string): string[] {
  const forms = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)(['"])([^'"\n]+)\1/g
  return [...text.matchAll(forms)].map(([, , name = '']) => name)
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}
