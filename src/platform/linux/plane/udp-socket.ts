// One UDP socket, opened and made ready: options, address, far end.

import type { Address } from '#wire/address.ts'
import type { SocketPlan } from '../../datagrams.ts'
import { errorName } from '../libc.ts'
import { AF_INET, AF_INET6, decodeSocketAddress, encodeSocketAddress, SOCKADDR_BYTES } from '../socket-address.ts'
import {
  errno,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  Memory,
  SO_REUSEPORT,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOCK_FLAGS,
  SOL_SOCKET,
  SOL_UDP,
  setOption,
  socketCalls,
  UDP_GRO,
} from '../socket-calls.ts'
import { enlargeBuffers } from './busy-socket.ts'

const F_DUPFD_CLOEXEC = 1030
/** ip(7), ipv6(7): `PROBE` is never in fragments, whatever the kernel thinks that the path carries. */
const [IPPROTO_IP, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER] = [0, 10, 23]
const [PMTUDISC_DONT, PMTUDISC_WANT, PMTUDISC_PROBE] = [0, 1, 3]

const scratch: { memory?: Memory } = {}

export interface UdpSocketOptions {
  /** A socket that is not bound yet, with buffers that we may not be allowed to ask for. It is closed when it cannot be used. */
  readonly given?: number | undefined
  /** It joins sockets of the same address, each of which has SO_REUSEPORT. */
  readonly isFurther?: boolean
}

/** The descriptor of a socket that is ready, or why there is none. */
export function openUdpSocket(
  plan: SocketPlan,
  { given, isFurther = false }: UdpSocketOptions = {},
): number | { readonly code: string } {
  const host = plan.connect?.host ?? plan.bind?.host ?? '0.0.0.0'
  const isV6 = host.includes(':')
  const fd = given ?? socketCalls().socket(isV6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_FLAGS, 0)
  if (fd >= 0 && given === undefined && plan.isBusy) enlargeBuffers(fd)
  const problem = fd < 0 ? errno() : prepare(fd, plan, isV6, isFurther)
  if (problem === 0) return fd
  if (fd >= 0) socketCalls().close(fd)
  return { code: errorName(problem) }
}

/** Lets batches come by a socket, and the times at which they came. */
export function prepareForBatches(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1)
  setOption(fd, SOL_UDP, UDP_GRO, 1)
}

/** The address that a socket is bound to. */
export function nameOf(fd: number): Address {
  const memory = scratchMemory()
  memory.words[SOCKADDR_BYTES >>> 2] = SOCKADDR_BYTES
  socketCalls().getsockname(fd, memory.pointer, memory.pointer + BigInt(SOCKADDR_BYTES))
  return decodeSocketAddress(memory.bytes, 0)
}

/** One more descriptor of what `fd` is one of; -1 where there are too many. */
export function copyDescriptor(fd: number): number {
  return socketCalls().fcntl(fd, F_DUPFD_CLOEXEC, 0)
}

/**
 * Whether what is sent from now on goes whole or not at all. Otherwise a router of IPv4 may cut it up: an initiation is longer than
 * a narrow link, and with the bit that Linux sets by itself it would be lost there.
 */
export function keepWhole(fd: number, isV6: boolean, isWhole: boolean): void {
  if (isV6) setOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, isWhole ? PMTUDISC_PROBE : PMTUDISC_WANT)
  else setOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, isWhole ? PMTUDISC_PROBE : PMTUDISC_DONT)
}

/** 0, or the number of the error. */
function prepare(fd: number, plan: SocketPlan, isV6: boolean, isFurther: boolean): number {
  if (isV6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
  if (isFurther && !setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return errno()
  keepWhole(fd, isV6, false)
  prepareForBatches(fd)
  const memory = scratchMemory()
  for (const [call, address] of [
    [socketCalls().bind, plan.bind],
    [socketCalls().connect, plan.connect],
  ] as const) {
    if (address === undefined) continue
    const name = encodeSocketAddress(address)
    memory.bytes.set(name)
    if (call(fd, memory.pointer, name.length) !== 0) return errno()
  }
  return 0
}

function scratchMemory(): Memory {
  scratch.memory ??= new Memory(64)
  return scratch.memory
}
