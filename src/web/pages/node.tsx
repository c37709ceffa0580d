// Home of a node that has no route: a relay, a peer, an entry or a bootstrap node, and what it carries for others.

import type { JSX } from 'preact'
import { bytes, duration, volume } from '../format.ts'
import type { Live } from '../live.ts'
import { Figures } from '../parts/figures.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

export function NodePage({ live }: { live: Live }): JSX.Element {
  const { status } = live
  if (status === undefined) return <Waiting />
  const words = texts.node
  const [title, text] =
    status.role === 'relay'
      ? [words.relay, words.relayText]
      : status.role === 'peer'
        ? [words.peer, words.peerText]
        : status.role === 'entry'
          ? [words.entry, words.entryText]
          : [words.bootstrap, words.bootstrapText]
  const { peer } = status
  const lent: [string, string][] =
    peer === undefined
      ? []
      : [
          [words.clients, words.of(String(peer.clients), String(peer.maxClients))],
          [words.today, words.of(volume(peer.bytesToday), volume(peer.bytesPerDay))],
        ]
  const figures: [string, string][] = [
    [words.uptime, duration(status.uptimeMs)],
    ...lent,
    [words.sessions, String(status.sessions)],
    [words.flows, String(status.flows)],
    [words.streams, String(status.streams)],
    [words.carried, bytes(status.counters['bytesOut'] ?? 0)],
    [words.directory, String(status.directory)],
    [words.memory, bytes(status.memoryBytes)],
  ]
  const drops = Object.entries(status.counters).filter(([name, count]) => name.startsWith('drop') && count > 0)
  return (
    <>
      <section class="hero hero-good">
        <div class="hero-words">
          <h1 class="hero-title">{title}</h1>
          <p class="hero-text">{text}</p>
        </div>
      </section>
      <Figures figures={figures} />
      <div class="grid">
        <section class="card">
          <h2>{words.listening}</h2>
          {Object.entries(status.listening).map(([purpose, addresses]) => (
            <p key={purpose} class="wrap">
              <span class="muted">{purpose}</span> {addresses.join(', ')}
            </p>
          ))}
        </section>
        <section class="card">
          <h2>{words.dropped}</h2>
          {drops.length === 0 && <p class="muted">{words.droppedNone}</p>}
          {drops.map(([name, count]) => (
            <p class="row" key={name}>
              <span>{name.slice(4)}</span>
              <span>{count}</span>
            </p>
          ))}
        </section>
      </div>
    </>
  )
}
