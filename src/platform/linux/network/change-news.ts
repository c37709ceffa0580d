// The kernel's news that somebody has changed the firewall or the routing rules (netlink(7), rtnetlink(7)): two sockets that are
// looked at now and then. What has changed is not read from them: who wants to know looks at what there is.
//
// struct sockaddr_nl, 12 bytes: 0/2 family, 4/4 port, 8/4 groups as bits.

import { EAGAIN, errno, Memory, SOCK_FLAGS, socketCalls } from '../socket-calls.ts'

const AF_NETLINK = 16
const SOCK_RAW = 3
const [NETLINK_ROUTE, NETLINK_NETFILTER] = [0, 12]
/** RTNLGRP_IPV4_RULE and RTNLGRP_IPV6_RULE; NFNLGRP_NFTABLES. */
const GROUPS = [
  [NETLINK_ROUTE, (1 << 7) | (1 << 18)],
  [NETLINK_NETFILTER, 1 << 6],
] as const
const MAX_READS = 256

/** Whether there was a change since it was asked before, one's own too. */
export interface ChangeNews extends Disposable {
  take(): boolean
}

/** Listens in this process's network namespace; `undefined` where the kernel does not tell. */
export function openChangeNews(): ChangeNews | undefined {
  const memory = new Memory(4096)
  const fds = GROUPS.map(([protocol, groups]) => openGroup(memory, protocol, groups))
  const close = () => {
    for (const fd of fds.splice(0)) if (fd >= 0) socketCalls().close(fd)
  }
  if (fds.some(fd => fd < 0)) return void close()
  return {
    take: () => fds.map(fd => drain(memory, fd)).includes(true),
    [Symbol.dispose]: close,
  }
}

function openGroup(memory: Memory, protocol: number, groups: number): number {
  const fd = socketCalls().socket(AF_NETLINK, SOCK_RAW | SOCK_FLAGS, protocol)
  if (fd < 0) return fd
  memory.words.set([AF_NETLINK, 0, groups])
  if (socketCalls().bind(fd, memory.pointer, 12) === 0) return fd
  socketCalls().close(fd)
  return -1
}

/** A queue that ran over is news too: any error but an empty queue. */
function drain(memory: Memory, fd: number): boolean {
  for (let i = 0; i < MAX_READS; i++) {
    if (socketCalls().read(fd, memory.pointer, memory.bytes.length) >= 0) continue
    return i > 0 || errno() !== EAGAIN
  }
  return true
}
