// An action: one row of the table that the daemon's API, its client and the command line are made from.

import type { z } from 'zod'

export interface Action<Input extends z.ZodType = z.ZodType, Output extends z.ZodType = z.ZodType> {
  readonly name: string
  /** One sentence, for help and documents. */
  readonly summary: string
  readonly permission: 'read' | 'write'
  readonly input: Input
  readonly output: Output
}

/** Declares an action; the types of its handler and of its client follow from the schemas. */
export function defineAction<Input extends z.ZodType, Output extends z.ZodType>(
  action: Action<Input, Output>,
): Action<Input, Output> {
  return action
}

export type InputOf<A> = A extends Action<infer Input, z.ZodType> ? z.infer<Input> : never
export type OutputOf<A> = A extends Action<z.ZodType, infer Output> ? z.infer<Output> : never
