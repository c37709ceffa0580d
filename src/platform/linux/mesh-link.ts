// The interface of one's devices: made, given its addresses, its routes and its place for names. All of it goes with the TUN's
// descriptor, so nothing has to be undone.

import { leadNames } from './mesh-names.ts'
import { AF_INET6, encodeSocketAddress } from './socket-address.ts'
import { Memory, SOCK_DGRAM, SOCK_FLAGS, socketCalls } from './socket-calls.ts'
import { capture } from './steps.ts'
import { openTun, type Tun } from './tun.ts'

/** What every path between two devices carries. */
const MTU = 1_280
const DNS_PORT = 53

export interface MeshLinkPlan {
  readonly ipv6: string
  readonly ipv4: string | null
  /** The network that all devices' IPv6 addresses are of. */
  readonly network: string
}

/** Makes it. Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING or CHANGE_FAILED. */
export async function openMeshLink({ ipv6, ipv4, network }: MeshLinkPlan): Promise<Tun> {
  const tun = openTun({ offload: false })
  const ip = (...words: string[]) => capture({ run: ['ip', ...words] })
  try {
    await ip('link', 'set', 'dev', tun.name, 'mtu', String(MTU), 'addrgenmode', 'none', 'up')
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

/** A socket for questions at its address, and whether the system was told; negative when it cannot be had. */
export async function openMeshNames(
  name: string,
  ipv6: string,
  zone: string,
): Promise<{ fd: number; isTold: boolean }> {
  const fd = socketCalls().socket(AF_INET6, SOCK_DGRAM | SOCK_FLAGS, 0)
  const at = encodeSocketAddress({ host: ipv6, port: DNS_PORT })
  const memory = new Memory(32)
  memory.bytes.set(at)
  if (fd >= 0 && socketCalls().bind(fd, memory.pointer, at.length) !== 0) {
    socketCalls().close(fd)
    return { fd: -1, isTold: false }
  }
  return { fd, isTold: fd >= 0 && (await leadNames(name, ipv6, zone)) }
}
