// The MTU of an interface in another network namespace, set without entering it: a socket belongs for good to the namespace
// where it was opened, and requests through it are about the interfaces there (netdevice(7)). Who opens it inside hands it over.
// The kernel asks for rights over that namespace, which the user who made it has from outside.
//
// struct ifreq, 40 bytes: 0/16 name with NUL, 16/4 MTU.

import { HopliteError } from '#api/errors.ts'
import { addressOf, bind, errno, errorName, fileCalls } from '../libc.ts'

const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SIOCSIFMTU = 0x8922n
const IFREQ_BYTES = 40
const NAME_BYTES = 16

/** Opens a descriptor for `setLinkMtu`, of this process's network namespace. Throws CHANGE_FAILED or FFI_MISSING. */
export function openLinkControl(): number {
  const { socket } = bind({ socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' } })
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw failed('open a socket')
  return fd
}

/** Sets the MTU in bytes of an interface where `control` was opened. Throws CHANGE_FAILED. */
export function setLinkMtu(control: number, name: string, mtu: number): void {
  const request = Buffer.alloc(IFREQ_BYTES)
  request.write(name, 0, NAME_BYTES - 1, 'latin1')
  request.writeInt32LE(mtu, NAME_BYTES)
  if (fileCalls().ioctl(control, SIOCSIFMTU, addressOf(request)) !== 0) throw failed(`set the MTU of ${name}`)
}

function failed(what: string): HopliteError {
  return new HopliteError('CHANGE_FAILED', `${what}: ${errorName(errno())}`, 'check the kernel log')
}
