// For real, in small: a bootstrap node, three relays, a client and a web server, each in a network namespace of its own with a
// public-looking address, driven by the commands of the README. Needs Linux, root and `ip`.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Scenario } from '../scenario.ts'
import { hasTool } from '../skip.ts'
import { waitFor } from '../testnet.ts'

const run = promisify(execFile)
const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const SWITCH = 'hoplite-switch'
const HOSTS = {
  boot: '20.1.0.7',
  one: '21.1.0.5',
  two: '22.1.0.5',
  three: '23.1.0.5',
  me: '24.1.0.9',
  web: '25.1.0.1',
} as const
type Host = keyof typeof HOSTS

const WEB = `require('http').createServer((q, r) => r.end('you come from ' + q.socket.remoteAddress)).listen(80, '${HOSTS.web}')`

export const deploy: Scenario = async ({ say, figure, promise }) => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !hasTool('ip')) {
    throw new Error('this scenario needs Linux, root, and ip (Debian: iproute2)')
  }
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-deploy-'))
  const started: ChildProcess[] = []
  const state = (host: Host) => path.join(directory, host)
  const inside = (host: Host, ...command: string[]) =>
    run('ip', ['netns', 'exec', name(host), ...command], { timeout: 60_000 })
  const hoplite = (host: Host, verb: string, ...flags: string[]) =>
    inside(host, process.execPath, COMMAND, verb, '--json', '--state-dir', state(host), ...flags)
  const start = (host: Host, ...command: string[]) => {
    started.push(spawn('ip', ['netns', 'exec', name(host), process.execPath, ...command], { stdio: 'ignore' }))
  }
  const configure = (host: Host, ...lines: string[]) => {
    const file = path.join(directory, `${host}.toml`)
    writeFileSync(file, [...lines, ''].join('\n'))
    return file
  }
  try {
    await buildNetwork()
    start('web', '-e', WEB)
    const boot = configure('boot', '[relay]', `control_listen = "${HOSTS.boot}:51820"`)
    start('boot', COMMAND, 'bootstrap', '--config', boot, '--state-dir', state('boot'))
    const address = await waitFor(async () => {
      const status = await hoplite('boot', 'status').catch(() => undefined)
      return status && (JSON.parse(status.stdout) as { listening: { control: string[] } }).listening.control[0]
    }, 'the bootstrap node')
    say(`  bootstrap node at ${address}`)
    const network = ['[network]', `bootstrap = ["${address}"]`]
    for (const host of ['one', 'two', 'three'] as const) {
      const ip = HOSTS[host]
      // One of them listens on every address, as behind a forwarded port.
      const listen =
        host === 'two'
          ? ['listen = "0.0.0.0:51821"', 'control_listen = "0.0.0.0:51820"', `advertise = ["${ip}:51821"]`]
          : [`listen = "${ip}:51821"`, `control_listen = "${ip}:51820"`]
      const config = configure(host, ...network, '[relay]', ...listen, `operator = "${host}"`)
      start(
        host,
        COMMAND,
        'relay',
        ...(host === 'three' ? ['--exit'] : []),
        '--config',
        config,
        '--state-dir',
        state(host),
      )
    }
    const mine = configure('me', ...network)
    const startedMs = performance.now()
    const up = await hoplite('me', 'up', '--config', mine)
    figure('upMs', Math.round(performance.now() - startedMs))
    const hops = (JSON.parse(up.stdout) as { routes: { hops: { address: string }[] }[] }).routes[0]?.hops ?? []
    promise(
      'the route has three hops and leaves by the only exit',
      hops.length === 3 && hops[2]?.address === `${HOSTS.three}:51821`,
    )
    const curl = async (url: string) => {
      const flags = ['-s', '-m', '20', '-x', 'socks5h://127.0.0.1:1080', url]
      return (await inside('me', 'curl', ...flags).catch(error => error as { stdout: string })).stdout
    }
    promise(
      'the web server sees the exit’s address',
      (await curl(`http://${HOSTS.web}/`)) === `you come from ${HOSTS.three}`,
    )
    promise('the exit’s own ports cannot be reached through it', (await curl(`http://${HOSTS.three}:51820/`)) === '')
    const down = await hoplite('me', 'down')
    promise('down stops the daemon', (JSON.parse(down.stdout) as { wasRunning: boolean }).wasRunning)
  } finally {
    await hoplite('me', 'down').catch(() => undefined)
    for (const child of started) child.kill('SIGTERM')
    await Promise.all(
      started.map(child => child.exitCode === null && new Promise(resolve => child.once('exit', resolve))),
    )
    for (const host of [...(Object.keys(HOSTS) as Host[]).map(name), SWITCH])
      await run('ip', ['netns', 'del', host]).catch(() => undefined)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Six hosts on one switch; every address is on the link. */
async function buildNetwork(): Promise<void> {
  const ip = (...words: string[]) => run('ip', words)
  await ip('netns', 'add', SWITCH)
  await ip('-n', SWITCH, 'link', 'add', 'bridge', 'type', 'bridge')
  await ip('-n', SWITCH, 'link', 'set', 'bridge', 'up')
  for (const [host, address] of Object.entries(HOSTS) as [Host, string][]) {
    await ip('netns', 'add', name(host))
    await ip('-n', SWITCH, 'link', 'add', `to-${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name(host))
    await ip('-n', SWITCH, 'link', 'set', `to-${host}`, 'master', 'bridge', 'up')
    await ip('-n', name(host), 'address', 'add', `${address}/32`, 'dev', 'eth0')
    for (const link of ['lo', 'eth0']) await ip('-n', name(host), 'link', 'set', link, 'up')
    await ip('-n', name(host), 'route', 'add', 'default', 'dev', 'eth0')
  }
}

function name(host: Host): string {
  return `hoplite-${host}`
}
