import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { coversFor, giveState } from './daemon-user.ts'
import type { ExitOrder } from './helper-order.ts'
import { type HelperStart, START_VARIABLE } from './helper-start.ts'

const HELPER = fileURLToPath(new URL('./helper-process.ts', import.meta.url))
const USER = { uid: 65_500, gid: 65_500 }
const EXIT: ExitOrder = {
  kind: 'exit',
  name: 'hoplite-x',
  addresses: ['10.64.0.1/16'],
  denied: ['10.0.0.0/8'],
  rules: [],
  allowed: [],
  resolver: { address: '192.0.0.1', servers: ['192.0.2.53'] },
}

/** What a daemon that somebody else owns could do: it has the descriptors, and says over them what it likes. */
const HOSTILE = `
  import { Socket } from 'node:net'
  const lines = new Socket({ fd: 3, readable: true, writable: true })
  const said = []
  let rest = ''
  lines.setEncoding('utf8').on('data', text => {
    const all = (rest + text).split('\\n')
    rest = all.pop()
    for (const line of all) { said.push(line); settle?.(line) }
  })
  let settle
  const next = () => new Promise(resolve => { said.length > 0 ? resolve(said.shift()) : settle = line => { settle = undefined; resolve(said.shift()) } })
  export const ask = async text => { lines.write(text + '\\n'); return JSON.parse(await next()) }
`

interface Ended {
  readonly code: number
  readonly stdout: string
}

async function run(t: TestContext, host: Host, code: string, change: (start: HelperStart) => HelperStart = same) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-helper-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  chmodSync(directory, 0o755)
  const [stateDir, journal] = [path.join(directory, 'state'), path.join(directory, 'state.network')]
  mkdirSync(stateDir, { mode: 0o700 })
  const script = path.join(directory, 'daemon.mjs')
  writeFileSync(script, `${HOSTILE}\n${code}`, { mode: 0o644 })
  const start = change({
    order: { tunnel: EXIT, journal, uid: USER.uid, hooks: [] },
    launch: { ...USER, command: [process.execPath, script], sees: [stateDir, process.execPath], bindsLowPorts: false },
    stateDir,
  })
  const ended = await host
    .run('env', `${START_VARIABLE}=${JSON.stringify(start)}`, process.execPath, '--no-warnings', HELPER)
    .then(
      (stdout): Ended => ({ code: 0, stdout }),
      ({ code, stdout }: Ended): Ended => ({ code, stdout }),
    )
  return { ...ended, directory, stateDir, journal }
}

const same = (start: HelperStart) => start

