// A few values of which one is chosen, side by side.

import type { ComponentChildren, JSX } from 'preact'

interface ChoiceProps<T extends string | number> {
  readonly name: string
  readonly legend: string
  readonly values: readonly { readonly value: T; readonly label: string; readonly isOff?: boolean }[]
  readonly chosen: T
  readonly onChoose: (value: T) => void
  readonly isBusy?: boolean
  /** What the choice means. */
  readonly children?: ComponentChildren
}

export function Choice<T extends string | number>(props: ChoiceProps<T>): JSX.Element {
  const { name, legend, values, chosen, onChoose, isBusy = false, children } = props
  return (
    <fieldset class="segments" disabled={isBusy}>
      <legend>{legend}</legend>
      <div class="segments-row">
        {values.map(({ value, label, isOff = false }) => (
          <label key={value}>
            <input
              type="radio"
              name={name}
              value={value}
              checked={chosen === value}
              disabled={isOff}
              onChange={() => onChoose(value)}
            />
            <span>{label}</span>
          </label>
        ))}
      </div>
      {children !== undefined && <p class="muted">{children}</p>}
    </fieldset>
  )
}
