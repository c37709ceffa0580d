// What the log's events mean. One that is not here is shown as it is.

import type { EventData } from '#api/table.ts'

type Fields = EventData<'log'>['fields']

export const events: Record<string, (fields: Fields) => string> = {
  'client is up': () => 'Hoplite started.',
  'relay is up': (fields: Fields) => (fields['exit'] ? 'The relay started; it is an exit.' : 'The relay started.'),
  'peer is up': () => 'The peer started.',
  'lending nothing until later': (fields: Fields) =>
    fields['why'] === 'volume'
      ? 'What you lend in a day is used up. Nothing is lent until midnight.'
      : 'The hours in which you lend are over.',
  'lending again': () => 'You lend your address again.',
  'entry is up': () => 'The way to your VPN started.',
  'entry is ready': () => 'Your VPN is reached through a peer.',
  'spare peer is ready': () => 'Another peer stands ready.',
  'entry moved to another peer': (fields: Fields) =>
    `Your VPN is reached through another peer, after ${fields['silentMs']} ms.`,
  'no peer is left: nothing is sent until there is one': () => 'No peer is left. Nothing is sent until there is one.',
  'peers answer, the server does not': () => 'Peers answer, your VPN’s server does not.',
  'peer failed': () => 'A peer did not answer and is avoided for a while.',
  'a device was paired': () => 'A device was paired.',
  'a device was removed': () => 'A device was removed.',
  'tokens were not handed in': () => 'What was earned could not be handed in. It is tried again.',
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
}
