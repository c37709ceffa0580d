// `hoplite ping NAME`: how a device is reached, and how long it takes.

import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'

const EVERY_MS = 1_000

/** Asks `count` times; fails when no echo came back at all. */
export async function ping(
  device: string,
  { stateDir, json, count }: { stateDir?: string; json?: boolean; count: number },
): Promise<void> {
  const socket = socketPath(stateDirectory(stateDir))
  const echoes: Output<'device.ping'>[] = []
  for (let i = 0; i < count; i++) {
    if (i > 0) await new Promise(resolve => setTimeout(resolve, EVERY_MS))
    const echo = await callAction(socket, 'device.ping', { device })
    echoes.push(echo)
    if (json !== true) print(false, {}, describe(echo))
  }
  const times = echoes.flatMap(({ rttMs }) => rttMs ?? [])
  const last = echoes.at(-1)
  if (json === true) {
    const { id, name, path, to } = last as Output<'device.ping'>
    print(true, { ok: times.length > 0, id, name, path, to, sent: count, received: times.length, rttMs: times }, '')
  }
  if (times.length === 0 && json !== true) {
    const advice = 'see whether it is on and paired: hoplite devices'
    throw new HopliteError('DEVICE_UNREACHABLE', `ping ${device}: no echo came back`, advice)
  }
  if (times.length === 0) process.exitCode = 75
}

function describe({ name, path, to, rttMs }: Output<'device.ping'>): string {
  if (path === undefined) return `${name}.hop: no way there yet`
  const way = `${path}, ${to}`
  return rttMs === undefined ? `${name}.hop: no echo (${way})` : `${name}.hop: ${rttMs.toFixed(1)} ms (${way})`
}
