import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import test, { type TestContext } from 'node:test'
import { missingForNamespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'

const NOBODY = 65534
const MODULE = JSON.stringify(new URL('./confine.ts', import.meta.url))

/** Runs `confine` as nobody: a user who may open the TUN device, and nothing else. */
const AS_NOBODY = `
  mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 &&
  exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups "$0" "$@"`

/** Answers echo requests that come out of the TUN, and writes the destination of everything else. */
const ANSWERING = `
  import fs from 'node:fs'
  import { confine } from ${MODULE}
  const [command, ...args] = process.argv.slice(1)
  const packet = Buffer.alloc(2000)
  const onTun = ({ fd, resize }) => setInterval(() => {
    try {
      for (;;) {
        const length = fs.readSync(fd, packet)
        if (packet[0] >> 4 !== 4) continue
        const to = packet.subarray(16, 20).join('.')
        // To the port of a size: it is the size from now on.
        if (packet[9] === 17 && to === '203.0.113.9') { resize(packet.readUInt16BE(22)); continue }
        if (packet[9] !== 1) { process.stderr.write(to + ' ' + packet.readUInt16BE(22) + '\\n'); continue }
        const from = Buffer.from(packet.subarray(12, 16))
        packet.copy(packet, 12, 16, 20)
        packet.set(from, 16)
        // Type 8 becomes 0, and the checksum grows by the difference (RFC 1624).
        packet[20] = 0
        const sum = packet.readUInt16BE(22) + 0x0800
        packet.writeUInt16BE((sum & 0xffff) + (sum >> 16), 22)
        fs.writeSync(fd, packet, 0, length)
      }
    } catch {}
  }, 2)
  const options = { command, args, dns: ['10.99.0.53'], addresses: ['10.99.0.2/32', 'fd99::2/128'], mtu: 1280 }
  try {
    process.exit(await confine({ ...options, offload: false, onTun }))
  } catch (error) {
    console.log(error.code, error.message)
    process.exit(99)
  }
`

function lacks(t: TestContext): boolean {
  const missing = missingForNamespaces('unshare', 'setpriv', 'ping', 'mount')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return true
  return skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')
}

interface Run {
  readonly code: number | null
  readonly output: string
  readonly errors: string
}

function start(t: TestContext, setup: string, ...command: string[]): { child: ChildProcess; done: Promise<Run> } {
  const node = ['--no-warnings', '--input-type=module', '--eval', ANSWERING, ...command]
  const words = ['--mount', 'sh', '-c', setup, process.execPath, ...node]
  const child = spawn('unshare', words, { stdio: 'pipe', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
  t.after(() => child.kill('SIGKILL'))
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', text => (output += text))
  child.stderr.setEncoding('utf8').on('data', text => (errors += text))
  const done = once(child, 'close').then(([code]) => ({ code, output, errors }))
  return { child, done }
}

test('a command of a user without rights has a network that is the TUN alone', async t => {
  if (lacks(t)) return
  const { code, output, errors } = await start(t, AS_NOBODY, 'ping', '-n', '-c', '1', '-W', '20', '203.0.113.7').done
  assert.match(output, /1 received/, errors)
  assert.equal(code, 0)
})

test('the command is the user again, asks names of our server, and sees no resolver of the machine', async t => {
  if (lacks(t)) return
  const look =
    'id -u; cat /etc/resolv.conf; ls /run/systemd/resolve /run/nscd 2>/dev/null; timeout 0.5 getent ahostsv4 name.test'
  const { output, errors } = await start(t, AS_NOBODY, 'sh', '-c', look).done
  assert.deepEqual(output.split('\n').slice(0, 2), [String(NOBODY), 'nameserver 10.99.0.53'])
  assert.match(errors, /^10\.99\.0\.53 53$/m)
})

test('the command cannot change its network, nor get into another', async t => {
  if (lacks(t)) return
  const attempts = [
    'ip link add x type dummy',
    'ip link set dev hoplite0 down',
    'unshare --user --map-root-user ip link set dev hoplite0 down',
    `nsenter --net=/proc/${process.pid}/ns/net true`,
    'umount /etc/resolv.conf',
  ]
  const tries = attempts.map(attempt => `${attempt} 2>/dev/null && echo "did: ${attempt}"`).join('; ')
  const { output } = await start(t, AS_NOBODY, 'sh', '-c', `${tries}; readlink /proc/self/ns/net`).done
  assert.match(output, /^net:\[\d+\]\n$/)
  assert.notEqual(output.trim(), readlinkSync('/proc/self/ns/net'))
})

test('who carries the packets of a command changes its MTU while it runs, without rights over the machine', async t => {
  if (lacks(t)) return
  const look = 'ip -o link show dev hoplite0'
  const ask = (size: number) =>
    `echo > /dev/udp/203.0.113.9/${size}; for i in {1..600}; do ${look} | grep -q 'mtu ${size} ' && break; sleep 0.05; done; ${look}`
  const { output } = await start(t, AS_NOBODY, 'bash', '-c', [look, ask(1_392), ask(1_280)].join('; ')).done
  assert.deepEqual(
    [...output.matchAll(/ mtu (\d+) /g)].map(([, size]) => size),
    ['1280', '1392', '1280'],
  )
})

test('its exit code is passed on, and that of a signal, and that of a command which is not there', async t => {
  if (lacks(t)) return
  assert.equal((await start(t, AS_NOBODY, 'sh', '-c', 'exit 7').done).code, 7)
  assert.equal((await start(t, AS_NOBODY, 'sh', '-c', 'kill -9 $$').done).code, 128 + 9)
  assert.equal((await start(t, AS_NOBODY, 'no-such-command').done).code, 127)
})

test('a signal is passed on to the command', async t => {
  if (lacks(t)) return
  const script = 'trap "echo told; exit 3" TERM; echo up; while :; do sleep 0.05; done'
  const { child, done } = start(t, AS_NOBODY, 'sh', '-c', script)
  if (child.stdout !== null) await once(child.stdout, 'data')
  child.kill('SIGTERM')
  const { code, output } = await done
  assert.deepEqual([code, output], [3, 'up\ntold\n'])
})

test('what is missing is an error that says so, and the command does not run', async t => {
  if (lacks(t)) return
  const closed = AS_NOBODY.replace('-m 666', '-m 600')
  const { code, output } = await start(t, closed, 'echo', 'ran').done
  assert.equal(code, 99)
  assert.match(output, /^NOT_PERMITTED open \/dev\/net\/tun/)
  assert.doesNotMatch(output, /ran/)
  assert.ok(readFileSync('/etc/resolv.conf', 'utf8').length > 0)
})
