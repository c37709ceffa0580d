// Numbers side by side, each with its name.

import type { JSX } from 'preact'

export function Figures({ figures }: { figures: readonly (readonly [string, string])[] }): JSX.Element {
  return (
    <dl class="figures">
      {figures.map(([name, value]) => (
        <div class="card" key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}
