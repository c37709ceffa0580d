// The interface of one's devices: made, given its addresses, its routes and its place for names. All of it goes with the TUN's
// descriptor, so nothing has to be undone.

import { AF_INET, AF_INET6, encodeSocketAddress } from '../socket-address.ts'
import {
  Memory,
  SO_REUSEADDR,
  SOCK_DGRAM,
  SOCK_FLAGS,
  SOCK_STREAM,
  SOL_SOCKET,
  setOption,
  socketCalls,
} from '../socket-calls.ts'
import { openTun, type Tun } from '../tun.ts'
import { leadNames } from './mesh-names.ts'
import { capture } from './steps.ts'

/** What every path between two devices carries. */
export const MESH_MTU = 1_280
const DNS_PORT = 53

export interface MeshLinkPlan {
  readonly ipv6: string
  readonly ipv4: string | null
  /** The network that all devices' IPv6 addresses are of. */
  readonly network: string
  /** The interface's name, if it matters. */
  readonly name?: string
}

/** Makes it. Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING or CHANGE_FAILED. */
export async function openMeshLink({ ipv6, ipv4, network, name }: MeshLinkPlan): Promise<Tun> {
  const tun = openTun({ offload: true, ...(name !== undefined && { name }) })
  const ip = (...words: string[]) => capture({ run: ['ip', ...words] })
  try {
    await ip('link', 'set', 'dev', tun.name, 'mtu', String(MESH_MTU), 'addrgenmode', 'none', 'up')
    await ip('address', 'add', `${ipv6}/128`, 'dev', tun.name, 'nodad')
    await ip('-6', 'route', 'replace', network, 'dev', tun.name)
    if (ipv4 !== null) await ip('address', 'add', `${ipv4}/32`, 'dev', tun.name)
    return tun
  } catch (error) {
    tun.close()
    throw error
  }
}

/** Leads IPv4 addresses into it, and those that led there before and are not among them no more. */
export async function moveMeshRoutes(name: string, before: readonly string[], after: readonly string[]): Promise<void> {
  const [old, wanted] = [new Set(before), new Set(after)]
  for (const address of wanted)
    if (!old.has(address)) await capture({ run: ['ip', 'route', 'replace', `${address}/32`, 'dev', name] })
  for (const address of old)
    if (!wanted.has(address)) await capture({ run: ['ip', 'route', 'del', `${address}/32`, 'dev', name] }, /./)
}

/** For each of its addresses a socket for datagrams and one for connections, and whether the system was told of the first. */
export async function openMeshNames(
  name: string,
  hosts: readonly string[],
  zone: string,
): Promise<{ readonly fds: readonly number[]; readonly isTold: boolean }> {
  const fds = hosts.flatMap(host => [SOCK_DGRAM, SOCK_STREAM].map(type => openAt(host, type)))
  if (fds.every(fd => fd >= 0)) return { fds, isTold: await leadNames(name, hosts[0] ?? '', zone) }
  for (const fd of fds) if (fd >= 0) socketCalls().close(fd)
  return { fds: [], isTold: false }
}

function openAt(host: string, type: number): number {
  const fd = socketCalls().socket(host.includes(':') ? AF_INET6 : AF_INET, type | SOCK_FLAGS, 0)
  if (fd < 0) return fd
  // Of connections that ended the address is still in use.
  if (type === SOCK_STREAM) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
  const at = encodeSocketAddress({ host, port: DNS_PORT })
  const memory = new Memory(32)
  memory.bytes.set(at)
  if (socketCalls().bind(fd, memory.pointer, at.length) === 0) return fd
  socketCalls().close(fd)
  return -1
}
