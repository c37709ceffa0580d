import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { networkInterfaces, tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { serveApi } from '#api/server.ts'
import type { Output } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { connect, type DeviceChannel, listen, MAX_DATAGRAM_BYTES } from './device-channels.ts'

const hasIpv6 = Object.values(networkInterfaces()).some(list => list?.some(({ address }) => address === '::1'))
const skip = hasIpv6 ? false : 'this machine has no IPv6 loopback'
const ADDRESS = { generation: 1, ipv6: '::1' }
const LAPTOP = { ...ADDRESS, id: 'b'.repeat(32), name: 'laptop' }
const REST = { pairedMs: 0, isConfirmed: true, isUp: true, rxBytes: 0, txBytes: 0, offered: [] }

/** A daemon with one paired device, both of whose addresses are this machine's. */
async function daemon(t: TestContext, book: Partial<Output<'devices'>> = {}) {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-channels-'))
  const leases: number[] = []
  const api = await serveApi(
    {
      devices: () => ({
        own: { ...ADDRESS, id: 'a'.repeat(32), name: 'tower', offers: [] },
        devices: [{ ...LAPTOP, ...REST }],
        phones: [],
        interface: 'hoplite0',
        ...book,
      }),
      'device.allow': ({ forMs }) => {
        leases.push(forMs)
        return { allowed: forMs > 0 }
      },
    },
    socketPath(stateDir),
  )
  t.after(async () => {
    await api.close()
    rmSync(stateDir, { recursive: true })
  })
  return { options: { stateDir }, leases }
}

const fails = (code: string) => (error: unknown) => error instanceof HopliteError && error.code === code

test('two programs have a stream and datagrams, each channel its own', { skip }, async t => {
  const { options, leases } = await daemon(t)
  await using listener = await listen(
    0x4850,
    channel => {
      channel.stream.pipe(channel.stream)
      channel.onDatagram(bytes => channel.sendDatagram(Buffer.concat([bytes, Buffer.from(' heard')])))
    },
    options,
  )
  assert.deepEqual(leases, [120_000])
  const talk = async (channel: DeviceChannel, words: string) => {
    const datagram = new Promise<string>(resolve => channel.onDatagram(bytes => resolve(String(bytes))))
    channel.stream.write(words)
    const echo = await new Promise(resolve => channel.stream.once('data', resolve))
    channel.sendDatagram(Buffer.from(words))
    return [String(echo), await datagram]
  }
  const channels = [await connect('laptop', listener.port, options), await connect(LAPTOP.id, listener.port, options)]
  const said = await Promise.all(channels.map((channel, i) => talk(channel, `channel ${i}`)))
  assert.deepEqual(said, [
    ['channel 0', 'channel 0 heard'],
    ['channel 1', 'channel 1 heard'],
  ])
  assert.throws(() => channels[0]?.sendDatagram(new Uint8Array(MAX_DATAGRAM_BYTES + 1)), RangeError)
  await listener.close()
  assert.equal(leases.at(-1), 0)
  for (const channel of channels) channel.close()
})

test('who is no paired device gets no channel', { skip }, async t => {
  const { options } = await daemon(t, {
    devices: [{ ...LAPTOP, ...REST, ipv6: '::2' }],
  })
  let channels = 0
  await using listener = await listen(0x4851, () => channels++, options)
  const { connect: connectTcp } = await import('node:net')
  const stranger = connectTcp({ host: '::1', port: listener.port })
  await new Promise(resolve => stranger.once('close', resolve))
  assert.equal(channels, 0)
})

test('a device that is not known, a port where nobody listens, and a daemon without a network are said so', {
  skip,
}, async t => {
  const { options } = await daemon(t)
  await assert.rejects(connect('nobody', 1, options), fails('DEVICE_UNKNOWN'))
  await assert.rejects(connect('laptop', 9, options), fails('DEVICE_UNREACHABLE'))
  const without = await daemon(t, { interface: undefined })
  await assert.rejects(
    listen(0x4852, () => undefined, without.options),
    fails('DEVICE_UNREACHABLE'),
  )
})
