// My VPN: one's own WireGuard server, reached through strangers, so that it does not learn one's address. Of a daemon it is a
// part that is started here; `hoplite entry` is a node of its own that is shown.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { bytes, speed } from '../format.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { type Doing, useAction } from '../parts/action.ts'
import { useAsked, useRate } from '../parts/asked.ts'
import { Copy } from '../parts/copy.tsx'
import { Failure } from '../parts/failure.tsx'
import { Notice } from '../parts/notice.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { Trouble } from '../parts/trouble.tsx'
import { Values } from '../parts/values.tsx'
import { VpnCredits } from '../parts/vpn-credits.tsx'
import { VpnDrop } from '../parts/vpn-drop.tsx'
import { type HeldFile, heldFile, holdFile, saveAs } from '../parts/vpn-file.ts'
import { VpnStart } from '../parts/vpn-start.tsx'
import { Interfaces, Machine, Way } from '../parts/vpn-way.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Status = Output<'status'>
type Part = Output<'entry.status'>

const ASK_MS = 1_000
const SHOW_MS = 3_000
const words = texts.vpn

export function VpnPage({ live }: { live: Live }): JSX.Element {
  return (
    <>
      <PageHead page="vpn">{words.intro}</PageHead>
      {has(live, 'entry.status') ? <Own live={live} /> : <Alone live={live} />}
    </>
  )
}

/** A node that is an entry and nothing else. */
function Alone({ live }: { live: Live }): JSX.Element {
  const { value, wrong, atMs } = useAsked('status', ASK_MS)
  const { value: shown } = useAsked('wgShow', SHOW_MS)
  const doing = useAction()
  const status = value ?? live.status
  if (status === undefined) return <Waiting wrong={wrong} />
  return (
    <>
      <Hero said={saidOf(status)} kind={kindOf(status)}>
        <Speed status={status} atMs={atMs} />
        <NewPeer doing={doing} />
      </Hero>
      <Failure doing={doing} />
      <Running status={status} interfaces={shown?.interfaces ?? []} />
    </>
  )
}

/** The entry of this daemon: brought, started, seen and ended here. */
function Own({ live }: { live: Live }): JSX.Element {
  const { value: part, wrong, atMs, ask } = useAsked('entry.status', ASK_MS)
  const [file, setFile] = useState<HeldFile | undefined>(heldFile)
  const [isBeginning, setBeginning] = useState(false)
  const hold = (file: HeldFile | undefined) => {
    holdFile(file)
    setFile(file)
  }
  if (part === undefined) return <Waiting wrong={wrong} />
  const isOff = isBeginning || part.state === 'off' || part.state === 'failed'
  return (
    <>
      {part.isShut && <Shut onOpened={ask} />}
      {!isOff && <Active part={part} atMs={atMs} file={file} onFile={hold} onChanged={ask} />}
      {!isOff && has(live, 'wallet') && part.status?.credits !== undefined && (
        <VpnCredits tokens={part.status.credits.tokens} onChanged={ask} />
      )}
      {isOff && part.state === 'failed' && file === undefined && (
        <Trouble kind="bad" title={words.failed} wrong={part} />
      )}
      {isOff && part.isKept && file === undefined && <Kept part={part} onChanged={ask} />}
      {isOff && file === undefined && (
        <>
          <VpnDrop onFile={hold} />
          <Learns />
        </>
      )}
      {isOff && file !== undefined && (
        <VpnStart file={file} onBegin={setBeginning} onChanged={ask} onAnother={() => hold(undefined)} />
      )}
    </>
  )
}

/** Who learns what by it, before anything is begun. */
function Learns(): JSX.Element {
  return (
    <section class="card">
      <h2>
        <Icon name="route" /> {words.learns.title}
      </h2>
      <ol class="route-line">
        {words.learns.way.map(name => (
          <li key={name}>{name}</li>
        ))}
      </ol>
      <Values rows={words.learns.rows} />
      <p class="muted small">{words.learns.not}</p>
    </section>
  )
}

