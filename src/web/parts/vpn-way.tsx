// The way to one's own VPN, while there is one: the strangers in use, what stands ready beside them, and the interface.

import type { JSX } from 'preact'
import type { Output } from '#api/table.ts'
import { bytes, host, milliseconds, since } from '../format.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { Copy } from './copy.tsx'
import { Figures } from './figures.tsx'
import { Values } from './values.tsx'

type Status = Output<'status'>
type Entry = Status['routes'][number]
type Interface = Output<'wgShow'>['interfaces'][number]

const words = texts.vpn

/** From here over the peers to one server, and what stands ready beside it. */
export function Way({ route }: { route: Entry }): JSX.Element {
  const names = route.hops.map(({ operator, address }) => `${operator} · ${host(address)}`)
  const spares = route.spares ?? []
  return (
    <section class="card">
      <div class="row">
        <h2>
          <Icon name="vpn" /> {route.server ?? words.server}
        </h2>
        <span class={route.isProven ? 'pill pill-good' : 'pill'}>{route.isProven ? words.proven : words.unproven}</span>
      </div>
      {names.length === 0 ? (
        <p class="muted">{route.problem ?? words.looking}</p>
      ) : (
        <ol class="route-line">
          {[texts.home.you, ...names, words.server].map((name, i) => (
            <li class={route.isProven && i > 0 && i <= names.length ? 'is-built' : ''} key={name}>
              {name}
            </li>
          ))}
        </ol>
      )}
      <p class="muted">
        {texts.home.roundTrip} <strong>{milliseconds(route.rttMs)}</strong>
      </p>
      <h3>{words.spares}</h3>
      {spares.length === 0 ? (
        <p class="muted">{words.noSpares}</p>
      ) : (
        <ul class="plain">
          {spares.map(({ hops, isProven }) => (
            <li class="row" key={hops.map(({ id }) => id).join()}>
              <span>{hops.map(({ operator, address }) => `${operator} · ${host(address)}`).join(' → ')}</span>
              <span class={isProven ? 'pill pill-good' : 'pill'}>{isProven ? words.proven : words.unproven}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  )
}

export function Machine({ status }: { status: Status }): JSX.Element {
  const { mtu, killSwitch } = status
  const link = status.interface
  const figures: [string, string][] = [
    ...(mtu === undefined ? [] : [[words.mtu, words.bytes(mtu)] as [string, string]]),
    ...(link === undefined ? [] : [[words.interface, link] as [string, string]]),
    ...(killSwitch === undefined ? [] : [[words.killSwitch, killSwitch ? words.on : words.off] as [string, string]]),
    [words.moves, String(status.counters['moves'] ?? 0)],
    [texts.node.directory, String(status.directory)],
  ]
  return <Figures figures={figures} />
}

/** What `wg show` says, for who never opens a terminal. */
export function Interfaces({ interfaces }: { interfaces: readonly Interface[] }): JSX.Element {
  return (
    <>
      {interfaces.map(one => (
        <section class="card" key={one.name}>
          <h2>{words.wireguard(one.name)}</h2>
          <p class="muted">{words.publicKey}</p>
          <Copy text={one.publicKey} />
          {one.peers.map(peer => (
            <Peer peer={peer} key={peer.publicKey} />
          ))}
        </section>
      ))}
    </>
  )
}

function Peer({ peer }: { peer: Interface['peers'][number] }): JSX.Element {
  const ago = since(peer.lastHandshakeUnixMs, Date.now())
  const rows: [string, string][] = [
    [words.peer, peer.publicKey],
    [words.peerEndpoint, peer.endpoint ?? '–'],
    [words.handshake, ago === undefined ? words.never : words.ago(ago)],
    [words.transfer, words.received(bytes(peer.rxBytes), bytes(peer.txBytes))],
    [words.allowed, peer.allowedIps.join(', ')],
    [words.psk, peer.hasPresharedKey ? words.on : words.off],
  ]
  return <Values rows={rows} />
}
