// How it stands with the way to one's own VPN, in a sentence, with its speed and another stranger for the asking.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { bytes, speed } from '../format.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import type { Doing } from './action.ts'
import { useRate } from './asked.ts'

type Status = Output<'status'>

const words = texts.vpn

interface HeroProps {
  readonly said: { readonly title: string; readonly text: string }
  readonly kind: 'good' | 'busy' | 'bad'
  readonly children?: JSX.Element | JSX.Element[] | (JSX.Element | false)[]
}

export function VpnHero({ said, kind, children }: HeroProps): JSX.Element {
  return (
    <section class={`hero hero-${kind}`}>
      <div class="hero-words">
        <div aria-live="polite">
          <p class="hero-title">{said.title}</p>
          <p class="hero-text">{said.text}</p>
        </div>
        {children}
      </div>
    </section>
  )
}

export function VpnSpeed({ status, atMs }: { status: Status; atMs: number }): JSX.Element {
  const { bytesIn = 0, bytesOut = 0 } = status.counters
  const inward = useRate(bytesIn, atMs)
  const outward = useRate(bytesOut, atMs)
  return (
    <p class="speeds">
      <span class="speed-down">
        <Icon name="down" size={16} /> <span class="sr">{words.down} </span>
        {speed(inward)}
      </span>
      <span class="speed-up">
        <Icon name="up" size={16} /> <span class="sr">{words.up} </span>
        {speed(outward)}
      </span>
      <span class="muted">{words.received(bytes(bytesIn), bytes(bytesOut))}</span>
    </p>
  )
}

export function NewPeer({ doing }: { doing: Doing }): JSX.Element {
  const [said, setSaid] = useState<string | undefined>(undefined)
  const change = () =>
    doing.run(async () => {
      setSaid(undefined)
      const { entries } = await call('entry.newPeer', {})
      setSaid(entries > 0 ? words.newPeerDone : words.newPeerNone)
    })
  return (
    <>
      <button type="button" disabled={doing.isBusy} onClick={change}>
        <Icon name="refresh" size={18} /> {words.newPeer}
      </button>
      {said !== undefined && <p role="status">{said}</p>}
    </>
  )
}
