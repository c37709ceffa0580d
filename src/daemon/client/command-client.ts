// The client behind `hoplite run`: it lives as long as one command, whose TUN it carries.

import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { confine } from '#platform/linux/network/confine.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { TUNNEL_RESOLVER } from '#wire/tunnel-addresses.ts'
import type { Config } from '../config.ts'
import type { RunOptions } from '../node.ts'
import { runPrivateClient } from './client.ts'
import { CHOICE_FILES } from './relay-choice.ts'
import { CLIENT_ADDRESSES, TUNNEL_MTU } from './tunnel-flow.ts'

export interface CommandLine {
  readonly command: string
  readonly args: readonly string[]
}

/**
 * Runs a command once there is a route, and gives its exit code. Throws NO_ROUTE or what `confine` throws: the command has
 * then not run.
 */
export async function runCommandThroughRoute(
  config: Config,
  options: RunOptions,
  { command, args }: CommandLine,
): Promise<number> {
  const { stateDir, release } = takeState(options.stateDir)
  try {
    return await runPrivateClient(config, { ...options, stateDir }, openTunnel =>
      confine({
        command,
        args,
        dns: [TUNNEL_RESOLVER],
        addresses: CLIENT_ADDRESSES,
        mtu: TUNNEL_MTU,
        offload: true,
        onTun: openTunnel,
      }),
    )
  } finally {
    release()
  }
}

/** The state directory; while another node uses it, one of our own with the same guards and the same directory of relays. */
function takeState(directory: string): { readonly stateDir: string; readonly release: () => void } {
  prepareStateDirectory(directory)
  try {
    return { stateDir: directory, release: lockState(directory) }
  } catch (error) {
    if (!(error instanceof HopliteError) || error.code !== 'STATE_LOCKED') throw error
  }
  const copy = mkdtempSync(path.join(tmpdir(), 'hoplite-run-state-'))
  for (const name of CHOICE_FILES) {
    const file = path.join(directory, name)
    if (existsSync(file)) copyFileSync(file, path.join(copy, name))
  }
  return { stateDir: copy, release: () => rmSync(copy, { recursive: true, force: true }) }
}
