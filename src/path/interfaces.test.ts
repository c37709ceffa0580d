import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostAddresses, type InterfaceAddress } from './interfaces.ts'

const at = (name: string, address: string, isInternal = false): InterfaceAddress => ({ name, address, isInternal })

test('addresses of real links are offered, IPv6 first', () => {
  const hosts = hostAddresses([at('eth0', '192.168.1.5'), at('wlan0', '10.0.0.7'), at('en0', '2001:db8::7')])
  assert.deepEqual(hosts, ['2001:db8::7', '192.168.1.5', '10.0.0.7'])
})

test('containers, virtual machines, other VPNs and our own tunnels are not', () => {
  const names = [
    ...['docker0', 'br-1f2e3d', 'veth12ab', 'cni0', 'virbr0', 'vmnet8', 'vboxnet0', 'vEthernet (WSL)', 'lxcbr0'],
    ...['tun0', 'tap1', 'wg0', 'utun4', 'tailscale0', 'ztabcdef', 'nordlynx', 'proton0', 'hoplite0', 'CloudflareWARP'],
  ]
  const hosts = hostAddresses(
    names.map((name, i) => at(name, `10.1.0.${i + 1}`)),
    ['CloudflareWARP'],
  )
  assert.deepEqual(hosts, [])
})

test('loopback, link-local, multicast and malformed addresses are not', () => {
  const hosts = ['127.0.0.1', '169.254.3.4', 'fe80::1%eth0', '224.0.0.5', '::1', '0.0.0.0', 'nonsense', '']
  assert.deepEqual(hostAddresses(hosts.map(host => at('eth0', host))), [])
  assert.deepEqual(hostAddresses([at('lo', '192.0.2.1', true)]), [])
})

test('no more than eight are told, and none twice', () => {
  const many = Array.from({ length: 20 }, (_, i) => at('eth0', `192.0.2.${i + 1}`))
  assert.equal(hostAddresses([...many, ...many]).length, 8)
  assert.equal(hostAddresses([...many.slice(0, 3), ...many.slice(0, 3)]).length, 3)
})