function Shut({ onOpened }: { onOpened: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  return (
    <>
      <Notice kind="bad" title={words.shut.title}>
        <p>{words.shut.text}</p>
        <button
          type="button"
          disabled={doing.isBusy}
          onClick={() => doing.run(() => call('entry.stop', {}).then(onOpened))}
        >
          {words.shut.open}
        </button>
      </Notice>
      <Failure doing={doing} />
    </>
  )
}

function Kept({ part, onChanged }: { part: Part; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const form = part.keptForm ?? 'listen'
  return (
    <section class="card">
      <h2>
        <Icon name="check" /> {words.kept.title}
      </h2>
      <p class="muted">{words.kept.text}</p>
      <div class="buttons">
        <button
          type="button"
          class="primary"
          disabled={doing.isBusy}
          onClick={() => doing.run(() => call('entry.start', { form }).finally(onChanged))}
        >
          <Icon name="power" size={18} /> {words.kept.start}
        </button>
        <button
          type="button"
          disabled={doing.isBusy}
          onClick={() => doing.run(() => call('entry.stop', { forget: true }).then(onChanged))}
        >
          {words.kept.forget}
        </button>
      </div>
      <Failure doing={doing} />
    </section>
  )
}

interface ActiveProps {
  readonly part: Part
  readonly atMs: number
  readonly file: HeldFile | undefined
  readonly onFile: (file: HeldFile | undefined) => void
  readonly onChanged: () => Promise<void>
}

function Active({ part, atMs, file, onFile, onChanged }: ActiveProps): JSX.Element {
  const doing = useAction()
  const { state, status, form } = part
  const stop = () =>
    doing.run(async () => {
      await call('entry.stop', {})
      // What was brought is gone from this page too: the next one may be another's.
      onFile(undefined)
      await onChanged()
    })
  const said = status === undefined ? words[waitingFor(state)] : saidOf(status, form)
  return (
    <>
      <Hero said={said} kind={status === undefined ? 'busy' : kindOf(status)}>
        {status !== undefined && <Speed status={status} atMs={atMs} />}
        <div class="buttons">
          {status !== undefined && <NewPeer doing={doing} />}
          <button type="button" disabled={doing.isBusy || state === 'stopping'} onClick={stop}>
            <Icon name="cross" size={18} /> {words.stop}
          </button>
        </div>
      </Hero>
      <Failure doing={doing} />
      <Trouble wrong={part} />
      {status !== undefined && form === 'listen' && <App file={file} onFile={onFile} />}
      {status !== undefined && <Running status={status} interfaces={part.interfaces} />}
    </>
  )
}

function waitingFor(state: Part['state']): 'starting' | 'stopping' | 'again' {
  return state === 'stopping' ? 'stopping' : state === 'waiting' ? 'again' : 'starting'
}

/** The file for the WireGuard app, with the two lines changed. */
function App({ file, onFile }: { file: HeldFile | undefined; onFile: (file: HeldFile) => void }): JSX.Element {
  const doing = useAction()
  if (file === undefined)
    return (
      <>
        <p class="muted">{words.app.again}</p>
        <VpnDrop onFile={onFile} />
      </>
    )
  const download = () =>
    doing.run(async () => {
      const changed = await call('entry.file', { file: file.text })
      saveAs(words.app.name(file.name.replace(/[^\w.-]/g, '-')), changed.file)
    })
  return (
    <section class="card">
      <h2>
        <Icon name="down" /> {words.app.title}
      </h2>
      <p class="muted">{words.app.text}</p>
      <button type="button" class="primary" disabled={doing.isBusy} onClick={download}>
        <Icon name="down" size={18} /> {words.app.download}
      </button>
      <Failure doing={doing} />
    </section>
  )
}

interface HeroProps {
  readonly said: { readonly title: string; readonly text: string }
  readonly kind: 'good' | 'busy' | 'bad'
  readonly children?: JSX.Element | JSX.Element[] | (JSX.Element | false)[]
}

function Hero({ said, kind, children }: HeroProps): JSX.Element {
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

function Speed({ status, atMs }: { status: Status; atMs: number }): JSX.Element {
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

function NewPeer({ doing }: { doing: Doing }): JSX.Element {
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

function Running({ status, interfaces }: { status: Status; interfaces: Part['interfaces'] }): JSX.Element {
  const { mtu, listening } = status
  const endpoint = listening['wireguard']?.[0]
  return (
    <>
      <Trouble wrong={status} />
      {status.routes.map(route => (
        <Way route={route} key={route.server} />
      ))}
      <Machine status={status} />
      {endpoint !== undefined && (
        <section class="card">
          <h2>
            <Icon name="plug" /> {words.endpoint}
          </h2>
          <Copy text={endpoint} />
          <p class="muted">{words.endpointText(mtu ?? 0)}</p>
        </section>
      )}
      <Interfaces interfaces={interfaces} />
    </>
  )
}

function isProven({ state, routes }: Status): boolean {
  return state === 'ready' && routes.every(route => route.isProven)
}

function saidOf(status: Status, form: Part['form'] = status.interface === undefined ? 'listen' : 'tunnel') {
  if (isProven(status)) return words.ready
  if (status.state !== 'ready') return words.waiting
  return form === 'tunnel' ? words.silent : words.unheard
}

function kindOf(status: Status): 'good' | 'busy' | 'bad' {
  return isProven(status) ? 'good' : status.state === 'ready' ? 'busy' : 'bad'
}
