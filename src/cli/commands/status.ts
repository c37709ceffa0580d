import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { isNetworkLeft } from '#daemon/client/recovery.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { stateHolder } from '#platform/state/state-lock.ts'
import { print } from '../output.ts'
import { describePeer } from '../peer-words.ts'

/** Shows what the node of a state directory is doing. */
export async function showStatus(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const status = await callAction(socketPath(stateDir), 'status', {}).catch(error => {
    if (!isNotRunning(error)) throw error
    throw isNetworkLeft(stateDir) ? leftShut(error) : whyNot(stateDir, error)
  })
  print(options.json, { ok: true, ...status }, describe(status))
}

function isNotRunning(error: unknown): error is HopliteError {
  return error instanceof HopliteError && error.code === 'DAEMON_NOT_RUNNING'
}

function leftShut(cause: unknown): HopliteError {
  const what = 'reach the daemon: it does not run, and has left the network shut'
  return new HopliteError('DAEMON_NOT_RUNNING', what, 'go on: hoplite up --tun; or open it: hoplite recover', cause)
}

/** A daemon that was killed, or hangs, has left its lock. */
function whyNot(stateDir: string, cause: HopliteError): HopliteError {
  const holder = stateHolder(stateDir)
  if (holder === undefined) return cause
  if (holder.isAlive) {
    const what = `reach the daemon: process ${holder.pid} runs and does not answer`
    const advice = `it may be starting; if it hangs: kill -9 ${holder.pid}, then start it again`
    return new HopliteError('DAEMON_NOT_RUNNING', what, advice, cause)
  }
  const what = `reach the daemon: process ${holder.pid} did not end in order: it was killed, or failed`
  const advice = 'hoplite logs has what it said last; start it again with: hoplite up'
  return new HopliteError('DAEMON_NOT_RUNNING', what, advice, cause)
}

/** The status for a person. */
export function describe(status: Status): string {
  const lines = [
    `${status.role} ${status.state}, version ${status.version}, up ${duration(status.uptimeMs)}, ${Math.round(status.memoryBytes / 2 ** 20)} MiB`,
  ]
  if (status.nodeId !== undefined) lines.push(`id         ${status.nodeId}`)
  for (const [purpose, addresses] of Object.entries(status.listening))
    lines.push(`${purpose.padEnd(10)} ${addresses.join(', ')}`)
  if (status.interface !== undefined) {
    const wall = status.killSwitch === undefined ? '' : `, kill switch ${status.killSwitch ? 'on' : 'off'}`
    lines.push(`interface  ${status.interface}, MTU ${status.mtu}${wall}`)
  }
  if (status.flags !== undefined && status.flags.length > 0) lines.push(`flags      ${status.flags.join(' ')}`)
  if (status.helper !== undefined)
    lines.push(`rights     none, as user ${status.user}; process ${status.helper} changes the network for it`)
  if (status.via !== undefined) lines.push(`through    ${status.via}, a device of yours`)
  lines.push(`directory  ${status.directory} relays`)
  for (const route of status.routes) {
    const name = route.isolation === '' ? 'route' : `route ${route.isolation.slice(0, 6)}`
    const rtt = route.rttMs === undefined ? '' : `, ${route.rttMs.toFixed(1)} ms`
    const carries = route.server === undefined ? `${route.streams} streams` : `to ${route.server}`
    const silence = route.isProven === false && route.state === 'ready' ? ', no answer yet' : ''
    lines.push(`${name.padEnd(10)} ${route.state}, ${carries}${rtt}${silence}`)
    for (const [i, hop] of route.hops.entries())
      lines.push(`           ${i + 1}  ${hop.address}  ${hop.operator}  ${hop.id.slice(0, 12)}`)
    if (route.spare !== undefined) lines.push(`           spare way: ${route.spare.map(hop => hop.address).join(', ')}`)
    for (const { hops, isProven } of route.spares ?? [])
      lines.push(`           spare: ${hops.map(hop => hop.address).join(', ')}${isProven ? '' : ' (not tried yet)'}`)
    if (route.problem !== undefined) lines.push(`           ${route.problem}`)
  }
  if (status.role !== 'client' && status.role !== 'entry')
    lines.push(`carries    ${status.sessions} sessions, ${status.flows} flows, ${status.streams} streams`)
  if (status.peer !== undefined) lines.push(`peer       ${describePeer(status.peer)}`)
  const drops = Object.entries(status.counters).filter(([name, count]) => name.startsWith('drop') && count > 0)
  if (drops.length > 0) lines.push(`dropped    ${drops.map(([name, count]) => `${name.slice(4)} ${count}`).join(', ')}`)
  for (const { problem, advice } of status.limits ?? [])
    if (problem !== status.problem) lines.push(`limit      ${problem}`, `           ${advice}`)
  if (status.problem !== undefined) lines.push(`problem    ${status.problem}`)
  if (status.advice !== undefined) lines.push(`advice     ${status.advice}`)
  return lines.join('\n')
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
}
