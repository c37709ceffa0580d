// How a wallet reaches its issuer. By default through a route of its own, so that the issuer sees an exit and not the wallet's
// user; directly only where the configuration says so. One stream for each request; names are resolved at the exit.

import { randomBytes } from 'node:crypto'
import { type IncomingMessage, request } from 'node:http'
import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream'
import { connect } from 'node:tls'
import { HopliteError } from '#api/errors.ts'
import type { Ask } from '#issuer/issuer-client.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { Target } from '#wire/control.ts'
import type { Config } from '../config.ts'

/** No application's isolation key looks like this one. */
export const ISSUER_ISOLATION = 'issuer'

/** Opens a stream to an address through a route; rejects when it cannot. */
export type Dial = (target: Target, signal: AbortSignal) => Promise<Duplex>

/** Asks as the configuration says; without routes to dial through, and unless it says directly, every question is NO_ROUTE. */
export function issuerWay({ credit }: Config, dial: Dial = noRoute): Ask {
  return credit.issuer_access === 'direct' ? fetch : askThrough(dial)
}

/** HTTP and HTTPS over streams that `dial` opens. */
export function askThrough(dial: Dial): Ask {
  return async (url, { method, headers, body, signal }) => {
    const isSecure = url.protocol === 'https:'
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const stream = await dial({ host, port: Number(url.port) || (isSecure ? 443 : 80) }, signal)
    try {
      const socket = isSecure ? secured(stream, host) : stream
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const options = { host, path: url.pathname + url.search, method, signal, createConnection: () => socket }
        request({ ...options, headers: { ...headers, host: url.host } }, resolve)
          .once('error', reject)
          .end(body)
      })
      finished(response, () => stream.destroy())
      return { status: response.statusCode ?? 0, body: response }
    } catch (error) {
      stream.destroy()
      throw error
    }
  }
}

/** Dials through a proxy of this machine, under credentials of its own: no application's stream shares the route. */
export function dialThroughProxy(proxy: Address): Dial {
  const credentials = Buffer.from(`issuer:${randomBytes(16).toString('hex')}`).toString('base64')
  return (target, signal) =>
    new Promise((resolve, reject) => {
      const headers = { 'proxy-authorization': `Basic ${credentials}` }
      const path = formatAddress(target)
      request({ ...proxy, method: 'CONNECT', path, headers, signal, agent: false })
        .once('connect', ({ statusCode }, socket) => {
          if (statusCode === 200) return resolve(socket)
          socket.destroy()
          reject(new HopliteError('NO_ROUTE', 'ask the issuer: there is no route now', 'turn Hoplite on first'))
        })
        .once('error', reject)
        .end()
    })
}

function secured(stream: Duplex, host: string): Duplex {
  const name = isIP(host) === 0 ? { servername: host } : {}
  return connect({ socket: stream, host, ALPNProtocols: ['http/1.1'], ...name })
}

function noRoute(): never {
  throw new HopliteError(
    'NO_ROUTE',
    'ask the issuer: nothing runs here that has a route to it',
    'start it: hoplite up; or let the issuer see this machine: issuer_access = "direct" in [credit]',
  )
}
