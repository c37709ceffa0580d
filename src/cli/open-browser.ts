// Opens a link in the browser of the person at this machine, where there is one.

import { spawn } from 'node:child_process'

/** Whether a browser was started; the link is not believed to have opened for certain. */
export function openBrowser(url: string): boolean {
  const [command, ...args] = commandFor(url)
  if (command === undefined) return false
  const child = spawn(command, args, { stdio: 'ignore', detached: true, windowsHide: true })
  child.on('error', () => {})
  child.unref()
  return child.pid !== undefined
}

function commandFor(url: string): string[] {
  if (process.platform === 'darwin') return ['open', url]
  if (process.platform === 'win32') return ['rundll32', 'url.dll,FileProtocolHandler', url]
  const hasScreen = process.env['DISPLAY'] !== undefined || process.env['WAYLAND_DISPLAY'] !== undefined
  return hasScreen ? ['xdg-open', url] : []
}
