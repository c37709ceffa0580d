// Names with what stands for each, one below the other.

import type { JSX } from 'preact'

export function Values({ rows }: { rows: readonly (readonly [string, string])[] }): JSX.Element {
  return (
    <dl class="values">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd class="wrap">{value}</dd>
        </div>
      ))}
    </dl>
  )
}
