// What is said of a device's name that cannot be used.

import { HopliteError } from '#api/errors.ts'
import type { RenameProblem } from '#meet/devices.ts'

export function unknownDevice(name: string): HopliteError {
  const advice = 'see which there are: hoplite devices'
  return new HopliteError('DEVICE_UNKNOWN', `find the device "${name}": there is none, or more than one`, advice)
}

export function nameRefused(problem: Exclude<RenameProblem, 'unknown'>, name: string): HopliteError {
  const why = problem === 'badName' ? 'names have 1 to 32 of a-z, 0-9 and -' : 'another device has it'
  return new HopliteError('DEVICE_NAME_INVALID', `call a device "${name}": ${why}`, 'choose another name')
}
