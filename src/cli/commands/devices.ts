// `hoplite devices`: this device and those paired with it.

import { openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { renderUnicodeCompact } from 'uqr'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'
import { ensureDaemon } from './up.ts'

interface Options {
  config?: string
  stateDir?: string
  json?: boolean
}

export async function list(options: Options & { hosts?: boolean }): Promise<void> {
  const book = await callAction(await socketOf(options), 'devices', {})
  const { own, devices, phones, interface: link } = book
  const hosts = hostLines(book)
  if (options.hosts) return print(options.json, { ok: true, hosts }, hosts.join('\n'))
  // While nobody is reached there may be none yet.
  const isBare = link === undefined && devices.some(({ path }) => path !== undefined)
  const isNameless = book.knowsNames === false && !hosts.every(line => isInHosts(line))
  const nameless = isNameless
    ? ['this system does not ask for names: hoplite devices --hosts has lines for /etc/hosts']
    : []
  const bare = isBare ? ['no network interface (Linux, root): only hoplite ping reaches the others'] : []
  const rows = [
    { ...own, note: 'this device', more: [...bare, ...nameless, ...offersOf(own)] },
    ...devices.map(device => ({ ...device, note: noteOf(device), more: offeredBy(device) })),
    ...phones.map(phone => ({ ...phone, note: phone.isUp ? 'phone, connected' : 'phone', more: fileOf(phone) })),
  ]
  const width = Math.max(...rows.map(({ name }) => name.length)) + 4
  const lines = rows.flatMap(({ id, name, ipv6, ipv4, note, more }) => [
    [`${name}.hop`.padEnd(width), id.slice(0, 8), (ipv4 ?? '').padEnd(15), ipv6, note].join('  '),
    ...more.map(line => `  ${line}`),
  ])
  print(options.json, { ok: true, ...book }, lines.join('\n'))
}

/** Addresses are for good, so these lines are too, until a device is renamed. */
function hostLines({ own, devices, phones }: Output<'devices'>): string[] {
  return [own, ...devices, ...phones].flatMap(({ name, ipv6, ipv4 }) =>
    [ipv6, ...(ipv4 === undefined ? [] : [ipv4])].map(address => `${address} ${name}.hop`),
  )
}

function isInHosts(line: string): boolean {
  try {
    return readFileSync('/etc/hosts', 'utf8').split('\n').includes(line)
  } catch {
    return false
  }
}

export async function rename(device: string, name: string, options: Options): Promise<void> {
  const { isOwn } = await callAction(await socketOf(options), 'device.rename', { device, name })
  const text = isOwn ? `This device is called ${name}; the others are told.` : `${device} is called ${name} here.`
  print(options.json, { ok: true, name, isOwn }, text)
}

export async function offer(network: string, options: Options & { to?: string[] }): Promise<void> {
  const offered = await callAction(await socketOf(options), 'device.offer', { network, to: options.to ?? ['*'] })
  const { own } = await callAction(await socketOf(options), 'devices', {})
  const who = options.to?.join(', ') ?? 'All your devices'
  const text = [
    `${who} may reach ${offered.network} through this device once they accept it.`,
    ...(own.problem === undefined ? [] : [`Not yet: ${own.problem}.`]),
  ]
  print(
    options.json,
    { ok: true, ...offered, ...(own.problem !== undefined && { problem: own.problem }) },
    text.join('\n'),
  )
}

export async function withdraw(network: string, options: Options): Promise<void> {
  const withdrawn = await callAction(await socketOf(options), 'device.withdraw', { network })
  print(options.json, { ok: true, ...withdrawn }, `Nobody reaches ${withdrawn.network} through this device any more.`)
}

export async function accept(device: string, network: string, options: Options): Promise<void> {
  const accepted = await callAction(await socketOf(options), 'device.accept', { device, network })
  const text = `${accepted.network} is reached through ${device} from now on, while ${device} is within reach.`
  print(options.json, { ok: true, ...accepted }, text)
}

export async function decline(device: string, network: string, options: Options): Promise<void> {
  const declined = await callAction(await socketOf(options), 'device.decline', { device, network })
  print(options.json, { ok: true, ...declined }, `${declined.network} is not reached through ${device} any more.`)
}

export async function remove(device: string, options: Options): Promise<void> {
  const { id } = await callAction(await socketOf(options), 'device.remove', { device })
  print(options.json, { ok: true, id }, `${device} is out.`)
}

export async function rotate(options: Options): Promise<void> {
  const socket = await socketOf(options)
  const { generation } = await callAction(socket, 'device.rotate', {})
  const { phones } = await callAction(socket, 'devices', {})
  const text = [
    'This device has new keys; the others are told.',
    ...phones.map(
      ({ name }) => `${name} cannot be told, and needs another file: hoplite devices add-phone ${name} --again`,
    ),
  ]
  print(options.json, { ok: true, generation, phones: phones.map(({ name }) => name) }, text.join('\n'))
}

interface PhoneOptions extends Options {
  readonly endpoint?: string
  readonly offer?: string[]
  readonly again?: boolean
  readonly file?: string
}

/** Makes a phone's WireGuard file, and shows it as a picture for the app's camera; it is kept nowhere else. */
export async function addPhone(name: string, options: PhoneOptions): Promise<void> {
  const { endpoint, offer = [], again = false, file: target } = options
  const input = { name, offer, again, ...(endpoint !== undefined && { endpoint }) }
  const socket = await socketOf(options)
  // Before there is a key that nobody could have.
  const opened = target === undefined ? undefined : openNew(target)
  const { id, file, reaches } = await callAction(socket, 'device.addPhone', input).catch(error => {
    if (target !== undefined) rmSync(target, { force: true })
    throw error
  })
  if (opened !== undefined) writeFileSync(opened, file)
  const text = [
    target === undefined ? `${renderUnicodeCompact(file)}\n${file}` : `${target} is for ${name}'s WireGuard app.`,
    ...(reaches.includes('internet') ? [`Everything that ${name} says goes through this device.`] : []),
    `${name} reaches this device${reaches.map(network => `, ${network}`).join('')}.`,
  ]
  print(options.json, { ok: true, id, reaches, ...(target === undefined && { file }) }, text.join('\n'))
}

function openNew(file: string): number {
  try {
    return openSync(file, 'wx', 0o600)
  } catch (error) {
    const what = `write ${file}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('STATE_UNREADABLE', what, 'name a file that is not there yet', error)
  }
}

function noteOf({ isConfirmed, path, isUp }: Output<'devices'>['devices'][number]): string {
  if (path === undefined) return isConfirmed ? 'out of reach' : 'not heard yet'
  return isUp ? path : `${path}, no session yet`
}

function fileOf({ name, reaches, problem }: Output<'devices'>['phones'][number]): string[] {
  const again = `make another: hoplite devices add-phone ${name} --again`
  return [
    ...(reaches.length === 0 ? [] : [`its file leads to ${reaches.join(', ')}`]),
    ...(problem === undefined ? [] : [`${problem}; ${again}`]),
  ]
}

function offersOf({ offers, problem }: Output<'devices'>['own']): string[] {
  const lines = offers.map(({ network, to }) => {
    const who = to.includes('*') ? 'all' : to.join(', ') || 'nobody: allow says who may'
    return `offers ${network} to ${who}`
  })
  return [...lines, ...(problem === undefined ? [] : [`problem: ${problem}`])]
}

function offeredBy({ name, ownName, offered }: Output<'devices'>['devices'][number]): string[] {
  const lines = offered.map(({ network, isAccepted, isInUse, problem }) => {
    const isOpen = !isAccepted && problem === undefined
    const how =
      network === 'internet' ? `sudo hoplite up --tun --via ${name}` : `hoplite devices accept ${name} ${network}`
    const state = isInUse ? 'in use' : isAccepted ? 'accepted' : isOpen ? `to use it: ${how}` : 'not to be had'
    return `offers ${network}, ${state}${problem === undefined ? '' : `: ${problem}`}`
  })
  return [...(ownName === undefined ? [] : [`calls itself ${ownName}`]), ...lines]
}

async function socketOf(options: Options): Promise<string> {
  await ensureDaemon(options)
  return socketPath(stateDirectory(options.stateDir))
}
