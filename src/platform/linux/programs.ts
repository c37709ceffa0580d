// Where programs are installed.

import { accessSync, constants } from 'node:fs'
import path from 'node:path'

/** Root's programs are found where PATH of a user does not look. */
const ALWAYS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin']

/** Whether a program of this name can be run. */
export function hasProgram(name: string): boolean {
  return programPath(name) !== undefined
}

/** The path of a program; `undefined` when it is not installed. */
export function programPath(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(path.delimiter), ...ALWAYS]
  return directories.map(directory => path.join(directory, name)).find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