test('a hostile daemon', async t => {
  const missing = missingForNamespaces('nft', 'setpriv', 'unshare')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using lab = new Namespaces()
  const host = await lab.host('here')
  const picture = async () =>
    [await host.run('nft', 'list', 'ruleset'), await host.ip('address'), await host.ip('rule')].join()
  const before = await picture()

  await t.test('is nobody, and its own code is what it ends with', async t => {
    const { code, stdout } = await run(
      t,
      host,
      `import { readFileSync } from 'node:fs'
       console.log(process.getuid(), /CapEff:.*0$/m.test(readFileSync('/proc/self/status', 'utf8')), process.env.${START_VARIABLE})
       process.exit(42)`,
    )
    assert.deepEqual([code, stdout], [42, '65500 true undefined\n'])
  })

  await t.test('that says what is no request is refused each time, and nothing is done', async t => {
    const words = [
      '',
      'x',
      '{}',
      '{"verb":"run","command":["id"]}',
      '{"verb":"open"}',
      '[1]',
      '\u0000',
      '{"verb":"relays","relays":[{"address":"; flush ruleset","protocol":"udp","port":1}]}',
    ]
    const { code, stdout } = await run(
      t,
      host,
      `for (const word of ${JSON.stringify(words)}) console.log((await ask(word)).error.code)
       for (const verb of ['mtu', 'relays', 'control', 'reset', 'wg']) {
         const more = { mtu: { mtu: 1300 }, relays: { relays: [] }, control: { control: [] } }[verb] ?? {}
         console.log((await ask(JSON.stringify({ verb, ...more }))).error.code)
       }
       process.exit(0)`,
    )
    assert.deepEqual([code, stdout], [0, 'REQUEST_INVALID\n'.repeat(words.length + 5)])
    assert.equal(await picture(), before)
  })

  await t.test('that says a line without an end is killed', async t => {
    const { code } = await run(t, host, `setInterval(() => {}, 1e3); lines.write('x'.repeat(2 ** 20))`)
    assert.equal(code, 137)
  })

  await t.test('that asks and never reads fills no memory', async t => {
    const { code, stdout } = await run(
      t,
      host,
      `import { readFileSync } from 'node:fs'
       lines.pause()
       const until = performance.now() + 1_500
       const most = () => Number(/VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/' + process.ppid + '/status', 'utf8'))[1])
       const before = most()
       let sent = 0
       while (performance.now() < until) {
         const isTaken = await Promise.race([
           new Promise(resolve => lines.write('x\\n'.repeat(10_000), () => resolve(true))),
           new Promise(resolve => setTimeout(resolve, 200, false)),
         ])
         if (isTaken) sent += 10_000
         else break
       }
       console.log(sent < 1e6, most() - before < 30_000)
       process.exit(0)`,
    )
    assert.deepEqual([code, stdout], [0, 'true true\n'])
  })

  await t.test('that dies with its tunnel open leaves an exit as it was', async t => {
    const { code, stdout, journal } = await run(
      t,
      host,
      `const { answer, fds } = await ask('{"verb":"open","mtu":1400,"queues":3,"control":[]}')
       console.log(answer.opened.name, fds)
       process.kill(process.pid, 'SIGKILL')`,
    )
    assert.deepEqual([code, stdout], [137, 'hoplite-x 3\n'])
    assert.equal(await picture(), before)
    assert.ok(!existsSync(path.join(journal, 'network-changes.jsonl')))
  })

  await t.test('sees of a closed directory its own state alone', async t => {
    const secret = mkdtempSync(path.join(tmpdir(), "hoplite-it's-"))
    t.after(() => rmSync(secret, { recursive: true, force: true }))
    writeFileSync(path.join(secret, 'secret'), 'x', { mode: 0o644 })
    const stateDir = path.join(secret, 'state')
    mkdirSync(stateDir, { mode: 0o700 })
    writeFileSync(path.join(stateDir, 'key'), 'mine', { mode: 0o600 })
    assert.deepEqual(coversFor([stateDir], USER), [secret])
    const { code, stdout } = await run(
      t,
      host,
      `import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
       const at = ${JSON.stringify(secret)}
       console.log(readdirSync(at).join(), readFileSync(at + '/state/key', 'utf8'))
       writeFileSync(at + '/state/new', 'written')
       process.exit(0)`,
      start => ({ ...start, stateDir, launch: { ...start.launch, sees: [stateDir] } }),
    )
    assert.deepEqual([code, stdout], [0, 'state mine\n'])
    assert.equal(lstatSync(path.join(stateDir, 'new')).uid, USER.uid)
    assert.ok(existsSync(path.join(secret, 'secret')))
  })

  await t.test('gets its state and nothing that its state points to', t => {
    const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-give-'))
    t.after(() => rmSync(directory, { recursive: true, force: true }))
    const [state, others] = [path.join(directory, 'state'), path.join(directory, 'others')]
    mkdirSync(path.join(state, 'deep'), { recursive: true })
    writeFileSync(path.join(state, 'deep', 'own'), '')
    writeFileSync(others, '')
    linkSync(others, path.join(state, 'second-name'))
    symlinkSync(others, path.join(state, 'link'))
    symlinkSync(directory, path.join(state, 'up'))
    giveState(state, USER)
    const owner = (...names: string[]) => lstatSync(path.join(...names)).uid
    assert.deepEqual([owner(state), owner(state, 'deep', 'own'), owner(state, 'link')], [65_500, 65_500, 65_500])
    assert.deepEqual([owner(others), owner(state, 'second-name'), owner(directory)], [0, 0, 0])
  })
})
