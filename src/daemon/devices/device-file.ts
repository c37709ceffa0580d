// This device and those paired with it, in one file of the state directory: devices.state, 0600, written whole or not at all.

import { hostname } from 'node:os'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { systemRandom } from '#crypto/random.ts'
import type { DevicesState } from '#meet/devices.ts'
import { newOwnDevice } from '#meet/own-device.ts'
import { readDevices, writeDevices } from '#meet/saved-devices.ts'
import { assertPrivate, readStateFile, writeStateFile } from '#platform/state/state-file.ts'
import { isDeviceName } from '#wire/device-card.ts'

const MAX_FILE_BYTES = 4 * 1024 * 1024

const NAME = 'devices.state'

export class DeviceFile {
  readonly #file: string
  #written = ''

  constructor(stateDir: string) {
    this.#file = path.join(stateDir, NAME)
  }

  /** Reads it; without a file, a new device of that name. Throws STATE_UNREADABLE when it is damaged or open to others. */
  read(name: string): DevicesState {
    const bytes = readStateFile(this.#file, MAX_FILE_BYTES)
    if (bytes === undefined) return { own: newOwnDevice(name || nameOfMachine(), systemRandom), devices: [] }
    assertPrivate(this.#file)
    const text = Buffer.from(bytes).toString('utf8')
    const state = readDevices(text)
    if (state === undefined) {
      const advice = 'restore it from a backup; or move it away, and pair again'
      throw new HopliteError('STATE_UNREADABLE', `read ${this.#file}: it is damaged`, advice)
    }
    this.#written = text
    return name === '' ? state : { ...state, own: { ...state.own, name } }
  }

  /** Writes it where something has changed. */
  write(state: DevicesState): void {
    const text = writeDevices(state)
    if (text === this.#written) return
    writeStateFile(this.#file, text)
    this.#written = text
  }
}

function nameOfMachine(): string {
  const name = (hostname().toLowerCase().split('.')[0] ?? '').replace(/[^a-z0-9-]+/g, '-').slice(0, 32)
  const trimmed = name.replace(/^-+|-+$/g, '')
  return isDeviceName(trimmed) ? trimmed : 'device'
}
