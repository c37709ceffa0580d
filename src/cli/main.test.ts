import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { journalDirectory } from '#platform/linux/network/changes.ts'
import { lockState } from '#platform/state/state-lock.ts'

const BOOTSTRAP =
  '[network]\nbootstrap = ["/ip4/192.0.2.1/tcp/51820/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"]\n'
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url))

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function start(args: string[]): { readonly ended: Promise<Ended>; stop(): void; readonly started: Promise<void> } {
  const env = { ...process.env, HOPLITE_CONFIG: undefined, HOPLITE_STATE_DIR: undefined, XDG_CONFIG_HOME: tmpdir() }
  const child = spawn(process.execPath, ['--no-warnings', MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', chunk => (stdout += String(chunk)))
  child.stderr.on('data', chunk => (stderr += String(chunk)))
  return {
    ended: new Promise(resolve => child.on('close', code => resolve({ code, stdout, stderr }))),
    started: new Promise(resolve => child.stderr.once('data', () => resolve())),
    stop: () => void child.kill('SIGTERM'),
  }
}

function hoplite(...args: string[]): Promise<Ended> {
  return start(args).ended
}

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-cli-'))
  t.after(() => rmSync(directory, { recursive: true, maxRetries: 3 }))
  return directory
}

function json(text: string): {
  ok: boolean
  error: { code: string; message: string; advice: string }
  [key: string]: unknown
} {
  assert.equal(text.indexOf('\n'), text.length - 1, `one line: ${text}`)
  return JSON.parse(text)
}

test('help names every command but the daemon, which up starts', async () => {
  const { code, stdout } = await hoplite('--help')
  assert.equal(code, 0)
  for (const name of ['up', 'down', 'recover', 'status', 'relay', 'peer', 'bootstrap', 'demo', 'doctor', 'keygen'])
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'))
  for (const name of ['pair', 'join', 'devices', 'ping', 'rendezvous', 'issuer', 'wallet', 'earnings'])
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'))
  assert.doesNotMatch(stdout, /^ {2}daemon/m)
})

test('a wrong command line ends with 64', async () => {
  const cases = [['fly'], ['up', '--hops', '6'], ['up', '--hops', 'three'], ['status', '--jsn'], []]
  const ended = await Promise.all(cases.map(args => hoplite(...args)))
  assert.deepEqual(
    ended.map(({ code }) => code),
    cases.map(() => 64),
  )
})

test('an entry is started with a file, or with --listen and --to, and is told what is wrong with them', async t => {
  const stateDir = temporary(t)
  const file = path.join(temporary(t), 'wg.conf')
  writeFileSync(file, '')
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /neither a file nor both --listen and --to/],
    [['--listen', 'here', '--to', '192.0.2.1:1'], /"here" is none/],
    [['--listen', '127.0.0.1:0', '--to', 'vpn'], /read --to: found/],
  ]
  const ended = await Promise.all(cases.map(([args]) => hoplite('entry', ...args, '--json', '--state-dir', stateDir)))
  ended.forEach(({ code, stdout }, i) => {
    assert.match(json(stdout).error.message, cases[i]?.[1] ?? /^$/, String(cases[i]?.[0]))
    assert.ok(code === 64 || code === 78, `${code}`)
  })
  assert.deepEqual(
    await Promise.all(['0', '3', 'one'].map(async peers => (await hoplite('entry', file, '--peers', peers)).code)),
    [64, 64, 64],
  )
  assert.deepEqual(readdirSync(stateDir), [], 'nothing was begun')
})

test('a WireGuard file that cannot be used ends with 78, without a word of it', async t => {
  const directory = temporary(t)
  const secret = 'hunter2hunter2'
  const text = `[Interface]\nPrivateKey = ${secret}\n`
  const used = path.join(directory, 'key.conf')
  writeFileSync(used, text)
  for (const file of [used, path.join(directory, 'none.conf')]) {
    const [plain, asJson] = await Promise.all([hoplite('entry', file), hoplite('entry', file, '--json')])
    assert.deepEqual([plain.code, asJson.code], [78, 78], file)
    assert.equal(json(asJson.stdout).error.code, 'ENTRY_FILE_INVALID')
    const said = `${plain.stdout}${plain.stderr}${asJson.stdout}${asJson.stderr}`.replaceAll('\0', '')
    assert.doesNotMatch(said, /hunter2|PrivateKey =/)
  }
})

