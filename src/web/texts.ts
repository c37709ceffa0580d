// Every sentence of the dashboard, in English; those of larger pages are in texts/. A translation is another of this shape.

import type { EventData } from '#api/table.ts'
import { credits } from './texts/credits.ts'
import { devices, pairing } from './texts/devices.ts'
import { events } from './texts/events.ts'
import { route } from './texts/route.ts'
import { settings } from './texts/settings.ts'
import { share } from './texts/share.ts'
import { vpn } from './texts/vpn.ts'

type RouteState = EventData<'route'>['state']

export const texts = {
  name: 'Hoplite',
  skip: 'Skip to the page',
  navigation: 'Pages',
  theme: { label: 'Colours', system: 'As the system', light: 'Light', dark: 'Dark' },
  version: (version: string) => `Version ${version}`,
  pages: {
    home: 'Home',
    route: 'Route',
    vpn: 'My VPN',
    devices: 'Devices',
    share: 'Share',
    credits: 'Credits',
    activity: 'Activity',
    settings: 'Settings',
  },

  loading: 'Asking the daemon…',
  offline: {
    title: 'The daemon does not answer',
    text: 'What you see is from before. It may be starting again, or it was stopped: hoplite up starts it.',
    retry: 'Try again',
  },
  signedOut: {
    title: 'Open your dashboard',
    text: 'This browser is not signed in to the daemon on this machine. Links work once, and for five minutes. In a terminal, run',
    command: 'hoplite ui',
    after: 'and open the link that it prints.',
  },
  failed: 'That did not work',
  dismiss: 'Dismiss',
  copy: 'Copy',
  copied: 'Copied',
  qr: 'The same as a QR picture',

  states: {
    off: { title: 'Off', text: 'Nothing of yours goes through Hoplite. Programs that use its proxy are refused.' },
    relays: { title: 'Connecting', text: 'Looking for relays.' },
    guard: { title: 'Connecting', text: 'Agreeing on keys with the guard.' },
    middle: { title: 'Connecting', text: 'Extending the route by a middle hop.' },
    exit: { title: 'Connecting', text: 'Reaching the exit through the hops before it.' },
    testing: { title: 'Connecting', text: 'Testing the whole way there and back.' },
    protected: { title: 'Protected', text: 'No single machine knows both who you are and where you go.' },
    healing: { title: 'Healing', text: 'A hop fell silent. Another way to the same exit is taking over.' },
    lost: { title: 'Route lost', text: 'The exit does not answer any more. A new route is being built.' },
  } satisfies Record<RouteState, { title: string; text: string }>,

  home: {
    unknown: {
      title: 'Not known',
      text: 'Whether you are protected is known again when the daemon answers. Until then, do not rely on it.',
    },
    turnOn: 'Turn on',
    turnOff: 'Turn off',
    stop: 'Stop',
    steps: 'Progress',
    step: { relays: 'Relays', guard: 'Guard', middle: 'Middle', exit: 'Exit', testing: 'Test' },
    stepDone: 'done',
    stepNow: 'now',
    stepNext: 'not yet',
    seen: 'The internet sees',
    seenNothing: 'Your own address',
    seenNothingText: 'Every site you open learns it.',
    seenText: (operator: string) => `An exit run by ${operator}. Your own address stays with your guard.`,
    seenWaiting: 'Not decided yet',
    speed: 'Speed',
    down: 'Down',
    up: 'Up',
    speedChart: (down: string, up: string) => `Speed of the last five minutes. Now ${down} down and ${up} up.`,
    noTraffic: 'Nothing was carried yet. Point a program at the proxy to see it here.',
    route: 'Your route',
    you: 'You',
    internet: 'Internet',
    roundTrip: 'Round trip',
    details: 'Hop by hop',
    proxy: 'Where programs connect',
    proxyText: 'SOCKS5 and HTTP on one address. Programs that do not use it go out unprotected.',
    besideTunnel: (name: string) => `SOCKS5 and HTTP on one address, beside the tunnel ${name} of this machine.`,
    shut: 'Off, and shut: nothing leaves this machine until you turn it on, or hoplite down opens it.',
    seenShut: 'Nothing of this machine',
    seenShutText: 'The kill switch keeps everything in.',
    streams: (count: number) => (count === 1 ? '1 connection open' : `${count} connections open`),
    alsoOn: 'Also on',
    problem: 'What is wrong',
  },

  node: {
    relay: 'This node is a relay',
    peer: 'This node is a peer',
    entry: 'This node leads to your VPN',
    entryText: 'Through strangers, so that your VPN does not learn your address.',
    bootstrap: 'This node serves the directory',
    relayText: 'It carries packets for others. It knows neither what is in them nor, as a middle, between whom.',
    peerText:
      'It lends its address to others’ WireGuard tunnels. It knows who they are and which VPN they use, not what they do.',
    bootstrapText: 'It tells others which relays there are, and carries no traffic.',
    state: 'State',
    uptime: 'Up for',
    sessions: 'Sessions',
    flows: 'Flows',
    streams: 'Streams',
    carried: 'Carried',
    clients: 'Clients now',
    today: 'Lent today',
    of: (part: string, whole: string) => `${part} of ${whole}`,
    memory: 'Memory',
    directory: 'Relays known',
    listening: 'Listens on',
    dropped: 'Dropped',
    droppedNone: 'Nothing was dropped.',
  },

  route,

  vpn,

  pairing,

  devices,

  share,

  credits,

  activity: {
    intro: 'What happened, newest first. Addresses, names and keys of yours are never written down.',
    none: 'Nothing has happened yet.',
    times: (count: number) => `${count} times`,
    showLog: 'Show the log',
    hideLog: 'Show in plain words',
    filter: 'Show',
    all: 'Everything',
    problems: 'Warnings and errors',
    levels: { error: 'Error', warn: 'Warning', info: 'Info', debug: 'Detail' },
  },

  events,

  settings,
}
