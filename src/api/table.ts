// The table of actions and events. A new one is a file under actions/ or events/ and a line here.

import type { Action, DataOf, Event, InputOf, OutputOf } from './action.ts'
import { createToken, listTokens, login, revokeToken } from './actions/access.ts'
import { activity } from './actions/activity.ts'
import { addPhone } from './actions/add-phone.ts'
import { allowPort } from './actions/allow-port.ts'
import { connect, disconnect } from './actions/connect.ts'
import { devices, removeDevice, renameDevice, rotateDeviceKeys } from './actions/devices.ts'
import { down } from './actions/down.ts'
import { earnings, handIn } from './actions/earnings.ts'
import {
  checkEntry,
  entryFile,
  entryStatus,
  fundEntry,
  newPeer,
  refundEntry,
  startEntry,
  stopEntry,
} from './actions/entry.ts'
import { giveLetter, takeLetters } from './actions/letters.ts'
import { newRoute } from './actions/new-route.ts'
import { crash, observation, observe } from './actions/observe.ts'
import { endPairing, join, pair, pairing } from './actions/pairing.ts'
import { pingDevice } from './actions/ping-device.ts'
import { relays } from './actions/relays.ts'
import { setRoute } from './actions/set-route.ts'
import { checkSettings, reload, saveSettings, settings } from './actions/settings.ts'
import { collectShare, shareStatus, startShare, stopShare } from './actions/share.ts'
import { acceptNetwork, declineNetwork, offerNetwork, withdrawNetwork } from './actions/sharing.ts'
import { status } from './actions/status.ts'
import { traffic } from './actions/traffic.ts'
import { deposit, receiveCredits, redeemVoucher, sendCredits, setAccount, topUp, wallet } from './actions/wallet.ts'
import { wgShow } from './actions/wg-show.ts'
import { failover } from './events/failover.ts'
import { log } from './events/log.ts'
import { routeEvent } from './events/route.ts'
import { rtt } from './events/rtt.ts'
import { throughput } from './events/throughput.ts'

export const ACTIONS = {
  status,
  down,
  connect,
  disconnect,
  newRoute,
  setRoute,
  relays,
  traffic,
  activity,
  wgShow,
  'entry.check': checkEntry,
  'entry.start': startEntry,
  'entry.stop': stopEntry,
  'entry.newPeer': newPeer,
  'entry.status': entryStatus,
  'entry.file': entryFile,
  'entry.fund': fundEntry,
  'entry.refund': refundEntry,
  'share.status': shareStatus,
  'share.start': startShare,
  'share.stop': stopShare,
  'share.collect': collectShare,
  pair,
  'pair.join': join,
  'pair.status': pairing,
  'pair.end': endPairing,
  devices,
  'device.rename': renameDevice,
  'device.remove': removeDevice,
  'device.rotate': rotateDeviceKeys,
  'device.ping': pingDevice,
  'device.allow': allowPort,
  'device.addPhone': addPhone,
  'device.offer': offerNetwork,
  'device.withdraw': withdrawNetwork,
  'device.accept': acceptNetwork,
  'device.decline': declineNetwork,
  'letters.take': takeLetters,
  'letters.give': giveLetter,
  settings,
  'settings.check': checkSettings,
  'settings.save': saveSettings,
  reload,
  login,
  'token.create': createToken,
  'token.list': listTokens,
  'token.revoke': revokeToken,
  observe,
  observation,
  wallet,
  redeemVoucher,
  topUp,
  deposit,
  setAccount,
  sendCredits,
  receiveCredits,
  earnings,
  handIn,
  crash,
} as const satisfies Record<string, Action>
export type ActionName = keyof typeof ACTIONS
export type Input<N extends ActionName> = InputOf<(typeof ACTIONS)[N]>
export type Output<N extends ActionName> = OutputOf<(typeof ACTIONS)[N]>

export const EVENTS = { route: routeEvent, failover, rtt, throughput, log } as const satisfies Record<string, Event>
export type EventName = keyof typeof EVENTS
export type EventData<N extends EventName> = DataOf<(typeof EVENTS)[N]>
/** Any event, as it is told. */
export type Told = { readonly [N in EventName]: { readonly name: N; readonly data: EventData<N> } }[EventName]

/** What a node offers: some actions, carried out. */
export type Handlers = { readonly [N in ActionName]?: (input: Input<N>) => Output<N> | Promise<Output<N>> }
export type Status = Output<'status'>
export type PeerStatus = NonNullable<Status['peer']>
