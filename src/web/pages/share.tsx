// Share: what is carried for others, within which limits, and what one takes on by it. Of a daemon it is a part that is started
// here; a relay or a peer of its own is shown.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { useAsked } from '../parts/asked.ts'
import { Choice } from '../parts/choice.tsx'
import { Failure } from '../parts/failure.tsx'
import { Lent, Relayed, Statement } from '../parts/lent.tsx'
import { asSettings, type LimitsOfPeer, limitsOf } from '../parts/limits.ts'
import { isSound, LimitsFields } from '../parts/limits-form.tsx'
import { Notice } from '../parts/notice.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { Trouble } from '../parts/trouble.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Status = Output<'status'>
type Part = Output<'share.status'>
type As = Input<'share.start'>['as']
type Fields = Output<'settings'>['fields']

const ASK_MS = 2_000
const EARNED_MS = 10_000
/** Where a relay listens unless the file says otherwise. */
const USUAL_PORT = 51_821
const words = texts.share

export function SharePage({ live }: { live: Live }): JSX.Element {
  return (
    <>
      <PageHead page="share">{words.intro}</PageHead>
      {has(live, 'share.status') ? <Own live={live} /> : <Alone live={live} />}
    </>
  )
}

/** A relay or a peer of its own. */
function Alone({ live }: { live: Live }): JSX.Element {
  const { value: status = live.status, wrong, atMs } = useAsked('status', ASK_MS)
  if (status === undefined) return <Waiting wrong={wrong} />
  const { peer, role } = status
  return (
    <>
      <Carrying status={status} atMs={atMs} />
      {has(live, 'earnings') && <Earned />}
      {(role !== 'relay' || peer !== undefined) && <Limits onSaved={async () => words.saved} />}
      {peer !== undefined && <Statement />}
    </>
  )
}

/** What this daemon shares: begun, seen and ended here. */
function Own({ live }: { live: Live }): JSX.Element {
  const { value: part, wrong, atMs, ask } = useAsked('share.status', ASK_MS)
  const [isBeginning, setBeginning] = useState(false)
  if (part === undefined) return <Waiting wrong={wrong} />
  const { state, as } = part
  const isOff = isBeginning || state === 'off' || state === 'failed'
  if (isOff || as === undefined) return <Start part={part} onBegin={setBeginning} onChanged={ask} />
  const apply = async () => {
    await call('share.start', { as })
    await ask()
    return words.applied
  }
  return (
    <>
      <Sharing part={part} as={as} onChanged={ask} />
      {part.status !== undefined && <Carrying status={part.status} atMs={atMs} />}
      <Credits part={part} live={live} />
      <Limits onSaved={apply} />
      <Statement as={as} />
    </>
  )
}

