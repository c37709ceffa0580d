// Home: one button, what the internet sees, the speed, the route in one line.

import type { JSX } from 'preact'
import type { EventData } from '#api/table.ts'
import { call } from '../api.ts'
import { bytes, duration, host, milliseconds, speed, volume } from '../format.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { useAsked } from '../parts/asked.ts'
import { SpeedChart } from '../parts/chart.tsx'
import { Copy } from '../parts/copy.tsx'
import { Failure } from '../parts/failure.tsx'
import { Figures } from '../parts/figures.tsx'
import { Trouble } from '../parts/trouble.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Route = EventData<'route'>
const PARTS_MS = 4_000
const OFF: Route = { state: 'off', hops: [], built: 0 }

export function HomePage({ live }: { live: Live }): JSX.Element {
  if (live.status !== undefined && live.status.role !== 'client') return <NodePage live={live} />
  const route = live.route ?? OFF
  return (
    <>
      <h1 class="sr">{texts.pages.home}</h1>
      <Hero live={live} route={route} />
      <Trouble wrong={route} />
      <div class="grid">
        <Seen live={live} route={route} />
        <RouteLine live={live} route={route} />
        <AlsoOn live={live} />
        <Speed live={live} />
        <Proxy live={live} />
      </div>
    </>
  )
}

/** What else runs beside the route, where anything does. */
function AlsoOn({ live }: { live: Live }): JSX.Element | null {
  if (!has(live, 'entry.status') || !has(live, 'share.status')) return null
  return <Parts />
}

function Parts(): JSX.Element | null {
  const { value: vpn } = useAsked('entry.status', PARTS_MS)
  const { value: share } = useAsked('share.status', PARTS_MS)
  const isOn = (state: string | undefined) => state !== undefined && state !== 'off' && state !== 'failed'
  const isVpnSeen = isOn(vpn?.state) || vpn?.isShut === true
  if (!isVpnSeen && !isOn(share?.state)) return null
  const isProven = vpn?.status?.routes.every(route => route.isProven) ?? false
  const isReady = vpn?.status?.state === 'ready'
  const vpnWords = vpn?.isShut
    ? texts.vpn.shut
    : isProven && isReady
      ? texts.vpn.ready
      : isReady
        ? texts.vpn.unheard
        : texts.vpn.waiting
  return (
    <section class="card card-wide">
      <h2>
        <Icon name="vpn" /> {texts.home.alsoOn}
      </h2>
      {isVpnSeen && (
        <p class="row">
          <span>{vpnWords.title}</span>
          <a href="#/vpn">{texts.pages.vpn}</a>
        </p>
      )}
      {isOn(share?.state) && share?.as !== undefined && (
        <p class="row">
          <span>{texts.share.running[share.as]}</span>
          <a href="#/share">{texts.pages.share}</a>
        </p>
      )}
    </section>
  )
}

function Hero({ live, route }: { live: Live; route: Route }): JSX.Element {
  const doing = useAction()
  const isOff = route.state === 'off'
  // What was told before is no promise: a daemon that is gone protects nobody.
  const isKnown = live.phase !== 'offline'
  const { title, text: told } = isKnown ? texts.states[route.state] : texts.home.unknown
  const text = isKnown && isOff && live.status?.killSwitch ? texts.home.shut : told
  const label = isOff ? texts.home.turnOn : route.state === 'protected' ? texts.home.turnOff : texts.home.stop
  return (
    <section class={`hero hero-${isKnown ? kindOf(route.state) : 'bad'}`}>
      <button
        type="button"
        class="power"
        disabled={doing.isBusy || !isKnown}
        onClick={() => doing.run(() => (isOff ? call('connect', {}) : call('disconnect', {})))}
      >
        <svg viewBox="0 0 120 120" class="power-ring" aria-hidden="true" focusable="false">
          <circle class="power-track" cx="60" cy="60" r="55" />
          <circle
            class="power-arc"
            cx="60"
            cy="60"
            r="55"
            pathLength="100"
            stroke-dasharray={`${isKnown ? progress(route) : 0} 100`}
          />
        </svg>
        <Icon name="power" size={44} />
        <span>{label}</span>
      </button>
      <div class="hero-words">
        <div aria-live="polite">
          <p class="hero-title">{title}</p>
          <p class="hero-text">{text}</p>
        </div>
        {isOff || !isKnown ? null : <Steps route={route} />}
        <Failure doing={doing} />
      </div>
    </section>
  )
}

const STEPS = ['relays', 'guard', 'middle', 'exit', 'testing'] as const

function Steps({ route }: { route: Route }): JSX.Element {
  const at = stepOf(route.state)
  const shown = STEPS.filter(step => isPartOf(step, route.hops.length))
  return (
    <ol class="steps" aria-label={texts.home.steps}>
      {shown.map(step => {
        const position = STEPS.indexOf(step)
        const how = position < at ? 'done' : position === at ? 'now' : 'next'
        const words = { done: texts.home.stepDone, now: texts.home.stepNow, next: texts.home.stepNext }[how]
        return (
          <li class={`step step-${how}`} key={step} aria-current={how === 'now' ? 'step' : undefined}>
            <span class="step-dot">{how === 'done' && <Icon name="check" size={14} />}</span>
            {texts.home.step[step]}
            <span class="sr">: {words}</span>
          </li>
        )
      })}
    </ol>
  )
}

