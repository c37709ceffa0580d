// Credits on their way between a daemon's wallet and the wallet of one of its parts, in a file of the part's folder. The file is
// money: it stays until what is in it has arrived, and one that a try which was cut off has left is seen to first.

import { existsSync, rmSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { readTokens, writeTokens } from '../token-file.ts'
import type { WalletKeeper } from '../wallet/wallet-keeper.ts'
import type { Part } from './part.ts'

/** As many tokens as one file has. */
export const MAX_BETWEEN = 4_096
/** The issuer signs each token anew. */
export const ISSUER_MS = 60_000

/** What is needed of a daemon's wallet. */
export type OwnWallet = Pick<WalletKeeper, 'takeIn' | 'takeOut' | 'balance'>

/** Takes so many credits out of a part's wallet and account, as far as it has them. Gives how many came. */
export async function drawFrom(part: Pick<Part, 'call'>, own: OwnWallet, file: string, count: number): Promise<number> {
  const take = async () => {
    const taken = await own.takeIn(readTokens(file))
    rmSync(file, { force: true })
    return taken
  }
  const left = existsSync(file) ? await take() : 0
  const wanted = Math.min(count, MAX_BETWEEN)
  if (wanted === 0) return left
  await part.call('sendCredits', { count: wanted, file }, ISSUER_MS)
  return left + (await take())
}

/** Gives so many credits to a part's wallet. Gives how many it has then. Throws WALLET_FAILED where there are not as many. */
export async function giveTo(part: Pick<Part, 'call'>, own: OwnWallet, file: string, count: number): Promise<number> {
  const give = async () => {
    const { tokens } = await part.call('receiveCredits', { file }, ISSUER_MS)
    rmSync(file, { force: true })
    return tokens
  }
  if (existsSync(file)) await give()
  const { tokens } = own.balance()
  if (tokens < count)
    throw new HopliteError(
      'WALLET_FAILED',
      `give ${count} credits: the wallet has ${tokens}`,
      'fill it on the page Credits',
    )
  await own.takeOut(count, taken => writeTokens(file, taken))
  return give()
}

/** The daemon's wallet. Throws WALLET_FAILED where there is none. */
export function existing(own: OwnWallet | undefined): OwnWallet {
  if (own !== undefined) return own
  throw new HopliteError('WALLET_FAILED', 'use the wallet: there is none', 'set issuer and issuer_id in [credit]')
}
