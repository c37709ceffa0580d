// What may be chosen of a route: how many hops, which exit, where it is, and another one now.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { countryName, host, speed } from '../format.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { type Doing, useAction } from './action.ts'
import { useAsked } from './asked.ts'
import { Choice } from './choice.tsx'
import { Failure } from './failure.tsx'

type Relays = Output<'relays'>
type Wish = keyof typeof texts.route.wish

const BYTES_PER_KBIT = 125
const words = texts.route

interface RouteChangeProps {
  readonly relays: Relays
  /** The exit in use. */
  readonly exit: { readonly country?: string | undefined } | undefined
  readonly onChanged: () => Promise<void>
  readonly isOff: boolean
}

export function RouteChange({ relays, exit, onChanged, isOff }: RouteChangeProps): JSX.Element {
  const doing = useAction()
  const { hops, countries = [], notCountries = [] } = relays
  const set = (input: Input<'setRoute'>) =>
    doing.run(async () => {
      await call('setRoute', input)
      await onChanged()
    })
  const exits = relays.relays.filter(({ roles }) => roles.includes('exit'))
  const isElsewhere = countries.length > 0 && exit !== undefined && !countries.includes(exit.country ?? '')
  return (
    <section class="card">
      <h2>{words.change}</h2>
      <div class="change">
        <Choice
          name="hops"
          legend={words.hops}
          chosen={hops}
          isBusy={doing.isBusy}
          onChoose={hops => set({ hops })}
          values={[1, 2, 3, 4, 5].map(value => ({ value, label: String(value) }))}
        >
          {words.hopsText[hops]}
        </Choice>
        <label class="field">
          <span>{words.exit}</span>
          <select
            value={relays.chosenExit ?? ''}
            disabled={doing.isBusy}
            onChange={event => set({ exit: event.currentTarget.value })}
          >
            <option value="">{words.anyExit}</option>
            {exits.map(({ id, operator, address, country, capacityKbit }) => (
              <option value={id} key={id}>
                {words.exitOption(
                  operator,
                  host(address),
                  country === undefined ? '' : countryName(country),
                  speed(capacityKbit * BYTES_PER_KBIT),
                )}
              </option>
            ))}
          </select>
        </label>
        <div class="field">
          <span>{words.another}</span>
          <button
            type="button"
            class="primary"
            disabled={doing.isBusy || isOff}
            onClick={() => doing.run(() => call('newRoute', {}))}
          >
            <Icon name="refresh" size={18} /> {words.newRoute}
          </button>
          <p class="muted">{words.newRouteText}</p>
        </div>
      </div>
      <Countries
        exits={exits}
        countries={countries}
        notCountries={notCountries}
        isBusy={doing.isBusy}
        onWish={(countries, notCountries) => set({ countries, notCountries })}
      />
      {isElsewhere && (
        <p class="notice notice-warn" role="status">
          {words.notThere}
        </p>
      )}
      <Failure doing={doing} />
      <Keep values={{ hops, countries, notCountries }} doing={doing} />
    </section>
  )
}

interface CountriesProps {
  readonly exits: Relays['relays']
  readonly countries: readonly string[]
  readonly notCountries: readonly string[]
  readonly isBusy: boolean
  readonly onWish: (countries: string[], notCountries: string[]) => void
}

function Countries({ exits, countries, notCountries, isBusy, onWish }: CountriesProps): JSX.Element {
  const counts = new Map<string, number>()
  // A country that was chosen is shown though no exit is there now.
  for (const code of [...countries, ...notCountries]) counts.set(code, 0)
  for (const { country } of exits) if (country !== undefined) counts.set(country, (counts.get(country) ?? 0) + 1)
  const sorted = [...counts].map(([code, count]) => ({ code, count, name: countryName(code) }))
  sorted.sort((a, b) => a.name.localeCompare(b.name))
  const wish = (code: string, how: Wish) => {
    const without = (list: readonly string[]) => list.filter(other => other !== code)
    onWish(
      [...without(countries), ...(how === 'prefer' ? [code] : [])],
      [...without(notCountries), ...(how === 'avoid' ? [code] : [])],
    )
  }
  return (
    <div class="stack">
      <h3>{words.countries}</h3>
      <p class="muted">{sorted.length === 0 ? words.countriesNone : words.countriesText}</p>
      <div class="countries">
        {sorted.map(({ code, count, name }) => (
          <Choice<Wish>
            name={`country-${code}`}
            legend={words.country(name, count)}
            chosen={countries.includes(code) ? 'prefer' : notCountries.includes(code) ? 'avoid' : 'any'}
            isBusy={isBusy}
            onChoose={how => wish(code, how)}
            values={(['prefer', 'any', 'avoid'] as const).map(value => ({ value, label: words.wish[value] }))}
            key={code}
          />
        ))}
      </div>
    </div>
  )
}

interface KeepProps {
  readonly values: {
    readonly hops: number
    readonly countries: readonly string[]
    readonly notCountries: readonly string[]
  }
  readonly doing: Doing
}

function Keep({ values, doing }: KeepProps): JSX.Element {
  const { hops, countries, notCountries } = values
  const [kept, setKept] = useState<string | undefined>(undefined)
  const { value: settings } = useAsked('settings')
  const now = JSON.stringify(values)
  const isReadOnly = settings?.problem !== undefined
  const keep = () =>
    doing.run(async () => {
      const settings = {
        'client.hops': hops,
        'client.exit_countries': [...countries],
        'client.avoid_exit_countries': [...notCountries],
      }
      await call('settings.save', { values: settings })
      setKept(now)
    })
  return (
    <div class="row">
      <p class="muted small" role="status">
        {kept === now ? words.kept : isReadOnly ? words.keepNot(settings.file) : words.keepText}
      </p>
      {!isReadOnly && (
        <button type="button" class="quiet" disabled={doing.isBusy || kept === now} onClick={keep}>
          {words.keep}
        </button>
      )}
    </div>
  )
}
