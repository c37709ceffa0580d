// An action: one row of the table that the daemon's API, its client, the command line and the dashboard are made from.
// An event: what a node tells to whoever listens.

import type { z } from 'zod'

/**
 * Who may: `read` changes nothing; `write` does; `person` takes a secret or a responsibility on, and is open to a signed-in
 * browser and to no token; `owner` hands out access and is open on the control socket alone, so that no token and no browser
 * can make another.
 */
export type Permission = 'read' | 'write' | 'person' | 'owner'

export interface Action<Input extends z.ZodType = z.ZodType, Output extends z.ZodType = z.ZodType> {
  /** camelCase, or `group.verb` where several belong together. */
  readonly name: string
  /** One sentence, for help and documents. */
  readonly summary: string
  readonly permission: Permission
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

export interface Event<Data extends z.ZodType = z.ZodType> {
  readonly name: string
  /** One sentence, for documents. */
  readonly summary: string
  readonly data: Data
}

/** Declares an event. */
export function defineEvent<Data extends z.ZodType>(event: Event<Data>): Event<Data> {
  return event
}

export type DataOf<E> = E extends Event<infer Data> ? z.infer<Data> : never
