// Numbers on the command line.

import { InvalidArgumentError } from 'commander'

/** Reads an argument that is a whole number within bounds. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return text => {
    const value = Number(text)
    if (!/^[0-9]+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`a number from ${least} to ${most}.`)
    return value
  }
}
