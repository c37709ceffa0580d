// What `npm run package` makes, installed and used: the Debian package on a copy of this machine that is thrown away, the single
// file with an empty home, both with no compiler, npm or Node on the path; and the tarball in an empty project.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { hasTool, skipUnless } from '../skip.ts'
import { makeAll } from './package.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const run = promisify(execFile)
const hasNpm = hasTool('npm')
const TIMEOUT_MS = 300_000

/** Installs, uses and removes it; every line must hold. The first argument is the package. */
const USE = `
set -e
mount -t tmpfs none /tmp
mkdir /tmp/home && export HOME=/tmp/home PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg --install "$1" > /dev/null
hoplite --version
cat > /etc/hoplite/hoplite.toml << 'END'
[network]
bootstrap = ["/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"]
[client]
proxy = "127.0.0.1:0"
[relay]
listen = "127.0.0.1:0"
control_listen = "127.0.0.1:0"
END
hoplite ui --no-open --config /etc/hoplite/hoplite.toml > /tmp/link
hoplite status | head -1
hoplite call share.start --as peer | grep -q '"state": "running"'
hoplite down
systemd-analyze verify /usr/lib/systemd/system/hoplite*.service
test -s /usr/share/bash-completion/completions/hoplite
test -s /usr/share/doc/hoplite/docs/configuration.md
dpkg --remove hoplite > /dev/null
test ! -e /usr/lib/hoplite
test -e /etc/hoplite/hoplite.toml
echo removed
`

describe('what is packaged', { skip: process.platform === 'linux' ? false : 'packages are made on Linux' }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-installed-'))
  let made: ReturnType<typeof makeAll>

  before(() => {
    if (hasNpm) made = makeAll(folder)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  test('a Debian package is installed, used and removed', { timeout: TIMEOUT_MS }, async t => {
    if (skipUnless(t, process.getuid?.() === 0, 'only root installs packages')) return
    for (const tool of ['npm', 'dpkg-deb', 'systemd-analyze', 'unshare'])
      if (skipUnless(t, hasTool(tool), `${tool} is not installed`, { tool })) return
    const layers = path.join(folder, 'layers')
    mkdirSync(layers)
    const enter = `
      mount -t tmpfs none ${layers} && cd ${layers} && mkdir upper work machine &&
      mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work machine &&
      cp ${made.deb} machine/root/hoplite.deb && mount --rbind /proc machine/proc && mount --rbind /dev machine/dev`
    const inside = ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c']
    const isPossible = await run('unshare', [...inside, enter]).then(
      () => true,
      () => false,
    )
    if (skipUnless(t, isPossible, 'this machine lets nobody lay a file system over another')) return
    const use = `${enter} && exec chroot machine sh -c "$0" use /root/hoplite.deb`
    const { stdout } = await run('unshare', [...inside, use, USE], { timeout: TIMEOUT_MS })
    assert.match(stdout, /^\d+\.\d+\.\d+\nclient off, version .+\nDisconnected\.\nremoved\n$/)
    assert.equal(existsSync('/usr/lib/hoplite'), false, 'nothing of it is on this machine')
  })

  test('a single file runs with an empty home, and starts its daemon from itself', { timeout: TIMEOUT_MS }, async t => {
    if (skipUnless(t, hasNpm, 'npm is not installed', { tool: 'npm' })) return
    const home = path.join(folder, 'home')
    mkdirSync(home)
    const config = path.join(folder, 'hoplite.toml')
    writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n')
    const options = { env: { HOME: home, PATH: '/usr/bin:/bin' }, timeout: TIMEOUT_MS }
    const hoplite = async (...words: string[]) => (await run(made.single, words, options)).stdout
    assert.match(await hoplite('--version'), /^\d+\.\d+\.\d+\n$/)
    const { url } = JSON.parse(await hoplite('ui', '--json', '--config', config)) as { url: string }
    try {
      assert.match(await (await fetch(url)).text(), /<title>Hoplite<\/title>/)
      assert.match(await hoplite('status'), /^client off/)
    } finally {
      await hoplite('down')
    }
    const failure = await run(made.single, ['nonsense'], options).catch((error: unknown) => error)
    assert.equal((failure as { code: number }).code, 64)
  })

  test('the packed tarball, installed in an empty project, gives the command and the library', async t => {
    if (skipUnless(t, hasTool('npm'), 'npm is not installed', { tool: 'npm' })) return
    const project = path.join(folder, 'project')
    mkdirSync(project)
    writeFileSync(path.join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }))
    const inProject = { cwd: project, env: { ...process.env, NODE_OPTIONS: '' }, maxBuffer: 16 * 1024 * 1024 }
    try {
      await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', made.tarball], inProject)
    } catch (error) {
      const { stderr } = error as { stderr: string }
      const isOffline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENOTCACHED|ETIMEDOUT/.test(stderr)
      if (!isOffline) throw error
      if (skipUnless(t, false, 'the package registry cannot be reached', { tool: 'a registry or a mirror' })) return
    }
    const installed = path.join(project, 'node_modules', 'hoplite')
    const hoplite = path.join(project, 'node_modules', '.bin', 'hoplite')

    const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }
    assert.equal((await run(hoplite, ['--version'], inProject)).stdout, `${version}\n`)
    assert.ok(existsSync(path.join(installed, 'dist', 'cli', 'main.js')))
    assert.ok(!existsSync(path.join(installed, 'src')), 'no TypeScript to strip under node_modules')
    assert.ok(existsSync(path.join(installed, 'LICENSE')))

    const stateDir = path.join(project, 'state')
    const keys = await run(hoplite, ['keygen', '--json', '--state-dir', stateDir], inProject)
    assert.match((JSON.parse(keys.stdout) as { id: string }).id, /^[0-9a-f]{64}$/)

    const doctor = await run(hoplite, ['doctor', '--json', '--state-dir', stateDir], inProject)
    const { findings } = JSON.parse(doctor.stdout) as { findings: { check: string; verdict: string }[] }
    for (const check of ['runtime', 'sodium-native', 'udx-native', 'state'])
      assert.equal(findings.find(finding => finding.check === check)?.verdict, 'ok', check)

    const program = `
      import { callAction, defaultConfig, HopliteError, parseConfig, runClient, runRelay, type Status, VERSION } from 'hoplite'
      const hops: number = parseConfig('[client]\\nhops = 2', 'inline').client.hops
      const ask = (): Promise<Status> => callAction('/nowhere/control.sock', 'status', {})
      const error = await ask().catch((error: unknown) => error as HopliteError)
      const code: string = error instanceof HopliteError ? error.code : 'none'
      console.log(JSON.stringify([VERSION, hops, code, typeof runClient, typeof runRelay, defaultConfig().client.hops]))
    `
    writeFileSync(path.join(project, 'program.ts'), program)
    const node = [path.join(ROOT, 'bin', 'node.cjs'), 'program.ts']
    const library = await run(process.execPath, node, inProject)
    assert.deepEqual(JSON.parse(library.stdout), [version, 2, 'DAEMON_NOT_RUNNING', 'function', 'function', 3])

    const compiler = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    const types = ['--typeRoots', path.join(ROOT, 'node_modules', '@types'), '--types', 'node']
    const strict = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--skipLibCheck']
    await run(process.execPath, [compiler, ...strict, ...types, 'program.ts'], inProject).catch(error =>
      assert.fail(`the declarations do not hold: ${(error as { stdout: string }).stdout}`),
    )
  })
})
