// What a node lends and carries, and what it took for it.

import type { JSX } from 'preact'
import type { Output } from '#api/table.ts'
import { bytes, speed, volume } from '../format.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useRate } from './asked.ts'
import { Figures } from './figures.tsx'
import { ShareOf } from './share-of.tsx'

type Status = Output<'status'>
type Peer = NonNullable<Status['peer']>

const BYTES_PER_KBIT = 125
const words = texts.share

export function Lent({ peer, atMs }: { peer: Peer; atMs: number }): JSX.Element {
  const outward = useRate(peer.bytesOut, atMs)
  const inward = useRate(peer.bytesIn, atMs)
  const refused = Object.entries(peer.refused)
  return (
    <section class="card">
      <h2>
        <Icon name="share" /> {words.lent}
      </h2>
      <ShareOf name={texts.node.clients} part={peer.clients} whole={peer.maxClients} format={String} />
      <ShareOf name={texts.node.today} part={peer.bytesToday} whole={peer.bytesPerDay} format={volume} />
      <ShareOf
        name={words.rate}
        part={outward + inward}
        whole={peer.rateKbit * BYTES_PER_KBIT}
        format={value => speed(value)}
      />
      <p class="row">
        <span>{words.toServers(bytes(peer.bytesOut))}</span>
        <span>{words.fromServers(bytes(peer.bytesIn))}</span>
        <span>{words.flows(peer.flows)}</span>
        <span>{words.hours(peer.hours)}</span>
      </p>
      {refused.length > 0 && (
        <>
          <h3>{words.refused}</h3>
          {refused.map(([reason, count]) => (
            <p class="row" key={reason}>
              <span>{words.reasons[reason] ?? reason}</span>
              <strong>{count}</strong>
            </p>
          ))}
        </>
      )}
    </section>
  )
}

export function Relayed({ status, atMs }: { status: Status; atMs: number }): JSX.Element {
  const sent = status.counters['bytesOut'] ?? 0
  const figures: [string, string][] = [
    [texts.node.sessions, String(status.sessions)],
    [texts.node.flows, String(status.flows)],
    [texts.node.streams, String(status.streams)],
    [texts.node.carried, bytes(sent)],
    [texts.home.speed, speed(useRate(sent, atMs))],
  ]
  return (
    <section class="group">
      <h2>{words.carried}</h2>
      <Figures figures={figures} />
    </section>
  )
}

/** What one takes on by lending. */
export function Statement({ as = 'peer' }: { as?: 'peer' | 'relay' }): JSX.Element {
  const takes = as === 'relay' ? [...words.takesRelay, ...words.takes] : words.takes
  return (
    <section class="card">
      <h2>{words.statement[as]}</h2>
      <dl class="values">
        {takes.map(([name, text]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </section>
  )
}
