// For real, in small: a bootstrap node, three relays, a client and a web server, each in a network namespace of its own with a
// public-looking address, driven by the commands of the README. Needs Linux, root and `ip`.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import type { Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'

const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const ADDRESSES = {
  boot: '20.1.0.7',
  one: '21.1.0.5',
  two: '22.1.0.5',
  three: '23.1.0.5',
  me: '24.1.0.9',
  web: '25.1.0.1',
} as const
type Name = keyof typeof ADDRESSES

const WEB = `require('http').createServer((q, r) => r.end('you come from ' + q.socket.remoteAddress)).listen(80, '${ADDRESSES.web}')`

export const deploy: Scenario = async ({ say, figure, promise }) => {
  const missing = missingForNamespaces('curl')
  if (missing !== undefined) throw new Error(`start this scenario: ${missing} is missing`)
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-deploy-'))
  await using lab = new Namespaces()
  const state = (name: Name) => path.join(directory, name)
  const hoplite = (name: Name, verb: string, ...flags: string[]) =>
    hosts[name].run(process.execPath, COMMAND, verb, '--json', '--state-dir', state(name), ...flags)
  const start = (name: Name, ...words: string[]) => hosts[name].start(process.execPath, words)
  const configure = (name: Name, ...lines: string[]) => {
    const file = path.join(directory, `${name}.toml`)
    writeFileSync(file, [...lines, ''].join('\n'))
    return file
  }
  const hosts = await buildNetwork(lab)
  try {
    start('web', '-e', WEB)
    const boot = configure('boot', '[relay]', `control_listen = "${ADDRESSES.boot}:51820"`)
    start('boot', COMMAND, 'bootstrap', '--config', boot, '--state-dir', state('boot'))
    const address = await waitFor(async () => {
      const status = await hoplite('boot', 'status').catch(() => undefined)
      return status && (JSON.parse(status) as { listening: { control: string[] } }).listening.control[0]
    }, 'the bootstrap node')
    say(`  bootstrap node at ${address}`)
    const network = ['[network]', `bootstrap = ["${address}"]`]
    for (const host of ['one', 'two', 'three'] as const) {
      const ip = ADDRESSES[host]
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
    const hops = (JSON.parse(up) as { routes: { hops: { address: string }[] }[] }).routes[0]?.hops ?? []
    promise(
      'the route has three hops and leaves by the only exit',
      hops.length === 3 && hops[2]?.address === `${ADDRESSES.three}:51821`,
    )
    const curl = async (url: string) => {
      const flags = ['-s', '-m', '20', '-x', 'socks5h://127.0.0.1:1080', url]
      return hosts.me.run('curl', ...flags).catch(() => '')
    }
    promise(
      'the web server sees the exit’s address',
      (await curl(`http://${ADDRESSES.web}/`)) === `you come from ${ADDRESSES.three}`,
    )
    promise(
      'the exit’s own ports cannot be reached through it',
      (await curl(`http://${ADDRESSES.three}:51820/`)) === '',
    )
    const down = await hoplite('me', 'down')
    promise('down stops the daemon', (JSON.parse(down) as { wasRunning: boolean }).wasRunning)
  } finally {
    await hoplite('me', 'down').catch(() => undefined)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Six hosts on one switch; every address is on the link. */
async function buildNetwork(lab: Namespaces): Promise<Record<Name, Host>> {
  const middle = await lab.switch('switch')
  const hosts: Partial<Record<Name, Host>> = {}
  for (const [name, address] of Object.entries(ADDRESSES) as [Name, string][]) {
    const host = await lab.host(name)
    hosts[name] = host
    const interfaceName = await lab.plug(host, middle, `${address}/32`)
    await host.ip('route', 'add', 'default', 'dev', interfaceName)
  }
  return hosts as Record<Name, Host>
}
