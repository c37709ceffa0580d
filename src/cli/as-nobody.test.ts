// What root starts and needs no root for: somebody else's process from the beginning, and as it would be if that one had started it.

import assert from 'node:assert/strict'
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { processStatus } from '#lab/machine/machine-network.ts'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { waitFor } from '#lab/testnet.ts'

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url))
const CONFIG = `
[network]
bootstrap = ["/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"]
[relay]
listen = "127.0.0.1:0"
control_listen = "127.0.0.1:0"
[meet]
listen = "127.0.0.1:0"
gossip = false
[issuer]
listen = "127.0.0.1:0"
`
const NODES = {
  relay: ['relay'],
  bootstrap: ['bootstrap'],
  rendezvous: ['rendezvous'],
  issuer: ['issuer'],
  entry: ['entry-daemon', '--listen', '127.0.0.1:0', '--to', '127.0.0.9:51820'],
} as const

interface Started {
  readonly child: ChildProcess
  readonly stateDir: string
  readonly said: () => string
}

function start(t: TestContext, name: string, words: readonly string[], more = ''): Started {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-nobody-'))
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const [config, stateDir] = [path.join(folder, 'hoplite.toml'), path.join(folder, name)]
  writeFileSync(config, CONFIG + more)
  // What root left there before is the node's from now on.
  mkdirSync(stateDir, { mode: 0o700 })
  writeFileSync(path.join(stateDir, 'left'), '', { mode: 0o600 })
  const child = fork(MAIN, [...words, '--config', config, '--state-dir', stateDir], {
    execArgv: ['--no-warnings'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  t.after(() => child.kill('SIGKILL'))
  let text = ''
  child.stderr?.on('data', chunk => {
    text += String(chunk)
  })
  return { child, stateDir, said: () => text }
}

function untilUp({ child, said }: Started): Promise<true> {
  return waitFor(async () => {
    if (child.exitCode !== null) throw new Error(said())
    return / is up"|"level":"info"/.test(said()) || undefined
  }, 'a node')
}

test('nodes that change nothing are nobody when root starts them, and end with whoever started them', {
  timeout: 170_000,
}, async t => {
  if (skipUnless(t, process.platform === 'linux' && process.getuid?.() === 0, 'needs root on Linux')) return
  for (const tool of ['setpriv', 'unshare']) if (skipUnless(t, hasTool(tool), `needs ${tool}`, { tool })) return
  for (const [name, words] of Object.entries(NODES)) {
    await t.test(name, async t => {
      // One of them listens where only root may, and keeps the right to that and no other.
      const isLow = name === 'bootstrap'
      const node = start(t, name, words, isLow ? '[metrics]\nlisten = "127.0.0.9:91"\n' : '')
      await untilUp(node)
      const { Uid = '', Gid = '', Groups, CapBnd, CapEff, CapPrm, NoNewPrivs } = processStatus(node.child.pid as number)
      const [uid = 0] = Uid.split('\t').map(Number)
      assert.ok(uid >= 61_184 && uid <= 65_519, Uid)
      assert.deepEqual([...new Set([...Uid.split('\t'), ...Gid.split('\t')])], [String(uid)])
      const kept = isLow ? '0000000000000400' : '0000000000000000'
      assert.deepEqual([Groups?.trim(), CapBnd, CapEff, CapPrm, NoNewPrivs], ['', kept, kept, kept, '1'])
      const { pid } = node.child
      assert.match(readFileSync(`/proc/${pid}/cmdline`, 'latin1'), /--permission.*--allow-fs-write=\S+\0/)
      assert.equal(statSync(path.join(node.stateDir, 'left')).uid, uid)
      const ended = new Promise(resolve => node.child.once('exit', code => resolve(code)))
      node.child.disconnect()
      assert.equal(await ended, 0, node.said())
      assert.doesNotMatch(node.said(), /ERR_ACCESS_DENIED|"level":"error"/)
    })
  }
})

test('a root that may not lay a file system over another says where the state may be kept', async t => {
  if (skipUnless(t, process.platform === 'linux' && process.getuid?.() === 0, 'needs root on Linux')) return
  if (skipUnless(t, hasTool('setpriv'), 'needs setpriv', { tool: 'setpriv' })) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-closed-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const bounds = '--bounding-set=-sys_admin'
  const words = ['--no-warnings', MAIN, 'bootstrap', '--state-dir', path.join(folder, 'state')]
  const child = spawn('setpriv', [bounds, '--inh-caps=-sys_admin', '--', process.execPath, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', chunk => {
    said += String(chunk)
  })
  assert.equal(await new Promise(resolve => child.once('exit', resolve)), 77, said)
  assert.match(said, /that one may not enter \/tmp.*\n.*--state-dir/)
})
