import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
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
import { HELPER_CAPABILITIES } from '#cli/service-units.ts'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { assertShared, coversFor, giveState } from './daemon-user.ts'
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

/** In the words of a daemon's script. */
const ENTRY = `'${JSON.stringify({
  ...{ verb: 'entry', addresses: ['10.2.0.2/32'], dnsServers: [], dnsSearch: [] },
  ...{ routes: ['0.0.0.0/0'], killSwitch: true },
})}'`

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

async function run(
  t: TestContext,
  host: Host,
  code: string,
  change: (start: HelperStart) => HelperStart = same,
  before: readonly string[] = [],
) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-helper-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  chmodSync(directory, 0o755)
  const [stateDir, journal] = [path.join(directory, 'state'), path.join(directory, 'state.network')]
  mkdirSync(stateDir, { mode: 0o700 })
  const script = path.join(directory, 'daemon.mjs')
  writeFileSync(script, `${HOSTILE}\n${code}`, { mode: 0o644 })
  const start = change({
    order: { tunnel: EXIT, journal, uid: USER.uid, hooks: [] },
    launch: {
      ...USER,
      command: [process.execPath, script],
      env: {},
      sees: [stateDir, process.execPath],
      bindsLowPorts: false,
    },
    stateDir,
  })
  const ended = await host
    .run('env', `${START_VARIABLE}=${JSON.stringify(start)}`, ...before, process.execPath, '--no-warnings', HELPER)
    .then(
      (stdout): Ended => ({ code: 0, stdout }),
      // What went wrong in it is said here, for whoever reads a failed test.
      ({ code, stdout, stderr }: Ended & { readonly stderr: string }): Ended => ({ code, stdout: stdout + stderr }),
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

  await t.test('has a home, though nobody entered its user and the service manager named none', async t => {
    const { code, stdout, stateDir } = await run(
      t,
      host,
      `import { homedir } from 'node:os'
       console.log(homedir())
       process.exit(0)`,
      same,
      ['env', '-u', 'HOME'],
    )
    assert.deepEqual([code, stdout], [0, `${stateDir}\n`])
  })

  await t.test('keeps the right to bind low ports where its configuration has one, and no other', async t => {
    const { code, stdout } = await run(
      t,
      host,
      `import { readFileSync } from 'node:fs'
       import { createServer } from 'node:net'
       console.log(process.getuid(), /CapEff:\\s*(\\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
       createServer().listen(443, '127.0.0.1', () => process.exit(0))`,
      start => ({ ...start, launch: { ...start.launch, bindsLowPorts: true } }),
    )
    assert.deepEqual([code, stdout], [0, '65500 0000000000000400\n'])
  })

  await t.test('has a helper to which the capabilities of its service are enough', async t => {
    const kept = HELPER_CAPABILITIES.map(name => `+${name.slice(4).toLowerCase()}`).join()
    const { code, stdout } = await run(
      t,
      host,
      `const { answer, error } = await ask('{"verb":"open","mtu":1400,"queues":1,"control":[]}')
       console.log(error ?? answer.opened.name, (await ask('{"verb":"socket","family":6}')).fds)
       console.log((await ask('{"verb":"restore"}')).error)
       process.exit(0)`,
      start => ({ ...start, launch: { ...start.launch, bindsLowPorts: true } }),
      ['setpriv', '--no-new-privs', `--bounding-set=-all,${kept}`, '--'],
    )
    assert.deepEqual([code, stdout], [0, 'hoplite-x 1\nundefined\n'])
    assert.equal(await picture(), before)
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

  await t.test('that blocks its loop is ended and started again, and after five times left alone', async t => {
    const { code, stdout } = await run(
      t,
      host,
      `console.log((await ask('{"verb":"open","mtu":1400,"queues":1,"control":[]}')).answer.opened.tookOver)
       console.log((await ask('{"verb":"alive"}')).fds)
       for (;;) {}`,
      start => ({ ...start, beatMs: 40 }),
    )
    assert.deepEqual([code, stdout.replaceAll(/hoplite: the node hung\n.*\n/g, '')], [137, 'false\n0\n'.repeat(5)])
    assert.equal(await picture(), before)
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

  await t.test(
    "that has one's devices makes one interface, with addresses of devices alone, which goes with it",
    async t => {
      const { code, stdout } = await run(
        t,
        host,
        `import { execFileSync } from 'node:child_process'
       const tell = async request => { const { answer, error, fds } = await ask(JSON.stringify(request)); console.log(error?.code ?? answer.mesh?.name ?? fds) }
       const [ipv6, ipv4] = ['fd68:6f70:6c69::7', '100.64.3.4']
       await tell({ verb: 'meshRoutes', ipv4: [] })
       await tell({ verb: 'meshNames' })
       for (const change of [{ ipv6: '2001:db8::1' }, { ipv4: '192.0.2.1' }, { ipv6: 'fd68:6f70:6c6a::1' }, { ipv4: 0 }, { network: '::/0' }])
         await tell({ verb: 'openMesh', ipv6, ipv4, ...change })
       await tell({ verb: 'openMesh', ipv6, ipv4 })
       await tell({ verb: 'openMesh', ipv6, ipv4 })
       await tell({ verb: 'meshRoutes', ipv4: ['100.65.0.1', '100.65.0.2'] })
       await tell({ verb: 'meshRoutes', ipv4: ['100.65.0.2'] })
       for (const bad of ['0.0.0.0', '192.0.2.1', '100.128.0.1']) await tell({ verb: 'meshRoutes', ipv4: [bad] })
       await tell({ verb: 'meshNames' })
       console.log(execFileSync('ip', ['route']).toString().trim())
       process.exit(0)`,
        ({ order: { journal, uid, hooks }, ...start }) => ({
          ...start,
          order: {
            ...{ journal, uid, hooks },
            mesh: { network: 'fd68:6f70:6c69::/48', ipv4: '100.64.0.0/10', zone: 'hop', denied: ['10.0.0.0/8'] },
          },
        }),
      )
      const refused = Array.from({ length: 3 }, () => 'REQUEST_INVALID')
      const lines = [
        'REQUEST_INVALID',
        'REQUEST_INVALID',
        ...refused,
        ...refused.slice(1),
        'hoplite0',
        'REQUEST_INVALID',
      ]
      const ends = ['0', '0', ...refused, '4', '100.65.0.2 dev hoplite0 scope link ']
      assert.deepEqual([code, stdout.trimEnd().split('\n')], [0, [...lines, ...ends].map(line => line.trimEnd())])
      assert.equal(await picture(), before)
    },
  )

  await t.test(
    'gets a way to a helper of a VPN only where root said so, and not beside a tunnel of its own',
    async t => {
      const { code, stdout } = await run(
        t,
        host,
        `for (const verb of [${ENTRY}, '{"verb":"entryLeft"}', '{"verb":"entryRestore"}']) console.log((await ask(verb)).error.code)
       process.exit(0)`,
      )
      assert.deepEqual([code, stdout], [0, 'REQUEST_INVALID\n'.repeat(3)])
    },
  )

  await t.test(
    "whose VPN's process dies leaves it shut, and what was left is undone when that is asked for",
    async t => {
      const { code, stdout, journal } = await run(
        t,
        host,
        `import { acceptDescriptors } from ${JSON.stringify(new URL('../descriptors.ts', import.meta.url).href)}
       import { execFileSync } from 'node:child_process'
       const rules = () => execFileSync('ip', ['rule']).toString().split('\\n').length
       const way = async () => {
         const { fds, error } = await ask(${ENTRY})
         if (error) return console.log(error)
         const [text, files] = acceptDescriptors(4, fds)
         const socket = new Socket({ fd: text, readable: true, writable: true })
         const say = request => new Promise(resolve => {
           socket.once('data', bytes => resolve(JSON.parse(bytes)))
           socket.write(JSON.stringify(request) + '\\n')
         })
         return { socket, say, files }
       }
       const before = rules()
       const left = async () => (await ask('{"verb":"entryLeft"}')).answer.isLeft
       const one = await way()
       console.log('nothing', await left())
       for (const bad of [{ verb: 'entry' }, { verb: 'meshNames' }, { verb: 'linkSocket', family: 4, port: 0 }, { verb: 'open' }])
         console.log((await one.say(bad)).error.code)
       const open = await one.say({ verb: 'open', mtu: 1400, queues: 1, control: [] })
       const [tun] = acceptDescriptors(one.files, open.fds)
       console.log(open.answer.opened.name, open.answer.opened.killSwitch, await left(), rules() > before)
       one.socket.destroy()
       ;(await import(${JSON.stringify(new URL('../libc.ts', import.meta.url).href)})).fileCalls().close(tun)
       console.log('shut', await left(), rules() > before)
       await ask('{"verb":"entryRestore"}')
       console.log('open', await left(), rules() === before)
       process.exit(0)`,
        ({ order: { journal, uid, hooks }, ...start }) => ({
          ...start,
          order: { journal, uid, hooks, mayEnter: true },
        }),
      )
      const lines = ['nothing false', ...Array(4).fill('REQUEST_INVALID'), 'hoplite-vpn true true true']
      assert.deepEqual([code, stdout.trimEnd().split('\n')], [0, [...lines, 'shut true true', 'open false true']])
      assert.equal(await picture(), before)
      assert.ok(!existsSync(path.join(journal, 'entry', 'network-changes.jsonl')))
    },
  )

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
    execFileSync('mkfifo', [path.join(state, 'pipe')])
    giveState(state, USER)
    const owner = (...names: string[]) => lstatSync(path.join(...names)).uid
    assert.deepEqual([owner(state), owner(state, 'deep'), owner(state, 'deep', 'own')], [65_500, 65_500, 65_500])
    assert.deepEqual([owner(others), owner(state, 'second-name'), owner(state, 'link'), owner(directory)], [0, 0, 0, 0])
  })
})

test('a folder for letters is one that the node may write into; one that is not there yet is no fault', t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-folder-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const user = { uid: 61_500, gid: 61_500 }
  const mayNot = { code: 'STATE_UNREADABLE' }
  for (const mode of [0o700, 0o755, 0o776]) {
    chmodSync(folder, mode)
    assert.throws(() => assertShared(folder, user), mayNot)
  }
  chmodSync(folder, 0o777)
  assertShared(folder, user)
  assertShared(path.join(folder, 'later'), user)
})