function Sharing({ part, as, onChanged }: { part: Part; as: As; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const isUp = part.state === 'running'
  const text = isUp ? words.runningText : part.state === 'waiting' ? words.again : words.starting
  return (
    <>
      <section class={isUp ? 'hero hero-good' : 'hero hero-busy'}>
        <div class="hero-words">
          <div aria-live="polite">
            <p class="hero-title">{words.running[as]}</p>
            <p class="hero-text">{text}</p>
          </div>
          <div class="buttons">
            <button
              type="button"
              disabled={doing.isBusy}
              onClick={() => doing.run(() => call('share.stop', {}).then(onChanged))}
            >
              <Icon name="cross" size={18} /> {words.stop}
            </button>
          </div>
        </div>
      </section>
      <Failure doing={doing} />
      <Trouble wrong={part} />
    </>
  )
}

function Carrying({ status, atMs }: { status: Status; atMs: number }): JSX.Element {
  const { peer, role } = status
  return (
    <>
      {peer?.closed !== undefined && (
        <Notice kind="warn" title={words.closed}>
          <p>{peer.closed === 'volume' ? words.closedVolume : words.closedHours(peer.hours)}</p>
        </Notice>
      )}
      {peer !== undefined && <Lent peer={peer} atMs={atMs} />}
      {role === 'relay' && <Relayed status={status} atMs={atMs} />}
    </>
  )
}

interface StartProps {
  readonly part: Part
  /** While it is being started this stays on the page, so that what goes wrong can be mended here. */
  readonly onBegin: (isUnderWay: boolean) => void
  readonly onChanged: () => Promise<void>
}

function Start({ part, onBegin, onChanged }: StartProps): JSX.Element {
  const doing = useAction()
  const { value: settings, wrong } = useAsked('settings')
  const [chosen, setLimits] = useState<LimitsOfPeer | undefined>(undefined)
  const [as, setAs] = useState<As>('peer')
  const [problem, setProblem] = useState<string | undefined>(undefined)
  if (settings === undefined) return <Waiting wrong={wrong} />
  const { fields } = settings
  const limits = chosen ?? limitsOf(fields)
  const isReadOnly = settings.problem !== undefined
  const start = (event: SubmitEvent) => {
    event.preventDefault()
    const address = String(new FormData(event.currentTarget as HTMLFormElement).get('address') ?? '').trim()
    doing.run(async () => {
      const values = { ...asSettings(limits), ...(address === '' ? {} : reachedAt(address, fields)) }
      const { problems } = isReadOnly ? { problems: [] } : await call('settings.save', { values })
      setProblem(problems[0]?.message)
      if (problems.length > 0) return
      onBegin(true)
      await call('share.start', { as }).finally(async () => {
        // First how it stands now: what was told before would take this form away.
        await onChanged()
        onBegin(false)
      })
    })
  }
  return (
    <>
      {part.state === 'failed' && doing.wrong === undefined && <Trouble kind="bad" title={words.failed} wrong={part} />}
      <form class="card" onSubmit={start}>
        <h2>
          <Icon name="share" /> {words.start.title}
        </h2>
        <p class="muted">{words.notYetText}</p>
        <Choice
          name="as"
          legend={words.start.as}
          chosen={as}
          onChoose={setAs}
          isBusy={doing.isBusy}
          values={[
            { value: 'peer', label: words.start.peer },
            { value: 'relay', label: words.start.relay },
          ]}
        >
          {words.start.meaning[as]}
        </Choice>
        <h3>{words.limits}</h3>
        <Trouble title={texts.settings.readOnly} wrong={settings} />
        <LimitsFields limits={limits} onChange={setLimits} isReadOnly={isReadOnly} />
        {!isReadOnly && <Address fields={fields} known={part.publicAddresses} as={as} />}
        {problem !== undefined && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <label class="inline">
          <input type="checkbox" name="understood" required />
          <span>{words.start.understood}</span>
        </label>
        <Failure doing={doing} />
        <button type="submit" class="primary" disabled={doing.isBusy || !isSound(limits)}>
          <Icon name="power" size={18} /> {words.start.do}
        </button>
      </form>
      <Statement as={as} />
    </>
  )
}

/** Where others reach this machine, where the file does not say and it cannot be seen here. */
interface AddressProps {
  readonly fields: Fields
  readonly known: readonly string[]
  readonly as: As
}

function Address({ fields, known, as }: AddressProps): JSX.Element | null {
  if (saysWhere(fields)) return null
  return (
    <label class="field">
      <span>{words.start.address}</span>
      <input
        type="text"
        name="address"
        required={as === 'relay'}
        maxLength={45}
        defaultValue={known[0] ?? ''}
        placeholder="203.0.113.9"
        autocomplete="off"
      />
      <p class="muted">{known.length > 0 ? words.start.addressKnown(known.join(', ')) : words.start.addressText[as]}</p>
    </label>
  )
}

function saysWhere(fields: Fields): boolean {
  const of = (key: string) => fields.find(field => field.key === key)?.inFile
  const advertised = of('relay.advertise')
  const listen = of('relay.listen')
  const isOne = typeof listen === 'string' && !/^(0\.0\.0\.0|\[::\]):/.test(listen)
  return isOne || (Array.isArray(advertised) && advertised.length > 0)
}

function reachedAt(address: string, fields: Fields): Record<string, string[]> {
  const listen = fields.find(({ key }) => key === 'relay.listen')
  const port = /:(\d+)$/.exec(String(listen?.inFile ?? listen?.default))?.[1] ?? String(USUAL_PORT)
  const host = address.includes(':') ? `[${address}]` : address
  return { 'relay.advertise': [`${host}:${port}`], 'relay.control_advertise': [address] }
}

/** The limits of what runs. `onSaved` makes them hold, and says when they do. */
function Limits({ onSaved }: { onSaved: () => Promise<string> }): JSX.Element {
  const doing = useAction()
  const { value: settings, wrong, ask } = useAsked('settings')
  const [chosen, setLimits] = useState<LimitsOfPeer | undefined>(undefined)
  const [said, setSaid] = useState<string | undefined>(undefined)
  if (settings === undefined) return <Waiting wrong={wrong} />
  const saved = limitsOf(settings.fields)
  const limits = chosen ?? saved
  const save = (event: SubmitEvent) => {
    event.preventDefault()
    doing.run(async () => {
      const { problems } = await call('settings.save', { values: asSettings(limits) })
      if (problems.length > 0) return setSaid(problems[0]?.message)
      await ask()
      setSaid(await onSaved())
    })
  }
  const isUnchanged = JSON.stringify(limits) === JSON.stringify(saved)
  return (
    <form class="card" onSubmit={save}>
      <h2>{words.limits}</h2>
      <Trouble title={texts.settings.readOnly} wrong={settings} />
      <LimitsFields
        limits={limits}
        onChange={limits => (setSaid(undefined), setLimits(limits))}
        isReadOnly={settings.problem !== undefined}
      />
      <Failure doing={doing} />
      {said !== undefined && <p role="status">{said}</p>}
      <button type="submit" class="primary" disabled={doing.isBusy || isUnchanged || !isSound(limits)}>
        <Icon name="check" size={18} /> {words.save}
      </button>
    </form>
  )
}

/** What a daemon's part took, and how it comes into the wallet. */
function Credits({ part, live }: { part: Part; live: Live }): JSX.Element {
  const doing = useAction()
  const [collected, setCollected] = useState<number | undefined>(undefined)
  const credits = part.status?.credits
  if (credits?.queued === undefined)
    return (
      <section class="card card-flat">
        <p class="row muted">
          <span>{has(live, 'wallet') ? words.noPrice : words.noIssuer}</span>
          {!has(live, 'wallet') && <a href="#/settings">{words.link}</a>}
        </p>
      </section>
    )
  const { queued, redeemed = 0 } = credits
  const collect = () => doing.run(async () => setCollected((await call('share.collect', {})).collected))
  return (
    <section class="card">
      <div class="row">
        <h2>
          <Icon name="credits" /> {words.earned}
        </h2>
        {has(live, 'wallet') && (
          <button type="button" disabled={doing.isBusy || queued + redeemed === 0} onClick={collect}>
            {words.collect}
          </button>
        )}
      </div>
      <p class="figure">{texts.credits.amount(queued + redeemed)}</p>
      <p class="row muted">
        <span>{texts.credits.queued(queued)}</span>
        <span>{words.earnedTotal(texts.credits.amount(redeemed))}</span>
        <a href="#/credits">{words.details}</a>
      </p>
      {collected !== undefined && <p role="status">{words.collected(texts.credits.amount(collected))}</p>}
      <Failure doing={doing} />
    </section>
  )
}

function Earned(): JSX.Element {
  const { value } = useAsked('earnings', EARNED_MS)
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
