// Whether a program is installed.

import { accessSync, constants } from 'node:fs'
import path from 'node:path'

/** Root's programs are found where PATH of a user does not look. */
const ALWAYS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin']

/** Whether a program of this name can be run. */
export function hasProgram(name: string): boolean {
  return [...(process.env['PATH'] ?? '').split(path.delimiter), ...ALWAYS].some(directory => {
    try {
      accessSync(path.join(directory, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
