import { callAction } from '#api/client.ts'
import type { Config } from '#daemon/config.ts'
import type { RunOptions } from '#daemon/node.ts'
import { socketPath } from '#platform/state/directories.ts'
import { isRoot } from '../become-helper.ts'
import { describePeer, peerStatement } from '../peer-words.ts'
import { type NodeOptions, plainNode, run } from './run.ts'

const TERMINAL_MS = 1_000
const JSON_MS = 5_000
const MIB = 2 ** 20

/**
 * Runs a node that is a peer and nothing else: says what one takes on, then what it carries. On a terminal one line shows the
 * counters of the moment; with --json they come as a line every five seconds.
 */
export async function peer(options: NodeOptions & { json?: boolean }): Promise<void> {
  if (isRoot()) plainNode(['peer', ...(options.json ? ['--json'] : [])], options)
  const { runPeer } = await import('#daemon/relay/relay.ts')
  const main = async (config: Config, more: RunOptions) => {
    sayStatement(config, options.json ?? false)
    const timer = showCounters(more.stateDir, options.json ?? false)
    try {
      await runPeer(config, more)
    } finally {
      clearInterval(timer)
    }
  }
  await run('peer', options, main, config => config)
}

function sayStatement({ peer }: Config, isJson: boolean): void {
  const limits = {
    rateKbit: peer.rate_kbit,
    bytesPerDay: peer.volume_mib_per_day * MIB,
    maxClients: peer.max_clients,
    hours: peer.hours,
  }
  const text = peerStatement(limits)
  process.stdout.write(isJson ? `${JSON.stringify({ ok: true, statement: text, ...limits })}\n` : `${text}\n`)
}

/** Shows what the node says of itself, again and again; nothing where nobody watches. */
function showCounters(stateDir: string, isJson: boolean): NodeJS.Timeout | undefined {
  const { stdout } = process
  if (!isJson && !stdout.isTTY) return undefined
  return setInterval(
    async () => {
      const { peer } = (await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)) ?? {}
      if (peer === undefined) return
      // The cursor stays at the beginning of the line: what the log says next takes its place.
      const line = describePeer(peer).slice(0, (stdout.columns ?? 80) - 1)
      stdout.write(isJson ? `${JSON.stringify({ ok: true, ...peer })}\n` : `\r\x1b[2K${line}\r`)
    },
    isJson ? JSON_MS : TERMINAL_MS,
  )
}
