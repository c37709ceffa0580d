// What a relay was paid.

import { callAction } from '#api/client.ts'
import { socketPath, stateDirectory } from '#platform/directories.ts'
import { print } from '../output.ts'

const HAND_IN_MS = 60_000

/** Shows what the running relay of a state directory took, after handing in what waits when `now` is set. */
export async function showEarnings(options: { stateDir?: string; json?: boolean; now?: boolean }): Promise<void> {
  const socket = socketPath(stateDirectory(options.stateDir))
  if (options.now) await callAction(socket, 'handIn', {}, HAND_IN_MS)
  const earnings = await callAction(socket, 'earnings', {}, HAND_IN_MS)
  const { queued, redeemed, refused, days, account, tokens } = earnings
  const lines = [`${redeemed} credits earned, ${queued} more taken and not yet handed in`]
  if (refused > 0) lines.push(`${refused} tokens had been spent elsewhere`)
  lines.push(`the account has ${account ?? 'an unknown number of'} credits, the wallet ${tokens}`)
  for (const { day, redeemed: credits } of days) lines.push(`${day}  ${credits}`)
  print(options.json, { ok: true, ...earnings }, lines.join('\n'))
}
