// A home behind a router that translates with nftables: the router's ways by RFC 4787, and one host inside.
//
//   kind                mapping                    filtering
//   full-cone           endpoint-independent       endpoint-independent    the host's port is forwarded
//   address-restricted  endpoint-independent       address-dependent       forwarded from addresses that were spoken to
//   port-restricted     endpoint-independent *     address and port
//   symmetric           address and port           address and port        ports at random
//   blocked             no UDP passes
//
// * Linux keeps the source port and gives it to several destinations: that is one mapping for all as long as nobody else has
// the port. What comes from outside for the router itself is dropped before connection tracking keeps it; else it would
// take the tuple that the host's own packet needs, and that gets another port.

import type { Host, Namespaces } from './netns.ts'

export const HOME_KINDS = ['full-cone', 'address-restricted', 'port-restricted', 'symmetric', 'blocked'] as const
export type HomeKind = (typeof HOME_KINDS)[number]

export interface Home {
  readonly kind: HomeKind
  readonly router: Host
  readonly host: Host
}

const PORT = 41_000
const CONTACT_SECONDS = 120

/** Builds a home on the switch of the internet; `index` (1 to 200) makes its addresses. */
export async function addHome(lab: Namespaces, internet: Host, index: number, kind: HomeKind): Promise<Home> {
  const router = await lab.host(`r${index}`)
  const host = await lab.host(`h${index}`)
  await lab.plug(router, internet, `20.0.1.${index}/8`)
  await connectInside(lab, router, host, `192.168.${index}`)
  await translate(router, kind, `192.168.${index}.2`)
  return { kind, router, host }
}

/** A home behind a carrier's NAT, which is `kind`; the home's own router is port-restricted. */
export async function addCarrierHome(lab: Namespaces, internet: Host, index: number, kind: HomeKind): Promise<Home> {
  const carrier = await lab.host(`c${index}`)
  const router = await lab.host(`r${index}`)
  const host = await lab.host(`h${index}`)
  await lab.plug(carrier, internet, `20.0.1.${index}/8`)
  await connectInside(lab, carrier, router, `100.64.${index}`)
  await translate(carrier, kind, `100.64.${index}.2`)
  await connectInside(lab, router, host, `192.168.${index}`)
  await translate(router, 'port-restricted', `192.168.${index}.2`)
  return { kind, router, host }
}

/** The router loses every mapping, as when it starts anew. */
export async function reboot(home: Home): Promise<void> {
  // Linux forgets what was masqueraded over an interface that goes down.
  await home.router.ip('link', 'set', 'eth0', 'down')
  await home.router.ip('link', 'set', 'eth0', 'up')
}

async function connectInside(lab: Namespaces, router: Host, host: Host, net: string): Promise<void> {
  await lab.cable(router, `${net}.1/24`, host, `${net}.2/24`)
  await host.ip('route', 'add', 'default', 'via', `${net}.1`)
  await router.run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
}

async function translate(router: Host, kind: HomeKind, inside: string): Promise<void> {
  const forwarded = `udp dport ${PORT} dnat to ${inside}`
  const inward =
    kind === 'full-cone'
      ? `iifname "eth0" ${forwarded}`
      : kind === 'address-restricted'
        ? `iifname "eth0" ip saddr @contacts ${forwarded}`
        : ''
  const remembered = kind === 'address-restricted' ? 'ip protocol udp update @contacts { ip daddr }' : ''
  const rules = `table ip home {
    set contacts { type ipv4_addr; flags dynamic, timeout; timeout ${CONTACT_SECONDS}s; }
    chain prerouting { type nat hook prerouting priority dstnat; ${inward}; }
    chain postrouting {
      type nat hook postrouting priority srcnat
      oifname "eth0" masquerade ${kind === 'symmetric' ? 'random,fully-random' : ''}
    }
    chain input { type filter hook input priority filter; iifname "eth0" drop; }
    chain forward {
      type filter hook forward priority filter; policy drop
      ${kind === 'blocked' ? 'meta l4proto udp drop' : ''}
      iifname "eth1" ${remembered} accept
      ct state established,related accept
      ct status dnat accept
    }
  }`
  await router.run('nft', rules)
}
