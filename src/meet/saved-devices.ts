// Devices as text, to be kept in a file: JSON, in which bytes are "base64:…" and keys are their seeds. The last line is a
// SHA-256 of those before it, so that a damaged file is not taken for a sound one.

import { createHash } from 'node:crypto'
import type { DevicesState } from './devices.ts'
import { type DeviceKeys, deviceKeys, type OwnDevice } from './own-device.ts'

const HEADER = 'hoplite devices 1'
const BYTES = 'base64:'

interface SavedState {
  readonly own: { readonly id: string; readonly name: string; readonly keys: readonly SavedKeys[] }
  readonly devices: DevicesState['devices']
}

interface SavedKeys {
  readonly generation: number
  readonly seed: Uint8Array
}

/** Everything there is to keep, secrets included. */
export function writeDevices({ own, devices }: DevicesState): string {
  const keys = own.keys.map(({ generation, seed }) => ({ generation, seed }))
  const saved: SavedState = { own: { id: own.id, name: own.name, keys }, devices }
  const body = `${HEADER}\n${JSON.stringify(saved, bytesAsText)}\n`
  return `${body}${checksum(body)}\n`
}

/** What `writeDevices` wrote; `undefined` when it is damaged or of another version. */
export function readDevices(text: string): DevicesState | undefined {
  const end = text.lastIndexOf('\n', text.length - 2) + 1
  const body = text.slice(0, end)
  if (!body.startsWith(`${HEADER}\n`) || text.slice(end) !== `${checksum(body)}\n`) return undefined
  const { own, devices } = JSON.parse(body.slice(HEADER.length + 1), textAsBytes) as SavedState
  const keys = own.keys.map(({ generation, seed }) => deviceKeys(generation, seed)) as [DeviceKeys, ...DeviceKeys[]]
  const device: OwnDevice = { id: own.id, name: own.name, keys }
  return { own: device, devices }
}

/** JSON.stringify gives a Buffer to this function as it prints itself: a list of numbers. */
function bytesAsText(this: unknown, key: string, value: unknown): unknown {
  const held = (this as Record<string, unknown>)[key]
  return held instanceof Uint8Array ? BYTES + Buffer.from(held).toString('base64') : value
}

function textAsBytes(_key: string, value: unknown): unknown {
  if (typeof value !== 'string' || !value.startsWith(BYTES)) return value
  return Uint8Array.from(Buffer.from(value.slice(BYTES.length), 'base64'))
}

function checksum(body: string): string {
  return createHash('sha256').update(body).digest('hex')
}
