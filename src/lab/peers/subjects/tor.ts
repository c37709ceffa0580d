// Tor as a private network: six relays, three of them directory authorities and two of them exits, and a client with its SOCKS
// port. `TestingTorNetwork` makes a network of this size possible; the way packets take is the usual one over three relays.

import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import { hasTool } from '../../skip.ts'
import type { LabProcess } from '../lab-process.ts'
import type { Subject } from '../subject.ts'
import { HOP_COUNT, hopAddress, type PeerLab } from '../topology.ts'

const AUTHORITIES = 3
const EXITS = [5, 6]
const OR_PORT = 9_001
const DIRECTORY_PORT = 9_030
const SOCKS = { kind: 'socks', host: '127.0.0.1', port: 9_050, hasUsers: true } as const
const SETUP_MS = 20_000
const CONSENSUS_SECONDS = 10
const FIRST_ROUTE_MS = 90_000
const CONTROL_MS = 3_000

export const tor: Subject = {
  name: 'tor',
  title: 'Tor',
  hops: 3,
  missing: () => ['tor', 'tor-gencert'].map(tool => (hasTool(tool) ? undefined : `no ${tool} in PATH`)).find(Boolean),
  version: async () => {
    const { stdout } = await promisify(execFile)('tor', ['--version'])
    return `Tor ${/version ([\d.]+\d)/.exec(stdout)?.[1] ?? ''}`
  },
  start: async lab => {
    const numbers = Array.from({ length: HOP_COUNT }, (_, i) => i + 1)
    const authorities = numbers.filter(number => number <= AUTHORITIES)
    const directory = await Promise.all(authorities.map(number => authorityLine(lab, number)))
    const run = (name: string, lines: readonly string[]) => {
      const file = path.join(lab.folder(`tor-${name}`), 'torrc')
      writeFileSync(file, [...commonLines(lab, name), ...directory, ...lines, ''].join('\n'))
      return lab.start(lab.host(name), name, 'tor', ['-f', file])
    }
    const relays = numbers.map(number => run(`hop${number}`, relayLines(number)))
    const control = path.join(lab.folder('tor-client'), 'control')
    const clientLines = [`SocksPort ${SOCKS.host}:${SOCKS.port}`, `ControlSocket ${control}`]
    let client: LabProcess | undefined
    const start = async () => {
      client = run('client', clientLines)
    }
    await start()
    await client?.says(/Bootstrapped 100%/, FIRST_ROUTE_MS)
    return {
      access: SOCKS,
      processes: () => [...(client === undefined ? [] : [client]), ...relays].filter(({ isRunning }) => isRunning),
      client: { start, stop: async () => client?.kill() },
      killHop: async () => {
        const middle = await middleInUse(control)
        await relays.find(({ name }) => name === middle)?.kill()
      },
    }
  },
}

function commonLines(lab: PeerLab, name: string): string[] {
  return [
    'TestingTorNetwork 1',
    `DataDirectory ${lab.folder(`tor-${name}`)}`,
    'Log notice stdout',
    'AssumeReachable 1',
    'PathsNeededToBuildCircuits 0.67',
    'ShutdownWaitLength 0',
  ]
}

function relayLines(number: number): string[] {
  const isExit = EXITS.includes(number)
  return [
    `Nickname hop${number}`,
    `Address ${hopAddress(number)}`,
    `ORPort ${hopAddress(number)}:${OR_PORT}`,
    'SocksPort 0',
    `ExitRelay ${isExit ? 1 : 0}`,
    `ExitPolicy ${isExit ? 'accept' : 'reject'} *:*`,
    ...(number <= AUTHORITIES ? authorityLines(number) : []),
  ]
}

function authorityLines(number: number): string[] {
  return [
    'AuthoritativeDirectory 1',
    'V3AuthoritativeDirectory 1',
    `ContactInfo hop${number}@laboratory.test`,
    `DirPort ${hopAddress(number)}:${DIRECTORY_PORT}`,
    `TestingV3AuthInitialVotingInterval ${CONSENSUS_SECONDS}`,
    'TestingV3AuthInitialVoteDelay 2',
    'TestingV3AuthInitialDistDelay 2',
    `V3AuthVotingInterval ${CONSENSUS_SECONDS}`,
    'V3AuthVoteDelay 2',
    'V3AuthDistDelay 2',
    'TestingDirAuthVoteGuard *',
    `TestingDirAuthVoteExit ${EXITS.map(hopAddress).join(',')}`,
    'TestingMinExitFlagThreshold 0',
  ]
}

/** Makes an authority's keys, and the line by which all others know it. */
async function authorityLine(lab: PeerLab, number: number): Promise<string> {
  const name = `hop${number}`
  const keys = lab.folder(`tor-${name}/keys`)
  const file = (purpose: string) => path.join(keys, `authority_${purpose}`)
  const files = ['-i', file('identity_key'), '-s', file('signing_key'), '-c', file('certificate')]
  const words = ['--create-identity-key', '--passphrase-fd', '0', '-m', '12', ...files]
  await lab.run(lab.host(name), 'tor-gencert', words, SETUP_MS, 'laboratory\n')
  const own = ['--DataDirectory', lab.folder(`tor-${name}`), '--Nickname', name, '--ORPort', String(OR_PORT)]
  const listed = ['--list-fingerprint', '--quiet', '-f', '/dev/null', '--ignore-missing-torrc', ...own]
  const said = await lab.run(lab.host(name), 'tor', [...listed, '--Address', hopAddress(number)], SETUP_MS)
  const fingerprint = new RegExp(`^${name} ([0-9A-F]{40})$`, 'm').exec(said.replaceAll(/(?<=[0-9A-F]{4}) /g, ''))?.[1]
  const identity = /^fingerprint ([0-9A-F]{40})$/m.exec(readFileSync(file('certificate'), 'utf8'))?.[1]
  if (fingerprint === undefined || identity === undefined)
    throw new Error(`make ${name}'s keys: tor does not tell them`)
  const address = `${hopAddress(number)}:${DIRECTORY_PORT}`
  return `DirAuthority ${name} orport=${OR_PORT} v3ident=${identity} ${address} ${fingerprint}`
}

/** The name of the relay in the middle of the circuit that carries a stream now. */
async function middleInUse(controlSocket: string): Promise<string | undefined> {
  const told = await askControl(controlSocket, 'GETINFO stream-status circuit-status')
  const circuit = /(?:stream-status=|^)\d+ SUCCEEDED (\d+) /m.exec(told)?.[1]
  const hops = new RegExp(`(?:circuit-status=|^)${circuit} BUILT (\\S+)`, 'm').exec(told)?.[1]
  return /~(\w+)$/.exec(hops?.split(',')[1] ?? '')?.[1]
}

function askControl(socket: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let told = ''
    const connection = createConnection(socket, () => connection.write(`AUTHENTICATE\r\n${request}\r\nQUIT\r\n`))
    connection.setEncoding('utf8').setTimeout(CONTROL_MS, () => connection.destroy(new Error('tor does not answer')))
    connection.on('data', text => {
      told += text
    })
    connection.on('error', reject)
    connection.on('end', () => resolve(told))
  })
}
