// Share: what this node carries for others, within which limits, and what its operator takes on by it.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { bytes, speed } from '../format.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { useAsked, useRate } from '../parts/asked.ts'
import { Copy } from '../parts/copy.tsx'
import { Failure } from '../parts/failure.tsx'
import { Notice } from '../parts/notice.tsx'
import { SettingField } from '../parts/setting-field.tsx'
import { ShareOf } from '../parts/share-of.tsx'
import { texts } from '../texts.ts'

type Status = Output<'status'>
type Peer = NonNullable<Status['peer']>
type Field = Output<'settings'>['fields'][number]
type Values = Record<string, Field['value']>

const ASK_MS = 2_000
const CHECK_MS = 300
const MIB = 2 ** 20
const BYTES_PER_KBIT = 125
const DAY_SECONDS = 86_400
const words = texts.share
const LIMITS = ['peer.rate_kbit', 'peer.volume_mib_per_day', 'peer.max_clients', 'peer.hours'] as const

export function SharePage({ live }: { live: Live }): JSX.Element {
  const { value: status = live.status, atMs } = useAsked('status', ASK_MS)
  if (status === undefined) return <p role="status">{texts.loading}</p>
  const { peer, role } = status
  const carries = role === 'relay' || role === 'peer'
  return (
    <>
      <h1>{texts.pages.share}</h1>
      <p class="intro">{words.intro}</p>
      {peer?.closed !== undefined && (
        <Notice kind="warn" title={words.closed}>
          <p>{peer.closed === 'volume' ? words.closedVolume : words.closedHours(peer.hours)}</p>
        </Notice>
      )}
      {!carries && (
        <section class="card">
          <h2>{words.notYet}</h2>
          <p>{words.notYetText}</p>
          <Copy text="hoplite peer" />
        </section>
      )}
      {peer !== undefined && <Lent peer={peer} atMs={atMs} />}
      {role === 'relay' && <Carried status={status} atMs={atMs} />}
      {has(live, 'earnings') && <Earned />}
      {role !== 'relay' || peer !== undefined ? <Limits /> : null}
      {(!carries || peer !== undefined) && <Statement />}
    </>
  )
}

function Lent({ peer, atMs }: { peer: Peer; atMs: number }): JSX.Element {
  const outward = useRate(peer.bytesOut, atMs)
  const inward = useRate(peer.bytesIn, atMs)
  const refused = Object.entries(peer.refused)
  return (
    <section class="card">
      <h2>
        <Icon name="share" /> {words.lent}
      </h2>
      <ShareOf name={texts.node.clients} part={peer.clients} whole={peer.maxClients} format={String} />
      <ShareOf name={texts.node.today} part={peer.bytesToday} whole={peer.bytesPerDay} format={bytes} />
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

function Carried({ status, atMs }: { status: Status; atMs: number }): JSX.Element {
  const sent = status.counters['bytesOut'] ?? 0
  const figures: [string, string][] = [
    [texts.node.sessions, String(status.sessions)],
    [texts.node.flows, String(status.flows)],
    [texts.node.streams, String(status.streams)],
    [texts.node.carried, bytes(sent)],
    [texts.home.speed, speed(useRate(sent, atMs))],
  ]
  return (
    <section>
      <h2>{words.carried}</h2>
      <dl class="figures">
        {figures.map(([name, value]) => (
          <div class="card" key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  )
}

function Earned(): JSX.Element {
  const { value } = useAsked('earnings', ASK_MS * 5)
  return (
    <section class="card">
      <h2>
        <Icon name="credits" /> {words.earned}
      </h2>
      <p class="figure">{value === undefined ? '–' : texts.credits.amount(value.redeemed)}</p>
      <p class="row muted">
        <span>{value === undefined ? '\u00a0' : texts.credits.queued(value.queued)}</span>
        <a href="#/credits">{words.details}</a>
      </p>
    </section>
  )
}

/** The limits of a peer, with what they come to. */
function Limits(): JSX.Element | null {
  const doing = useAction()
  const [fields, setFields] = useState<readonly Field[]>([])
  const [changes, setChanges] = useState<Values>({})
  const [problems, setProblems] = useState<ReadonlyMap<string, string>>(new Map())
  const [isSaved, setSaved] = useState(false)
  const load = () =>
    call('settings', {})
      .then(({ fields }) => setFields(fields.filter(({ key }) => isLimit(key))))
      .catch(() => {})
  useEffect(() => void load(), [])
  useEffect(() => {
    if (Object.keys(changes).length === 0) return setProblems(new Map())
    const check = () =>
      call('settings.check', { values: changes }).then(
        ({ problems }) => setProblems(new Map(problems.map(({ key, message }) => [key, message]))),
        () => {},
      )
    const timer = setTimeout(() => void check(), CHECK_MS)
    return () => clearTimeout(timer)
  }, [changes])
  if (fields.length === 0) return null
  const valueOf = (key: string): Field['value'] => {
    const field = fields.find(field => field.key === key)
    return changes[key] ?? field?.inFile ?? field?.default ?? 0
  }
  const change = (key: string, value: Field['value'] | undefined) => {
    setSaved(false)
    setChanges(({ [key]: _before, ...others }) => (value === undefined ? others : { ...others, [key]: value }))
  }
  const save = (event: SubmitEvent) => {
    event.preventDefault()
    doing.run(async () => {
      const { problems } = await call('settings.save', { values: changes })
      setProblems(new Map(problems.map(({ key, message }) => [key, message])))
      if (problems.length > 0) return
      await load()
      setChanges({})
      setSaved(true)
    })
  }
  const isUnchanged = Object.keys(changes).length === 0
  return (
    <form class="card" onSubmit={save}>
      <h2>{words.limits}</h2>
      {fields.map(field => (
        <SettingField
          field={field}
          change={changes[field.key]}
          problem={problems.get(field.key)}
          onChange={value => change(field.key, value)}
          key={`${field.key} ${JSON.stringify(field.inFile ?? null)}`}
        />
      ))}
      <p class="preview" role="status">
        {problems.size === 0 && preview(valueOf)}
      </p>
      <Failure doing={doing} />
      {isSaved && <p role="status">{words.saved}</p>}
      <button type="submit" class="primary" disabled={doing.isBusy || isUnchanged || problems.size > 0}>
        <Icon name="check" size={18} /> {texts.settings.save}
      </button>
    </form>
  )
}

function isLimit(key: string): boolean {
  return (LIMITS as readonly string[]).includes(key)
}

/** What limits come to: how soon the day's volume is used, and what each of all clients has at least. */
function preview(valueOf: (key: string) => Field['value']): string {
  const [rate, volume, clients] = LIMITS.map(key => Number(valueOf(key)))
  const bytesPerSecond = (rate ?? 0) * BYTES_PER_KBIT
  const day = (volume ?? 0) * MIB
  const seconds = day / Math.max(bytesPerSecond, 1)
  const each = speed(bytesPerSecond / Math.max(clients ?? 1, 1))
  return seconds >= DAY_SECONDS
    ? words.previewRate(bytes(bytesPerSecond * DAY_SECONDS), bytes(day), each)
    : words.previewVolume(bytes(day), Math.max(1, Math.round(seconds / 60)), each)
}

function Statement(): JSX.Element {
  return (
    <section class="card">
      <h2>{words.statement}</h2>
      <dl class="values">
        {words.takes.map(([name, text]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </section>
  )
}
