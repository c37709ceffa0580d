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
  using watch = new NetworkWatch({ interfaces: () => links, wallMs: () => wall, onChange: reason => told.push(reason) })
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
