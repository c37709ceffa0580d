// The file of a wallet: its owner's alone, and a damaged one is never written over.

import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { restoredWallet, type WalletState } from '#credit/wallet.ts'
import { decodeWallet, encodeWallet, MAX_WALLET_BYTES } from '#credit/wallet-file.ts'
import { assertPrivate, readStateFile, writeStateFile } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'

/** The state in a wallet's directory; `undefined` when there is none. Throws STATE_UNREADABLE. */
export function readWallet(directory: string): WalletState | undefined {
  const file = walletFile(directory)
  const bytes = readStateFile(file, MAX_WALLET_BYTES)
  if (bytes === undefined) return undefined
  assertPrivate(file)
  const state = decodeWallet(Buffer.from(bytes).toString())
  if (state === undefined)
    throw new HopliteError(
      'STATE_UNREADABLE',
      `read ${file}: it is not a wallet, or is damaged`,
      'restore it from a backup: hoplite wallet restore FILE',
    )
  return state
}

/** Puts a backup's state in an empty directory. Throws WALLET_FAILED when a wallet is there. */
export function restoreWallet(directory: string, state: WalletState, now: number): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const unlock = lockState(directory)
  try {
    if (readWallet(directory) !== undefined)
      throw new HopliteError(
        'WALLET_FAILED',
        'restore the wallet: there is one',
        'move it away, or use another --state-dir',
      )
    writeWallet(directory, restoredWallet(state, now))
  } finally {
    unlock()
  }
}

/** Throws what keeps it from being written. */
export function writeWallet(directory: string, state: WalletState): void {
  writeStateFile(walletFile(directory), encodeWallet(state))
}

function walletFile(directory: string): string {
  return path.join(directory, 'wallet.json')
}
