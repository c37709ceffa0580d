// A home behind a router that translates with nftables, by the words of RFC 4787, and one host inside.
//
//   mapping       independent   one port outside for a socket: the same number, or another that is fixed
//                 address       a port for each address outside, by a hash of it
//                 port          a port at random for each address and port outside
//   filtering     independent   whoever sends to a port that is mapped is let in
//                 address       if its address was sent to from that port
//                 port          if its address and port were sent to: what connection tracking does by itself
//
// What comes from outside for the router itself is dropped before connection tracking keeps it; else it would take the tuple that
// the host's own packet needs, and that gets another port.

import type { Host, Namespaces } from '../netns.ts'

type Dependence = 'independent' | 'address' | 'port'

export interface HomeNat {
  readonly mapping: Dependence
  readonly filtering: Dependence
  /** Whether an independent mapping keeps the number of the port. */
  readonly preservesPort?: boolean
  readonly blocksUdp?: boolean
  /** Whether hosts inside reach each other at their addresses outside. */
  readonly hairpins?: boolean
  /** How long an idle mapping is kept. */
  readonly lifetimeSeconds?: number
}

export interface Home {
  readonly nat: HomeNat
  readonly router: Host
  readonly host: Host
}

/** What most homes have. */
export const PORT_RESTRICTED: HomeNat = { mapping: 'independent', filtering: 'port', preservesPort: true }
export const SYMMETRIC: HomeNat = { mapping: 'port', filtering: 'port' }
export const BLOCKED: HomeNat = { mapping: 'port', filtering: 'port', blocksUdp: true }

/** The port of the host's own socket, for mappings that give it a fixed other one. */
export const MAIN_PORT = 41_000
const OTHER_PORT = 52_041
const LIFETIME_SECONDS = 120

/** Builds a home on the switch of the internet; `index` (1 to 200) makes its addresses. */
export async function addHome(lab: Namespaces, internet: Host, index: number, nat: HomeNat): Promise<Home> {
  const router = await lab.host(`r${index}`)
  const host = await lab.host(`h${index}`)
  await lab.plug(router, internet, `20.0.1.${index}/8`)
  await connectInside(lab, router, host, `192.168.${index}`)
  await translate(router, nat, `20.0.1.${index}`)
  return { nat, router, host }
}

/** Homes behind one carrier's NAT, each with a router of its own, which is port-restricted. */
export async function addCarrierHomes(
  lab: Namespaces,
  internet: Host,
  index: number,
  nat: HomeNat,
  count = 1,
): Promise<readonly Home[]> {
  const carrier = await lab.host(`c${index}`)
  const street = await lab.switch(`s${index}x`)
  await lab.plug(carrier, internet, `20.0.1.${index}/8`)
  await lab.plug(carrier, street, `100.64.${index}.1/24`)
  const homes: Home[] = []
  for (let i = 0; i < count; i++) {
    const number = index + i
    const router = await lab.host(`r${number}`)
    const host = await lab.host(`h${number}`)
    await lab.plug(router, street, `100.64.${index}.${10 + i}/24`)
    await router.ip('route', 'add', 'default', 'via', `100.64.${index}.1`)
    await connectInside(lab, router, host, `192.168.${number}`)
    await translate(router, PORT_RESTRICTED, `100.64.${index}.${10 + i}`)
    homes.push({ nat, router, host })
  }
  await carrier.run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  await translate(carrier, nat, `20.0.1.${index}`)
  return homes
}

/** The router loses every mapping, as when it starts anew. */
export async function reboot(home: Home): Promise<void> {
  // Linux forgets what was masqueraded over an interface that goes down.
  await home.router.ip('link', 'set', 'eth0', 'down')
  await home.router.ip('link', 'set', 'eth0', 'up')
}

/** The host leaves the network of its home for another's, where it has another address. */
export async function moveHost(lab: Namespaces, home: Home, to: Home): Promise<() => Promise<void>> {
  const [, link] = await lab.cable(to.router, '172.30.0.1/24', home.host, '172.30.0.2/24')
  await home.host.ip('link', 'set', link, 'down')
  return async () => {
    await home.host.ip('link', 'set', 'eth0', 'down')
    await home.host.ip('link', 'set', link, 'up')
    await home.host.ip('route', 'replace', 'default', 'via', '172.30.0.1')
  }
}

