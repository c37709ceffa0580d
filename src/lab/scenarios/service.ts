// The services of the Debian package under a real systemd, in a copy of this machine: what the units promise is looked at from
// outside. Needs Linux, root, systemd and dpkg.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { SystemdMachine } from '../machine/systemd-machine.ts'
import { makeAll } from '../package/package.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'

const CONFIG = '/etc/hoplite/hoplite.toml'
const BOOTSTRAP = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
/** A watchdog that a test can wait for; what the unit itself says is looked at before. */
const WATCHDOG_S = 3

export const service: Scenario = async bench => {
  const { say, figure, promise } = bench
  const missing = SystemdMachine.missing()
  if (missing !== undefined) throw new Error(`start this scenario: ${missing} is missing`)
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-service-'))
  try {
    const { deb } = makeAll(folder)
    if (deb === undefined) throw new Error('start this scenario: dpkg-deb is missing')
    const startedMs = performance.now()
    await using machine = await SystemdMachine.boot()
    figure('bootMs', Math.round(performance.now() - startedMs))
    say(`  ${(await machine.run('systemctl', '--version')).split('\n')[0]} as process 1`)
    const desk = new ServiceDesk(machine, bench)
    await copyFile(deb, machine.file('/root/hoplite.deb'))
    await machine.run('dpkg', '--install', '/root/hoplite.deb')
    await machine.run('systemctl', 'daemon-reload')
    promise('installing starts nothing', (await desk.show('hoplite', 'ActiveState')) === 'inactive')
    desk.configure('info')
    await plainClient(desk)
    await crashLoop(desk)
    for (const name of ['hoplite-relay', 'hoplite-peer', 'hoplite-bootstrap']) await plain(desk, name)
    await withTunnel(desk, 'client', 'hoplite')
    await withTunnel(desk, 'relay', 'hoplite-relay')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What is asked of the machine, and of its services. */
class ServiceDesk {
  readonly machine: SystemdMachine
  readonly bench: Bench

  constructor(machine: SystemdMachine, bench: Bench) {
    this.machine = machine
    this.bench = bench
  }

  systemctl(...words: string[]): Promise<string> {
    return this.machine.run('systemctl', ...words)
  }

  async show(name: string, property: string): Promise<string> {
    return (await this.systemctl('show', '--property', property, '--value', name)).trim()
  }

  configure(level: string): void {
    const lines = ['[network]', `bootstrap = ["${BOOTSTRAP}"]`, '[client]', 'proxy = "127.0.0.1:0"', '[relay]']
    const more = ['listen = "127.0.0.1:0"', 'control_listen = "127.0.0.1:0"', '[log]', `level = "${level}"`, '']
    writeFileSync(this.machine.file(CONFIG), [...lines, ...more].join('\n'))
  }

  /** More lines for a service, which is told of them. */
  async dropIn(name: string, ...lines: string[]): Promise<void> {
    const folder = `/etc/systemd/system/${name}.service.d`
    await this.machine.run('mkdir', '-p', folder)
    writeFileSync(this.machine.file(`${folder}/lab.conf`), ['[Service]', ...lines, ''].join('\n'))
    await this.systemctl('daemon-reload')
  }

  journal(name: string): Promise<string> {
    return this.machine.run('journalctl', '--no-pager', '--output', 'cat', '--unit', name)
  }

  /** The main process as its own machine numbers it. */
  async main(name: string): Promise<number> {
    return Number(await this.show(name, 'MainPID'))
  }

  /** The first child of a process. */
  async childOf(pid: number): Promise<number> {
    const children = await this.machine.run('cat', `/proc/${pid}/task/${pid}/children`)
    return Number(children.trim().split(' ')[0])
  }

  /** What proc(5) says of a process of the machine. */
  async status(pid: number): Promise<Readonly<Record<string, string>>> {
    const text = await this.machine.run('cat', `/proc/${pid}/status`)
    return Object.fromEntries(text.split('\n').map(line => line.split(/:\s*/, 2) as [string, string]))
  }

  kill(signal: string, pid: number): Promise<string> {
    return this.machine.run('kill', `-${signal}`, String(pid))
  }

  /** Waits until it is active with another main process, and gives how long that took. */
  async back(name: string, before: number, limitMs = 30_000): Promise<number> {
    const startedMs = performance.now()
    await waitFor(
      async () => {
        const [state, pid] = [await this.show(name, 'ActiveState'), await this.main(name)]
        return (state === 'active' && pid !== before && pid !== 0) || undefined
      },
      `${name} to be back`,
      limitMs,
    )
    return Math.round(performance.now() - startedMs)
  }

  /** All that a tunnel changes of the machine's network. */
  async network(): Promise<string> {
    const said = await Promise.all(
      [
        ['nft', 'list', 'ruleset'],
        ['ip', '-o', 'link'],
        ['ip', 'rule'],
        ['ip', '-6', 'rule'],
        ['ip', 'route', 'show', 'table', 'all'],
        ['cat', '/etc/resolv.conf'],
        ['sysctl', 'net.ipv4.ip_forward', 'net.ipv4.conf.all.rp_filter'],
      ].map(([program = '', ...words]) => this.machine.run(program, ...words)),
    )
    return said.join('\n')
  }
}

async function plainClient(desk: ServiceDesk): Promise<void> {
  const { machine, bench } = desk
  const { figure, promise } = bench
  const beganMs = performance.now()
  await desk.systemctl('start', 'hoplite')
  figure('startMs', Math.round(performance.now() - beganMs))
  promise('it is active when start returns, and answers', (await desk.show('hoplite', 'ActiveState')) === 'active')
  const status = await machine.run('hoplite', 'status', '--state-dir', '/var/lib/hoplite')
  promise('root asks it at its socket', status.startsWith('client '))
  promise('its log is in the journal', (await desk.journal('hoplite')).includes('"event":"client is up"'))
  await confined(desk, 'hoplite')

  desk.configure('debug')
  await desk.systemctl('reload', 'hoplite')
  const said = (await desk.journal('hoplite')).split('\n')
  promise('reload is heard, and drops nothing', (await desk.show('hoplite', 'NRestarts')) === '0' && said.length > 0)

  const killed = await desk.main('hoplite')
  await desk.kill('KILL', killed)
  figure('backAfterKillMs', await desk.back('hoplite', killed))
  promise('one that was killed is started again', (await desk.show('hoplite', 'NRestarts')) === '1')

  promise('the unit has a watchdog of 30 s', (await desk.show('hoplite', 'WatchdogUSec')) === '30s')
  await desk.dropIn('hoplite', `WatchdogSec=${WATCHDOG_S}`)
  await desk.systemctl('restart', 'hoplite')
  const hung = await desk.main('hoplite')
  const first = await desk.show('hoplite', 'WatchdogTimestampMonotonic')
  await new Promise(resolve => setTimeout(resolve, 2_000 * WATCHDOG_S))
  const later = await desk.show('hoplite', 'WatchdogTimestampMonotonic')
  const isSame = (await desk.main('hoplite')) === hung
  promise('it says that it lives, and is left alone', isSame && Number(later) > Number(first))
  await desk.kill('STOP', hung)
  figure('backAfterHangMs', await desk.back('hoplite', hung))
  promise('one that hangs is started again', (await desk.journal('hoplite')).includes('Watchdog timeout'))

  const stopMs = performance.now()
  await desk.systemctl('stop', 'hoplite')
  figure('stopMs', Math.round(performance.now() - stopMs))
  const result = `${await desk.show('hoplite', 'ActiveState')} ${await desk.show('hoplite', 'Result')}`
  promise('it stops in order', result === 'inactive success')
  await machine.run('rm', '-r', '/etc/systemd/system/hoplite.service.d')
  await desk.systemctl('daemon-reload')
}

/** What the sandbox of a service without a tunnel is, as the kernel has it. */
async function confined(desk: ServiceDesk, name: string): Promise<void> {
  const { machine, bench } = desk
  const pid = await desk.main(name)
  const { Uid = '', CapEff, CapBnd, NoNewPrivs, Seccomp } = await desk.status(pid)
  const isNobody = Number(Uid.split('\t')[0]) >= 61_184 && Number(Uid.split('\t')[0]) <= 65_519
  bench.promise(`${name} is a user of nobody's, of systemd's range`, isNobody)
  bench.promise('it has no capability, and gets none', Number(`0x${CapEff}`) === 0 && Number(`0x${CapBnd}`) === 0)
  bench.promise('it gains no privileges, and system calls are filtered', NoNewPrivs === '1' && Seccomp === '2')
  const unit = await desk.systemctl('cat', name)
  const wanted = [
    ...unit.matchAll(/^((?:Protect|Private|Restrict|Lock|Remove|NoNew|Dynamic)\w+)=(yes|strict|invisible)$/gm),
  ]
  const refused: string[] = []
  for (const [, key = '', value = ''] of wanted) if ((await desk.show(name, key)) !== value) refused.push(key)
  bench.promise(`systemd has all ${wanted.length} options of its sandbox${refused.join()}`, refused.length === 0)
  const inside = async (script: string) =>
    machine
      .run('nsenter', '--target', String(pid), '--mount', '--root', '--wd', 'sh', '-c', script)
      .then(text => text.trim())
  const tried = await inside(
    'for place in / /usr /etc /home /root /var/lib /proc/sys; do touch $place/x 2>/dev/null && echo $place; done; true',
  )
  bench.promise(`not even root writes anywhere in its file system${tried}`, tried === '')
  const own = await inside(`touch /var/lib/private/${name}/x && rm /var/lib/private/${name}/x && echo yes`)
  bench.promise('but in its state directory', own === 'yes')
  const devices = (await inside('ls /dev')).split('\n')
  bench.promise('it sees no device of the machine', !devices.includes('net'))
}

/** One that cannot start is left alone. */
async function crashLoop(desk: ServiceDesk): Promise<void> {
  const file = desk.machine.file(CONFIG)
  const good = readFileSync(file, 'utf8')
  writeFileSync(file, '[nonsense]\n')
  const beganMs = performance.now()
  await desk.systemctl('start', 'hoplite').catch(() => undefined)
  await waitFor(
    async () => (await desk.show('hoplite', 'ActiveState')) === 'failed' || undefined,
    'it to be given up',
    60_000,
  )
  desk.bench.figure('givenUpAfterMs', Math.round(performance.now() - beganMs))
  const starts = (await desk.journal('hoplite')).match(/^hoplite: .*nonsense/gm)?.length ?? 0
  desk.bench.promise(`one that cannot start is tried five times, then left alone (${starts})`, starts === 5)
  writeFileSync(file, good)
  await desk.systemctl('reset-failed', 'hoplite')
}

async function plain(desk: ServiceDesk, name: string): Promise<void> {
  await desk.systemctl('start', name)
  const isUp = (await desk.show(name, 'ActiveState')) === 'active'
  const uid = Number((await desk.status(await desk.main(name)))['Uid']?.split('\t')[0])
  await desk.systemctl('stop', name)
  desk.bench.promise(
    `${name} starts as nobody, and stops`,
    isUp && uid > 0 && (await desk.show(name, 'Result')) === 'success',
  )
}

/** A service of root with a tunnel: the helper is the main process, the node its child. */
async function withTunnel(desk: ServiceDesk, role: 'client' | 'relay', name: string): Promise<void> {
  const { machine, bench } = desk
  const { promise, figure } = bench
  const before = await desk.network()
  const flags = role === 'client' ? ['--tun'] : ['--exit', '--tun']
  const beganMs = performance.now()
  await machine.run('hoplite', 'install-service', role, ...flags)
  figure(`${role}TunnelStartMs`, Math.round(performance.now() - beganMs))
  const helper = await desk.main(name)
  const node = await desk.status(await desk.childOf(helper))
  const root = await desk.status(helper)
  promise(`${role} with a tunnel: its main process is root's`, root['Uid']?.startsWith('0') === true)
  const bounds = (BigInt(`0x${root['CapBnd']}`).toString(2).match(/1/g) ?? []).length
  promise(`with ten capabilities of all (${bounds})`, bounds === 10)
  const isBare = Number(`0x${node['CapEff']}`) === 0 && Number(`0x${node['CapBnd']}`) === 0
  promise('the node is another user without any', node['Uid']?.startsWith('0') === false && isBare)
  const during = await desk.network()
  promise('the machine is changed while it runs', during !== before && during.includes('hoplite'))
  const first = await desk.show(name, 'WatchdogTimestampMonotonic')
  promise('the node answers for the service', Number(first) > 0)

  await desk.kill('KILL', helper)
  if (role === 'client')
    promise('its firewall stands when the helper was killed', (await desk.network()).includes('table'))
  figure(`${role}TunnelBackMs`, await desk.back(name, helper))
  const again = await desk.main(name)
  await desk.kill('KILL', await desk.childOf(again))
  figure(`${role}TunnelBackAfterNodeMs`, await desk.back(name, again))

  await desk.dropIn(name, `WatchdogSec=${WATCHDOG_S}`)
  await desk.systemctl('restart', name)
  const third = await desk.main(name)
  await desk.kill('STOP', await desk.childOf(third))
  figure(`${role}TunnelBackAfterHangMs`, await desk.back(name, third))

  await desk.systemctl('stop', name)
  const after = await desk.network()
  promise(`${role} with a tunnel: stopped, the machine is as it was`, after === before)
  if (after !== before) bench.say(difference(before, after))
  await machine.run('hoplite', 'install-service', role, ...flags, '--remove')
  await machine.run('rm', '-r', `/etc/systemd/system/${name}.service.d`)
  const left = readdirSync(machine.file('/etc/systemd/system')).filter(file => file.startsWith(`${name}.`))
  promise('removed, its unit is gone', left.length === 0)
}

function difference(before: string, after: string): string {
  const [old, now] = [before.split('\n'), after.split('\n')]
  const gone = old.filter(line => !now.includes(line)).map(line => `- ${line}`)
  return [...gone, ...now.filter(line => !old.includes(line)).map(line => `+ ${line}`)].join('\n')
}
