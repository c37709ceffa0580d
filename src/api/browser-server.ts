// The API and the dashboard on a port of 127.0.0.1, for the browser and for programs that have a token.
//
// A page of another site can make a browser send requests here. So: the Host must be ours (DNS rebinding), an Origin must be
// ours, a browser's own word on where a request comes from (Sec-Fetch-Site) is believed, and every request of the API needs
// a token, or cookie and page key together (access.ts).

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Access } from './access.ts'
import type { Permission } from './action.ts'
import { HopliteError } from './errors.ts'
import { type ApiNode, handleApi, readJson, sendError, sendJson } from './http.ts'
import { type ApiServer, closeServer } from './server.ts'

const MAX_CONNECTIONS = 512
const COOKIE_SECONDS = 30 * 86_400
const TOKEN_ADVICE = 'make another: hoplite call token.create --name NAME --permission read'
/** Where the page's key stands in its requests. */
export const PAGE_KEY_HEADER = 'x-hoplite-page'

const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=()',
}

/** A file of the dashboard. */
export interface Asset {
  readonly type: string
  readonly bytes: Uint8Array
  /** Its name has a hash of what is in it, so that a browser may keep it. */
  readonly isImmutable: boolean
}

export interface BrowserServerOptions {
  readonly node: ApiNode
  readonly access: Access
  readonly host: string
  /** 0 takes any. */
  readonly port: number
  /** The dashboard's files by path; asked for when the first one is wanted. */
  readonly assets: () => Promise<ReadonlyMap<string, Asset>>
}

export interface BrowserServer extends ApiServer {
  /** Like http://127.0.0.1:40123 */
  readonly origin: string
  readonly port: number
}

/** Listens; rejects with the system's error when the port is taken. */
export async function serveBrowser(options: BrowserServerOptions): Promise<BrowserServer> {
  const gate = { hosts: new Set<string>(), port: options.port }
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    answer(options, gate, request, response).catch(error => sendError(response, error))
  })
  server.maxConnections = MAX_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  const { port } = server.address() as AddressInfo
  gate.port = port
  const host = options.host.includes(':') ? `[${options.host}]` : options.host
  for (const name of [host, 'localhost']) gate.hosts.add(`${name}:${port}`)
  return { origin: `http://${host}:${port}`, port, close: () => closeServer(server) }
}

interface Gate {
  /** What the Host header may be. */
  readonly hosts: ReadonlySet<string>
  readonly port: number
}

async function answer(
  options: BrowserServerOptions,
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value)
  assertOwnSite(gate, request)
  const path = (request.url ?? '/').split('?')[0] ?? '/'
  if (path === '/login' && request.method === 'POST') return login(options.access, gate, request, response)
  if (path.startsWith('/v1/')) {
    const permission = permissionOf(options.access, gate, request)
    return handleApi(options.node, permission, request, response)
  }
  if (/^\/v\d+\//.test(path))
    throw new HopliteError('ACTION_UNKNOWN', 'carry out an action: this node speaks another version', 'ask for /v1/')
  if (request.method !== 'GET' && request.method !== 'HEAD')
    throw new HopliteError('REQUEST_INVALID', 'read a request: pages take GET', 'open the page in a browser')
  const asset = (await options.assets()).get(path === '/' ? '/index.html' : path)
  if (asset === undefined) throw new HopliteError('ACTION_UNKNOWN', 'open a page: there is none of that name', 'open /')
  response.setHeader('content-type', asset.type)
  response.setHeader('content-length', asset.bytes.length)
  response.setHeader('cache-control', asset.isImmutable ? 'max-age=31536000, immutable' : 'no-cache')
  response.end(request.method === 'HEAD' ? undefined : asset.bytes)
}

function assertOwnSite(gate: Gate, request: IncomingMessage): void {
  const { host, origin } = request.headers
  const site = request.headers['sec-fetch-site']
  const isOurs =
    host !== undefined &&
    gate.hosts.has(host) &&
    (origin === undefined || origin === `http://${host}`) &&
    (site === undefined || site === 'same-origin' || site === 'none')
  // A link on another site may lead here: what opens is the page, which asks for everything else itself.
  const isVisit = request.headers['sec-fetch-mode'] === 'navigate' && request.method === 'GET'
  if (isOurs || (isVisit && host !== undefined && gate.hosts.has(host))) return
  const advice = 'open the link that hoplite ui prints'
  throw new HopliteError('NOT_ALLOWED', 'answer a request: it came by another name or from another site', advice)
}

async function login(access: Access, gate: Gate, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const given = (await readJson(request)) as { code?: unknown } | null
  const code = given?.code
  if (typeof code !== 'string' || code.length > 200)
    throw new HopliteError('REQUEST_INVALID', 'sign in: there is no code', 'send {"code":"…"}')
  const made = access.login(code)
  if (made === undefined)
    throw new HopliteError('NOT_SIGNED_IN', 'sign in: the link was used before, or is too old', 'run: hoplite ui')
  const attributes = `Path=/; HttpOnly; SameSite=Strict; Max-Age=${COOKIE_SECONDS}`
  response.setHeader('set-cookie', `${cookieName(gate)}=${made.cookie}; ${attributes}`)
  sendJson(response, 200, { page: made.page })
}

function permissionOf(access: Access, gate: Gate, request: IncomingMessage): Permission {
  const token = /^Bearer ([\w-]{1,200})$/.exec(request.headers.authorization ?? '')?.[1]
  const granted = token === undefined ? undefined : access.permissionOf(token)
  if (granted !== undefined) return granted
  const cookies = (request.headers.cookie ?? '').split('; ')
  const cookie = cookies.find(text => text.startsWith(`${cookieName(gate)}=`))?.slice(cookieName(gate).length + 1)
  const page = request.headers[PAGE_KEY_HEADER]
  if (cookie !== undefined && typeof page === 'string' && access.isSession(cookie, page)) return 'person'
  if (request.headers.authorization !== undefined)
    throw new HopliteError('NOT_SIGNED_IN', 'answer a request: its token is none, or was revoked', TOKEN_ADVICE)
  throw new HopliteError('NOT_SIGNED_IN', 'answer a request: it has no valid session or token', 'run: hoplite ui')
}

/** With the port in it: two nodes on one machine have one jar of cookies. */
function cookieName({ port }: Gate): string {
  return `hoplite-${port}`
}