/** Gives homes IPv6 as providers do: no translation, and a router that lets in what was asked for. */
export async function giveIPv6(homes: readonly Home[]): Promise<void> {
  const prefix = (i: number) => `2001:db8:${i + 1}::`
  for (const [i, { router, host }] of homes.entries()) {
    await router.ip('address', 'add', `2001:db8::${i + 1}/48`, 'dev', 'eth0', 'nodad')
    await router.ip('address', 'add', `${prefix(i)}1/64`, 'dev', 'eth1', 'nodad')
    await host.ip('address', 'add', `${prefix(i)}2/64`, 'dev', 'eth0', 'nodad')
    await host.ip('-6', 'route', 'add', 'default', 'via', `${prefix(i)}1`)
    await router.run('sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1')
    for (const [j] of homes.entries()) {
      if (j !== i) await router.ip('-6', 'route', 'add', `${prefix(j)}/64`, 'via', `2001:db8::${j + 1}`)
    }
    await router.run(
      'nft',
      `table ip6 home {
        chain forward {
          type filter hook forward priority filter; policy drop
          iifname != "eth0" accept
          ct state established,related accept
        }
      }`,
    )
  }
}

async function connectInside(lab: Namespaces, router: Host, host: Host, net: string): Promise<void> {
  await lab.cable(router, `${net}.1/24`, host, `${net}.2/24`)
  await host.ip('route', 'add', 'default', 'via', `${net}.1`)
  await router.run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
}

async function translate(router: Host, nat: HomeNat, outside: string): Promise<void> {
  const { lifetimeSeconds = LIFETIME_SECONDS } = nat
  const tracking = 'net.netfilter.nf_conntrack_udp_timeout'
  await router.run('sysctl', '-q', '-w', `${tracking}=${lifetimeSeconds}`, `${tracking}_stream=${lifetimeSeconds}`)
  await router.run('nft', rulesOf(nat, outside, lifetimeSeconds))
}

function rulesOf(nat: HomeNat, outside: string, lifetimeSeconds: number): string {
  const lets = {
    independent: 'dnat ip to udp dport map @inside',
    address: 'udp dport . ip saddr @contacts dnat ip to udp dport map @inside',
    port: '',
  }[nat.filtering]
  const fixed = nat.preservesPort ? '' : `udp sport ${MAIN_PORT} masquerade to :${OTHER_PORT}`
  const maps = {
    independent: fixed,
    address: 'meta l4proto udp masquerade to :jhash ip daddr . udp sport mod 20000 offset 30000',
    port: 'masquerade random,fully-random',
  }[nat.mapping]
  const turns = nat.hairpins
    ? `iifname != "eth0" ip daddr ${outside} meta l4proto udp dnat ip to udp dport map @inside`
    : ''
  const turned = nat.hairpins ? `oifname != "eth0" ct status dnat meta l4proto udp snat to ${outside}` : ''
  const kept = `flags dynamic, timeout; timeout ${lifetimeSeconds}s`
  return `table ip home {
    map inside { type inet_service : ipv4_addr . inet_service; ${kept}; }
    set contacts { type inet_service . ipv4_addr; ${kept}; }
    chain prerouting {
      type nat hook prerouting priority dstnat
      ${turns}
      iifname "eth0" meta l4proto udp ${lets}
    }
    chain postrouting {
      type nat hook postrouting priority srcnat
      ${turned}
      oifname "eth0" ${maps === '' ? 'masquerade' : maps}
      oifname "eth0" masquerade
    }
    chain remember {
      type filter hook postrouting priority srcnat + 10
      oifname "eth0" meta l4proto udp update @inside { udp sport : ct original ip saddr . ct original proto-src }
      oifname "eth0" meta l4proto udp update @contacts { udp sport . ip daddr }
    }
    chain input { type filter hook input priority filter; iifname "eth0" drop; }
    chain forward {
      type filter hook forward priority filter; policy drop
      ${nat.blocksUdp ? 'meta l4proto udp drop' : ''}
      iifname != "eth0" accept
      ct state established,related accept
      ct status dnat accept
    }
  }`
}
