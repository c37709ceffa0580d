// The tunnel of one's own VPN as a part of a daemon, as the dashboard starts it: everything goes through a stranger, and when
// the daemon is killed nothing leaves the machine until its user says so in the next one. In network namespaces.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { callAction } from '#api/client.ts'
import type { Output } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { processStatus } from '../machine/machine-network.ts'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { COMMAND, EntryNetwork } from './entry-network.ts'

const START_MS = 120_000
const SIZE = 500_000

test('a VPN is started from a daemon, survives its own process, stays shut when the daemon is killed, and is opened again', async t => {
  const missing = EntryNetwork.missing()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using network = await EntryNetwork.start({ peers: 2 })
  const socket = socketPath(network.state('me'))
  const words = ['daemon', '--off', '--config', network.clientConfig(), '--state-dir', network.state('me')]
  const startDaemon = async () => {
    network.host('me').start(process.execPath, [COMMAND, ...words])
    return waitFor(async () => callAction(socket, 'status', {}).catch(() => undefined), 'the daemon')
  }
  const status = () => callAction(socket, 'entry.status', {})
  const running = () =>
    waitFor(async () => {
      const { status: entry } = await status()
      return entry?.routes[0]?.isProven ? entry : undefined
    }, 'the VPN to answer')
  /** Kills it, and gives what is said before it is started again. */
  const killed = async (pid: number): Promise<Output<'entry.status'>> => {
    process.kill(pid, 'SIGKILL')
    const seen = await waitFor(async () => {
      const seen = await status()
      return seen.state === 'waiting' || (seen.status !== undefined && seen.status.pid !== pid) ? seen : undefined
    }, 'its end to be seen')
    // On a busy machine it is up again before anybody looks; each time it waits longer.
    return seen.state === 'waiting' || seen.status === undefined ? seen : killed(seen.status.pid)
  }
  // What must come through is waited for longer than what must not.
  const straight = (withinS = 20) =>
    network
      .host('me')
      .run('ping', '-c', '1', '-W', `${withinS}`, network.address('web'))
      .then(
        () => true,
        () => false,
      )
  const { pid } = await startDaemon()
  assert.ok(await straight(), 'without a tunnel packets go straight')
  const file = readFileSync(network.clientFile(network.server), 'utf8')
  const { tunnel } = await callAction(socket, 'entry.check', { file })
  assert.deepEqual(tunnel, { isPossible: true })
  await callAction(socket, 'entry.start', { file, form: 'tunnel' }, START_MS)
  const first = await running()
  assert.deepEqual([first.interface, first.killSwitch], ['hoplite-vpn', true])
  // Root started it, and neither the daemon nor what it runs is root: their helper makes the tunnel.
  for (const process of [pid, first.pid]) {
    const { Uid = '', CapEff, CapPrm, CapBnd, NoNewPrivs } = processStatus(process)
    const [uid] = Uid.split('\t').map(Number)
    assert.ok(uid !== undefined && uid >= 61_184 && uid <= 65_519, Uid)
    assert.deepEqual([CapEff, CapPrm, CapBnd].map(Number), [0, 0, 0])
    assert.equal(NoNewPrivs, '1')
    assert.match(readFileSync(`/proc/${process}/cmdline`, 'latin1'), /--permission/)
  }
  const one = await network.download(SIZE).done
  assert.equal(one.bytes, SIZE)
  assert.notEqual((await network.addressAtServer()).split(':')[0], network.address('me'), 'the VPN sees a stranger')
  await assert.rejects(callAction(socket, 'share.start', { as: 'peer' }), { code: 'PART_RUNNING' })

  assert.equal((await killed(first.pid)).isShut, true, 'its firewall stands meanwhile')
  const second = await running()
  assert.notEqual(second.pid, first.pid)
  assert.equal((await network.download(SIZE).done).bytes, SIZE)

  process.kill(pid, 'SIGKILL')
  await waitFor(async () => isGone(second.pid) || undefined, 'the end of what it ran')
  assert.equal(await straight(1), false, 'nothing leaves')
  await startDaemon()
  const shut = await status()
  assert.deepEqual([shut.state, shut.isShut, shut.isKept], ['off', true, false])
  const opened = await callAction(socket, 'entry.stop', {}, START_MS)
  assert.equal(opened.isShut, false)
  assert.ok(await straight(), 'the machine is open again')

  await callAction(socket, 'entry.start', { file, form: 'tunnel' }, START_MS)
  const third = await running()
  process.kill(third.pid, 'SIGTERM')
  assert.equal((await network.download(SIZE).done).bytes, SIZE)
  assert.equal((await running()).pid, third.pid, 'a signal to it alone opens nothing')
  process.kill((await callAction(socket, 'status', {})).pid, 'SIGKILL')
  await waitFor(async () => isGone(third.pid) || undefined, 'the end of what it ran')
  assert.equal(await straight(1), false, 'nothing leaves')
  assert.match(await network.hoplite('me', 'recover'), /^undone: /)
  assert.ok(await straight(), 'the command opens it as well')

  const last = await startDaemon()
  await callAction(socket, 'entry.start', { file, form: 'tunnel' }, START_MS)
  await killed((await running()).pid)
  await callAction(socket, 'down', {})
  await waitFor(async () => isGone(last.pid) || undefined, 'the end of the daemon')
  assert.ok(await straight(), 'a daemon that is told to end leaves nothing shut')
})

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch {
    return true
  }
}
