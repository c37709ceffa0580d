// The table of actions. A new action is a file under actions/ and a line here.

import type { Action, InputOf, OutputOf } from './action.ts'
import { down } from './actions/down.ts'
import { earnings, handIn } from './actions/earnings.ts'
import { newRoute } from './actions/new-route.ts'
import { observation, observe } from './actions/observe.ts'
import { status } from './actions/status.ts'
import { deposit, receiveCredits, redeemVoucher, sendCredits, topUp, wallet } from './actions/wallet.ts'

export const ACTIONS = {
  ...{ status, down, newRoute, observe, observation },
  ...{ wallet, redeemVoucher, topUp, deposit, sendCredits, receiveCredits, earnings, handIn },
} as const satisfies Record<string, Action>
export type ActionName = keyof typeof ACTIONS
export type Input<N extends ActionName> = InputOf<(typeof ACTIONS)[N]>
export type Output<N extends ActionName> = OutputOf<(typeof ACTIONS)[N]>

/** What a node offers: some actions, carried out. */
export type Handlers = { readonly [N in ActionName]?: (input: Input<N>) => Output<N> | Promise<Output<N>> }
export type Status = Output<'status'>
