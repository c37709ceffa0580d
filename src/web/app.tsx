// The frame around every page: navigation, what is wrong with the connection, and the page that the address names.

import type { ComponentType, JSX } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Icon, type IconName, Mark } from './icons.tsx'
import { has, type Live, retry, useLive } from './live.ts'
import { ActivityPage } from './pages/activity.tsx'
import { CreditsPage } from './pages/credits.tsx'
import { DevicesPage } from './pages/devices.tsx'
import { HomePage } from './pages/home.tsx'
import { RoutePage } from './pages/route.tsx'
import { SettingsPage } from './pages/settings.tsx'
import { SharePage } from './pages/share.tsx'
import { VpnPage } from './pages/vpn.tsx'
import { Notice } from './parts/notice.tsx'
import { texts } from './texts.ts'
import { chooseTheme, chosenTheme, type Theme } from './theme.ts'

interface Page {
  readonly name: keyof typeof texts.pages
  readonly icon: IconName
  readonly draw: ComponentType<{ live: Live }>
  /** Whether this daemon has what the page is about. */
  readonly isThere: (live: Live) => boolean
}

/** Roles that lend, or might. */
const SHARERS: ReadonlySet<string> = new Set(['client', 'relay', 'peer'])

const PAGES: readonly Page[] = [
  { name: 'home', icon: 'home', draw: HomePage, isThere: () => true },
  { name: 'route', icon: 'route', draw: RoutePage, isThere: live => has(live, 'setRoute') },
  { name: 'vpn', icon: 'vpn', draw: VpnPage, isThere: live => has(live, 'wgShow') || has(live, 'entry.status') },
  { name: 'devices', icon: 'devices', draw: DevicesPage, isThere: live => has(live, 'devices') },
  { name: 'share', icon: 'share', draw: SharePage, isThere: ({ status }) => SHARERS.has(status?.role ?? '') },
  { name: 'credits', icon: 'credits', draw: CreditsPage, isThere: live => has(live, 'wallet') },
  { name: 'activity', icon: 'activity', draw: ActivityPage, isThere: () => true },
  { name: 'settings', icon: 'settings', draw: SettingsPage, isThere: () => true },
]

export function App(): JSX.Element {
  const live = useLive()
  const name = usePageName()
  const main = useRef<HTMLElement>(null)
  // Nearly every daemon has them all: what stands there at once does not move when it answers.
  const there = PAGES.filter(page => live.phase === 'loading' || page.isThere(live))
  const page = there.find(page => page.name === name) ?? (PAGES[0] as Page)
  useEffect(() => {
    // On a narrow screen the navigation is longer than the screen.
    document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' })
    document.title = `${texts.pages[page.name]} · ${texts.name}`
  }, [page.name])
  if (live.phase === 'signedOut') return <SignedOut />
  const Draw = page.draw
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={event => (event.preventDefault(), main.current?.focus())}>
        {texts.skip}
      </a>
      <header class="side">
        <div class="side-inner">
          <div class="brand">
            <Mark />
            <span>{texts.name}</span>
          </div>
          <nav aria-label={texts.navigation}>
            {there.map(({ name, icon }) => (
              <a
                href={`#/${name === 'home' ? '' : name}`}
                aria-current={name === page.name ? 'page' : undefined}
                key={name}
              >
                <Icon name={icon} />
                <span>{texts.pages[name]}</span>
              </a>
            ))}
          </nav>
          <div class="side-foot">
            <ThemeChoice />
            {live.status && <p class="muted small">{texts.version(live.status.version)}</p>}
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1} class={live.phase === 'offline' ? 'stale' : ''}>
        {live.phase === 'offline' && (
          <Notice kind="warn" title={texts.offline.title}>
            <p>{texts.offline.text}</p>
            <button type="button" onClick={retry}>
              {texts.offline.retry}
            </button>
          </Notice>
        )}
        {live.phase === 'loading' ? <Loading /> : <Draw live={live} />}
      </main>
    </div>
  )
}

function usePageName(): string {
  const read = () => location.hash.replace(/^#\/?/, '') || 'home'
  const [name, setName] = useState(read)
  useEffect(() => {
    const onChange = () => setName(read())
    addEventListener('hashchange', onChange)
    return () => removeEventListener('hashchange', onChange)
  }, [])
  return name
}

function Loading(): JSX.Element {
  return (
    <div class="loading" role="status">
      <span class="sr">{texts.loading}</span>
      <div class="ghost ghost-title" />
      <div class="ghost ghost-hero" />
      <div class="ghost-row">
        <div class="ghost" />
        <div class="ghost" />
      </div>
    </div>
  )
}

function SignedOut(): JSX.Element {
  const { title, text, command, after } = texts.signedOut
  return (
    <main class="signed-out">
      <Mark size={64} />
      <h1>{title}</h1>
      <p>{text}</p>
      <p>
        <code class="command">{command}</code>
      </p>
      <p>{after}</p>
    </main>
  )
}

function ThemeChoice(): JSX.Element {
  const [theme, setTheme] = useState<Theme>(chosenTheme)
  const choose = (value: string) => {
    chooseTheme(value as Theme)
    setTheme(value as Theme)
  }
  return (
    <label class="theme-choice">
      <span class="muted small">{texts.theme.label}</span>
      <select value={theme} onChange={event => choose(event.currentTarget.value)}>
        {(['system', 'light', 'dark'] as const).map(value => (
          <option value={value} key={value}>
            {texts.theme[value]}
          </option>
        ))}
      </select>
    </label>
  )
}
