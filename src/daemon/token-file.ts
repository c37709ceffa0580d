// Tokens on their way from one wallet to another: a file of one line a token. Whoever has the file has the credits.

import { readFileSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { writeDurably } from '#platform/state/state-file.ts'
import { TOKEN_BYTES } from '#wire/token.ts'

const HEAD = 'hoplite credits, good for whoever has them'
const MAX_TOKENS = 4_096
const LINE_CHARACTERS = 600

/** Writes a new file that only its owner can read, and waits for the disk. Throws WALLET_FAILED. */
export function writeTokens(file: string, tokens: readonly Uint8Array[]): void {
  try {
    const lines = [HEAD, ...tokens.map(token => Buffer.from(token).toString('base64url')), '']
    writeDurably(file, Buffer.from(lines.join('\n')))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const advice =
      code === 'ERR_ACCESS_DENIED'
        ? 'this node writes to its state directory alone: choose a file there'
        : 'choose a file that is not there yet'
    throw new HopliteError('WALLET_FAILED', `write ${file}: ${code}`, advice, error)
  }
}

/** The tokens of a file. Throws WALLET_FAILED when it is not one of these. */
export function readTokens(file: string): Uint8Array[] {
  let text: string
  try {
    text = readFileSync(file, 'latin1')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new HopliteError('WALLET_FAILED', `read ${file}: ${code}`, 'check the path', error)
  }
  const [head, ...lines] = text.split('\n')
  const tokens = lines.filter(line => line !== '').map(line => new Uint8Array(Buffer.from(line, 'base64url')))
  const isSound =
    head === HEAD &&
    text.length <= MAX_TOKENS * LINE_CHARACTERS &&
    tokens.length <= MAX_TOKENS &&
    tokens.every(token => token.length === TOKEN_BYTES)
  if (isSound) return tokens
  throw new HopliteError('WALLET_FAILED', `read ${file}: it has no credits in it`, 'check the path')
}
