// TUN devices: the network interface whose other end is a file descriptor of this process (Linux,
// Documentation/networking/tuntap.rst; linux/if_tun.h). One read gives one IP packet, one write takes one; the device goes
// with its last descriptor. The descriptors do not block, are closed in child processes, and may be used from any thread.
//
// With offloads every packet has a virtio_net_hdr of 10 bytes (little-endian) before it, and may be a TCP or UDP segment
// of up to 64 KiB that the reader splits. struct ifreq, 40 bytes: 0/16 name with NUL, 16/2 flags.

import { HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { addressOf, errno, errorName, fileCalls, O_CLOEXEC, O_NONBLOCK, O_RDWR } from './libc.ts'

const DEVICE = '/dev/net/tun'
const MAX_QUEUES = 64

const TUNSETIFF = 0x400454can
const TUNSETQUEUE = 0x400454d9n
const TUNSETOFFLOAD = 0x400454d0n
const IFREQ_BYTES = 40
const NAME_BYTES = 16

const IFF_TUN = 0x0001
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000
const IFF_MULTI_QUEUE = 0x0100
const IFF_ATTACH_QUEUE = 0x0200
const IFF_DETACH_QUEUE = 0x0400
const IFF_TUN_EXCL = 0x8000

const TUN_F_CSUM = 0x01n
const TUN_F_TSO4 = 0x02n
const TUN_F_TSO6 = 0x04n
const TUN_F_TSO_ECN = 0x08n
const TUN_F_USO4 = 0x20n
const TUN_F_USO6 = 0x40n
const TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
const USO = TUN_F_USO4 | TUN_F_USO6

export interface TunOptions {
  /** At most 15 bytes; `%d` in it becomes the first free number. Default `hoplite%d`. */
  readonly name?: string
  /** Ask for a virtio_net_hdr before each packet, checksum and segmentation offload. */
  readonly offload: boolean
  /** Descriptors of the one device, 1 to 64: the kernel spreads flows over them. Default 1. */
  readonly queues?: number
}

export interface Tun {
  readonly name: string
  readonly fds: readonly number[]
  /** What the kernel granted; bare packets with `none`. */
  readonly offload: TunOffload
  /** Closes the descriptors; the device, its addresses and its routes go with them. */
  close(): void
}

/**
 * Makes a TUN device, which is down and without addresses. UDP segmentation needs Linux 6.2 and is left out before.
 * Throws FFI_MISSING, TUN_UNAVAILABLE (no such device, or the name is taken) or NOT_PERMITTED.
 */
export function openTun({ name = 'hoplite%d', offload, queues = 1 }: TunOptions): Tun {
  if (!/^[A-Za-z0-9_.-]{1,13}(%d|[A-Za-z0-9_.-]{0,2})$/.test(name))
    throw new RangeError(`not an interface name: ${name}`)
  if (!Number.isInteger(queues) || queues < 1 || queues > MAX_QUEUES)
    throw new RangeError(`not a queue count: ${queues}`)
  const flags = IFF_TUN | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0)
  const fds: number[] = []
  const close = () => {
    for (const fd of fds.splice(0)) fileCalls().close(fd)
  }
  try {
    let given = name
    let granted: TunOffload = 'none'
    for (let queue = 0; queue < queues; queue++) {
      const fd = openDevice()
      fds.push(fd)
      // Exclusive: a device that is there already, kept by somebody else, is not quietly taken.
      given = attach(fd, given, queue === 0 ? flags | IFF_TUN_EXCL : flags)
      if (offload) granted = setOffload(fd, given)
    }
    return { name: given, fds: [...fds], offload: granted, close }
  } catch (error) {
    close()
    throw error
  }
}

/** Switches a queue of a device with several on or off: an open one gets no packets while it is off, the others do. */
export function switchQueue(fd: number, isOn: boolean): void {
  const request = Buffer.alloc(IFREQ_BYTES)
  request.writeUInt16LE(isOn ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, NAME_BYTES)
  // What is already as it should be is refused.
  fileCalls().ioctl(fd, TUNSETQUEUE, addressOf(request))
}

function openDevice(): number {
  const fd = fileCalls().open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0)
  if (fd >= 0) return fd
  const found = errorName(errno())
  if (found === 'EACCES' || found === 'EPERM') {
    const advice = `run as root; or, for "hoplite run", let users open it: chmod 666 ${DEVICE}`
    throw new HopliteError('NOT_PERMITTED', `open ${DEVICE}: ${found}`, advice)
  }
  const advice = 'load the module with "modprobe tun"; in a container, give it --device /dev/net/tun'
  throw new HopliteError('TUN_UNAVAILABLE', `open ${DEVICE}: ${found}`, advice)
}

/** Ties a descriptor to the device of that name and makes it; gives the name that it has. */
function attach(fd: number, name: string, flags: number): string {
  const request = Buffer.alloc(IFREQ_BYTES)
  request.write(name, 0, NAME_BYTES - 1, 'latin1')
  request.writeUInt16LE(flags, NAME_BYTES)
  if (fileCalls().ioctl(fd, TUNSETIFF, addressOf(request)) === 0) {
    return request.toString('latin1', 0, request.indexOf(0))
  }
  const found = errorName(errno())
  if (found === 'EPERM') {
    const advice = 'run as root or with CAP_NET_ADMIN; "hoplite run" needs neither'
    throw new HopliteError('NOT_PERMITTED', `make the TUN device ${name}: ${found}`, advice)
  }
  const isTaken = found === 'EBUSY' || found === 'EEXIST' || found === 'EINVAL'
  throw new HopliteError(
    'TUN_UNAVAILABLE',
    `make the TUN device ${name}: ${isTaken ? 'the name is taken' : found}`,
    isTaken ? `choose another name, or see who has it: ip -details link show ${name}` : 'check the kernel log',
  )
}

function setOffload(fd: number, name: string): TunOffload {
  if (fileCalls().ioctl(fd, TUNSETOFFLOAD, TSO | USO) === 0) return 'tcp and udp'
  if (fileCalls().ioctl(fd, TUNSETOFFLOAD, TSO) === 0) return 'tcp'
  const advice = 'use a kernel of 4.14 or newer, or the portable engine'
  throw new HopliteError('TUN_UNAVAILABLE', `set the offloads of ${name}: ${errorName(errno())}`, advice)
}
