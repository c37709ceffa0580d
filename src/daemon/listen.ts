// Addresses to listen on, as the configuration writes them.

import { HopliteError } from '#api/errors.ts'
import { type Address, parseAddress } from '#wire/address.ts'

/** The address that a `listen` key stands for; port 0 takes any. */
export function parseListen(text: string): Address {
  const isAny = text.endsWith(':0')
  const parsed = parseAddress(isAny ? `${text.slice(0, -1)}1` : text)
  if (parsed === undefined)
    throw new HopliteError('CONFIG_INVALID', `read an address: "${text}" is none`, 'write it like 0.0.0.0:51821')
  return isAny ? { ...parsed, port: 0 } : parsed
}
