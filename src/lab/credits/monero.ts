// A Monero of our own: monerod with a private chain and two wallets, one that pays and one that only looks.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { waitFor } from '../testnet.ts'

const START_MS = 120_000
/** Blocks until the first rewards can be spent and there are enough others to hide among. */
const FIRST_BLOCKS = 110
/** What a wallet of nobody's gave to look with: to make one takes seconds. */
const ISSUER = {
  address: '448yaPCUAvM5HsUaZ7mDKWZLSaRPjHQwzav1gsSPnk3BHYxSprWe133L3Trj16ChDfWkBWKTDfDdB3xkezQDWJLHQDgTgyd',
  viewkey: 'cdd44c58a0bf67aaebfbab9c49a34ae5607f313fcd458c2be530c9be4875e103',
}

export interface PrivateMonero {
  /** Where the wallet that can only look answers: the issuer's. */
  readonly walletRpc: string
  /** Pays so many piconero to an address; takes a moment. */
  pay(address: string, amount: number): Promise<void>
  /** Mines so many blocks, and lets the issuer's wallet see them. */
  mine(blocks: number): Promise<void>
  stop(): Promise<void>
}

/** Starts a daemon and two wallets, and mines what the payer spends. */
export async function startMonero(): Promise<PrivateMonero> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-monero-'))
  const [daemonPort, p2pPort, zmqPort, payerPort, issuerPort] = await Promise.all([1, 2, 3, 4, 5].map(freePort))
  const children: ChildProcess[] = []
  const run = (program: string, args: readonly string[]) => {
    const options = { cwd: directory, stdio: 'ignore' as const, env: { ...process.env, HOME: directory } }
    children.push(spawn(program, args, options))
  }
  const stop = async () => {
    await Promise.all(children.map(ended))
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    run('monerod', [
      ...['--regtest', '--offline', '--fixed-difficulty', '1', '--non-interactive', '--data-dir', directory],
      ...['--rpc-bind-port', String(daemonPort), '--p2p-bind-port', String(p2pPort)],
      ...['--p2p-bind-ip', '127.0.0.1', '--zmq-rpc-bind-port', String(zmqPort), '--log-level', '0'],
    ])
    const daemon = `http://127.0.0.1:${daemonPort}`
    for (const [port, name] of [
      [payerPort, 'payer'],
      [issuerPort, 'issuer'],
    ])
      run('monero-wallet-rpc', [
        ...['--daemon-address', `127.0.0.1:${daemonPort}`, '--trusted-daemon', '--disable-rpc-login'],
        ...['--rpc-bind-port', String(port), '--wallet-dir', directory, '--log-file', `${name}.log`],
      ])
    const [payer, walletRpc] = [payerPort, issuerPort].map(port => `http://127.0.0.1:${port}`) as [string, string]
    await ready(daemon, 'get_info')
    await Promise.all([payer, walletRpc].map(url => ready(url, 'get_version')))

    const { address } = await makeWallet(payer, 'payer')
    await ask(walletRpc, 'generate_from_keys', { filename: 'issuer', ...ISSUER, password: '' })

    const mine = async (blocks: number) => {
      await ask(daemon, 'generateblocks', { amount_of_blocks: blocks, wallet_address: address })
      await Promise.all([payer, walletRpc].map(url => ask(url, 'refresh', {})))
    }
    await mine(FIRST_BLOCKS)
    return {
      walletRpc,
      mine,
      stop,
      pay: async (to, amount) => {
        await ask(payer, 'transfer', { destinations: [{ amount, address: to }] })
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function makeWallet(url: string, filename: string): Promise<{ address: string }> {
  await ask(url, 'create_wallet', { filename, password: '', language: 'English' })
  return ask(url, 'get_address', { account_index: 0 })
}

function ready(url: string, method: string): Promise<unknown> {
  return waitFor(() => ask(url, method, {}).catch(() => undefined), `monero at ${url}`, START_MS)
}

async function ask<T>(url: string, method: string, params: object): Promise<T> {
  const response = await fetch(new URL('/json_rpc', url), {
    method: 'POST',
    body: JSON.stringify({ jsonrpc: '2.0', id: '0', method, params }),
  })
  const { result, error } = (await response.json()) as { result: T; error?: { message: string } }
  if (error !== undefined) throw new Error(`${method}: ${error.message}`)
  return result
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0))
    })
  })
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resolve()
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
