// The inside of confine.ts: runs as root of fresh namespaces, prepares them, and becomes the command.
//
// It says one line on descriptor 3 and reads one word from it. The TUN is closed in the command; the copy that was handed
// over keeps it.

import { closeSync, existsSync, mkdirSync, readSync, realpathSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { sendDescriptor } from '../descriptors.ts'
import { fileCalls } from '../libc.ts'
import { programPath } from '../programs.ts'
import { openTun } from '../tun.ts'
import { type EntryOrder, type EntryReport, CONFINED_TUN as TUN } from './confine.ts'
import { resolvConf } from './dns.ts'
import { openLinkControl } from './link-control.ts'
import { parseInterface } from './networks.ts'
import { capture } from './steps.ts'

const CHANNEL = 3
const RESOLV_CONF = '/etc/resolv.conf'
/** Where resolvers listen that the C library would ask before it reads resolv.conf. */
const RESOLVERS = ['/run/systemd/resolve', '/run/nscd', '/var/run/nscd', '/run/avahi-daemon']

const order = JSON.parse(process.argv[2] ?? '') as EntryOrder
try {
  await prepare()
  report({ kind: 'ready' })
} catch (error) {
  report(failure(error))
  process.exit(1)
}
if (readSync(CHANNEL, Buffer.alloc(1)) === 0) process.exit(1)
closeSync(CHANNEL)
const asUser = ['--user', `--map-user=${order.uid}`, `--map-group=${order.gid}`, '--', order.command, ...order.args]
process.execve?.(programPath('unshare') ?? 'unshare', ['unshare', ...asUser], process.env)

async function prepare(): Promise<void> {
  const tun = openTun({ name: TUN, offload: order.offload })
  const own = order.addresses.map(parseInterface)
  await ip('link', 'set', 'dev', 'lo', 'up')
  await ip('link', 'set', 'dev', TUN, 'mtu', String(order.mtu))
  if (existsSync('/proc/sys/net/ipv6')) await ip('link', 'set', 'dev', TUN, 'addrgenmode', 'none')
  for (const { family, address, bits } of own) {
    await ip('address', 'add', `${address}/${bits}`, 'dev', TUN, ...(family === 6 ? ['nodad'] : []))
  }
  await ip('link', 'set', 'dev', TUN, 'up')
  for (const family of new Set(own.map(({ family }) => family))) {
    await ip(`-${family}`, 'route', 'add', 'default', 'dev', TUN)
  }
  allowPing()
  await coverResolvers()
  sendDescriptor(order.inbox, tun.fds[0] ?? -1, tun.offload)
  const control = openLinkControl()
  sendDescriptor(order.inbox, control, 'control')
  fileCalls().close(control)
}

/** Echo requests without rights, for the user's group (0 here); a container may not let us. */
function allowPing(): void {
  try {
    writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 0')
  } catch {
    // Then ping says that it may not.
  }
}

async function coverResolvers(): Promise<void> {
  // A link into one of the directories leads nowhere once they are covered.
  const target = existsSync(RESOLV_CONF) ? realpathSync(RESOLV_CONF) : undefined
  for (const directory of new Set(RESOLVERS.filter(existsSync).map(directory => realpathSync(directory)))) {
    await capture({ run: ['mount', '-t', 'tmpfs', '-o', 'size=64k,mode=755', 'tmpfs', directory] })
  }
  if (target === undefined) {
    const advice = `make it, empty: touch ${RESOLV_CONF}`
    throw new HopliteError('CHANGE_FAILED', `point DNS into the route: there is no ${RESOLV_CONF}`, advice)
  }
  const content = resolvConf({ servers: order.dns, search: [] })
  if (existsSync(target)) {
    writeFileSync(order.resolvConf, content, { mode: 0o644 })
    await capture({ run: ['mount', '--bind', order.resolvConf, target] })
    rmSync(order.resolvConf)
  } else {
    mkdirSync(path.dirname(target), { recursive: true })
    writeFileSync(target, content, { mode: 0o644 })
  }
}

async function ip(...words: string[]): Promise<void> {
  await capture({ run: ['ip', ...words] })
}

function report(what: EntryReport): void {
  writeSync(CHANNEL, `${JSON.stringify(what)}\n`)
}

function failure(error: unknown): EntryReport {
  if (error instanceof HopliteError) {
    return { kind: 'failed', code: error.code, message: error.message, advice: error.advice }
  }
  const message = `confine a command: ${(error as Error).message}`
  return { kind: 'failed', code: 'INTERNAL', message, advice: 'report it' }
}
