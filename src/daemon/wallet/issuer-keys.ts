// The keys of the issuer, asked for and kept: what they say is believed by the issuer's id alone, and whoever takes tokens can go on
// with those of the last time while the issuer is away.

import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { type IssuerKeys, openKeyDirectory, signingKey } from '#credit/keys.ts'
import type { IssuerClient } from '#issuer/issuer-client.ts'
import { readStateFile, writeStateFile } from '#platform/state/state-file.ts'

const MAX_BYTES = 64 * 1024

export interface KeptIssuerKeysOptions {
  /** Where they are kept. */
  readonly directory: string
  readonly issuerId: string
  readonly client: IssuerClient
  readonly clock: () => number
}

export class KeptIssuerKeys {
  readonly #options: KeptIssuerKeysOptions
  #keys: IssuerKeys | undefined

  constructor(options: KeptIssuerKeysOptions) {
    this.#options = options
  }

  /** As they were last fetched here, or as they are. Throws WALLET_FAILED, ISSUER_UNREACHABLE. */
  async current(): Promise<IssuerKeys> {
    const known = this.#keys
    return known !== undefined && signingKey(known, this.#options.clock()) !== undefined ? known : this.fetch()
  }

  /** As they are now. Throws WALLET_FAILED when another issuer signed them, ISSUER_UNREACHABLE. */
  async fetch(): Promise<IssuerKeys> {
    const { client, issuerId } = this.#options
    const { directory } = await client.ask('keys', {})
    const bytes = Buffer.from(directory, 'base64url')
    const keys = openKeyDirectory(bytes, issuerId)
    if (keys === undefined)
      throw new HopliteError(
        'WALLET_FAILED',
        "read the issuer's keys: another issuer signed them",
        'check [credit] issuer and issuer_id',
      )
    this.#keys = keys
    writeStateFile(this.#file, bytes)
    return keys
  }

  /** The next who asks for them has them fetched. */
  forget(): void {
    this.#keys = undefined
  }

  /** As they were fetched the last time, perhaps by an earlier process; `undefined` when there are none. */
  kept(): IssuerKeys | undefined {
    const bytes = readStateFile(this.#file, MAX_BYTES)
    return bytes && openKeyDirectory(bytes, this.#options.issuerId)
  }

  get #file(): string {
    return path.join(this.#options.directory, 'issuer-keys')
  }
}
