import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { launchdJob, ROLES, type Service, serviceName, systemdUnit } from '../service-units.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

/** Runs a program of root's without what root may. */
const BARE = ['setpriv', '--securebits=+noroot,+noroot_locked', '--bounding-set=-all', '--inh-caps=-all', '--']

function serviceOf(given: Partial<Service> = {}): Service {
  const service = { role: 'relay', scope: 'system', command: ['/usr/bin/hoplite'], stateDir: '/var/lib/hoplite-relay' }
  return { ...(service as Service), ...given }
}

test('a unit starts the role with its own configuration and state, again after a failure', () => {
  const unit = systemdUnit(serviceOf({ config: '/etc/hoplite/hoplite.toml', exit: true }))
  const start = 'relay --config /etc/hoplite/hoplite.toml --state-dir /var/lib/hoplite-relay --exit'
  assert.ok(unit.includes(`\nExecStart=/usr/bin/hoplite ${start}\n`), unit)
  assert.match(unit, /^Restart=on-failure$/m)
  assert.match(unit, /^Type=notify$/m)
  assert.match(unit, /^StateDirectory=hoplite-relay$/m)
  const own = systemdUnit(serviceOf({ role: 'client', scope: 'user' }))
  assert.doesNotMatch(own, /DynamicUser/)
  assert.match(own, /^WantedBy=default\.target$/m)
})

test('what has a meaning for systemd or in XML is written so that it has none', () => {
  const odd = serviceOf({ command: ['/opt/100%/my "dir"/$HOME/hoplite'], config: '/a<b>&c' })
  assert.match(
    systemdUnit(odd),
    /^ExecStart="\/opt\/100%%\/my \\"dir\\"\/\$\$HOME\/hoplite" relay --config "\/a<b>&c"/m,
  )
  assert.match(launchdJob(odd), /<string>\/a&#60;b&#62;&#38;c<\/string>/)
})

test('a property list is one, to somebody who reads them, with what launchd asks for', t => {
  if (skipUnless(t, hasTool('python3'), 'python3 is not installed', { tool: 'python3' })) return
  const read = 'import json, plistlib, sys; print(json.dumps(plistlib.load(sys.stdin.buffer, fmt=plistlib.FMT_XML)))'
  const command = ['/usr/local/bin/node', '/opt/<a> & "b"/main.js']
  for (const role of ROLES) {
    const input = launchdJob(serviceOf({ role, command, config: "/etc/it's/ü.toml", stateDir: '/var/db/hoplite' }))
    const found: unknown = JSON.parse(execFileSync('python3', ['-c', read], { input, encoding: 'utf8' }))
    const node = [role === 'client' ? 'daemon' : role, '--config', "/etc/it's/ü.toml", '--state-dir', '/var/db/hoplite']
    assert.deepEqual(found, {
      Label: `org.hoplite.${role}`,
      ProgramArguments: [...command, 'keep', '--', ...node],
      RunAtLoad: true,
      KeepAlive: { SuccessfulExit: false },
      ThrottleInterval: 10,
      Umask: 0o077,
    })
  }
})

test('systemd takes every unit, and finds that a system service is exposed to little', t => {
  if (skipUnless(t, hasTool('systemd-analyze'), 'systemd is not installed', { tool: 'systemd-analyze' })) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-units-'))
  t.after(() => rmSync(folder, { recursive: true }))
  for (const role of ROLES) {
    const file = path.join(folder, `${serviceName(role)}.service`)
    const command = [process.execPath, '--no-warnings', MAIN]
    writeFileSync(file, systemdUnit(serviceOf({ role, command, stateDir: `/var/lib/${serviceName(role)}` })))
    execFileSync('systemd-analyze', ['verify', file], { stdio: 'pipe' })
    // Ten times the exposure level: 20 is "OK", an unconfined service has 96.
    execFileSync('systemd-analyze', ['security', '--offline=yes', '--threshold=20', file], { stdio: 'pipe' })
  }
})

test('a service with a tunnel is root with what its helper needs, and systemd takes it', t => {
  if (skipUnless(t, hasTool('systemd-analyze'), 'systemd is not installed', { tool: 'systemd-analyze' })) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-units-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const command = [process.execPath, '--no-warnings', MAIN]
  for (const given of [
    { role: 'client', words: ['--exclude', '192.0.2.0/24'], most: 61 },
    { role: 'relay', exit: true, most: 52 },
  ] as const) {
    const file = path.join(folder, `${serviceName(given.role)}.service`)
    const unit = systemdUnit(
      serviceOf({ ...given, tun: true, command, stateDir: `/var/lib/${serviceName(given.role)}` }),
    )
    assert.doesNotMatch(unit, /DynamicUser|NODE_OPTIONS/)
    assert.match(unit, /^ExecStart=.* --tun( --exclude 192\.0\.2\.0\/24)?$/m)
    assert.match(unit, /^NotifyAccess=all$/m)
    writeFileSync(file, unit)
    execFileSync('systemd-analyze', ['verify', file], { stdio: 'pipe' })
    execFileSync('systemd-analyze', ['security', '--offline=yes', `--threshold=${given.most}`, file], { stdio: 'pipe' })
  }
})

for (const role of ROLES) {
  test(`a ${role} works with the permissions that its service has, and no others`, async t => {
    const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-service-'))
    t.after(() => rmSync(folder, { recursive: true, maxRetries: 3 }))
    const [config, stateDir] = [path.join(folder, 'hoplite.toml'), path.join(folder, 'state')]
    mkdirSync(stateDir, { mode: 0o700 })
    writeFileSync(
      config,
      '[client]\nproxy = "127.0.0.1:0"\n[relay]\nlisten = "127.0.0.1:0"\ncontrol_listen = "127.0.0.1:0"\n',
    )
    const unit = systemdUnit(serviceOf({ role, command: [process.execPath, '--no-warnings', MAIN], config, stateDir }))
    const [, permissions = ''] = /^Environment="NODE_OPTIONS=(.+)"$/m.exec(unit) ?? []
    const [, words = ''] = /^ExecStart=(.+)$/m.exec(unit) ?? []
    // As systemd starts it: root would become somebody else first.
    const [program = '', ...rest] = [
      ...(process.platform === 'linux' && process.getuid?.() === 0 ? BARE : []),
      ...words.split(' '),
    ]
    const node = spawn(program, rest, { env: { ...process.env, NODE_OPTIONS: permissions }, stdio: 'pipe' })
    t.after(() => node.kill('SIGKILL'))
    let said = ''
    const isUp = new Promise<void>((resolve, reject) => {
      node.stderr.on('data', chunk => {
        said += String(chunk)
        if (/ is up"/.test(said)) resolve()
      })
      node.once('exit', () => reject(new Error(said)))
    })
    await isUp
    const ended = new Promise(resolve => node.once('exit', resolve))
    const args = ['--no-warnings', MAIN, 'down', '--state-dir', stateDir]
    execFileSync(process.execPath, args, { stdio: 'pipe' })
    assert.equal(await ended, 0, said)
    assert.doesNotMatch(said, /ERR_ACCESS_DENIED|"level":"(warn|error)"/)
  })
}
