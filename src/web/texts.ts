// Every sentence of the dashboard, in English. A translation is another file of this shape.

import type { EventData } from '#api/table.ts'

type RouteState = EventData<'route'>['state']
type Fields = EventData<'log'>['fields']

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
    problem: 'What is wrong',
  },

  node: {
    relay: 'This node is a relay',
    peer: 'This node is a peer',
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

  route: {
    intro: 'What each machine on the way knows about you. No two hops share an operator or a network.',
    none: 'There is no route. Turn Hoplite on to build one.',
    picture: (hops: number) =>
      `Picture of the route: you, ${hops} hops, the internet, and the other relays around them.`,
    roles: { guard: 'Guard', middle: 'Middle', exit: 'Exit', only: 'Only hop' },
    knows: 'Knows',
    knowsNot: 'Does not know',
    knowledge: {
      guard: {
        knows: ['your internet address', 'that you use Hoplite', 'which machine comes next'],
        knowsNot: ['where you go', 'what you send'],
      },
      middle: {
        knows: ['the hop before it', 'the hop after it'],
        knowsNot: ['who you are', 'where you go', 'what you send'],
      },
      exit: {
        knows: ['which sites you open', 'what is not encrypted on the way there'],
        knowsNot: ['who you are', 'your address'],
      },
      only: {
        knows: ['your internet address', 'which sites you open'],
        knowsNot: ['what is encrypted on the way there'],
      },
    },
    change: 'Change the route',
    hops: 'Number of hops',
    hopsText: {
      1: 'Quick. The one hop knows you and your destinations.',
      2: 'The guard knows you, the exit your destinations.',
      3: 'A middle keeps guard and exit apart.',
      4: 'Slower. One more machine would have to collude.',
      5: 'Slowest. For when time does not matter.',
    } as Record<number, string>,
    exit: 'Exit',
    anyExit: 'Any, at random',
    exitOption: (operator: string, address: string, capacity: string) => `${operator} · ${address} · ${capacity}`,
    newRoute: 'New route',
    newRouteText: 'Other relays. Open connections are reset.',
    lasts: 'These choices hold until the daemon ends; Settings keeps the number of hops.',
    spare: 'Spare way',
    spareText: 'Kept ready over other hops to the same exit.',
    spareNone: 'None yet.',
    healed: (count: number, silent: string) =>
      `The route healed: it moved to its spare way after ${silent} of silence. Open connections went on. It was failover ${count}.`,
  },

  vpn: {
    intro: 'Your own VPN provider, without it learning your address: one peer stands between.',
    drop: 'Drop a WireGuard file here',
    choose: 'or choose one',
    start: 'Connect through a peer',
    stop: 'Disconnect',
    wrongFile: 'That is no WireGuard file: it has no [Interface] section.',
    tooLong: 'That file is too long to be a WireGuard file.',
  },

  panel: {
    intro: {
      share: 'Carry packets for others, within limits that you set.',
      credits: 'What you earned by sharing and what your routes cost.',
      devices: 'Your own machines, reached directly, without an account.',
    } as Record<string, string>,
    nothing: 'Nothing yet.',
    run: 'Do it',
    show: 'Show',
    yes: 'Yes',
    no: 'No',
    qr: 'The same as a QR picture',
    json: 'JSON',
  },

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

  /** What the log's events mean. An event that is not here is shown as it is. */
  events: {
    'client is up': () => 'Hoplite started.',
    'relay is up': (fields: Fields) => (fields['exit'] ? 'The relay started; it is an exit.' : 'The relay started.'),
    'peer is up': () => 'The peer started.',
    'lending nothing until later': (fields: Fields) =>
      fields['why'] === 'volume'
        ? 'What you lend in a day is used up. Nothing is lent until midnight.'
        : 'The hours in which you lend are over.',
    'lending again': () => 'You lend your address again.',
    'bootstrap node is up': () => 'The bootstrap node started.',
    'switched on': () => 'You turned Hoplite on.',
    'switched off': () => 'You turned Hoplite off. Programs that use the proxy are refused.',
    'route is ready': (fields: Fields) =>
      fields['hops'] === 1 ? 'A route of one hop is ready.' : `A route of ${fields['hops']} hops is ready.`,
    'route is silent': () => 'The route fell silent. Looking for another way to the same exit.',
    'route moved to its spare way': (fields: Fields) =>
      `The route healed after ${fields['silentMs']} ms; open connections went on.`,
    'route lost': () => 'The exit was lost. Its connections were closed, and a new route is being built.',
    'hop failed': (fields: Fields) =>
      `A relay did not answer and is avoided for a while (${String(fields['id'] ?? '').slice(0, 8)}).`,
    'directory refreshed': (fields: Fields) =>
      `The list of relays was fetched: ${fields['relays']} are known${Number(fields['accepted']) > 0 ? `, ${fields['accepted']} of them new or changed` : ''}.`,
    'directory not refreshed': () => 'The list of relays could not be fetched. It is tried again.',
    'descriptor published': (fields: Fields) => `The relay told others about itself; ${fields['stored']} keep it.`,
    'damaged state file set aside': () => 'A damaged file was found, set aside, and made anew.',
    'state file not written': () => 'A file could not be written. Is the disk full?',
    'data plane failed': () => 'The part that moves packets failed, and is started again.',
    'safe mode': () => 'The part that moves packets fails again and again. Hoplite stays off until you turn it on.',
    'dashboard not served: its port is taken': () => 'Another program uses the port of the dashboard.',
  } as Record<string, (fields: Fields) => string>,

  settings: {
    intro: 'Everything in the configuration file.',
    file: (file: string) => `Kept in ${file}`,
    noFile: (file: string) => `There is no file yet; saving makes ${file}`,
    sections: {
      network: 'Network',
      client: 'Your routes',
      relay: 'As a relay',
      exit: 'As an exit',
      peer: 'As a peer',
      credit: 'Credits',
      issuer: 'As an issuer',
      meet: 'Your devices',
      api: 'Dashboard',
      metrics: 'Metrics',
      engine: 'Packets',
      log: 'Log',
      lab: 'Laboratory',
    } as Record<string, string>,
    default: (value: string) => `Default: ${value}`,
    empty: 'empty',
    reset: 'Back to the default',
    lines: 'One on each line.',
    json: 'JSON.',
    wrongJson: 'this is no JSON',
    changed: (count: number) => (count === 1 ? '1 change' : `${count} changes`),
    wrong: (count: number) => (count === 1 ? '1 thing to mend' : `${count} things to mend`),
    save: 'Save',
    discard: 'Discard',
    saved: (later: readonly string[]) =>
      later.length === 0
        ? 'Saved. It holds from now on.'
        : `Saved. What holds when the daemon starts again (hoplite down, then hoplite up): ${later.join(', ')}.`,
  },
}
