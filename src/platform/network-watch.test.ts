import assert from 'node:assert/strict'
import type { NetworkInterfaceInfo, networkInterfaces } from 'node:os'
import { test } from 'node:test'
import { NetworkWatch } from './network-watch.ts'

const link = (cidr: string): NetworkInterfaceInfo => {
  const address = cidr.split('/')[0] ?? ''
  return { address, netmask: '255.255.255.0', family: 'IPv4', mac: '02:00:00:00:00:01', internal: false, cidr }
}

test('another address, another link and a wake from sleep are each told once', () => {
  let links: ReturnType<typeof networkInterfaces> = { eth0: [link('192.168.1.5/24')] }
  let wall = 1_000
  const told: string[] = []
  const onChange = (reason: string) => told.push(reason)
  using watch = new NetworkWatch({ interfaces: () => links, wallMs: () => wall, sleptMs: () => 0, onChange })
  const later = (ms: number) => {
    wall += ms
    watch.look()
  }
  later(500)
  links = { eth0: [link('10.0.0.9/24')] }
  later(500)
  links = { eth0: [link('10.0.0.9/24')], wlan0: [link('192.168.7.3/24')] }
  later(500)
  later(500)
  assert.deepEqual(told, ['addresses', 'addresses'])
  later(28_800_000)
  later(500)
  assert.deepEqual(told, ['addresses', 'addresses', 'woke'])
})

test('a system that does not say which addresses there are changes nothing', () => {
  let isMute = false
  const told: string[] = []
  const interfaces = () => {
    if (isMute) throw new Error('uv_interface_addresses: EMFILE')
    return { eth0: [link('192.168.1.5/24')] }
  }
  using watch = new NetworkWatch({ interfaces, wallMs: () => 1_000, sleptMs: () => 0, onChange: why => told.push(why) })
  isMute = true
  watch.look()
  isMute = false
  watch.look()
  assert.deepEqual(told, [])
})

test('a sleep in which the clock of intervals stood still is told with its length, whatever was done to the wall clock', () => {
  let [wall, slept] = [1_000, 0]
  const told: [string, number][] = []
  const onChange = (...change: [string, number]) => told.push(change)
  using watch = new NetworkWatch({ interfaces: () => ({}), wallMs: () => wall, sleptMs: () => slept, onChange })
  const later = (wallMs: number, sleptMs: number) => {
    ;[wall, slept] = [wall + wallMs, slept + sleptMs]
    watch.look()
  }
  // The time since boot is cut to whole seconds, so it falls behind and catches up.
  for (let i = 0; i < 20; i++) later(500, i % 2 === 0 ? -500 : 500)
  assert.deepEqual(told, [])
  later(600_500, 600_000)
  later(500, -500)
  later(-3_600_000, 0)
  later(500, 30_500)
  assert.deepEqual(told, [
    ['woke', 600_000],
    ['woke', 0],
    ['woke', 30_000],
  ])
})