/** A route of one hop has no guard of its own, and one of two no middle. */
function isPartOf(step: (typeof STEPS)[number], hops: number): boolean {
  if (hops === 0) return true
  return step === 'guard' ? hops > 1 : step === 'middle' ? hops > 2 : true
}

function stepOf(state: Route['state']): number {
  if (state === 'protected' || state === 'healing') return STEPS.length
  return Math.max((STEPS as readonly string[]).indexOf(state), 0)
}

function progress(route: Route): number {
  if (route.state === 'off') return 0
  if (route.state === 'protected' || route.state === 'healing') return 100
  return 8 + (stepOf(route.state) / STEPS.length) * 92
}

function kindOf(state: Route['state']): 'off' | 'busy' | 'good' | 'bad' {
  switch (state) {
    case 'off':
      return 'off'
    case 'protected':
      return 'good'
    case 'healing':
    case 'lost':
      return 'bad'
    default:
      return 'busy'
  }
}

function Seen({ live, route }: { live: Live; route: Route }): JSX.Element {
  const isKnown = live.phase !== 'offline'
  const isThere = isKnown && (route.state === 'protected' || route.state === 'healing')
  const exit = isThere ? route.hops.at(-1) : undefined
  const isOff = isKnown && route.state === 'off'
  const isShut = live.status?.killSwitch ?? false
  const [off, offText] = isShut
    ? [texts.home.seenShut, texts.home.seenShutText]
    : [texts.home.seenNothing, texts.home.seenNothingText]
  const said = isOff ? off : isKnown ? texts.home.seenWaiting : texts.home.unknown.title
  return (
    <section class="card">
      <h2>
        <Icon name="globe" /> {texts.home.seen}
      </h2>
      <p class="figure">{exit === undefined ? said : host(exit.address)}</p>
      <p class="muted">{exit === undefined ? (isOff ? offText : '\u00a0') : texts.home.seenText(exit.operator)}</p>
    </section>
  )
}

function RouteLine({ live, route }: { live: Live; route: Route }): JSX.Element {
  const exitMs = live.rtt?.hops.at(-1)?.ms
  const names = route.hops.map(({ operator }) => operator)
  return (
    <section class="card">
      <h2>
        <Icon name="route" /> {texts.home.route}
      </h2>
      {names.length === 0 ? (
        <p class="figure figure-empty">{texts.states[route.state].title}</p>
      ) : (
        <ol class="route-line">
          {[texts.home.you, ...names, texts.home.internet].map((name, i) => (
            <li class={i > 0 && i <= route.built ? 'is-built' : ''} key={`${i}-${name}`}>
              {name}
            </li>
          ))}
        </ol>
      )}
      <p class="row">
        <span class="muted">
          {texts.home.roundTrip} <strong>{milliseconds(route.state === 'off' ? undefined : exitMs)}</strong>
        </span>
        <a href="#/route">{texts.home.details}</a>
      </p>
    </section>
  )
}

function Speed({ live }: { live: Live }): JSX.Element {
  const { inward = 0, outward = 0 } = live.now ?? {}
  const [, received, sent] = live.history
  const isQuiet = [...received, ...sent].every(bytes => bytes === 0)
  return (
    <section class="card card-wide">
      <div class="row">
        <h2>
          <Icon name="activity" /> {texts.home.speed}
        </h2>
        <p class="speeds">
          <span class="speed-down">
            <Icon name="down" size={16} /> <span class="sr">{texts.home.down} </span>
            {speed(inward)}
          </span>
          <span class="speed-up">
            <Icon name="up" size={16} /> <span class="sr">{texts.home.up} </span>
            {speed(outward)}
          </span>
        </p>
      </div>
      <SpeedChart history={live.history} />
      {isQuiet && <p class="muted">{texts.home.noTraffic}</p>}
    </section>
  )
}

function Proxy({ live }: { live: Live }): JSX.Element {
  const proxy = live.status?.listening['proxy']?.[0]
  const link = live.status?.interface
  return (
    <section class="card card-wide card-flat">
      <h2>
        <Icon name="plug" /> {texts.home.proxy}
      </h2>
      <div class="row">
        {proxy === undefined ? <span class="muted">–</span> : <Copy text={proxy} />}
        <span class="muted">{texts.home.streams(live.now?.streams ?? live.status?.streams ?? 0)}</span>
      </div>
      <p class="muted">{link === undefined ? texts.home.proxyText : texts.home.besideTunnel(link)}</p>
    </section>
  )
}

/** A relay, a peer or a bootstrap node: it has no route, and carries for others. */
function NodePage({ live }: { live: Live }): JSX.Element {
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
