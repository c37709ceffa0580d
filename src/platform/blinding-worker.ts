// Blinds and finalizes tokens in a thread of its own (see blinding.ts). One question at a time, answered in order.

import { parentPort } from 'node:worker_threads'
import { blind, finalize, importTokenKey } from '#crypto/blind-rsa.ts'
import type { BlindingAnswer, BlindingQuestion } from './blinding.ts'

const owner = parentPort
if (owner === null) throw new Error('blind tokens: not in a worker')

let turn = Promise.resolve()
owner.on('message', (question: BlindingQuestion) => {
  turn = turn.then(async () => owner.postMessage(await answer(question)))
})

async function answer({ encoded, message, signed }: BlindingQuestion): Promise<BlindingAnswer> {
  const key = importTokenKey(encoded)
  if (key === undefined) return undefined
  return signed === undefined ? blind(key, message) : finalize(key, message, signed.signature, signed.inverse)
}
