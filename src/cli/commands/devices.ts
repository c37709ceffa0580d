// `hoplite devices`: this device and those paired with it.

import { writeFileSync } from 'node:fs'
import { renderUnicodeCompact } from 'uqr'
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
  const { own, devices, phones } = await callAction(await socketOf(options), 'devices', {})
  const rows = [
    { ...own, note: 'this device' },
    ...devices.map(device => ({ ...device, note: noteOf(device) })),
    ...phones.map(phone => ({ ...phone, note: phone.isUp ? 'phone, connected' : 'phone' })),
  ]
  const width = Math.max(...rows.map(({ name }) => name.length)) + 4
  const lines = rows.map(({ id, name, ipv6, ipv4, note }) =>
    [`${name}.hop`.padEnd(width), id.slice(0, 8), (ipv4 ?? '').padEnd(15), ipv6, note].join('  '),
  )
  print(options.json, { ok: true, own, devices, phones }, lines.join('\n'))
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

/** Makes a phone's WireGuard file, and shows it as a picture for the app's camera; it is kept nowhere else. */
export async function addPhone(name: string, options: Options & { endpoint: string; file?: string }): Promise<void> {
  const { endpoint, file: target } = options
  const { id, file } = await callAction(await socketOf(options), 'device.addPhone', { name, endpoint })
  if (target !== undefined) writeFileSync(target, file, { mode: 0o600, flag: 'wx' })
  const shown = target === undefined ? `${renderUnicodeCompact(file)}\n${file}` : `${target} is for ${name}'s app.`
  print(options.json, { ok: true, id, ...(target === undefined && { file }) }, shown)
}

function noteOf({ isConfirmed, path, isUp }: Output<'devices'>['devices'][number]): string {
  if (path === undefined) return isConfirmed ? 'out of reach' : 'not heard yet'
  return isUp ? path : `${path}, no session yet`
}

async function socketOf(options: Options): Promise<string> {
  await ensureDaemon(options)
  return socketPath(stateDirectory(options.stateDir))
}
