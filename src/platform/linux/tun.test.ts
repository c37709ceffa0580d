import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import test, { type TestContext } from 'node:test'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'

const MODULE = new URL('./tun.ts', import.meta.url)

/** Runs a script on a host with `openTun` at hand; gives the JSON that it prints. */
async function inside<T>(host: Host, script: string): Promise<T> {
  const whole = `import { openTun, switchQueue } from ${JSON.stringify(MODULE)}\nimport fs from 'node:fs'\n${script}`
  const words = ['--no-warnings', '--input-type=module-typescript', '--eval', whole]
  return JSON.parse(await host.run(process.execPath, ...words))
}

function lacksTun(t: TestContext): boolean {
  const missing = missingForNamespaces()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: 'iproute2' })) return true
  return skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')
}

test('a TUN device is made with the name asked for, one descriptor for each queue, and goes when they are closed', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const host = await lab.host('tun')
  const seen = await inside<{ name: string; fds: number; before: boolean; after: boolean }>(
    host,
    `const tun = openTun({ name: 'hop%d', offload: true, queues: 3 })
     const known = () => fs.readFileSync('/proc/self/net/dev', 'utf8').includes('hop0:')
     const before = known()
     tun.close()
     console.log(JSON.stringify({ name: tun.name, fds: new Set(tun.fds).size, before, after: known() }))`,
  )
  assert.deepEqual(seen, { name: 'hop0', fds: 3, before: true, after: false })
})

test('a bare device gives whole IP packets, and reading an empty one does not wait', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const host = await lab.host('tun')
  const seen = await inside<{ empty: string; version: number; offload: string }>(
    host,
    `import { execFileSync } from 'node:child_process'
     import dgram from 'node:dgram'
     const tun = openTun({ name: 'hop0', offload: false })
     let empty
     execFileSync('ip', ['link', 'set', 'hop0', 'addrgenmode', 'none', 'up'])
     execFileSync('ip', ['address', 'add', '10.9.0.1/24', 'dev', 'hop0'])
     try { for (;;) fs.readSync(tun.fds[0], Buffer.alloc(2000)) } catch (error) { empty = error.code }
     const socket = dgram.createSocket('udp4')
     await new Promise(resolve => socket.send('hello', 9, '10.9.0.2', resolve))
     socket.close()
     const packet = Buffer.alloc(2000)
     for (let read = 0; packet[0] >> 4 !== 4; ) read = fs.readSync(tun.fds[0], packet)
     console.log(JSON.stringify({ empty, version: packet[0] >> 4, offload: tun.offload }))`,
  )
  assert.deepEqual(seen, { empty: 'EAGAIN', version: 4, offload: 'none' })
})

test('a queue that is switched off gets nothing, and gets its part again; nobody has to be root for that', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const host = await lab.host('tun')
  const seen = await inside<{ on: boolean; off: boolean; again: boolean; whole: number }>(
    host,
    `import { execFileSync } from 'node:child_process'
     import dgram from 'node:dgram'
     const tun = openTun({ name: 'hop0', offload: false, queues: 2 })
     execFileSync('ip', ['link', 'set', 'hop0', 'addrgenmode', 'none', 'up'])
     execFileSync('ip', ['address', 'add', '10.9.0.1/24', 'dev', 'hop0'])
     const count = fd => { let n = 0; try { for (;; n++) fs.readSync(fd, Buffer.alloc(2000)) } catch {} return n }
     const round = async () => {
       for (let i = 0; i < 60; i++) {
         const socket = dgram.createSocket('udp4')
         await new Promise(resolve => socket.send('hello', 9, '10.9.0.2', resolve))
         socket.close()
       }
       return tun.fds.map(count)
     }
     const on = await round()
     process.setgroups([]); process.setgid(65534); process.setuid(65534)
     switchQueue(tun.fds[1], false)
     switchQueue(tun.fds[1], false)
     const off = await round()
     switchQueue(tun.fds[1], true)
     const again = await round()
     console.log(JSON.stringify({ on: on[1] > 0, off: off[1] > 0, again: again[1] > 0, whole: off[0] }))`,
  )
  assert.deepEqual(seen, { on: true, off: false, again: true, whole: 60 })
})

test('a name that is taken is an error that says so, with one queue or more', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const host = await lab.host('tun')
  const seen = await inside<string[]>(
    host,
    `const codes = []
     openTun({ name: 'hop0', offload: true, queues: 2 })
     for (const queues of [1, 2]) {
       try { openTun({ name: 'hop0', offload: true, queues }) } catch (error) { codes.push(error.code + ': ' + error.message) }
     }
     console.log(JSON.stringify(codes))`,
  )
  assert.deepEqual(seen, Array(2).fill('TUN_UNAVAILABLE: make the TUN device hop0: the name is taken'))
})

test('without root the error says what is missing', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const host = await lab.host('tun')
  const seen = await inside<{ code: string; advice: string }>(
    host,
    `process.setgroups([]); process.setgid(65534); process.setuid(65534)
     try { openTun({ offload: false }) } catch ({ code, advice }) { console.log(JSON.stringify({ code, advice })) }`,
  )
  assert.equal(seen.code, 'NOT_PERMITTED')
  assert.match(seen.advice, /root/)
})
