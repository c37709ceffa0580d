// Who learns what of a way to one's own VPN, said before anything is begun.

import type { JSX } from 'preact'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { Values } from './values.tsx'

const words = texts.vpn.learns

export function VpnLearns(): JSX.Element {
  return (
    <section class="card">
      <h2>
        <Icon name="route" /> {words.title}
      </h2>
      <ol class="route-line">
        {words.way.map(name => (
          <li key={name}>{name}</li>
        ))}
      </ol>
      <Values rows={words.rows} />
      <p class="muted small">{words.not}</p>
    </section>
  )
}