test('a tunnel on the portable engine is refused before anything is changed', async t => {
  const directory = temporary(t)
  const [config, file, stateDir] = ['hoplite.toml', 'wg.conf', 'state'].map(name => path.join(directory, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(config, `${BOOTSTRAP}[engine]\nkind = "portable"\n`)
  const key = (fill: number) => Buffer.alloc(32, fill).toString('base64')
  const peer = `[Peer]\nPublicKey = ${key(2)}\nEndpoint = 192.0.2.1:1\nAllowedIPs = 0.0.0.0/0\n`
  writeFileSync(file, `[Interface]\nPrivateKey = ${key(1)}\nAddress = 10.0.0.2\n${peer}`)
  const { code, stdout } = await hoplite('entry', file, '--json', '--config', config, '--state-dir', stateDir)
  assert.equal(code, 69)
  assert.match(json(stdout).error.message, /the engine is the portable one/)
  assert.match(json(stdout).error.advice, /--listen and --to/)
  assert.deepEqual(readdirSync(stateDir), ['daemon.log'])
})

test('without a daemon, status ends with 69 and says how to start one; down is no error', async t => {
  const directory = temporary(t)
  const [status, words, down] = await Promise.all([
    hoplite('status', '--json', '--state-dir', directory),
    hoplite('status', '--state-dir', directory),
    hoplite('down', '--json', '--state-dir', directory),
  ])
  assert.equal(status.code, 69)
  assert.deepEqual(json(status.stdout).error.code, 'DAEMON_NOT_RUNNING')
  assert.deepEqual(words, {
    code: 69,
    stdout: '',
    stderr: 'hoplite: reach the daemon: it does not run\n  start it with: hoplite up\n',
  })
  assert.deepEqual([down.code, json(down.stdout)], [0, { ok: true, wasRunning: false }])
})

test('a daemon that was killed is told from one that never ran, and one that hangs from both', async t => {
  const directory = temporary(t)
  const child = spawn(process.execPath, ['-e', ''])
  await new Promise(resolve => child.once('exit', resolve))
  writeFileSync(path.join(directory, 'daemon.pid'), `${child.pid} 1\n`)
  const { code, stderr } = await hoplite('status', '--state-dir', directory)
  assert.equal(code, 69)
  assert.match(stderr, new RegExp(`process ${child.pid} did not end in order.*\n.*hoplite logs`))
  rmSync(path.join(directory, 'daemon.pid'))
  const unlock = lockState(directory)
  t.after(unlock)
  const [status, logs] = await Promise.all([
    hoplite('status', '--state-dir', directory),
    hoplite('logs', '--state-dir', directory),
  ])
  assert.match(status.stderr, new RegExp(`process ${process.pid} runs and does not answer\n.*kill -9 ${process.pid}`))
  assert.match(logs.stderr, /there is no log: the node runs in the foreground\n.*journalctl/)
})

test('call has help, lists and switches as the schemas say', async t => {
  const directory = temporary(t)
  const [help, list, wrong] = await Promise.all([
    hoplite('call', 'setRoute', '--help'),
    hoplite('call', 'setRoute', '--countries', 'CH', 'ch', '--state-dir', directory),
    hoplite('call', 'entry.start', '--form', 'tunnel', '--killSwitch', 'maybe', '--state-dir', directory),
  ])
  assert.match(help.stdout, /--hops <n> +Hops of a route/)
  assert.match(help.stdout, /--countries <text\.\.\.> +Where the exit is to be/)
  assert.match(list.stderr, /two letters of a country, like CH/)
  assert.match(wrong.stderr, /true or false/)
  writeFileSync(path.join(directory, 'code'), 'x'.repeat(65))
  const code = `@${path.join(directory, 'code')}`
  const [long, missing] = await Promise.all([
    hoplite('call', 'redeemVoucher', '--code', code, '--state-dir', directory),
    hoplite('call', 'redeemVoucher', '--code', '@/nowhere/code', '--state-dir', directory),
  ])
  assert.match(long.stderr, /<=64/, 'what the file has is read')
  assert.match(missing.stderr, /the file cannot be read: ENOENT/)
  const off = await hoplite(
    'call',
    'entry.start',
    '--form',
    'tunnel',
    '--killSwitch',
    'false',
    '--state-dir',
    directory,
  )
  assert.equal(off.code, 69, 'the input is right, and there is no daemon')
})

test('a wrong configuration ends with 78 before anything starts', async t => {
  const directory = temporary(t)
  const file = path.join(directory, 'hoplite.toml')
  const stateDir = path.join(directory, 'state')
  writeFileSync(file, '[client]\nhopz = 3\n')
  const commands = ['up', 'relay', 'peer', 'bootstrap', 'daemon']
  const common = ['--json', '--config', file, '--state-dir', stateDir]
  for (const { code, stdout } of await Promise.all(commands.map(command => hoplite(command, ...common)))) {
    assert.equal(code, 78)
    assert.match(json(stdout).error.message, /unknown key "client.hopz", did you mean "client.hops"/)
  }
  assert.ok(!existsSync(stateDir))
})

test('where nothing says how to find a relay, nothing is started and nobody waits', async t => {
  const stateDir = path.join(temporary(t), 'state')
  const cases = [['up'], ['entry', '--listen', '127.0.0.1:0', '--to', '192.0.2.1:1']]
  const ended = await Promise.all(cases.map(words => hoplite(...words, '--json', '--state-dir', stateDir)))
  const inWords = await hoplite('run', '--state-dir', stateDir, '--', 'true')
  for (const { code, stdout } of ended) {
    assert.equal(code, 78)
    assert.match(json(stdout).error.message, /^find relays: there is no hoplite\.toml$/)
    assert.match(json(stdout).error.advice, /^set bootstrap in \[network\]/)
  }
  assert.deepEqual([inWords.code, inWords.stdout], [78, ''])
  assert.match(inWords.stderr, /^hoplite: find relays: there is no hoplite\.toml$/m)
  assert.ok(!existsSync(path.join(stateDir, 'daemon.log')))
})

test('a node that is no entry has no WireGuard interface, and says how to get one', async t => {
  const directory = temporary(t)
  const file = path.join(directory, 'hoplite.toml')
  writeFileSync(file, '[relay]\ncontrol_listen = "127.0.0.1:0"\n')
  const node = start(['bootstrap', '--config', file, '--state-dir', path.join(directory, 'state')])
  await node.started
  const shown = await hoplite('wg', 'show', '--state-dir', path.join(directory, 'state'))
  node.stop()
  assert.deepEqual([shown.code, shown.stderr], [0, ''])
  assert.match(shown.stdout, /has no WireGuard interface: `hoplite entry FILE` makes one/)
  await node.ended
})

test('what is no code, or a stump of one in a file, is refused in words; without a way for letters nothing is paired', async t => {
  const directory = temporary(t)
  const config = path.join(directory, 'hoplite.toml')
  writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n[meet]\nrendezvous = ["ws://127.0.0.1:9"]\n')
  const stump = path.join(directory, 'code')
  writeFileSync(stump, 'hoplite-pair1-AAECAwQFBgcICQ')
  const common = ['--json', '--config', config, '--state-dir', path.join(directory, 'state')]
  const words = await hoplite('join', 'three', 'words', 'only', ...common)
  const file = await hoplite('join', stump, ...common)
  const up = await hoplite('up', ...common)
  assert.deepEqual([up.code, json(up.stdout)['state']], [0, 'off'], 'there are devices alone to be up for')
  const missing = await hoplite('join', path.join(directory, 'nowhere'), ...common)
  const unwritten = await hoplite('pair', '--file', path.join(directory, 'nowhere', 'code'), ...common)
  const taken = await hoplite('devices', 'add-phone', 'pocket', '--endpoint', 'a.example:1', '--file', stump, ...common)
  const left = await hoplite('pair', '--end', ...common)
  const { phones } = json((await hoplite('devices', ...common)).stdout)
  await hoplite('down', ...common.slice(3))
  assert.deepEqual([words.code, file.code], [64, 64])
  assert.match(json(words.stdout).error.message, /a code has four words, this has 3/)
  assert.match(json(file.stdout).error.message, /cut off or damaged/)
  assert.deepEqual([missing.code, unwritten.code, taken.code], [64, 73, 73])
  assert.match(json(missing.stdout).error.message, /no such file/)
  assert.equal(json(left.stdout)['ended'], false, 'a code that could not be written down was taken back')
  assert.deepEqual(phones, [], 'a phone whose file could not be written was not added')
  assert.equal(readFileSync(stump, 'utf8'), 'hoplite-pair1-AAECAwQFBgcICQ')
  writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n')
  const pair = await hoplite('pair', ...common)
  await hoplite('down', ...common.slice(3))
  assert.deepEqual([pair.code, json(pair.stdout).error.code], [78, 'NO_CARRIER'])
})

test('keygen prints the id, refuses to overwrite, and with --force sets the old keys aside', async t => {
  const stateDir = path.join(temporary(t), 'state')
  const first = await hoplite('keygen', '--json', '--state-dir', stateDir)
  assert.match(String(json(first.stdout)['id']), /^[0-9a-f]{64}$/)
  if (process.platform !== 'win32') assert.equal(statSync(path.join(stateDir, 'node.key')).mode & 0o777, 0o600)
  const second = await hoplite('keygen', '--json', '--state-dir', stateDir)
  assert.deepEqual([second.code, json(second.stdout).error.code], [73, 'KEY_EXISTS'])
  const third = await hoplite('keygen', '--json', '--force', '--state-dir', stateDir)
  assert.notEqual(json(third.stdout)['id'], json(first.stdout)['id'])
  assert.deepEqual(readdirSync(stateDir).toSorted(), ['node.key', 'node.key.old-1'])
})

test('recover undoes what a dead node has changed, says what it cannot undo, and leaves a living one alone', async t => {
  const directory = temporary(t)
  const changed = path.join(directory, 'changed')
  const stateDir = path.join(directory, 'state')
  const recover = () => hoplite('recover', '--json', '--state-dir', stateDir)
  const nothing = await recover()
  assert.deepEqual([nothing.code, json(nothing.stdout)['undone'], existsSync(stateDir)], [0, [], false])

  mkdirSync(stateDir, { mode: 0o700 })
  const journal = journalDirectory(stateDir)
  mkdirSync(journal, { recursive: true, mode: 0o700 })
  const before = { kind: 'content', base64: btoa('before'), mode: 0o644 }
  const record = (id: string, undo: unknown) => `${JSON.stringify({ id, undo })}\n`
  writeFileSync(changed, 'ours')
  writeFileSync(
    path.join(journal, 'network-changes.jsonl'),
    record('firewall x', { kind: 'commands', undo: [{ run: ['no-such-program'] }] }) +
      record('dns x', { kind: 'file', file: changed, content: 'ours', before }),
  )
  const unlock = lockState(stateDir)
  const locked = await recover()
  assert.deepEqual([locked.code, json(locked.stdout).error.code], [75, 'STATE_LOCKED'])
  unlock()

  const partly = await recover()
  assert.deepEqual([partly.code, json(partly.stdout).error.code], [69, 'PROGRAM_MISSING'])
  assert.match(json(partly.stdout).error.message, /undo firewall x: run no-such-program/)
  assert.equal(readFileSync(changed, 'utf8'), 'before')

  writeFileSync(path.join(journal, 'network-changes.jsonl'), record('link x', { kind: 'commands', undo: [] }))
  assert.deepEqual(json((await recover()).stdout), { ok: true, undone: ['link x'] })
  assert.deepEqual([...readdirSync(stateDir), ...readdirSync(journal)], [])
})

test('a node in the foreground answers status, keeps its state directory to itself, and leaves nothing on SIGTERM', async t => {
  const directory = temporary(t)
  const file = path.join(directory, 'hoplite.toml')
  writeFileSync(file, '[network]\nallow_private_addresses = true\n[relay]\ncontrol_listen = "127.0.0.1:0"\n')
  const stateDir = path.join(directory, 'state')
  const common = ['--config', file, '--state-dir', stateDir]
  const node = start(['bootstrap', ...common])
  await node.started
  const [status, second, doctor] = await Promise.all([
    hoplite('status', '--json', '--state-dir', stateDir),
    hoplite('bootstrap', '--json', ...common),
    hoplite('doctor', '--json', ...common),
  ])
  node.stop()
  assert.equal(json(status.stdout)['role'], 'bootstrap')
  assert.deepEqual([second.code, json(second.stdout).error.code], [75, 'STATE_LOCKED'])
  const findings = json(doctor.stdout)['findings'] as { check: string; verdict: string; found: string }[]
  assert.equal(findings.find(({ check }) => check === 'daemon')?.found, 'bootstrap, ready')
  assert.equal((await node.ended).code, 0)
  assert.deepEqual(readdirSync(stateDir), ['node.key'])
})

test('a peer says what one takes on before it begins, then what it carries, in words and as JSON', async t => {
  const directory = temporary(t)
  const file = path.join(directory, 'hoplite.toml')
  const listen = 'listen = "127.0.0.1:0"\ncontrol_listen = "127.0.0.1:0"'
  writeFileSync(file, `[relay]\n${listen}\n[peer]\nmax_clients = 3\nhours = "0-24"\n[exit]\nenabled = true\n`)
  const common = ['--config', file, '--state-dir', path.join(directory, 'state')]
  const node = start(['peer', ...common])
  await node.started
  const [words, json_] = await Promise.all([hoplite('status', ...common), hoplite('status', '--json', ...common)])
  const status = json(json_.stdout)
  assert.equal(status['role'], 'peer')
  assert.deepEqual(status['peer'], {
    ...{ clients: 0, maxClients: 3, flows: 0, bytesOut: 0, bytesIn: 0, bytesToday: 0 },
    ...{ bytesPerDay: 10_240 * 2 ** 20, rateKbit: 20_000, hours: '0-24', refused: {} },
  })
  assert.match(words.stdout, /^peer {7}0 of 3 clients, 0 flows, 0 B out, 0 B in, today 0 B of 10 GiB$/m)
  node.stop()
  const { code, stdout } = await node.ended
  assert.equal(code, 0)
  for (const said of ['You relay', 'You see', 'Blame', 'Limits', '3 clients at once']) assert.ok(stdout.includes(said))
  const asJson = start(['peer', '--json', ...common])
  await asJson.started
  asJson.stop()
  const { statement, maxClients } = json((await asJson.ended).stdout)
  assert.equal(maxClients, 3)
  assert.match(String(statement), /You lend your internet address/)
})

test('down stops a node and waits until it has ended', async t => {
  const directory = temporary(t)
  const file = path.join(directory, 'hoplite.toml')
  writeFileSync(file, '[relay]\ncontrol_listen = "127.0.0.1:0"\n')
  const node = start(['bootstrap', '--config', file, '--state-dir', path.join(directory, 'state')])
  await node.started
  const down = await hoplite('down', '--json', '--state-dir', path.join(directory, 'state'))
  assert.deepEqual(json(down.stdout), { ok: true, wasRunning: true })
  assert.equal((await node.ended).code, 0)
})

test('when the daemon cannot start, up says why in its words', async t => {
  const [config, stateDir] = ['hoplite.toml', 'state'].map(name => path.join(temporary(t), name)) as [string, string]
  writeFileSync(config, BOOTSTRAP)
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  const common = ['--json', '--config', config, '--state-dir', stateDir]
  const { code, stdout } = await hoplite('up', '--proxy', `127.0.0.1:${port}`, ...common)
  assert.equal(code, 69)
  const { error } = json(stdout)
  assert.equal(error.code, 'DAEMON_FAILED')
  assert.equal(error.message, `start the daemon: listen on 127.0.0.1:${port}: EADDRINUSE`)
})

test('doctor finds a damaged key file, ends with 1, and touches nothing', async t => {
  const stateDir = temporary(t)
  writeFileSync(path.join(stateDir, 'node.key'), 'damaged', { mode: 0o600 })
  const { code, stdout } = await hoplite('doctor', '--json', '--state-dir', stateDir)
  const finding = (json(stdout)['findings'] as { check: string; verdict: string; fix?: string }[]).find(
    ({ check }) => check === 'state',
  )
  assert.deepEqual([code, finding?.verdict], [1, 'problem'])
  assert.match(finding?.fix ?? '', /hoplite keygen --force/)
  assert.deepEqual(readdirSync(stateDir), ['node.key'])
})
