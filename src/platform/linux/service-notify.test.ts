import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { errno, fileCalls } from './libc.ts'
import { AF_UNIX, openServiceWatch, unixAddress } from './service-notify.ts'
import { EAGAIN, Memory, SOCK_DGRAM, SOCK_FLAGS, socketCalls } from './socket-calls.ts'

const skip = process.platform === 'linux' ? false : 'systemd is for Linux'

/** What arrives at a Unix socket of this name, in the manager's place. */
function listen(name: string) {
  const fd = socketCalls().socket(AF_UNIX, SOCK_DGRAM | SOCK_FLAGS, 0)
  const { memory, length } = unixAddress(name)
  assert.equal(socketCalls().bind(fd, memory.pointer, length), 0, `error ${errno()}`)
  const room = new Memory(256)
  const read = (): string | undefined => {
    const length = socketCalls().read(fd, room.pointer, 256)
    if (length < 0) assert.equal(errno(), EAGAIN)
    return length < 0 ? undefined : Buffer.from(room.bytes.subarray(0, length)).toString()
  }
  return { read, close: () => fileCalls().close(fd) }
}

test('a service says that it is up, and from then on that it lives', { skip }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-notify-'))
  t.after(() => rmSync(folder, { recursive: true }))
  t.mock.timers.enable({ apis: ['setInterval'] })
  for (const name of [path.join(folder, 'socket'), `@hoplite-test-${process.pid}`]) {
    const manager = listen(name)
    const watch = openServiceWatch({ NOTIFY_SOCKET: name, WATCHDOG_USEC: '30000000' })
    assert.ok(watch)
    t.mock.timers.tick(60_000)
    assert.equal(manager.read(), undefined, 'it is not up yet')
    watch.ready()
    watch.ready()
    assert.deepEqual([manager.read(), manager.read(), manager.read()], ['READY=1', 'READY=1', undefined])
    t.mock.timers.tick(10_000)
    assert.deepEqual([manager.read(), manager.read()], ['WATCHDOG=1', undefined])
    watch.close()
    t.mock.timers.tick(60_000)
    assert.equal(manager.read(), undefined)
    manager.close()
  }
})

test('without a manager there is nothing to tell, and one that is not there is an error', { skip }, () => {
  assert.equal(openServiceWatch({}), undefined)
  assert.throws(() => openServiceWatch({ NOTIFY_SOCKET: '/nowhere/socket' }), /ENOENT/)
  assert.throws(() => openServiceWatch({ NOTIFY_SOCKET: `/${'x'.repeat(200)}` }), /too long/)
})
