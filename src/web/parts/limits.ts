// The limits of what is lent, as a person thinks of them, as the configuration has them, and what they come to.

import type { Output } from '#api/table.ts'
import { speed, volume } from '../format.ts'
import { texts } from '../texts.ts'

type Fields = Output<'settings'>['fields']
type Value = Fields[number]['value']

export interface LimitsOfPeer {
  readonly mbit: number
  readonly gib: number
  readonly clients: number
  /** Credits for a GiB; undefined where no issuer is set. */
  readonly price: number | undefined
  /** Undefined for all hours. */
  readonly hours: { readonly from: number; readonly to: number } | undefined
}

const GIB = 2 ** 30
const MIB_IN_GIB = 1_024
const BYTES_IN_MBIT = 125_000
const KBIT_IN_MBIT = 1_000
const HOUR_SECONDS = 3_600
const words = texts.share

/** What the file says, or what holds without it. */
export function limitsOf(fields: Fields): LimitsOfPeer {
  const of = (key: string, section = 'peer') => {
    const field = fields.find(field => field.key === `${section}.${key}`)
    return field?.inFile ?? field?.default
  }
  const [, from, to] = /^(\d+)-(\d+)$/.exec(String(of('hours'))) ?? []
  return {
    mbit: Number(of('rate_kbit')) / KBIT_IN_MBIT,
    gib: Number(of('volume_mib_per_day')) / MIB_IN_GIB,
    clients: Number(of('max_clients')),
    price: of('issuer', 'credit') === '' ? undefined : Number(of('price', 'relay')),
    hours: from === undefined ? undefined : { from: Number(from), to: Number(to) },
  }
}

export function asSettings({ mbit, gib, clients, hours, price }: LimitsOfPeer): Record<string, Value> {
  return {
    'peer.rate_kbit': Math.round(mbit * KBIT_IN_MBIT),
    'peer.volume_mib_per_day': Math.round(gib * MIB_IN_GIB),
    'peer.max_clients': clients,
    ...(price !== undefined && { 'relay.price': price }),
    'peer.hours': hours === undefined ? '' : `${hours.from}-${hours.to}`,
  }
}

/** What limits come to, in sentences. */
export function preview({ mbit, gib, clients, hours }: LimitsOfPeer): string {
  const open = hours === undefined ? 24 : (hours.to - hours.from + 24) % 24 || 24
  const seconds = open * HOUR_SECONDS
  const rate = mbit * BYTES_IN_MBIT
  const usedAfter = (gib * GIB) / Math.max(rate, 1)
  const average = Math.min(rate, (gib * GIB) / seconds)
  return [
    words.preview(`${Number(gib.toFixed(1))} GiB`, speed(average)),
    ...(hours === undefined ? [] : [words.previewHours(open)]),
    usedAfter < seconds
      ? words.previewVolume(Math.max(1, Math.round(usedAfter / 60)))
      : words.previewRate(volume(rate * seconds)),
    words.previewEach(speed(rate / Math.max(clients, 1))),
  ].join(' ')
}
