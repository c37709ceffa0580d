// The wallet of a state directory: opened with the issuer of the configuration, backed up, and restored.

import { readFileSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { MAX_WALLET_BYTES, openBackup, sealBackup } from '#credit/wallet-file.ts'
import { systemRandom } from '#crypto/random.ts'
import { type Ask, IssuerClient } from '#issuer/issuer-client.ts'
import { writeStateFile } from '#platform/state/state-file.ts'
import type { Config } from '../config.ts'
import { WalletKeeper } from './wallet-keeper.ts'
import { readWallet, restoreWallet } from './wallet-store.ts'

const LEAST_PASSPHRASE = 8

/** Opens the wallet of a directory; `ask` is its way to the issuer. Throws WALLET_FAILED without an issuer, STATE_LOCKED, STATE_UNREADABLE. */
export function openWallet({ credit }: Config, directory: string, ask: Ask): WalletKeeper {
  if (credit.issuer === '' || credit.issuer_id === '')
    throw new HopliteError(
      'WALLET_FAILED',
      'use the wallet: no issuer is configured',
      'set issuer and issuer_id in [credit]',
    )
  return WalletKeeper.open({
    directory,
    issuerId: credit.issuer_id,
    client: new IssuerClient({ url: credit.issuer, ask }),
    random: systemRandom,
    clock: Date.now,
  })
}

/** Writes the wallet to a file, sealed under a passphrase. Throws WALLET_FAILED, STATE_UNREADABLE. */
export function backUpWallet(directory: string, file: string, passphrase: string): void {
  const state = readWallet(directory)
  if (state === undefined)
    throw new HopliteError(
      'WALLET_FAILED',
      'back the wallet up: there is none',
      'hoplite wallet redeem VOUCHER makes one',
    )
  if (passphrase.length < LEAST_PASSPHRASE)
    throw new HopliteError(
      'WALLET_FAILED',
      `back the wallet up: a passphrase has ${LEAST_PASSPHRASE} characters or more`,
      'several words are best',
    )
  writeStateFile(file, sealBackup(state, passphrase, systemRandom))
}

/** Brings a backup back where there is no wallet. Throws WALLET_FAILED. */
export function restoreBackup(directory: string, file: string, passphrase: string): void {
  const state = openBackup(readBackup(file), passphrase)
  if (state === undefined)
    throw new HopliteError(
      'WALLET_FAILED',
      `open ${file}: it is no backup, was changed, or has another passphrase`,
      'check both',
    )
  restoreWallet(directory, state, Date.now())
}

function readBackup(file: string): Uint8Array {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new HopliteError('WALLET_FAILED', `read ${file}: ${code}`, 'check the path', error)
  }
  if (bytes.length <= MAX_WALLET_BYTES) return bytes
  throw new HopliteError('WALLET_FAILED', `read ${file}: it is too long for a backup`, 'check the path')
}
