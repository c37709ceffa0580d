// The sentences of the route.

export const route = {
  intro: 'What each machine on the way knows about you. No two hops share an operator or a network.',
  none: 'There is no route. Turn Hoplite on to build one.',
  picture: (hops: number) => `Picture of the route: you, ${hops} hops, the internet, and the other relays around them.`,
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
  exitOption: (operator: string, address: string, country: string, capacity: string) =>
    [operator, country, address, capacity].filter(part => part !== '').join(' · '),
  countries: 'Country of the exit',
  countriesText:
    'Where a relay is, it says itself; nobody has checked it. Preferred countries are taken while an exit there answers, avoided ones never.',
  countriesNone: 'No exit says where it is.',
  country: (name: string, exits: number) => `${name} · ${exits === 1 ? '1 exit' : `${exits} exits`}`,
  wish: { prefer: 'Prefer', any: 'Any', avoid: 'Avoid' },
  claims: (country: string) => `says it is in ${country}`,
  notThere: 'No exit in a country that you prefer fits now, so another is used.',
  keep: 'Keep these choices',
  keepText: 'Number of hops and countries go into the settings; without that they hold until Hoplite ends.',
  keepNot: (file: string) => `They hold until Hoplite ends: it may not write ${file} here.`,
  kept: 'Kept in the settings.',
  newRoute: 'New route',
  another: 'Other relays',
  newRouteText: 'Open connections are reset.',
  spare: 'Spare way',
  spareText: 'Kept ready over other hops to the same exit.',
  spareNone: 'None yet.',
  healed: (count: number, silent: string) =>
    `The route healed: it moved to its spare way after ${silent} of silence. Open connections went on. It was failover ${count}.`,
}
