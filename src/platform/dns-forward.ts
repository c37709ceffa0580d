// Passes questions for names on to the resolvers of this machine, as they are, and answers back: for whoever goes to the internet
// through it.
//
// Bounds: 256 questions and 32 connections at once; more are not answered.

import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns'
import { connect, createServer, type Socket } from 'node:net'
import { type Address, parseAddress, parseIp } from '#wire/address.ts'

const DNS_PORT = 53
const ANSWER_MS = 4_000
const IDLE_MS = 10_000
const MAX_QUESTIONS = 256
const MAX_CONNECTIONS = 32

let asked = 0

/** The answer of a resolver of this machine to a question by UDP; `undefined` when there is none in time. */
export async function forwardDns(query: Uint8Array, servers = machineResolvers()): Promise<Uint8Array | undefined> {
  if (asked >= MAX_QUESTIONS) return undefined
  asked++
  try {
    for (const server of servers) {
      const answer = await ask(query, server, ANSWER_MS / servers.length)
      if (answer !== undefined) return answer
    }
    return undefined
  } finally {
    asked--
  }
}

/** Serves what is too long for UDP: joins connections of those who may to a resolver. Rejects when the address cannot be had. */
export async function serveDnsConnections(
  listen: Address | { readonly fd: number },
  isAllowed: (address: string) => boolean,
  resolvers = machineResolvers,
): Promise<{ close(): Promise<void> }> {
  const open = new Set<Socket>()
  const server = createServer(from => {
    const [resolver] = resolvers()
    if (resolver === undefined || !isAllowed(plain(from.remoteAddress))) return void from.destroy()
    const to = connect(resolver.port, resolver.host)
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      open.add(one)
      one.setTimeout(IDLE_MS, () => one.destroy())
      one.on('error', () => undefined)
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  server.maxConnections = MAX_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    if ('fd' in listen) server.listen({ fd: listen.fd }, () => resolve())
    else server.listen(listen.port, listen.host, () => resolve())
  })
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        for (const socket of open) socket.destroy()
      }),
  }
}

/** The resolvers that this machine asks. */
export function machineResolvers(): Address[] {
  return new Resolver().getServers().flatMap(text => {
    const host = text.replace(/^\[|\]$/g, '')
    if (parseIp(host) !== undefined) return { host, port: DNS_PORT }
    return parseAddress(text) ?? []
  })
}

function ask(query: Uint8Array, { host, port }: Address, limitMs: number): Promise<Uint8Array | undefined> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  return new Promise(resolve => {
    const limit = setTimeout(() => done(undefined), limitMs)
    const done = (answer: Uint8Array | undefined) => {
      clearTimeout(limit)
      socket.removeAllListeners('message')
      socket.close()
      resolve(answer)
    }
    socket.once('error', () => done(undefined))
    socket.on('message', answer => {
      // Another question's, or somebody's guess.
      if (answer.length >= 12 && answer[0] === query[0] && answer[1] === query[1]) done(answer)
    })
    socket.connect(port, host, () => socket.send(query, () => undefined))
  })
}

function plain(address = ''): string {
  return address.replace(/^::ffff:/, '')
}
