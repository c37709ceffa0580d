// Programs on paired devices speak to each other: a duplex stream and datagrams, whatever carries them.
//
//   await using listener = await listen(7000, channel => channel.stream.pipe(channel.stream))     // on `tower`
//   const channel = await connect('tower', 7000)                                                  // on `laptop`
//
// Today a stream is a TCP connection and datagrams are UDP between the fixed addresses that devices have in their own network,
// where only they can have them. Bounds: datagrams of 1,200 bytes; 16 wait for a listener, later ones are lost, as
// datagrams may be.

import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'

/** What a datagram may carry at most, in bytes. */
export const MAX_DATAGRAM_BYTES = 1_200
const LEASE_MS = 120_000
const CONNECT_MS = 30_000
const MAX_WAITING = 16

export interface ChannelOptions {
  /** Of the daemon to use; the usual one without it. */
  readonly stateDir?: string
}

/** Between a program here and one on another device. */
export interface DeviceChannel {
  /** The id of the other device. */
  readonly device: string
  /** Reliable and in order; ends when either side ends it. */
  readonly stream: Duplex
  /** Sends a datagram of at most MAX_DATAGRAM_BYTES, which may be lost. Throws RangeError for a longer one. */
  sendDatagram(bytes: Uint8Array): void
  /** Hears the other side's datagrams; one listener, the last given. */
  onDatagram(listener: (bytes: Uint8Array) => void): void
  close(): void
}

export interface DeviceListener extends AsyncDisposable {
  readonly port: number
  close(): Promise<void>
}

type Book = Output<'devices'>

/** Opens a channel to a program that listens on a paired device. Throws DEVICE_UNKNOWN or DEVICE_UNREACHABLE. */
export async function connect(device: string, port: number, options: ChannelOptions = {}): Promise<DeviceChannel> {
  const { own, devices } = await bookOf(options)
  const found = devices.find(({ id, name }) => name === device || id === device)
  if (found === undefined)
    throw new HopliteError('DEVICE_UNKNOWN', `connect to "${device}": there is none`, 'see: hoplite devices')
  const stream = connectTcp({ host: found.ipv6, port, localAddress: own.ipv6, noDelay: true })
  try {
    await once(stream, 'connect', { signal: AbortSignal.timeout(CONNECT_MS) })
  } catch (error) {
    stream.destroy()
    const what = `connect to ${device}, port ${port}: ${(error as NodeJS.ErrnoException).code ?? 'it does not answer'}`
    throw new HopliteError('DEVICE_UNREACHABLE', what, 'see whether it is reached: hoplite ping', error)
  }
  const datagrams = await openDatagrams(own.ipv6, stream.localPort ?? 0)
  datagrams.connect(port, found.ipv6)
  await once(datagrams, 'connect')
  const mailbox = new Mailbox()
  datagrams.on('message', bytes => mailbox.deliver(bytes))
  stream.once('close', () => datagrams.close())
  return channelOf(found.id, stream, mailbox, bytes => datagrams.send(bytes, () => undefined))
}

/**
 * Lets programs on paired devices open channels to this one, for as long as the listener is open; the firewall lets them
 * through for that time. Throws DEVICE_UNREACHABLE where there is no network of devices, ADDRESS_IN_USE.
 */
export async function listen(
  port: number,
  onChannel: (channel: DeviceChannel) => void,
  options: ChannelOptions = {},
): Promise<DeviceListener> {
  const { own } = await bookOf(options)
  const socket = socketOf(options)
  const mailboxes = new Map<string, Mailbox>()
  const server = createServer({ noDelay: true })
  let datagrams: DatagramSocket
  try {
    await listenTcp(server, own.ipv6, port)
    datagrams = await openDatagrams(own.ipv6, port)
  } catch (error) {
    server.close()
    const what = `listen on port ${port}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('ADDRESS_IN_USE', what, 'choose another port', error)
  }
  const permit = (forMs: number) => callAction(socket, 'device.allow', { device: '*', port, forMs })
  await permit(LEASE_MS)
  const renew = setInterval(() => void permit(LEASE_MS).catch(() => undefined), LEASE_MS / 2)
  renew.unref()
  datagrams.on('message', (bytes, from) => mailboxes.get(`${from.address} ${from.port}`)?.deliver(bytes))
  const open = new Set<Socket>()
  server.on('connection', stream => {
    const { remoteAddress = '', remotePort = 0 } = stream
    const key = `${remoteAddress} ${remotePort}`
    const mailbox = new Mailbox()
    mailboxes.set(key, mailbox)
    open.add(stream)
    stream.once('close', () => {
      open.delete(stream)
      mailboxes.delete(key)
    })
    const take = ({ devices }: Book) => {
      const id = devices.find(({ ipv6 }) => ipv6 === remoteAddress)?.id
      if (id === undefined || stream.destroyed) return void stream.destroy()
      const send = (bytes: Uint8Array) => datagrams.send(bytes, remotePort, remoteAddress, () => undefined)
      onChannel(channelOf(id, stream, mailbox, send))
    }
    // Errors before the program has the stream are the connection's end, and nothing else.
    stream.on('error', () => stream.destroy())
    callAction(socket, 'devices', {}).then(take, () => stream.destroy())
  })
  let closed: Promise<void> | undefined
  const close = () => (closed ??= end())
  const end = async () => {
    clearInterval(renew)
    for (const stream of open) stream.destroy()
    datagrams.close()
    await new Promise(resolve => server.close(resolve))
    await permit(0).catch(() => undefined)
  }
  return { port, close, [Symbol.asyncDispose]: close }
}

function channelOf(device: string, stream: Socket, mailbox: Mailbox, send: (bytes: Uint8Array) => void): DeviceChannel {
  return {
    device,
    stream,
    sendDatagram: bytes => {
      if (bytes.length > MAX_DATAGRAM_BYTES) throw new RangeError(`send a datagram: ${bytes.length} bytes`)
      if (!stream.destroyed) send(bytes)
    },
    onDatagram: listener => mailbox.listen(listener),
    close: () => stream.destroy(),
  }
}

/** Datagrams on their way to a listener, who may come after them. */
class Mailbox {
  readonly #waiting: Uint8Array[] = []
  #listener: ((bytes: Uint8Array) => void) | undefined

  deliver(bytes: Uint8Array): void {
    if (this.#listener !== undefined) this.#listener(bytes)
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(bytes)
  }

  listen(listener: (bytes: Uint8Array) => void): void {
    this.#listener = listener
    for (const bytes of this.#waiting.splice(0)) listener(bytes)
  }
}

async function bookOf(options: ChannelOptions): Promise<Book> {
  const book = await callAction(socketOf(options), 'devices', {})
  if (book.interface !== undefined) return book
  const advice = 'pair a device, and run the daemon with the right to make a network interface; hoplite doctor'
  throw new HopliteError('DEVICE_UNREACHABLE', 'reach devices: there is no network interface for them', advice)
}

function socketOf({ stateDir }: ChannelOptions): string {
  return socketPath(stateDirectory(stateDir))
}

async function listenTcp(server: Server, host: string, port: number): Promise<void> {
  server.listen(port, host)
  await once(server, 'listening')
}

async function openDatagrams(host: string, port: number): Promise<DatagramSocket> {
  const socket = createSocket('udp6')
  socket.bind(port, host)
  await once(socket, 'listening')
  // A datagram that could not be sent is lost, as datagrams are.
  socket.on('error', () => undefined)
  return socket
}
