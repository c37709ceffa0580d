import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { patternHash } from '../pattern.ts'
import { hasTool, skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { LAN, MachineNetwork, processStatus } from './machine-network.ts'

const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const MIB = 2 ** 20
/** What two hops and a link of 1,500 bytes carry. */
const LONGEST = 1_500 - 48 - 2 * 36
const NOBODY = '65534'
/** For what must come through, though the machine is busy. */
const PATIENT_S = 20
/** A user who may open the TUN device and read the configuration, and nothing else. */
const AS_NOBODY = `
  mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 &&
  exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups "$0" "$@"`

test('a whole machine goes through its route, stays shut after a crash, and is put back exactly', async t => {
  const missing = MachineNetwork.missing('setpriv', 'unshare')
  const isTool = missing !== undefined && missing !== '/dev/net/tun' && !hasTool(missing)
  if (skipUnless(t, missing === undefined, `needs ${missing}`, isTool ? { tool: missing } : {})) return
  await using network = await MachineNetwork.start({ relays: 1, hops: 2 })
  const web = network.address('web')
  const before = await picture(network)

  await t.test('up --tun carries IPv4, IPv6 and names, and the origin sees the exit', async () => {
    await network.up()
    for (const host of [web, network.address6('web')]) {
      assert.equal((await network.download(MIB, host).done).sha256, patternHash(MIB), host)
    }
    assert.match(await network.inside('getent', 'ahosts', 'origin.test'), new RegExp(`^${web} `, 'm'))
    const { routes, interface: name } = await network.status()
    assert.equal(name, 'hoplite0')
    const exit = network.relayAt(routes[0]?.hops.at(-1)?.address ?? '') as 'left'
    const own = [network.address(exit), network.address6(exit)]
    for (const seen of await network.seenByOrigin()) {
      assert.ok(own.includes(seen.replace('::ffff:', '').replace(/:\d+$/, '')), seen)
    }
    assert.deepEqual(await network.askers(), [network.address(exit)])
  })

  await t.test('the processes that do this are nobody, without a right and without a way to get one', async () => {
    const download = network.download(8 * MIB)
    await download.begun
    for (const name of ['me', 'left', 'right'] as const) {
      const { daemon, helper } = await network.processes(name)
      const { Uid = '', Gid = '', Groups, NoNewPrivs, ...rest } = processStatus(daemon)
      const capabilities = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map(set =>
        Number.parseInt(rest[set] ?? '1', 16),
      )
      assert.deepEqual([...capabilities, NoNewPrivs, Groups?.trim()], [0, 0, 0, 0, 0, '1', ''], name)
      const ids = [...Uid.split('\t'), ...Gid.split('\t')].map(Number)
      assert.ok(
        ids.every(id => id >= 61_184 && id <= 65_519),
        `${name} ${ids}`,
      )
      assert.equal(processStatus(helper)['Uid'], '0\t0\t0\t0')
      const status = await network.status(name)
      assert.deepEqual([status.user, status.helper], [ids[0], helper])
      assert.match(readFileSync(`/proc/${daemon}/cmdline`, 'latin1'), /--permission/)
    }
    assert.equal((await download.done).sha256, patternHash(8 * MIB))
  })

  await t.test('packets become as long as two hops and a link of 1,500 bytes carry', async () => {
    const grown = async () => ((await network.status()).mtu === LONGEST ? true : undefined)
    await waitFor(grown, 'longer packets')
    const isSet = async () =>
      (await network.host('me').ip('link', 'show', 'hoplite0')).includes(` mtu ${LONGEST} `) ? true : undefined
    await waitFor(isSet, 'the MTU of the interface')
    await network.host('me').run('ping', '-c', '1', '-W', '20', '-M', 'do', '-s', `${LONGEST - 28}`, web)
  })

  await t.test('a data plane that fails is started again, behind the same firewall', async () => {
    await network.crash()
    assert.equal(await reaches(network, web, PATIENT_S), true)
  })

  await t.test(
    'after SIGKILL nothing gets out, up without --tun says so, and recover puts everything back',
    async () => {
      await kill(network)
      assert.equal(await reaches(network, web), false)
      const refused = network.hoplite('me', 'up', '--json', '--config', network.config('me'))
      await assert.rejects(refused, (error: { stdout?: string }) => /"CHANGES_PENDING"/.test(error.stdout ?? ''))
      await network.hoplite('me', 'recover')
      assert.equal(await picture(network), before)
      assert.equal(await reaches(network, web, PATIENT_S), true)
    },
  )

  await t.test('a configuration that the daemon may not read is named before anything is changed', async () => {
    chmodSync(network.config('me'), 0o600)
    const refused = network.up('--json')
    await assert.rejects(refused, (error: { stdout?: string }) => /may not.*chmod 644/.test(error.stdout ?? ''))
    chmodSync(network.config('me'), 0o644)
    assert.equal(await picture(network), before)
  })

  await t.test('so is a cgroup that is not there', async () => {
    const refused = network.up('--json', '--exclude-cgroup', 'no-such.slice')
    await assert.rejects(refused, (error: { stdout?: string }) => /no-such\.slice.*mkdir/.test(error.stdout ?? ''))
    assert.equal(await picture(network), before)
  })

  await t.test('two on one state directory: the second says who has it, and the first goes on', async () => {
    await network.up()
    const second = network.hoplite('me', 'daemon', '--tun', '--config', network.config('me'))
    await assert.rejects(second, (error: { stderr?: string }) => /process \d+ uses it/.test(error.stderr ?? ''))
    assert.equal(await reaches(network, web, PATIENT_S), true)
    await network.hoplite('me', 'down')
    assert.equal(await picture(network), before)
  })

  await t.test(
    'other flags take effect behind the firewall, after down --stay-shut, and not silently never',
    async () => {
      await network.up('--lan', '192.168.0.0/16')
      assert.deepEqual((await network.status()).flags, ['--lan', '192.168.0.0/16'])
      await network.up('--lan', '192.168.0.0/16')
      const refused = network.up('--json')
      await assert.rejects(refused, (error: { stdout?: string }) =>
        /"STATE_LOCKED".*it is up with --lan 192\.168\.0\.0\/16.*--stay-shut/.test(error.stdout ?? ''),
      )
      assert.match(await network.hoplite('me', 'down', '--stay-shut'), /Nothing leaves this machine/)
      assert.equal(await reaches(network, web), false)
      const asked = network.hoplite('me', 'status', '--json')
      await assert.rejects(asked, (error: { stdout?: string }) =>
        /left the network shut.*recover/.test(error.stdout ?? ''),
      )
      assert.match(await network.hoplite('me', 'down'), /left the network shut.*recover/)
      await network.up('--no-kill-switch')
      assert.equal(await reaches(network, web, PATIENT_S), true)
      const nothing = network.hoplite('me', 'down', '--stay-shut', '--json')
      await assert.rejects(nothing, (error: { stdout?: string }) => /has no kill switch/.test(error.stdout ?? ''))
      await network.hoplite('me', 'down')
      assert.equal(await picture(network), before)
    },
  )

  await t.test(
    'a link of 1,296 bytes whose router says nothing stalls nothing, from the first packet on or later',
    async () => {
      await narrow(network, true)
      await network.up()
      assert.equal((await network.download(MIB).done).sha256, patternHash(MIB))
      assert.equal((await network.status()).mtu, 1_280)
      await narrow(network, false)
      await network.hoplite('me', 'down')
      await network.up()
      const grown = async () => ((await network.status()).mtu === LONGEST ? true : undefined)
      await waitFor(grown, 'longer packets')
      const download = network.download(8 * MIB)
      await download.begun
      await narrow(network, true)
      const { sha256, longestPauseMs } = await download.done
      assert.equal(sha256, patternHash(8 * MIB))
      assert.ok(longestPauseMs < 3_000, `${longestPauseMs} ms`)
      await narrow(network, false)
      await network.hoplite('me', 'down')
      assert.equal(await picture(network), before)
    },
  )

  await t.test('a helper that is killed takes the daemon with it, and nothing gets out', async () => {
    await network.up()
    const { daemon, helper } = await network.processes()
    process.kill(helper, 'SIGKILL')
    const isGone = () => !existsSync(`/proc/${daemon}/stat`) || processStatus(daemon)['State']?.startsWith('Z')
    await waitFor(async () => isGone() || undefined, 'the end of the daemon')
    assert.equal(await reaches(network, web), false)
    assert.match(
      readFileSync(path.join(network.state('me'), 'daemon.log'), 'utf8'),
      /helper that does it as root is gone/,
    )
    await network.hoplite('me', 'recover')
    assert.equal(await picture(network), before)
  })

  await t.test('down puts everything back, and another up --tun after a crash takes its place', async t => {
    await network.up('--exclude', `${network.address('gate')}/32`, '--lan', '192.168.0.0/16')
    await kill(network)
    const startedMs = performance.now()
    await network.up()
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms`)
    assert.equal(await reaches(network, web, PATIENT_S), true)
    await network.hoplite('me', 'down')
    assert.equal(await picture(network), before)
  })

  await t.test(
    'run gives one command the route, as long packets as it carries, without root, and its exit code',
    async t => {
      const home = mkdtempSync(path.join(tmpdir(), 'hoplite-nobody-'))
      t.after(() => rmSync(home, { recursive: true, force: true }))
      const page = `${network.origin('origin.test')}/page`
      const fetches = `
      const link = () => require('node:child_process').execFileSync('ip', ['-o', 'link', 'show', 'hoplite0'], { encoding: 'utf8' })
      const grown = async () => { for (let i = 0; i < 1_200 && !link().includes('mtu ${LONGEST} '); i++) await new Promise(r => setTimeout(r, 50)) }
      fetch('${page}').then(async r => { console.log(await r.text()); await grown(); console.log(link()); process.exit(7) })`
      const words = ['run', '--state-dir', path.join(home, 'state'), '--config', path.join(home, 'me.toml'), '--']
      const script = `cp ${network.config('me')} ${home}/me.toml && chown -R ${NOBODY} ${home} && ${AS_NOBODY}`
      const asNobody = ['--mount', 'sh', '-c', script, process.execPath, COMMAND, ...words]
      const run = network.host('me').run('unshare', ...asNobody, process.execPath, '--eval', fetches)
      await assert.rejects(run, (error: { code?: number; stdout?: string }) => {
        assert.equal(error.code, 7, String(error))
        assert.match(error.stdout ?? '', /You come from (::ffff:)?3[12]\.1\.0\.5/)
        assert.match(error.stdout ?? '', new RegExp(` mtu ${LONGEST} `))
        return true
      })
      assert.equal(await picture(network), before)
    },
  )
})

/** The router's links carry 1,296 bytes, and what is longer and may not be cut up goes without a word. */
async function narrow(network: MachineNetwork, isNarrow: boolean): Promise<void> {
  const gate = network.host('gate')
  const size = isNarrow ? ['mtu', 'lock', '1296'] : []
  await gate.ip('route', 'replace', 'default', 'dev', 'eth0', ...size)
  await gate.ip('route', 'replace', '192.168.7.0/24', 'dev', network.lanLink, 'src', LAN.gate, ...size)
  const silent =
    'table ip silent { chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }; }'
  await gate.run('nft', isNarrow ? silent : 'delete table ip silent')
}

/** What of the client's machine a tunnel changes: rules, routes, firewall, interfaces, switches. */
async function picture(network: MachineNetwork): Promise<string> {
  const me = network.host('me')
  const parts = await Promise.all([
    me.run('nft', 'list', 'ruleset'),
    ...['-4', '-6'].flatMap(family => [me.ip(family, 'rule'), me.ip(family, 'route', 'show', 'table', 'all')]),
    me.ip('-brief', '-4', 'address'),
    me.ip('-brief', 'link'),
    me.run('sysctl', 'net.ipv4.conf.all.src_valid_mark', 'net.ipv4.ip_forward'),
    me.run('cat', '/etc/resolv.conf'),
  ])
  const lines = parts.join('\n').split('\n')
  // The link's own address is still being tried while the network is young.
  return lines.filter(line => !line.includes('fe80::')).join('\n')
}

async function kill(network: MachineNetwork): Promise<void> {
  const { pid } = await network.status()
  process.kill(pid, 'SIGKILL')
  await waitFor(async () => (isStateLocked(network.state('me')) ? undefined : true), 'the end of the daemon')
}

async function reaches(network: MachineNetwork, address: string, withinS = 1): Promise<boolean> {
  const probe = network.host('me').run('ping', '-c', '1', '-W', `${withinS}`, address)
  return probe.then(
    () => true,
    () => false,
  )
}
