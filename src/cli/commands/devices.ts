// `hoplite devices`: this device and those paired with it.

import { callAction } from '#api/client.ts'
import type { Output } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/directories.ts'
import { print } from '../output.ts'
import { ensureDaemon } from './up.ts'

interface Options {
  config?: string
  stateDir?: string
  json?: boolean
}

export async function list(options: Options): Promise<void> {
  const { own, devices } = await callAction(await socketOf(options), 'devices', {})
  const rows = [{ ...own, note: 'this device' }, ...devices.map(device => ({ ...device, note: noteOf(device) }))]
  const width = Math.max(...rows.map(({ name }) => name.length)) + 4
  const lines = rows.map(({ id, name, ipv6, ipv4, note }) =>
    [`${name}.hop`.padEnd(width), id.slice(0, 8), (ipv4 ?? '').padEnd(15), ipv6, note].join('  '),
  )
  print(options.json, { ok: true, own, devices }, lines.join('\n'))
}

export async function rename(device: string, name: string, options: Options): Promise<void> {
  await callAction(await socketOf(options), 'device.rename', { device, name })
  print(options.json, { ok: true, name }, `${device} is called ${name} here.`)
}

export async function remove(device: string, options: Options): Promise<void> {
  const { id } = await callAction(await socketOf(options), 'device.remove', { device })
  print(options.json, { ok: true, id }, `${device} is out.`)
}

export async function rotate(options: Options): Promise<void> {
  const { generation } = await callAction(await socketOf(options), 'device.rotate', {})
  print(options.json, { ok: true, generation }, `This device has new keys, its ${generation}th; the others are told.`)
}

function noteOf({ isConfirmed, path, isUp }: Output<'devices'>['devices'][number]): string {
  if (path === undefined) return isConfirmed ? 'out of reach' : 'not heard yet'
  return isUp ? path : `${path}, no session yet`
}

async function socketOf(options: Options): Promise<string> {
  await ensureDaemon(options)
  return socketPath(stateDirectory(options.stateDir))
}
